"""Room for what measuring a stored trial again has found.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "verification",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("environment_id", ID, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('confirmed', 'drifted', 'wrong', 'failed')", name=op.f("ck_verification_status")
        ),
        sa.CheckConstraint(
            "status IN ('wrong', 'failed') OR seconds IS NOT NULL", name=op.f("ck_verification_correct_has_time")
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_verification_environment_id_environment")
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_verification_trial_id_trial")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verification")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_verification_fingerprint")),
    )
    op.create_index(op.f("ix_verification_trial_id"), "verification", ["trial_id"])
