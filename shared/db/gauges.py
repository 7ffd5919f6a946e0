"""What the whole system's metrics are read from. Each figure is one statement over an index or a small table."""

from typing import NamedTuple

from sqlalchemy import Connection, text

#: Projects that are told of, those that draw most: a label's values must not grow without bound.
_MOST_PROJECTS = 1000


_LATEST = "time = (SELECT max(time) FROM cluster_metrics WHERE time > now() - interval '1 hour')"


class Draw(NamedTuple):
    """What a project's clusters draw and cost per hour, by their latest samples."""

    project_id: str
    watts: float
    cost_per_hour: float


class GaugeRepository:
    """Reads for `/metrics`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def draws(self) -> list[Draw]:
        """By project, those that draw most first; of the last moment at which samples were taken."""
        rows = self._connection.execute(
            text(
                "SELECT project_id, coalesce(sum(power_consumption_watts), 0), coalesce(sum(cost_per_hour), 0) FROM cluster_metrics"
                f" WHERE {_LATEST} GROUP BY project_id ORDER BY 2 DESC, 1 LIMIT {_MOST_PROJECTS}"
            )
        )
        return [Draw(*row) for row in rows]

    def drawn(self) -> tuple[float, float]:
        """Watts of all clusters at the last moment at which samples were taken, and those of clusters that have meters."""
        watts, measured = self._connection.execute(
            text(
                "SELECT coalesce(sum(power_consumption_watts), 0),"
                " coalesce(sum(power_consumption_watts) FILTER (WHERE source <> 'modelled'), 0) FROM cluster_metrics"
                f" WHERE {_LATEST}"
            )
        ).one()
        return float(watts), float(measured)

    def slow_jobs(self) -> int:
        """Jobs that converge for longer than nine tenths of the last jobs of their kind and template took, where ten are on record."""
        return int(
            self._number(
                "WITH held AS MATERIALIZED (SELECT j.region, j.kind, c.template_id, extract(epoch FROM now() - j.submitted_at) AS age"
                " FROM jobs j JOIN clusters c ON c.id = j.cluster_id WHERE j.state = 'converging' AND j.submitted_at IS NOT NULL),"
                " usual AS (SELECT k.*, r.p90 FROM (SELECT DISTINCT region, kind, template_id FROM held) k CROSS JOIN LATERAL"
                " (SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) AS p90, count(*) AS many FROM (SELECT seconds"
                " FROM durations d WHERE d.region = k.region AND d.kind = k.kind AND d.template_id = k.template_id"
                " ORDER BY finished_at DESC LIMIT 200) recent) r WHERE r.many >= 10)"
                " SELECT count(*) FROM held JOIN usual USING (region, kind, template_id) WHERE held.age > usual.p90"
            )
        )

    def unsent_s(self) -> float:
        """How long the longest-waiting due job that no worker was told of has waited; 0 where there is none."""
        return self._number(
            "SELECT extract(epoch FROM now() - min(due_at)) FROM jobs WHERE state = 'queued' AND due_at <= now() AND dispatched_at IS NULL"
        )

    def meters(self) -> list[tuple[str, str, bool, float, int, int]]:
        """Each source of measurements: region, name, whether it answered last time, seconds since it did, samples and findings."""
        rows = self._connection.execute(
            text(
                "SELECT region, name, answered_at IS NOT NULL AND answered_at = looked_at,"
                " extract(epoch FROM now() - coalesce(answered_at, '1970-01-01')), samples, jsonb_array_length(findings)"
                " FROM telemetry_sources ORDER BY region, name"
            )
        )
        return [(row[0], row[1], row[2], float(row[3]), row[4], row[5]) for row in rows]

    def deliveries(self) -> list[tuple[str, int]]:
        """Deliveries to webhooks by state; ended ones of the last day."""
        return self._counts(
            "SELECT state, count(*) FROM webhook_deliveries WHERE finished_at IS NULL OR finished_at > now() - interval '1 day'"
            " GROUP BY state"
        )

    def oldest_delivery_s(self) -> float:
        """Seconds that the longest-waiting delivery is past its time; 0 where none is."""
        return self._number("SELECT extract(epoch FROM now() - min(due_at)) FROM webhook_deliveries WHERE state = 'pending'")

    def plans(self) -> list[tuple[str, int]]:
        """Plans of consolidation by state."""
        return self._counts("SELECT state, count(*) FROM plans GROUP BY state")

    def cleanup(self) -> list[tuple[str, int]]:
        """Clusters by stage of cleanup, those that are in use left out."""
        return self._counts(
            "SELECT s.stage, count(*) FROM cleanup_states s JOIN clusters c ON c.id = s.cluster_id AND c.live"
            " WHERE s.stage <> 'active' GROUP BY s.stage"
        )

    def placements(self) -> int:
        """Placements that hold something."""
        return int(
            self._number("SELECT count(*) FROM placements WHERE ended_at IS NULL AND coalesce(expires_at, 'infinity') > now()")
        )

    def late_tick_s(self) -> float:
        """Seconds that the latest scope's tick is overdue; 0 where none is."""
        return self._number("SELECT extract(epoch FROM now() - min(next_tick_at)) FROM scopes")

    def late_inventory_s(self) -> float:
        """The same of inventories."""
        return self._number("SELECT extract(epoch FROM now() - min(next_inventory_at)) FROM scopes")

    def periodic(self) -> list[tuple[str, float]]:
        """Beat's tasks, and seconds since each was last done without an error."""
        rows = self._connection.execute(
            text(
                "SELECT substr(name, 6), extract(epoch FROM now() - done_until) FROM series_state WHERE name LIKE 'task:%' ORDER BY 1"
            )
        )
        return [(row[0], max(0.0, float(row[1]))) for row in rows]

    def turns(self) -> list[tuple[str, float]]:
        """What is done project by project, and seconds since the project that waits longest had its turn."""
        rows = self._connection.execute(
            text(
                "SELECT split_part(s.name, ':', 1), max(extract(epoch FROM now() - s.done_until)) FROM series_state s"
                # Rows of projects that have nothing left to look at stay, and are nobody's delay.
                " WHERE (s.name LIKE 'cleanup:%' AND EXISTS (SELECT FROM clusters c WHERE c.managed AND c.deleted_at IS NULL"
                " AND c.project_id = substr(s.name, 9)))"
                " OR (s.name LIKE 'budgets:%' AND EXISTS (SELECT FROM budgets b WHERE b.project_id = substr(s.name, 9)))"
                " GROUP BY 1 ORDER BY 1"
            )
        )
        return [(row[0], max(0.0, float(row[1]))) for row in rows]

    def _counts(self, statement: str) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._connection.execute(text(statement))]

    def _number(self, statement: str) -> float:
        return max(0.0, float(self._connection.execute(text(statement)).scalar() or 0.0))
