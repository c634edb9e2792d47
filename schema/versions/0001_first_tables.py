"""The first tables.

Revision: 0001, the first one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FINGERPRINT = sa.String(64)
DATE = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "environment",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_environment_fingerprint")),
    )
    op.create_table(
        "model",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("feature_version", sa.String(length=32), nullable=False),
        sa.Column("training_digest", FINGERPRINT, nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("blob_sha256", FINGERPRINT, nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("created", DATE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_model_fingerprint")),
    )
    op.create_index(op.f("ix_model_name"), "model", ["name"])

    op.create_table(
        "schedule",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_schedule_fingerprint")),
    )
    op.create_table(
        "session",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("key", FINGERPRINT, nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("created", DATE, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("heartbeat", DATE, nullable=True),
        sa.Column("owner", sa.String(length=32), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.CheckConstraint("state IN ('running', 'finished', 'interrupted')", name=op.f("ck_session_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_session_fingerprint")),
    )
    op.create_index(op.f("ix_session_key"), "session", ["key"])
    op.create_index(
        "uq_session_running",
        "session",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )

    op.create_table(
        "target",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("machine", FINGERPRINT, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_target")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_target_fingerprint")),
    )
    op.create_index(op.f("ix_target_machine"), "target", ["machine"])

    op.create_table(
        "template",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_template_name_version")),
    )
    op.create_table(
        "workload",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("operator", FINGERPRINT, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("flops", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workload")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_workload_fingerprint")),
    )
    op.create_table(
        "trial",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("workload_id", ID, nullable=False),
        sa.Column("target_id", ID, nullable=False),
        sa.Column("environment_id", ID, nullable=False),
        sa.Column("template_id", ID, nullable=False),
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("spread", sa.Double(), nullable=True),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("compile_seconds", sa.Double(), nullable=True),
        sa.Column("run_seconds", sa.Double(), nullable=True),
        sa.Column("created", DATE, nullable=False),
        sa.CheckConstraint("status = 'correct' OR seconds IS NULL", name=op.f("ck_trial_failed_has_no_time")),
        sa.CheckConstraint(
            "status IN ('correct', 'compile', 'runtime', 'timeout', 'correctness', 'constraints')",
            name=op.f("ck_trial_status"),
        ),
        sa.CheckConstraint("NOT verified OR seconds IS NOT NULL", name=op.f("ck_trial_verified_has_time")),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_trial_environment_id_environment")
        ),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_trial_schedule_id_schedule")),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name=op.f("fk_trial_session_id_session")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_trial_target_id_target")),
        sa.ForeignKeyConstraint(["template_id"], ["template.id"], name=op.f("fk_trial_template_id_template")),
        sa.ForeignKeyConstraint(["workload_id"], ["workload.id"], name=op.f("fk_trial_workload_id_workload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trial")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_trial_fingerprint")),
        sa.UniqueConstraint("session_id", "sequence", name=op.f("uq_trial_session_id_sequence")),
    )
    op.create_index("ix_trial_best", "trial", ["workload_id", "target_id", "verified", "seconds"])


def downgrade() -> None:
    for table in ("trial", "workload", "template", "target", "session", "schedule", "model", "environment"):
        op.drop_table(table)
