"""What changes took away: the ledger that savings are told from.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0014
Follows: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "savings",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("cluster_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("groups", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint("kind IN ('scale_in','hibernate','delete','remove_node_group')", name=op.f("ck_savings_kind")),
        sa.CheckConstraint("cause IN ('user','policy','cleanup','plan','budget')", name=op.f("ck_savings_cause")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_savings")),
    )
    op.create_index("ix_savings_project", "savings", ["project_id", "at"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("savings")
