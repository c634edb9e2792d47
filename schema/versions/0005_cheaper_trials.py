"""Storing an imported trial costs less: a sixth of that time went into what is dropped here.

SQLite makes a table of what IN lists for each row that it checks, which a chain of comparisons spares it. Trials of
other tools have no number in their session, so an index of these need not have them.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBERED = sa.text("sequence IS NOT NULL")


def upgrade() -> None:
    with op.batch_alter_table("trial") as trial:
        trial.drop_constraint(op.f("uq_trial_session_id_sequence"), type_="unique")
        trial.drop_constraint(op.f("ck_trial_status"), type_="check")
        trial.create_check_constraint(
            op.f("ck_trial_status"),
            "status = 'correct' OR status = 'compile' OR status = 'runtime' OR status = 'timeout' "
            "OR status = 'correctness' OR status = 'constraints'",
        )
    op.create_index(
        op.f("uq_trial_session_id_sequence"),
        "trial",
        ["session_id", "sequence"],
        unique=True,
        sqlite_where=NUMBERED,
        postgresql_where=NUMBERED,
    )
