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
from sqlalchemy import text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: column -> (over samples, over rows of a finer roll-up). Sums stand beside their number of samples, so that averages add up.
_MEANS = {
    "nodes": "node_count",
    "masters": "master_count",
    "watts": "power_consumption_watts",
    "price": "cost_per_hour",
    "cpu": "cpu_usage",
    "gpu": "gpu_usage",
    "pods": "running_pods",
}
_SUMS = {
    "samples": ("count(*)", "CAST(sum(samples) AS bigint)"),
    **{
        f"{name}_{kind}": (
            f"CAST(sum({column}) AS float8)" if kind == "sum" else f"count({column})",
            f"sum({name}_sum)" if kind == "sum" else f"CAST(sum({name}_samples) AS bigint)",
        )
        for name, column in _MEANS.items()
        for kind in ("sum", "samples")
    },
    "watts_min": ("min(power_consumption_watts)", "min(watts_min)"),
    "watts_max": ("max(power_consumption_watts)", "max(watts_max)"),
    "cpu_peak": ("max(cpu_usage_peak)", "max(cpu_peak)"),
    "gpu_peak": ("max(gpu_usage_peak)", "max(gpu_peak)"),
    "joules": ("sum(power_consumption_watts * seconds)", "sum(joules)"),
    "seconds": ("sum(seconds)", "sum(seconds)"),
    "source": ("min(source)", "min(source)"),
    "last_at": ("max(time)", "max(last_at)"),
}
_COUNTS = {"samples", *(f"{name}_samples" for name in _MEANS)}
_TEXTS = ("source", "status", "health_status")
_NAMES = (*_SUMS, "status", "health_status")

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
    if _timescale():
        _aggregates()
    else:
        _tables()


def downgrade() -> None:
    """Take back; the samples stay."""
    if _timescale():
        op.execute("SELECT remove_compression_policy('cluster_metrics', if_exists => true)")
        op.execute("SELECT decompress_chunk(c, true) FROM show_chunks('cluster_metrics') c")
        op.execute("DROP MATERIALIZED VIEW cluster_metrics_daily")
        op.execute("DROP MATERIALIZED VIEW cluster_metrics_hourly")
        op.execute("ALTER TABLE cluster_metrics SET (timescaledb.compress = false)")
    else:
        op.execute("DROP VIEW cluster_metrics_daily")
        op.execute("DROP VIEW cluster_metrics_hourly")
        op.execute("DROP TRIGGER mark_metric_hours ON cluster_metrics")
        op.execute("DROP FUNCTION mark_metric_hours")
        for table in ("metrics_by_day", "metrics_by_hour", "metric_changes"):
            op.drop_table(table)
    op.drop_column("cluster_metrics", "seconds")


def _timescale() -> bool:
    found = op.get_bind().execute(
        text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"),
    )
    return found.first() is not None


def _aggregates() -> None:
    op.execute(
        "ALTER TABLE cluster_metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'cluster_id',"
        " timescaledb.compress_orderby = 'time')"
    )
    # Late samples come within hours; what is older is read far more often than written.
    op.execute("SELECT add_compression_policy('cluster_metrics', INTERVAL '7 days')")
    for name, source, bucket, width, by_time, place in (
        ("cluster_metrics_hourly", "cluster_metrics", "hour", "1 hour", "time", 0),
        ("cluster_metrics_daily", "cluster_metrics_hourly", "day", "1 day", "hour", 1),
    ):
        sums = ", ".join(f"{both[place]} AS {column}" for column, both in _SUMS.items())
        last = "time" if place == 0 else "last_at"
        op.execute(
            f"CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
            f" SELECT time_bucket(INTERVAL '{width}', {by_time}) AS {bucket}, cluster_id, project_id, {sums},"
            f" last(status, {last}) AS status, last(health_status, {last}) AS health_status"
            f" FROM {source} GROUP BY 1, 2, 3 WITH NO DATA"
        )
        # From the beginning: what came late is found by TimescaleDB's log of changes, however old it is.
        op.execute(
            f"SELECT add_continuous_aggregate_policy('{name}', start_offset => NULL, end_offset => INTERVAL '{width}',"
            " schedule_interval => INTERVAL '10 minutes')"
        )


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
            *(_column(name) for name in _NAMES),
            sa.PrimaryKeyConstraint("cluster_id", bucket, "project_id", name=op.f(f"pk_{table}")),
        )
        op.create_index(f"ix_{table}_{bucket}", table, [bucket, "project_id"], unique=False)
    _view("cluster_metrics_hourly", "metrics_by_hour", "hour", "hour", "cluster_metrics", 0)
    _view("cluster_metrics_daily", "metrics_by_day", "day", "day", "cluster_metrics_hourly", 1)
    op.execute(_MARK)
    # Holds up writers until this step ends, so that no sample falls between the marks of old samples and those of new ones.
    op.execute(
        "CREATE TRIGGER mark_metric_hours AFTER INSERT ON cluster_metrics REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION mark_metric_hours()"
    )
    op.execute(_MARK_ALL)


def _view(name: str, table: str, bucket: str, width: str, source: str, place: int) -> None:
    columns = ", ".join(_NAMES)
    sums = ", ".join(f"{both[place]} AS {column}" for column, both in _SUMS.items())
    by_time, last = ("time", "time") if place == 0 else ("hour", "last_at")
    marked = f"SELECT DISTINCT date_trunc('{width}', hour, 'UTC') AS {bucket} FROM metric_changes"
    op.execute(
        f"CREATE VIEW {name} AS SELECT {bucket}, cluster_id, project_id, {columns} FROM {table} t"
        f" WHERE t.{bucket} NOT IN ({marked})"
        f" UNION ALL SELECT d.{bucket}, m.* FROM ({marked}) d CROSS JOIN LATERAL (SELECT cluster_id, project_id, {sums},"
        f" (array_agg(status ORDER BY {last} DESC))[1] AS status,"
        f" (array_agg(health_status ORDER BY {last} DESC))[1] AS health_status FROM {source}"
        f" WHERE {by_time} >= d.{bucket} AND {by_time} < d.{bucket} + interval '1 {width}' GROUP BY cluster_id, project_id) m"
    )


def _column(name: str) -> sa.Column[object]:
    if name in _TEXTS:
        return sa.Column(name, sa.Text(), nullable=name != "source")
    if name == "last_at":
        return sa.Column(name, sa.DateTime(timezone=True), nullable=False)
    return sa.Column(name, sa.BigInteger() if name in _COUNTS else sa.Double(), nullable=name not in _COUNTS)
