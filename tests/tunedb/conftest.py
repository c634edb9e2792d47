from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import tunedb
from tests.tunedb import postgres
from tunedb import Database
from tunedb.engine import make_engine

BACKENDS = ["sqlite", "postgresql"] if postgres.available() else ["sqlite"]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database, which is wiped for each test. Its server runs as long as the tests."""
    with postgres.server() as url:
        yield url


@pytest.fixture(autouse=True)
def no_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers must not come from the databases of whoever runs the tests."""
    monkeypatch.delenv("TUNEDB_BASE_URLS", raising=False)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    with tunedb.open(url) as database:
        yield database
