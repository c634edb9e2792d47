"""How Alembic reaches the database: through the connection tunedb.migrate hands over, or through the user's URL.

The URL comes from ``alembic -x url=...``, ``TUNEDB_URL`` or the user's data folder, as for every other command, and
never from alembic.ini.
"""

from typing import Any

from alembic import context
from sqlalchemy import Connection

from tunedb import dialect
from tunedb.engine import default_url, make_engine
from tunedb.tables import METADATA, VERSION_TABLE, UtcDateTime


def only_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Other programs may have tables in the same database: leave them alone."""
    return kind != "table" or name in METADATA.tables


def plain_types(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our own column type as what it is stored as, so that old migrations need no code of today."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table=VERSION_TABLE,
        include_name=only_ours,
        render_item=plain_types,
        render_as_batch=True,
        transactional_ddl=True,  # true of SQLite as well, since dialect.py begins the transaction itself
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    migrate(handed_over)
else:
    engine = make_engine(context.get_x_argument(as_dictionary=True).get("url") or default_url())
    with dialect.upgrading(engine) as own:
        migrate(own)
