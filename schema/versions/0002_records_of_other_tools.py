"""Room for the logs of other tools, for retracted trials, and for lines that could not be imported.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DATE = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("workload") as workload:
        workload.alter_column("operator", existing_type=sa.String(length=64), type_=sa.String(length=255))
        workload.alter_column("flops", existing_type=sa.BigInteger(), nullable=True)
    with op.batch_alter_table("target") as target:
        target.alter_column("threads", existing_type=sa.Integer(), nullable=True)
    with op.batch_alter_table("schedule") as schedule:
        schedule.add_column(
            sa.Column("kind", sa.String(length=32), server_default=sa.text("'steps'"), nullable=False),
        )
    with op.batch_alter_table("session") as session:
        session.add_column(
            sa.Column("origin", sa.String(length=32), server_default=sa.text("'tunedb'"), nullable=False),
        )
        session.alter_column("created", existing_type=DATE, nullable=True)
        session.drop_constraint(op.f("ck_session_state"), type_="check")
        session.create_check_constraint(
            op.f("ck_session_state"), "state IN ('running', 'finished', 'interrupted', 'imported')"
        )
    with op.batch_alter_table("trial") as trial:
        trial.alter_column("sequence", existing_type=sa.Integer(), nullable=True)
        trial.alter_column("config", existing_type=sa.JSON(), nullable=True)
        trial.alter_column("created", existing_type=DATE, nullable=True)
        trial.add_column(sa.Column("details", sa.JSON(none_as_null=True), nullable=True))
        trial.add_column(sa.Column("retracted", sa.Text(), nullable=True))

    op.create_table(
        "quarantine",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("created", DATE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_quarantine_fingerprint")),
    )
