"""What meters say of clusters: columns of the metric series, the latest reading of each cluster, and how each source is.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0009
Follows: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: Percent; the peaks are those of the busiest node and accelerator.
_PERCENTS = ("cpu_usage", "cpu_usage_peak", "gpu_usage", "gpu_usage_peak")


def _use() -> list[sa.Column[float] | sa.Column[int]]:
    return [*(sa.Column(name, sa.Double(), nullable=True) for name in _PERCENTS), sa.Column("running_pods", sa.Integer())]


def upgrade() -> None:
    """Apply."""
    for column in _use():
        op.add_column("cluster_metrics", column)
    op.create_table(
        "telemetry_latest",
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("watts", sa.Double(), nullable=True),
        sa.Column("measured_watts", sa.Double(), nullable=True),
        *_use(),
        sa.Column("nodes_read", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("accelerators_read", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_telemetry_latest_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cluster_id", name=op.f("pk_telemetry_latest")),
    )
    op.create_table(
        "telemetry_sources",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("samples", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("findings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("region", "name", name=op.f("pk_telemetry_sources")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("telemetry_sources")
    op.drop_table("telemetry_latest")
    for name in ("running_pods", *_PERCENTS):
        op.drop_column("cluster_metrics", name)
