"""Quantities over time: durations of jobs, and the metric and cost series made from usage intervals."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db import samples
from shared.db.rows import as_json
from shared.db.samples import Sample


class SeriesRepository:
    """Durations, cluster_metrics and cluster_costs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- durations ------------------------------------------------------------------------------------------------

    def record_durations(self, job_ids: Sequence[UUID]) -> None:
        """Keep how long these succeeded jobs took in the cloud."""
        self._connection.execute(
            text(
                "INSERT INTO durations (region, kind, template_id, seconds, finished_at) SELECT j.region, j.kind,"
                " c.template_id, extract(epoch FROM j.finished_at - j.submitted_at), j.finished_at FROM jobs j"
                " JOIN clusters c ON c.id = j.cluster_id WHERE j.id = ANY(CAST(:ids AS uuid[]))"
                " AND j.submitted_at IS NOT NULL"
            ),
            {"ids": list(job_ids)},
        )

    def expected_s(self, region: str, kind: str, template_id: str) -> tuple[float, float, int] | None:
        """p50, p90 in seconds and the number of recorded runs, of the template's last 200; None with fewer than 3."""
        row = self._connection.execute(
            text(
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), percentile_cont(0.9) WITHIN GROUP"
                " (ORDER BY seconds), count(*) FROM (SELECT seconds FROM durations WHERE region = :region AND kind = :kind"
                " AND template_id = :template ORDER BY finished_at DESC LIMIT 200) AS recent"
            ),
            {"region": region, "kind": kind, "template": template_id},
        ).one()
        return (float(row[0]), float(row[1]), int(row[2])) if row[2] >= 3 else None  # noqa: PLR2004

    def expected_of_kind(self, region: str, kind: str) -> tuple[float, float, int] | None:
        """The same over all templates."""
        row = self._connection.execute(
            text(
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), percentile_cont(0.9) WITHIN GROUP"
                " (ORDER BY seconds), count(*) FROM (SELECT seconds FROM durations WHERE region = :region AND kind = :kind"
                " ORDER BY id DESC LIMIT 200) AS recent"
            ),
            {"region": region, "kind": kind},
        ).one()
        return (float(row[0]), float(row[1]), int(row[2])) if row[2] >= 3 else None  # noqa: PLR2004

    def expected_any_s(self, region: str, kind: str) -> float | None:
        """Median seconds of the last 200 jobs of a kind over all templates; None where there were none."""
        value = self._connection.execute(
            text(
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (SELECT seconds FROM durations"
                " WHERE region = :region AND kind = :kind ORDER BY id DESC LIMIT 200) AS recent"
            ),
            {"region": region, "kind": kind},
        ).scalar()
        return float(value) if value is not None else None

    # -- series ---------------------------------------------------------------------------------------------------

    def turn(self, name: str, *, every_s: float) -> bool:
        """Whether a periodic sample is due; of several callers at once, one gets True."""
        row = self._connection.execute(
            text(
                "INSERT INTO series_state AS s (name, done_until) VALUES (:name, now()) ON CONFLICT (name) DO UPDATE"
                " SET done_until = now() WHERE s.done_until <= now() - make_interval(secs => :every) RETURNING 1"
            ),
            {"name": name, "every": every_s},
        ).first()
        return row is not None

    def note_task(self, name: str) -> None:
        """One of beat's tasks was done. Written at most every ten seconds: some run that often."""
        self._connection.execute(
            text(
                "INSERT INTO series_state AS s (name, done_until) VALUES ('task:' || :name, now()) ON CONFLICT (name) DO UPDATE"
                " SET done_until = now() WHERE s.done_until < now() - interval '10 seconds'"
            ),
            {"name": name},
        )

    def gap_s(self, name: str) -> float:
        """Seconds since a sample was last due; 0 before the first. Others that ask wait until this transaction ends."""
        value = self._connection.execute(
            text("SELECT extract(epoch FROM now() - done_until) FROM series_state WHERE name = :name FOR UPDATE"), {"name": name}
        ).scalar()
        return max(0.0, float(value)) if value is not None else 0.0

    def sample_metrics(
        self, rates: Sequence[Mapping[str, Any]], default: Mapping[str, Any], *, fresh_s: float = 120.0, lasts_s: float = 0.0
    ) -> int:
        """One row per live cluster that Magnum has shown: counts, watts, cost per hour, and use.

        ``rates``: flavor, modelled watts, price_per_hour of one node; with a project_id, the prices of that project's own rate cards. What meters said in the last ``fresh_s`` stands in place of
        modelled watts; of clusters that were ever measured, the energy of the last ``lasts_s`` seconds is added to their hour.
        Where a sample of the same moment is there, nothing is added.
        """
        result = self._connection.execute(
            text(
                "WITH r AS MATERIALIZED (SELECT * FROM jsonb_to_recordset(CAST(:rates AS jsonb))"
                " AS x(project_id text, flavor text, watts float8, price_per_hour float8)),"
                " u AS (SELECT i.cluster_id, sum(i.node_count * coalesce(r.watts, :watts)) AS watts,"
                " sum(i.node_count * coalesce(p.price_per_hour, r.price_per_hour, :price)) AS price FROM usage_intervals i"
                " LEFT JOIN r ON r.flavor = i.flavor AND r.project_id IS NULL"
                " LEFT JOIN r p ON p.flavor = i.flavor AND p.project_id = i.project_id WHERE i.ended_at IS NULL GROUP BY i.cluster_id),"
                " s AS (INSERT INTO cluster_metrics (time, cluster_id, project_id, cluster_name, status, health_status, node_count,"
                " master_count, power_consumption_watts, cost_per_hour, source, cpu_usage, cpu_usage_peak, gpu_usage, gpu_usage_peak,"
                " gpu_memory_used_gb, gpu_temperature_celsius, running_pods, seconds)"
                " SELECT date_trunc('second', now()), c.id, c.project_id, c.name, c.status, c.health_status,"
                " c.observed_node_count, c.observed_master_count, coalesce(t.watts, u.watts, n.nothing), coalesce(u.price, n.nothing), CASE"
                " WHEN t.measured_watts > 0 AND t.measured_watts >= t.watts - 1e-6 THEN 'measured'"
                " WHEN t.measured_watts > 0 THEN 'mixed' ELSE 'modelled' END,"
                " t.cpu_usage, t.cpu_usage_peak, t.gpu_usage, t.gpu_usage_peak, t.gpu_memory_used_gb,"
                " t.gpu_temperature_celsius, t.running_pods,"
                " CASE WHEN :lasts > 0 THEN :lasts END"
                " FROM clusters c LEFT JOIN u ON u.cluster_id = c.id"
                " LEFT JOIN telemetry_latest t ON t.cluster_id = c.id AND t.at > now() - make_interval(secs => :fresh)"
                # Nodes that are there and not on record yet draw something that is not known, not nothing.
                " CROSS JOIN LATERAL (SELECT CASE WHEN coalesce(c.observed_node_count, 0) + coalesce(c.observed_master_count, 0) = 0"
                " THEN 0.0 END AS nothing) n"
                " WHERE c.live AND c.first_seen_at IS NOT NULL ON CONFLICT DO NOTHING"
                " RETURNING cluster_id, power_consumption_watts AS watts, source),"
                " e AS (INSERT INTO cluster_energy AS e (cluster_id, hour, seconds, measured_seconds, joules)"
                " SELECT s.cluster_id, date_trunc('hour', now() - make_interval(secs => :lasts / 2), 'UTC'), :lasts,"
                " CASE WHEN t.at > now() - make_interval(secs => :fresh) AND t.watts IS NOT NULL THEN :lasts ELSE 0 END,"
                " s.watts * :lasts FROM s JOIN telemetry_latest t ON t.cluster_id = s.cluster_id WHERE :lasts > 0 AND s.watts IS NOT NULL"
                " ON CONFLICT (cluster_id, hour) DO UPDATE SET seconds = e.seconds + excluded.seconds,"
                " measured_seconds = e.measured_seconds + excluded.measured_seconds, joules = e.joules + excluded.joules)"
                " SELECT count(*) FROM s"
            ),
            {"rates": as_json(list(rates)), "watts": default["watts"], "price": default["price_per_hour"], "fresh": fresh_s}
            | {"lasts": lasts_s},
        )
        return int(result.scalar_one())

    def add_samples(self, rows: Sequence[Sample]) -> int:
        """Add samples to cluster_metrics, many at once; how many are new. See :func:`shared.db.samples.add`."""
        return samples.add(self._connection, rows)

    def roll_costs(self, rates: Sequence[Mapping[str, Any]], default: Mapping[str, Any], *, step_s: float) -> int:
        """Continue cluster_costs from where it is complete up to now: node-seconds and kWh per cluster and role.

        The row in series_state is held meanwhile, so spans neither overlap nor leave a gap, whoever calls and how often.
        """
        until = self._connection.execute(
            text(
                "INSERT INTO series_state (name, done_until) VALUES ('cluster_costs', now()) ON CONFLICT (name)"
                " DO UPDATE SET name = excluded.name RETURNING done_until"
            )
        ).scalar_one()
        now = self._connection.execute(text("SELECT now()")).scalar_one()
        if (now - until).total_seconds() < step_s:
            return 0
        result = self._connection.execute(
            text(
                "INSERT INTO cluster_costs (time, cluster_id, role, project_id, flavor, seconds, node_seconds, energy_kwh)"
                " SELECT :start, u.cluster_id, u.role, min(u.project_id), min(u.flavor),"
                " extract(epoch FROM CAST(:end AS timestamptz) - CAST(:start AS timestamptz)), sum(s.node_seconds),"
                " sum(s.node_seconds * coalesce(r.watts, :watts)) / 3.6e6 FROM usage_intervals u CROSS JOIN LATERAL"
                " (SELECT u.node_count * extract(epoch FROM least(coalesce(u.ended_at, :end), :end)"
                " - greatest(u.started_at, :start)) AS node_seconds) s"
                " LEFT JOIN jsonb_to_recordset(CAST(:rates AS jsonb)) AS r(flavor text, watts float8) ON r.flavor = u.flavor"
                " WHERE u.started_at < :end AND coalesce(u.ended_at, :end) > :start GROUP BY u.cluster_id, u.role"
            ),
            {"start": until, "end": now, "rates": as_json(list(rates)), "watts": default["watts"]},
        )
        self._connection.execute(text("UPDATE series_state SET done_until = :end WHERE name = 'cluster_costs'"), {"end": now})
        return result.rowcount

    def cost_series(self, cluster_id: UUID, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """The rolled-up spans of one cluster."""
        rows = self._connection.execute(
            text(
                "SELECT time, role, flavor, seconds, node_seconds, energy_kwh FROM cluster_costs"
                " WHERE cluster_id = :id AND time >= :start AND time < :end ORDER BY time, role LIMIT 10000"
            ),
            {"id": cluster_id, "start": start, "end": end},
        ).mappings()
        return [dict(row) for row in rows]

    def forget_old(self, *, days: int) -> int:
        """Drop costs, measured energy and durations past their keeping time; how many rows. For samples, see the metrics.

        Tasks that nobody does any more, because an older version had them, are forgotten after a day.
        """
        gone = 0
        self._connection.execute(
            text("DELETE FROM series_state WHERE name LIKE 'task:%' AND done_until < now() - interval '1 day'")
        )
        for table, column in (("cluster_costs", "time"), ("cluster_energy", "hour"), ("durations", "finished_at")):
            gone += self._connection.execute(
                text(f"DELETE FROM {table} WHERE {column} < now() - make_interval(days => :days)"), {"days": days}
            ).rowcount
        return gone
