"""How steps make the roll-ups of the metric series. Steps that are out call this: what it makes of the same columns must stay the same."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

#: A mean's name -> the samples' column. Sums stand beside their number of samples, so that averages add up.
MEANS: Final = {
    "nodes": "node_count",
    "masters": "master_count",
    "watts": "power_consumption_watts",
    "price": "cost_per_hour",
    "cpu": "cpu_usage",
    "gpu": "gpu_usage",
    "pods": "running_pods",
}

#: column -> (over samples, over rows of a finer roll-up).
Sums = Mapping[str, tuple[str, str]]


def mean(name: str, column: str) -> Sums:
    """The two columns of an average."""
    return {
        f"{name}_sum": (f"CAST(sum({column}) AS float8)", f"sum({name}_sum)"),
        f"{name}_samples": (f"count({column})", f"CAST(sum({name}_samples) AS bigint)"),
    }


#: Of step 0013.
FIRST: Final[Sums] = {
    "samples": ("count(*)", "CAST(sum(samples) AS bigint)"),
    **{name: both for kind, column in MEANS.items() for name, both in mean(kind, column).items()},
    "watts_min": ("min(power_consumption_watts)", "min(watts_min)"),
    "watts_max": ("max(power_consumption_watts)", "max(watts_max)"),
    "cpu_peak": ("max(cpu_usage_peak)", "max(cpu_peak)"),
    "gpu_peak": ("max(gpu_usage_peak)", "max(gpu_peak)"),
    "joules": ("sum(power_consumption_watts * seconds)", "sum(joules)"),
    "seconds": ("sum(seconds)", "sum(seconds)"),
    "source": ("min(source)", "min(source)"),
    "last_at": ("max(time)", "max(last_at)"),
}
_LAST: Final = ("status", "health_status")


def is_count(name: str) -> bool:
    """Whether a column counts samples."""
    return name.rpartition("_")[2] == "samples"


def timescale() -> bool:
    """Whether the database has it."""
    return op.get_bind().execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first() is not None


def columns(sums: Sums) -> list[str]:
    """All that a row holds beside its keys."""
    return [*sums, *_LAST]


def make_views(sums: Sums) -> None:
    """``cluster_metrics_hourly`` and ``cluster_metrics_daily``: with TimescaleDB continuous aggregates, else views over the tables and,
    for marked hours, the samples.
    """
    if timescale():
        _aggregate("cluster_metrics_hourly", "cluster_metrics", "hour", "time", sums, 0)
        _aggregate("cluster_metrics_daily", "cluster_metrics_hourly", "day", "hour", sums, 1)
    else:
        _view("cluster_metrics_hourly", "metrics_by_hour", "hour", "cluster_metrics", sums, 0)
        _view("cluster_metrics_daily", "metrics_by_day", "day", "cluster_metrics_hourly", sums, 1)


def drop_views() -> None:
    """Take both away; on a plain PostgreSQL the tables behind them stay."""
    kind = "MATERIALIZED VIEW" if timescale() else "VIEW"
    op.execute(f"DROP {kind} cluster_metrics_daily")
    op.execute(f"DROP {kind} cluster_metrics_hourly")


def refresh(name: str, width: str) -> None:
    """Let TimescaleDB keep an aggregate. From the beginning: what came late is found by its log of changes, however old it is."""
    op.execute(
        f"SELECT add_continuous_aggregate_policy('{name}', start_offset => NULL, end_offset => INTERVAL '1 {width}',"
        " schedule_interval => INTERVAL '10 minutes')"
    )


def _aggregate(name: str, source: str, width: str, by_time: str, sums: Sums, place: int) -> None:
    made = ", ".join(f"{both[place]} AS {column}" for column, both in sums.items())
    last = "time" if place == 0 else "last_at"
    op.execute(
        f"CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
        f" SELECT time_bucket(INTERVAL '1 {width}', {by_time}) AS {width}, cluster_id, project_id, {made},"
        f" last(status, {last}) AS status, last(health_status, {last}) AS health_status"
        f" FROM {source} GROUP BY 1, 2, 3 WITH NO DATA"
    )
    refresh(name, width)


def _view(name: str, table: str, width: str, source: str, sums: Sums, place: int) -> None:
    made = ", ".join(f"{both[place]} AS {column}" for column, both in sums.items())
    by_time, last = ("time", "time") if place == 0 else ("hour", "last_at")
    marked = f"SELECT DISTINCT date_trunc('{width}', hour, 'UTC') AS {width} FROM metric_changes"
    op.execute(
        f"CREATE VIEW {name} AS SELECT {width}, cluster_id, project_id, {', '.join(columns(sums))} FROM {table} t"
        f" WHERE t.{width} NOT IN ({marked})"
        f" UNION ALL SELECT d.{width}, m.* FROM ({marked}) d CROSS JOIN LATERAL (SELECT cluster_id, project_id, {made},"
        f" (array_agg(status ORDER BY {last} DESC))[1] AS status,"
        f" (array_agg(health_status ORDER BY {last} DESC))[1] AS health_status FROM {source}"
        f" WHERE {by_time} >= d.{width} AND {by_time} < d.{width} + interval '1 {width}' GROUP BY cluster_id, project_id) m"
    )


def column(name: str) -> sa.Column[object]:
    """A column of a table of roll-ups."""
    if name in ("source", *_LAST):
        return sa.Column(name, sa.Text(), nullable=name != "source")
    if name == "last_at":
        return sa.Column(name, sa.DateTime(timezone=True), nullable=False)
    return sa.Column(name, sa.BigInteger() if is_count(name) else sa.Double(), nullable=not is_count(name))
