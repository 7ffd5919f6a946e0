"""What the whole system's metrics are read from. Each figure is one statement over an index or a small table."""

from typing import NamedTuple

from sqlalchemy import Connection, text

#: Projects that are told of, those that draw most: a label's values must not grow without bound.
_MOST_PROJECTS = 1000


class Draw(NamedTuple):
    """What a project's clusters draw and cost per hour, by their latest samples; ``measured_watts``: of clusters with meters."""

    project_id: str
    watts: float
    cost_per_hour: float
    measured_watts: float


class GaugeRepository:
    """Reads for `/metrics`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def draws(self) -> list[Draw]:
        """By project, those that draw most first; of the last moment at which samples were taken."""
        rows = self._connection.execute(
            text(
                "SELECT project_id, coalesce(sum(power_consumption_watts), 0), coalesce(sum(cost_per_hour), 0),"
                " coalesce(sum(power_consumption_watts) FILTER (WHERE source <> 'modelled'), 0) FROM cluster_metrics"
                " WHERE time = (SELECT max(time) FROM cluster_metrics WHERE time > now() - interval '1 hour')"
                " GROUP BY project_id ORDER BY 2 DESC, 1"
            )
        )
        return [Draw(*row) for row in rows.fetchmany(_MOST_PROJECTS)]

    def meters(self) -> list[tuple[str, bool, float, int, int]]:
        """Each source of measurements: name, whether it answered last time, seconds since it did, samples and findings."""
        rows = self._connection.execute(
            text(
                "SELECT name, answered_at IS NOT NULL AND answered_at = looked_at,"
                " extract(epoch FROM now() - coalesce(answered_at, '1970-01-01')), samples, jsonb_array_length(findings)"
                " FROM telemetry_sources ORDER BY name"
            )
        )
        return [(row[0], row[1], float(row[2]), row[3], row[4]) for row in rows]

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
        """What beat does by turns, and seconds since it was last done. Turns of single projects are told as the latest of their kind."""
        rows = self._connection.execute(
            text(
                "SELECT split_part(name, ':', 1), min(extract(epoch FROM now() - done_until)) FROM series_state GROUP BY 1 ORDER BY 1"
            )
        )
        return [(row[0], max(0.0, float(row[1]))) for row in rows]

    def _counts(self, statement: str) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._connection.execute(text(statement))]

    def _number(self, statement: str) -> float:
        return max(0.0, float(self._connection.execute(text(statement)).scalar() or 0.0))
