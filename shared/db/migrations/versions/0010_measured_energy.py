"""Energy of clusters that have meters, by hour.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0010
Follows: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "cluster_energy",
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("measured_seconds", sa.Double(), nullable=False),
        sa.Column("joules", sa.Double(), nullable=False),
        sa.CheckConstraint("seconds > 0 AND measured_seconds >= 0 AND joules >= 0", name=op.f("ck_cluster_energy_amounts")),
        sa.PrimaryKeyConstraint("cluster_id", "hour", name=op.f("pk_cluster_energy")),
    )
    op.create_index("ix_cluster_energy_hour", "cluster_energy", ["hour"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("cluster_energy")
