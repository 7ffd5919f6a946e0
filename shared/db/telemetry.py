"""What meters said last of each cluster, and how each source of theirs is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.readings import ClusterReading

_LATEST = (
    "at timestamptz, watts float8, measured_watts float8, cpu_usage float8, cpu_usage_peak float8, gpu_usage float8,"
    " gpu_usage_peak float8, gpu_memory_used_gb float8, gpu_temperature_celsius float8, running_pods int, nodes_read int, accelerators_read int"
)
_COLUMNS = [words.split()[0] for words in _LATEST.split(", ")]


class Metered(NamedTuple):
    """A live cluster, and the flavors and numbers of the nodes that it runs."""

    id: UUID
    magnum_uuid: str
    nodes: list[tuple[str | None, int]]


class TelemetryRepository:
    """The tables telemetry_latest and telemetry_sources."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def metered(self, region: str) -> list[Metered]:
        """Every live cluster of the region that Magnum knows; one statement, however many there are."""
        rows = self._connection.execute(
            text(
                "SELECT c.id, c.magnum_uuid, coalesce(jsonb_agg(jsonb_build_array(u.flavor, u.node_count))"
                " FILTER (WHERE u.node_count > 0), '[]'::jsonb) AS nodes FROM clusters c LEFT JOIN usage_intervals u"
                " ON u.cluster_id = c.id AND u.ended_at IS NULL WHERE c.live AND c.region = :region AND c.magnum_uuid IS NOT NULL"
                " GROUP BY c.id"
            ),
            {"region": region},
        )
        return [Metered(row.id, row.magnum_uuid, [(flavor, count) for flavor, count in row.nodes]) for row in rows]

    def write(self, readings: Mapping[UUID, ClusterReading]) -> None:
        """The newest word on each of these clusters. One that is gone meanwhile is left out."""
        if not readings:
            return
        told = [asdict(one) | {"cluster_id": key, "at": one.at.isoformat()} for key, one in readings.items()]
        names = ", ".join(_COLUMNS)
        changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        self._connection.execute(
            text(
                f"INSERT INTO telemetry_latest AS t (cluster_id, {names}) SELECT x.cluster_id, {', '.join(f'x.{n}' for n in _COLUMNS)}"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(cluster_id uuid, {_LATEST})"
                " JOIN clusters c ON c.id = x.cluster_id ORDER BY x.cluster_id"
                f" ON CONFLICT (cluster_id) DO UPDATE SET {changes} WHERE t.at <= excluded.at"
            ),
            {"rows": as_json(told)},
        )

    def latest(self, cluster_id: UUID) -> dict[str, Any] | None:
        """What was read last; None where nothing ever was."""
        row = (
            self._connection.execute(text("SELECT * FROM telemetry_latest WHERE cluster_id = :id"), {"id": cluster_id})
            .mappings()
            .first()
        )
        return dict(row) if row else None

    def note_sources(self, region: str, at: datetime, sources: Iterable[Mapping[str, Any]]) -> None:
        """How the sources were at a collection: name, answered, samples, failures and findings of each. Others are forgotten."""
        told = list(sources)
        self._connection.execute(
            text("DELETE FROM telemetry_sources WHERE region = :region AND name <> ALL(CAST(:names AS text[]))"),
            {"region": region, "names": [one["name"] for one in told]},
        )
        self._connection.execute(
            text(
                "INSERT INTO telemetry_sources (region, name, looked_at, answered_at, samples, failures, findings)"
                " SELECT :region, x.name, :at, CASE WHEN x.answered THEN CAST(:at AS timestamptz) END, x.samples, x.failures, x.findings"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
                " AS x(name text, answered bool, samples int, failures jsonb, findings jsonb)"
                " ON CONFLICT (region, name) DO UPDATE SET looked_at = excluded.looked_at,"
                " answered_at = coalesce(excluded.answered_at, telemetry_sources.answered_at), samples = excluded.samples,"
                " failures = excluded.failures, findings = excluded.findings"
            ),
            {"region": region, "at": at, "rows": as_json(told)},
        )

    def sources(self, region: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The last word on each of these sources, as far as there was a collection."""
        rows = self._connection.execute(
            text("SELECT * FROM telemetry_sources WHERE region = :region AND name = ANY(CAST(:names AS text[]))"),
            {"region": region, "names": list(names)},
        ).mappings()
        return {row["name"]: dict(row) for row in rows}
