import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import tunedb
from tunedb import Database
from tunedb.engine import make_engine

POSTGRES = os.environ.get("TUNEDB_TEST_POSTGRES_URL")
BACKENDS = ["sqlite", "postgresql"] if POSTGRES else ["sqlite"]


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind. The PostgreSQL one that TUNEDB_TEST_POSTGRES_URL names is wiped for each test."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.sqlite'}"
    assert POSTGRES
    engine = make_engine(POSTGRES)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return POSTGRES


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    with tunedb.open(url) as database:
        yield database
