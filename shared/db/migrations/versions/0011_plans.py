"""Plans of consolidation and their steps; a placement that changes its cluster is told of both.

Old code is still running while this is applied: it makes no plans, and moves no placement.

Revision: 0011
Follows: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

#: The cluster that a placement leaves has room from then on, which those who hold fleets in memory must hear.
_NOTE_BOTH = """
CREATE OR REPLACE FUNCTION kcloud_note_placement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fleet_changes (region, project_id, cluster_id) VALUES
    (coalesce(NEW.region, OLD.region), coalesce(NEW.project_id, OLD.project_id), coalesce(NEW.cluster_id, OLD.cluster_id));
  IF TG_OP = 'UPDATE' AND NEW.cluster_id <> OLD.cluster_id THEN
    INSERT INTO fleet_changes (region, project_id, cluster_id) VALUES (OLD.region, OLD.project_id, OLD.cluster_id);
  END IF;
  RETURN NULL;
END $$;
"""
_NOTE_ONE = """
CREATE OR REPLACE FUNCTION kcloud_note_placement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fleet_changes (region, project_id, cluster_id) VALUES
    (coalesce(NEW.region, OLD.region), coalesce(NEW.project_id, OLD.project_id), coalesce(NEW.cluster_id, OLD.cluster_id));
  RETURN NULL;
END $$;
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "plans",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'proposed'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("basis", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("applied_by", sa.Text(), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('proposed','approved','applying','applied','stale','failed','cancelled','expired')",
            name=op.f("ck_plans_state"),
        ),
        sa.CheckConstraint("(state IN ('proposed','approved','applying')) = (finished_at IS NULL)", name=op.f("ck_plans_finished")),
        sa.CheckConstraint("(state IN ('stale','failed','expired')) <= (reason IS NOT NULL)", name=op.f("ck_plans_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_index(
        "uq_plans_one_applying",
        "plans",
        ["project_id", "region"],
        unique=True,
        postgresql_where=sa.text("state = 'applying'"),
    )
    op.create_index("ix_plans_project_seq", "plans", ["project_id", "seq"], unique=False)
    op.create_index("ix_plans_open", "plans", ["valid_until"], unique=False, postgresql_where=sa.text("finished_at IS NULL"))
    op.create_index(
        "ix_plans_finished", "plans", ["finished_at"], unique=False, postgresql_where=sa.text("finished_at IS NOT NULL")
    )
    op.create_table(
        "plan_steps",
        sa.Column("plan_id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("node_group", sa.Text(), nullable=True),
        sa.Column("nodes_before", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("nodes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("keeps", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("placement_id", sa.UUID(), nullable=True),
        sa.Column("workload", sa.Text(), nullable=True),
        sa.Column("source", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("target", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("cluster_id", sa.UUID(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("act IN ('create','grow','move','shrink','delete')", name=op.f("ck_plan_steps_act")),
        sa.CheckConstraint("state IN ('waiting','running','done','skipped','failed','dropped')", name=op.f("ck_plan_steps_state")),
        sa.CheckConstraint("(act = 'move') = (placement_id IS NOT NULL)", name=op.f("ck_plan_steps_move")),
        sa.CheckConstraint("act <> 'move' OR (source IS NOT NULL AND target IS NOT NULL)", name=op.f("ck_plan_steps_spots")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_steps_plan_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("plan_id", "number", name=op.f("pk_plan_steps")),
    )
    op.create_index(
        "ix_plan_steps_began", "plan_steps", ["began_at"], unique=False, postgresql_where=sa.text("began_at IS NOT NULL")
    )
    op.execute(_NOTE_BOTH)


def downgrade() -> None:
    """Take back."""
    op.execute(_NOTE_ONE)
    op.drop_table("plan_steps")
    op.drop_table("plans")
