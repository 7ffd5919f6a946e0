"""Reads the metric series at the coarsest grain that gives the same answer, and keeps its roll-ups on a plain PostgreSQL."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

HOUR_S: Final = 3600
DAY_S: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS_AT_ONCE: Final = 4
#: Any number that no other user of this database takes.
_ROLLING: Final = 0x6B726F6C6C

#: part of a field -> (over samples, over parts). Migrations 0013 and 0015 make the same of them in the roll-ups; tests compare both.
_PARTS: Final = {
    "samples": ("count(*)", "sum(samples)::bigint"),
    "nodes_sum": ("sum(node_count)::float8", "sum(nodes_sum)"),
    "nodes_samples": ("count(node_count)", "sum(nodes_samples)"),
    "masters_sum": ("sum(master_count)::float8", "sum(masters_sum)"),
    "masters_samples": ("count(master_count)", "sum(masters_samples)"),
    "watts_sum": ("sum(power_consumption_watts)", "sum(watts_sum)"),
    "watts_samples": ("count(power_consumption_watts)", "sum(watts_samples)"),
    "watts_min": ("min(power_consumption_watts)", "min(watts_min)"),
    "watts_max": ("max(power_consumption_watts)", "max(watts_max)"),
    "joules": ("sum(power_consumption_watts * seconds)", "sum(joules)"),
    "price_sum": ("sum(cost_per_hour)", "sum(price_sum)"),
    "price_samples": ("count(cost_per_hour)", "sum(price_samples)"),
    "cpu_sum": ("sum(cpu_usage)", "sum(cpu_sum)"),
    "cpu_samples": ("count(cpu_usage)", "sum(cpu_samples)"),
    "cpu_peak": ("max(cpu_usage_peak)", "max(cpu_peak)"),
    "gpu_sum": ("sum(gpu_usage)", "sum(gpu_sum)"),
    "gpu_samples": ("count(gpu_usage)", "sum(gpu_samples)"),
    "gpu_peak": ("max(gpu_usage_peak)", "max(gpu_peak)"),
    "memory_sum": ("sum(gpu_memory_used_gb)", "sum(memory_sum)"),
    "memory_samples": ("count(gpu_memory_used_gb)", "sum(memory_samples)"),
    "temperature_peak": ("max(gpu_temperature_celsius)", "max(temperature_peak)"),
    "pods_sum": ("sum(running_pods)::float8", "sum(pods_sum)"),
    "pods_samples": ("count(running_pods)", "sum(pods_samples)"),
    "source": ("min(source)", "min(source)"),
    "last_at": ("max(time)", "max(last_at)"),
    "status": ("(array_agg(status ORDER BY time DESC))[1]", "(array_agg(status ORDER BY last_at DESC))[1]"),
    "health_status": ("(array_agg(health_status ORDER BY time DESC))[1]", "(array_agg(health_status ORDER BY last_at DESC))[1]"),
}
#: field -> the parts that it is made of, and how.
_FIELDS: Final = {
    "status": (("status", "last_at"), "status"),
    "health_status": (("health_status", "last_at"), "health_status"),
    "node_count": (("nodes_sum", "nodes_samples"), "nodes_sum / nullif(nodes_samples, 0)::float8"),
    "master_count": (("masters_sum", "masters_samples"), "masters_sum / nullif(masters_samples, 0)::float8"),
    "power_consumption_watts": (("watts_sum", "watts_samples"), "watts_sum / nullif(watts_samples, 0)::float8"),
    "power_watts_min": (("watts_min",), "watts_min"),
    "power_watts_max": (("watts_max",), "watts_max"),
    "energy_kwh": (("joules",), "joules / 3.6e6"),
    "cost_per_hour": (("price_sum", "price_samples"), "price_sum / nullif(price_samples, 0)::float8"),
    "cpu_usage": (("cpu_sum", "cpu_samples"), "cpu_sum / nullif(cpu_samples, 0)::float8"),
    "cpu_usage_peak": (("cpu_peak",), "cpu_peak"),
    "gpu_usage": (("gpu_sum", "gpu_samples"), "gpu_sum / nullif(gpu_samples, 0)::float8"),
    "gpu_usage_peak": (("gpu_peak",), "gpu_peak"),
    "gpu_memory_used_gb": (("memory_sum", "memory_samples"), "memory_sum / nullif(memory_samples, 0)::float8"),
    "gpu_temperature_celsius": (("temperature_peak",), "temperature_peak"),
    "running_pods": (("pods_sum", "pods_samples"), "pods_sum / nullif(pods_samples, 0)::float8"),
    "source": (("source",), "source"),
    "samples": (("samples",), "samples"),
}
_BY_DAY: Final = (
    "node_count",
    "power_consumption_watts",
    "power_watts_min",
    "power_watts_max",
    "energy_kwh",
    "cost_per_hour",
    "cpu_usage",
    "cpu_usage_peak",
    "gpu_usage",
    "gpu_usage_peak",
    "gpu_memory_used_gb",
    "gpu_temperature_celsius",
    "running_pods",
    "samples",
)


class MetricsRepository:
    """cluster_metrics, and its roll-ups cluster_metrics_hourly, cluster_metrics_daily and project_metrics_daily."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_cluster(
        self, cluster_id: UUID, start: datetime, end: datetime, step_s: float, fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        """``fields`` (of :data:`shared.domain.metrics.FIELDS`) of one cluster by steps of ``step_s`` over [start, end).

        Steps begin at multiples of their length since 1970 in UTC. Where they are whole hours or days, the hours or days that
        lie in the window come from the roll-ups, and samples are read at its edges alone.
        """
        parts = list(dict.fromkeys(part for field in fields for part in _FIELDS[field][0])) or ["samples"]
        unit = next((size for size in (DAY_S, HOUR_S) if step_s % size == 0), None)
        first, last = (_up(start, unit), _down(end, unit)) if unit else (start, start)
        bucket = "date_bin(make_interval(secs => :step), {}, to_timestamp(0))"
        samples = (
            f"SELECT {bucket.format('time')} AS at, {_each(parts, 0)} FROM cluster_metrics"
            " WHERE cluster_id = :id AND time >= {} AND time < {} GROUP BY 1"
        )
        sources = [samples.format(":start", ":end")]
        if first < last:
            name, column = ("cluster_metrics_daily", "day") if unit == DAY_S else ("cluster_metrics_hourly", "hour")
            rolled = f"SELECT {bucket.format(column)} AS at, {', '.join(parts)} FROM {name}"
            sources = [f"{rolled} WHERE cluster_id = :id AND {column} >= :first AND {column} < :last"]
            sources += [samples.format(":start", ":first")] if start < first else []
            sources += [samples.format(":last", ":end")] if last < end else []
        steps = sources[0]
        if first < last:
            steps = f"SELECT at, {_each(parts, 1)} FROM ({' UNION ALL '.join(sources)}) AS parts GROUP BY at"
        made = "".join(f", {_FIELDS[field][1]} AS {field}" for field in fields)
        rows = self._connection.execute(
            text(f"SELECT at AS time{made} FROM ({steps}) AS steps ORDER BY at LIMIT 10001"),
            {"id": cluster_id, "start": start, "end": end, "first": first, "last": last, "step": step_s},
        )
        names = ("time", *fields)  # a third faster than mappings, and there may be thousands
        return [dict(zip(names, row, strict=True)) for row in rows.all()]

    def by_project(self, project_ids: Sequence[str], first: datetime, end: datetime) -> list[dict[str, Any]]:
        """What the clusters of these projects ran and drew on each day of UTC that begins in [first, end).

        Averages are those of one cluster; energy is that of all. Ordered by project and day.
        """
        made = ", ".join(f"{_FIELDS[field][1]} AS {field}" for field in _BY_DAY)
        rows = self._connection.execute(
            text(
                f"SELECT project_id, day, clusters, {made} FROM project_metrics_daily"
                " WHERE day >= :first AND day < :end AND project_id = ANY(CAST(:projects AS text[])) ORDER BY project_id, day"
            ),
            {"projects": list(project_ids), "first": first, "end": end},
        )
        names = ("project_id", "day", "clusters", *_BY_DAY)
        return [dict(zip(names, row, strict=True)) for row in rows.all()]

    def roll(self, *, now: datetime | None = None) -> int:
        """Bring the oldest hours that got samples, and their days, up to date; how many hours. 0: there is nothing (more) to do.

        Only hours that have ended: of the present one the views read the samples anyhow. Whoever calls, how often and in
        whatever order: an hour is made anew from all its samples. TimescaleDB's own jobs do this where it is.
        """
        if not self._connection.execute(text("SELECT to_regclass('metric_changes') IS NOT NULL")).scalar_one():
            return 0
        if not self._connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ROLLING}).scalar_one():
            return 0
        hours = (
            self._connection.execute(
                text(
                    "SELECT DISTINCT hour FROM metric_changes"
                    " WHERE hour <= coalesce(CAST(:now AS timestamptz), now()) - interval '1 hour' ORDER BY hour LIMIT :many"
                ),
                {"now": now, "many": _HOURS_AT_ONCE},
            )
            .scalars()
            .all()
        )
        if not hours:
            return 0
        # Marks that come from here on stay: what they stand for may not be in the rows below. Until these are gone, too, the view takes
        # their hours from the samples.
        marks = (
            self._connection.execute(
                text("SELECT id FROM metric_changes WHERE hour = ANY(CAST(:hours AS timestamptz[]))"), {"hours": list(hours)}
            )
            .scalars()
            .all()
        )
        names = ", ".join(("cluster_id", "project_id", *_ROLLED))
        for hour in hours:  # one by one, so that each reads but its own stretch of the samples
            self._connection.execute(text("DELETE FROM metrics_by_hour WHERE hour = :hour"), {"hour": hour})
            self._connection.execute(
                text(
                    f"INSERT INTO metrics_by_hour (hour, {names}) SELECT hour, {names} FROM cluster_metrics_hourly WHERE hour = :hour"
                ),
                {"hour": hour},
            )
        self._connection.execute(
            text("DELETE FROM metric_changes WHERE id = ANY(CAST(:marks AS bigint[]))"), {"marks": list(marks)}
        )
        for day in sorted({_down(hour, DAY_S) for hour in hours}):
            self._roll_day(day, names)
        return len(hours)

    def _roll_day(self, day: datetime, names: str) -> None:
        # With an hour still marked, the view makes the day from its hours; the last of them to be rolled comes by here again.
        window = {"day": day, "next": day + timedelta(days=1)}
        marked = text("SELECT 1 FROM metric_changes WHERE hour >= :day AND hour < :next LIMIT 1")
        if self._connection.execute(marked, window).first():
            return
        self._connection.execute(text("DELETE FROM metrics_by_day WHERE day = :day"), window)
        self._connection.execute(
            text(
                f"INSERT INTO metrics_by_day (day, {names}) SELECT CAST(:day AS timestamptz), cluster_id, project_id, {_each(_PARTS, 1)},"
                " sum(seconds) AS seconds FROM metrics_by_hour WHERE hour >= :day AND hour < :next GROUP BY cluster_id, project_id"
            ),
            window,
        )

    def forget_old(self, *, days: int) -> int:
        """Drop samples and roll-ups of hours and days that ended longer ago; how many samples, or chunks where TimescaleDB drops
        these whole.
        """
        limit = self._connection.execute(
            text("SELECT date_trunc('hour', now() - make_interval(days => :days), 'UTC')"), {"days": days}
        ).scalar_one()
        if self._connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first():
            return sum(
                len(
                    self._connection.execute(
                        text(f"SELECT drop_chunks('{name}', CAST(:limit AS timestamptz))"), {"limit": limit}
                    ).all()
                )
                for name in ("project_metrics_daily", "cluster_metrics_daily", "cluster_metrics_hourly", "cluster_metrics")
            )
        for table, column, past in (
            ("metrics_by_day", "day", _down(limit, DAY_S)),
            ("metrics_by_hour", "hour", limit),
            ("metric_changes", "hour", limit),
        ):
            self._connection.execute(text(f"DELETE FROM {table} WHERE {column} < :past"), {"past": past})
        return self._connection.execute(text("DELETE FROM cluster_metrics WHERE time < :limit"), {"limit": limit}).rowcount


#: What the roll-ups hold beside their keys.
_ROLLED: Final = (*_PARTS, "seconds")


def _each(parts: Iterable[str], place: int) -> str:
    return ", ".join(f"{_PARTS[part][place]} AS {part}" for part in parts)


def _down(at: datetime, unit_s: int) -> datetime:
    return at - (at - _EPOCH) % timedelta(seconds=unit_s)


def _up(at: datetime, unit_s: int) -> datetime:
    return at + (_EPOCH - at) % timedelta(seconds=unit_s)
