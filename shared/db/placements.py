"""Placements, what has changed in a fleet, and the learnt mix of shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from shared.db.rows import as_json
from shared.domain.clusters import Scope
from shared.domain.workloads import Isolation, Placement

_NAMES = tuple(f.name for f in fields(Placement))
_COLUMNS = ", ".join(f"p.{name}" for name in _NAMES)
_INSERTED = tuple(name for name in _NAMES if name not in {"created_at", "expires_at", "ended_at", "end_reason"})
_TYPES = {
    "id": "uuid",
    "request_id": "uuid",
    "cluster_id": "uuid",
    "job_id": "uuid",
    "node": "int",
    "replica": "int",
    "cpu_milli": "int",
    "memory_mib": "int",
    "accelerators": "int",
    "share_milli": "int",
    "priority": "int",
    "devices": "jsonb",
    "models": "jsonb",
    "labels": "jsonb",
    "movable": "bool",
    "watts": "float8",
    "cost_per_hour": "float8",
}
_RECORD = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in _INSERTED)
#: What the fleet needs of a cluster; ``groups`` are those besides the default one.
_CLUSTERS = """SELECT c.id, c.name, c.phase, c.live, c.managed, c.flavor, c.master_flavor, c.template_id, c.template_name,
  c.node_count, c.observed_node_count, coalesce(c.observed_master_count, c.master_count) AS masters, c.labels, c.health_status,
  c.hibernated_sizes, c.status, c.created_at,
  c.id = ANY(ARRAY(SELECT s.cluster_id FROM plan_steps s JOIN plans p ON p.id = s.plan_id WHERE p.state = 'applying'
    AND p.project_id = :project AND p.region = :region AND s.act = 'delete' AND s.state IN ('waiting', 'running'))) AS leaving,
  coalesce((SELECT jsonb_agg(jsonb_build_object('name', g.name, 'flavor', coalesce(g.flavor, c.flavor), 'node_count', g.node_count,
    'least', g.least, 'most', g.most) ORDER BY g.name) FROM node_groups g WHERE g.cluster_id = c.id), '[]'::jsonb) AS groups
  FROM clusters c WHERE c.region = :region AND c.project_id = :project"""


#: Transactions may have begun, and so have their now(), before those that committed earlier.
_SLACK = timedelta(minutes=10)


class Horizon(NamedTuple):
    """Up to where changes were read: the oldest transaction that was still open then, and the moment."""

    xid: int
    at: datetime


def placement_from(row: RowMapping) -> Placement:
    """A placement out of its row."""
    values = {name: row[name] for name in _NAMES}
    values["devices"] = tuple(values["devices"])
    values["models"] = None if values["models"] is None else tuple(values["models"])
    values["isolation"] = Isolation(values["isolation"])
    return Placement(**values)


class PlacementRepository:
    """The tables placements, fleet_changes and shape_mixes, and what a fleet needs of clusters."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- the fleet ------------------------------------------------------------------------------------------------------

    def hold_scope(self, scope: Scope) -> None:
        """Until the transaction ends, nobody else places anything in this project and region."""
        self._connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:scope, 7))"), {"scope": f"{scope.region}/{scope.project_id}"}
        )

    def horizon(self) -> Horizon:
        """Where to go on reading changes from, later. Ask before reading the state itself."""
        row = self._connection.execute(text("SELECT txid_snapshot_xmin(txid_current_snapshot()), now()")).one()
        return Horizon(row[0], row[1])

    def changed_since(self, scope: Scope, horizon: Horizon) -> list[UUID]:
        """Clusters of which something changed in a transaction that had not ended at ``horizon``; some may be told twice."""
        rows = self._connection.execute(
            text("SELECT DISTINCT cluster_id FROM fleet_changes WHERE region = :region AND project_id = :project AND xid >= :xid"),
            {"region": scope.region, "project": scope.project_id, "xid": horizon.xid},
        )
        return [row[0] for row in rows]

    def clusters(self, scope: Scope, ids: Sequence[UUID] | None = None) -> list[RowMapping]:
        """Clusters as the fleet sees them, in the order of their making: those of ``ids``, else all live ones."""
        condition = " AND c.live ORDER BY c.seq" if ids is None else " AND c.id = ANY(CAST(:ids AS uuid[])) ORDER BY c.seq"
        values: dict[str, Any] = {"region": scope.region, "project": scope.project_id, "ids": list(ids or ())}
        return list(self._connection.execute(text(_CLUSTERS + condition), values).mappings())

    def hold_power(self, region: str) -> None:
        """Until the transaction ends, nobody else checks a power budget in this region: what one adds, the next must see."""
        self._connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:region, 8))"), {"region": region})

    def nodes(self, region: str) -> list[tuple[str, str, int]]:
        """Project, flavor and number of the nodes of all live clusters: those that are wanted or still there, whichever are more. Of a
        cluster that is woken, those that come back.
        """
        rows = self._connection.execute(
            text(
                "WITH c AS (SELECT *, phase = 'Hibernated' AS asleep, (SELECT coalesce(sum(value::int), 0) FROM"
                "  jsonb_each_text(coalesce(hibernated_sizes, '{}'))) AS slept FROM clusters WHERE region = :region AND live),"
                " g AS (SELECT g.cluster_id, coalesce(g.flavor, c.flavor) AS flavor, greatest(g.node_count, coalesce((c.hibernated_sizes ->> g.name)::int, 0))"
                "  AS node_count FROM node_groups g JOIN c ON c.id = g.cluster_id WHERE NOT c.asleep),"
                " s AS (SELECT cluster_id, sum(node_count) AS nodes FROM g GROUP BY cluster_id)"
                " SELECT project_id, coalesce(flavor, ''), sum(nodes)::int FROM ("
                "  SELECT c.project_id, c.flavor, CASE WHEN c.asleep THEN coalesce(c.observed_node_count, 0) ELSE"
                "   greatest(0, greatest(c.node_count, coalesce(c.observed_node_count, 0), c.slept) - coalesce(s.nodes, 0)) END AS nodes"
                "   FROM c LEFT JOIN s ON s.cluster_id = c.id"
                "  UNION ALL SELECT c.project_id, c.master_flavor, coalesce(c.observed_master_count, c.master_count) FROM c"
                "  UNION ALL SELECT c.project_id, g.flavor, g.node_count FROM g JOIN c ON c.id = g.cluster_id) AS n"
                " WHERE nodes > 0 GROUP BY project_id, flavor"
            ),
            {"region": region},
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def note_changed(self, scope: Scope, cluster_ids: Sequence[UUID]) -> None:
        """Tell those who hold fleets in memory that something about these clusters changed that no trigger sees."""
        self._connection.execute(
            text(
                "INSERT INTO fleet_changes (region, project_id, cluster_id)"
                " SELECT :region, :project, id FROM unnest(CAST(:ids AS uuid[])) AS x(id)"
            ),
            {"region": scope.region, "project": scope.project_id, "ids": list(cluster_ids)},
        )

    def forget_changes(self, *, older_than_s: float) -> int:
        """Drop changes that every reader has seen, or has to read everything anew for."""
        return self._connection.execute(
            text("DELETE FROM fleet_changes WHERE at < now() - make_interval(secs => :age)"), {"age": older_than_s}
        ).rowcount

    # -- placements -----------------------------------------------------------------------------------------------------

    def active(self, scope: Scope, clusters: Sequence[UUID] | None = None) -> list[Placement]:
        """What is held now, oldest first: on ``clusters``, else everywhere."""
        condition = "" if clusters is None else " AND p.cluster_id = ANY(CAST(:ids AS uuid[]))"
        rows = self._connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM placements p WHERE p.region = :region AND p.project_id = :project AND p.ended_at IS NULL"
                f" AND (p.expires_at IS NULL OR p.expires_at > now()){condition} ORDER BY p.seq"
            ),
            {"region": scope.region, "project": scope.project_id, "ids": list(clusters or ())},
        ).mappings()
        return [placement_from(row) for row in rows]

    def expired_since(self, scope: Scope, since: Horizon) -> list[UUID]:
        """Placements whose lease has run out since then, and which nobody has ended yet."""
        rows = self._connection.execute(
            text(
                "SELECT id FROM placements WHERE region = :region AND project_id = :project AND ended_at IS NULL"
                " AND expires_at <= now() AND expires_at > :since"
            ),
            {"region": scope.region, "project": scope.project_id, "since": since.at - _SLACK},
        )
        return [row[0] for row in rows]

    def add(self, placements: Sequence[Placement], *, lease_s: float | None) -> None:
        """Hold. ``lease_s``: seconds from now until they are free again by themselves; None: until ended."""
        rows = [{name: getattr(one, name) for name in _INSERTED} for one in placements]
        self._connection.execute(
            text(
                f"INSERT INTO placements ({', '.join(_INSERTED)}, expires_at) SELECT {', '.join('x.' + n for n in _INSERTED)},"
                " now() + make_interval(secs => CAST(:lease AS float8))"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x({_RECORD})"
            ),
            {"rows": as_json(rows), "lease": lease_s},
        )

    def get(self, project_id: str, placement_id: UUID, *, lock: bool = False) -> Placement | None:
        """One of the project's, ended ones too."""
        row = (
            self._connection.execute(
                text(
                    f"SELECT {_COLUMNS} FROM placements p WHERE p.id = :id AND p.project_id = :project"
                    + (" FOR UPDATE" if lock else "")
                ),
                {"id": placement_id, "project": project_id},
            )
            .mappings()
            .first()
        )
        return placement_from(row) if row else None

    def select(
        self, project_id: str, *, cluster_id: UUID | None, active: bool | None, limit: int, after: UUID | None
    ) -> list[Placement]:
        """The project's, newest first, after ``after``."""
        rows = self._connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM placements p WHERE p.project_id = :project"
                " AND (CAST(:cluster AS uuid) IS NULL OR p.cluster_id = :cluster)"
                " AND (CAST(:active AS bool) IS NULL OR (p.ended_at IS NULL AND (p.expires_at IS NULL OR p.expires_at > now())) = :active)"
                " AND (CAST(:after AS uuid) IS NULL OR p.seq < (SELECT seq FROM placements WHERE id = :after))"
                " ORDER BY p.seq DESC LIMIT :limit"
            ),
            {"project": project_id, "cluster": cluster_id, "active": active, "after": after, "limit": limit},
        ).mappings()
        return [placement_from(row) for row in rows]

    def still_held(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which of these have not ended."""
        rows = self._connection.execute(
            text(
                "SELECT id FROM placements WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NULL"
                " AND (expires_at IS NULL OR expires_at > now())"
            ),
            {"ids": list(ids)},
        )
        return {row[0] for row in rows}

    def move(
        self,
        placement_id: UUID,
        *,
        cluster_id: UUID,
        group: str,
        node: int,
        devices: Sequence[int],
        model: str | None,
        watts: float,
        cost_per_hour: float,
    ) -> None:
        """What is held lies on another node from now on, where it draws and costs this."""
        self._connection.execute(
            text(
                "UPDATE placements SET cluster_id = :cluster, node_group = :group, node = :node, devices = CAST(:devices AS jsonb),"
                " accelerator = :model, watts = :watts, cost_per_hour = :cost WHERE id = :id"
            ),
            {
                "id": placement_id,
                "cluster": cluster_id,
                "group": group,
                "node": node,
                "devices": as_json(list(devices)),
                "model": model,
                "watts": watts,
                "cost": cost_per_hour,
            },
        )

    def renumber(self, cluster_id: UUID, group: str, numbers: Mapping[int, int]) -> None:
        """Nodes of a group have other numbers from now on, by the old ones; ended placements keep theirs."""
        if numbers:
            self._connection.execute(
                text(
                    "UPDATE placements p SET node = CAST(x.value AS int) FROM jsonb_each_text(CAST(:numbers AS jsonb)) AS x"
                    " WHERE p.cluster_id = :cluster AND p.node_group = :group AND p.node = CAST(x.key AS int) AND p.ended_at IS NULL"
                ),
                {"cluster": cluster_id, "group": group, "numbers": as_json({str(k): v for k, v in numbers.items()})},
            )

    def extend(self, project_id: str, placement_id: UUID, *, lease_s: float | None) -> Placement | None:
        """A new lease, from now on; None where it is not held any more."""
        row = (
            self._connection.execute(
                text(
                    "UPDATE placements p SET expires_at = now() + make_interval(secs => CAST(:lease AS float8))"
                    " WHERE p.id = :id AND p.project_id = :project AND p.ended_at IS NULL"
                    f" AND (p.expires_at IS NULL OR p.expires_at > now()) RETURNING {_COLUMNS}"
                ),
                {"id": placement_id, "project": project_id, "lease": lease_s},
            )
            .mappings()
            .first()
        )
        return placement_from(row) if row else None

    def end(self, ids: Sequence[UUID], *, reason: str) -> int:
        """Free these; how many were held."""
        return self._connection.execute(
            text(
                "UPDATE placements SET ended_at = least(now(), coalesce(expires_at, now())), end_reason = :reason"
                " WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NULL"
            ),
            {"ids": list(ids), "reason": reason},
        ).rowcount

    def sweep(self) -> int:
        """End what has expired, and what lies on clusters that are no more; how many."""
        expired = self._connection.execute(
            text(
                "UPDATE placements SET ended_at = greatest(created_at, expires_at), end_reason = 'EXPIRED'"
                " WHERE ended_at IS NULL AND expires_at <= now()"
            )
        ).rowcount
        orphans = self._connection.execute(
            text(
                "UPDATE placements p SET ended_at = now(), end_reason = 'CLUSTER_GONE' FROM clusters c"
                " WHERE p.ended_at IS NULL AND c.id = p.cluster_id AND NOT c.live"
            )
        ).rowcount
        return expired + orphans

    # -- the mix of shapes ----------------------------------------------------------------------------------------------

    def shapes_asked(self, scope: Scope, *, limit: int) -> list[tuple[int, int, int, int, int]]:
        """Cores, memory, accelerators, share and number of the shapes that were held for lately, the oldest first."""
        rows = self._connection.execute(
            text(
                "SELECT cpu_milli, memory_mib, accelerators, share_milli, count(*) FROM (SELECT * FROM placements"
                " WHERE region = :region AND project_id = :project ORDER BY seq DESC LIMIT :limit) AS recent"
                " GROUP BY 1, 2, 3, 4 ORDER BY max(seq)"
            ),
            {"region": scope.region, "project": scope.project_id, "limit": limit},
        )
        return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    def scopes_with_news(self, *, limit: int) -> list[Scope]:
        """Projects and regions in which something was held since their prices were last learnt."""
        rows = self._connection.execute(
            text(
                "SELECT DISTINCT p.region, p.project_id FROM placements p LEFT JOIN shape_mixes m ON m.region = p.region"
                " AND m.project_id = p.project_id WHERE m.updated_at IS NULL OR p.created_at > m.updated_at LIMIT :limit"
            ),
            {"limit": limit},
        )
        return [Scope(row[0], row[1]) for row in rows]

    def prices(self, scope: Scope) -> tuple[dict[str, Any], datetime] | None:
        """What was learnt of the shapes that are asked for, and when; None where nothing was."""
        row = self._connection.execute(
            text("SELECT mix, updated_at FROM shape_mixes WHERE region = :region AND project_id = :project"),
            {"region": scope.region, "project": scope.project_id},
        ).first()
        return (row[0], row[1]) if row else None

    def keep_prices(self, scope: Scope, prices: Mapping[str, Any]) -> None:
        """Remember it, as of now."""
        self._connection.execute(
            text(
                "INSERT INTO shape_mixes (region, project_id, mix) VALUES (:region, :project, CAST(:mix AS jsonb))"
                " ON CONFLICT (project_id, region) DO UPDATE SET mix = excluded.mix, updated_at = now()"
            ),
            {"region": scope.region, "project": scope.project_id, "mix": as_json(dict(prices))},
        )
