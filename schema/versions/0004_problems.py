"""Workloads that differ only in their tolerance are one problem.

Until now every workload had the default tolerance, so it is its own problem. The index that answers ``best`` gains the
error, by which trials that were measured for another tolerance are judged.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FINGERPRINT = sa.String(64)


def upgrade() -> None:
    op.add_column("workload", sa.Column("problem", FINGERPRINT, nullable=True))
    op.execute("UPDATE workload SET problem = fingerprint")
    with op.batch_alter_table("workload") as workload:
        workload.alter_column("problem", existing_type=FINGERPRINT, nullable=False)
        workload.create_index(op.f("ix_workload_problem"), ["problem"])
    op.drop_index("ix_trial_best", "trial")
    op.create_index("ix_trial_best", "trial", ["workload_id", "target_id", "verified", "seconds", "error"])
