"""Budgets of projects: in money, energy or watts, with what happens at parts of them.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0012
Follows: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "budgets",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("period", sa.Text(), nullable=True),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("thresholds", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("binding", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("span_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used", sa.Numeric(), nullable=True),
        sa.Column("forecast", sa.Numeric(), nullable=True),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("passed", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("refusing_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('money','energy','power')", name=op.f("ck_budgets_kind")),
        sa.CheckConstraint("(kind = 'money') = (currency IS NOT NULL)", name=op.f("ck_budgets_currency")),
        sa.CheckConstraint("(kind = 'power') = (period IS NULL)", name=op.f("ck_budgets_period")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_budgets_amount")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_index("uq_budgets_name", "budgets", ["project_id", "name"], unique=True)


def downgrade() -> None:
    """Take back."""
    op.drop_table("budgets")
