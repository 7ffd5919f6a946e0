"""Roll-ups of the metric series by hour and by day: ``cluster_metrics_hourly`` and ``cluster_metrics_daily``.

With TimescaleDB both are continuous aggregates, which its own jobs refresh, and old chunks are compressed. On a plain PostgreSQL both
are views over tables that beat keeps (docs/adr/0015). A mark for each hour that got samples says which rows of these tables
are not the last word; the views take such hours from the samples, so that they are right at any moment.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0013
Follows: 0012
"""

import sqlalchemy as sa
from alembic import op

from shared.db.migrations import roll_ups

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: An hour is the smallest that is marked: a sweep of all clusters makes one mark.
_MARK = """
CREATE FUNCTION mark_metric_hours() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO metric_changes (hour) SELECT DISTINCT date_trunc('hour', time, 'UTC') FROM added;
    RETURN NULL;
END $$
"""
#: Every hour that has samples, by one look into the key for each.
_MARK_ALL = """
INSERT INTO metric_changes (hour)
WITH RECURSIVE hours AS (
    SELECT date_trunc('hour', min(time), 'UTC') AS hour FROM cluster_metrics
    UNION ALL
    SELECT (SELECT date_trunc('hour', min(time), 'UTC') FROM cluster_metrics WHERE time >= hours.hour + interval '1 hour')
    FROM hours WHERE hours.hour IS NOT NULL
)
SELECT hour FROM hours WHERE hour IS NOT NULL
"""


def upgrade() -> None:
    """Apply."""
    op.add_column("cluster_metrics", sa.Column("seconds", sa.Double(), nullable=True))
    if roll_ups.timescale():
        op.execute(
            "ALTER TABLE cluster_metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'cluster_id',"
            " timescaledb.compress_orderby = 'time')"
        )
        # Late samples come within hours; what is older is read far more often than written.
        op.execute("SELECT add_compression_policy('cluster_metrics', INTERVAL '7 days')")
        roll_ups.make_views(roll_ups.FIRST)
    else:
        _tables()


def downgrade() -> None:
    """Take back; the samples stay."""
    if roll_ups.timescale():
        op.execute("SELECT remove_compression_policy('cluster_metrics', if_exists => true)")
        op.execute("SELECT decompress_chunk(c, true) FROM show_chunks('cluster_metrics') c")
        roll_ups.drop_views()
        op.execute("ALTER TABLE cluster_metrics SET (timescaledb.compress = false)")
    else:
        roll_ups.drop_views()
        op.execute("DROP TRIGGER mark_metric_hours ON cluster_metrics")
        op.execute("DROP FUNCTION mark_metric_hours")
        for table in ("metrics_by_day", "metrics_by_hour", "metric_changes"):
            op.drop_table(table)
    op.drop_column("cluster_metrics", "seconds")


def _tables() -> None:
    op.create_table(
        "metric_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_changes")),
    )
    op.create_index("ix_metric_changes_hour", "metric_changes", ["hour"], unique=False)
    for table, bucket in (("metrics_by_hour", "hour"), ("metrics_by_day", "day")):
        op.create_table(
            table,
            sa.Column(bucket, sa.DateTime(timezone=True), nullable=False),
            sa.Column("cluster_id", sa.UUID(), nullable=False),
            sa.Column("project_id", sa.Text(), nullable=False),
            *(roll_ups.column(name) for name in roll_ups.columns(roll_ups.FIRST)),
            sa.PrimaryKeyConstraint("cluster_id", bucket, "project_id", name=op.f(f"pk_{table}")),
        )
        op.create_index(f"ix_{table}_{bucket}", table, [bucket, "project_id"], unique=False)
    roll_ups.make_views(roll_ups.FIRST)
    op.execute(_MARK)
    # Holds up writers until this step ends, so that no sample falls between the marks of old samples and those of new ones.
    op.execute(
        "CREATE TRIGGER mark_metric_hours AFTER INSERT ON cluster_metrics REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION mark_metric_hours()"
    )
    op.execute(_MARK_ALL)
