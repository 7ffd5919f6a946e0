"""Plans of consolidation and their steps."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from shared.db.rows import as_json
from shared.domain.consolidation.model import Spot
from shared.domain.consolidation.plan import Act
from shared.domain.plans import PlanState, PlanStep, StepState, StoredPlan

_PLAN: Final = tuple(f.name for f in fields(StoredPlan))
_PLAN_COLUMNS: Final = ", ".join(f"p.{name}" for name in _PLAN)
_STEP: Final = tuple(f.name for f in fields(PlanStep))
#: Names in the table, where they are not those of the class.
_NAMED: Final = {"group": "node_group"}
_TYPES: Final = {
    "number": "int",
    "nodes_before": "int",
    "nodes": "int",
    "keeps": "jsonb",
    "placement_id": "uuid",
    "source": "jsonb",
    "target": "jsonb",
    "cluster_id": "uuid",
    "job_id": "uuid",
    "began_at": "timestamptz",
    "ended_at": "timestamptz",
    "deadline_at": "timestamptz",
}
_COLUMNS: Final = tuple(_NAMED.get(name, name) for name in _STEP)
_RECORD: Final = ", ".join(f"{_NAMED.get(name, name)} {_TYPES.get(name, 'text')}" for name in _STEP)
#: What changes of a step once it is written.
_MOVING: Final = ("state", "state_reason", "cluster_id", "job_id", "began_at", "ended_at", "deadline_at", "target")


def _plan_from(row: RowMapping) -> StoredPlan:
    values = {name: row[name] for name in _PLAN}
    values["state"] = PlanState(values["state"])
    return StoredPlan(**values)


def _step_from(row: RowMapping) -> PlanStep:
    values = {name: row[_NAMED.get(name, name)] for name in _STEP}
    values["act"], values["state"] = Act(values["act"]), StepState(values["state"])
    values["keeps"] = tuple(values["keeps"])
    for name in ("source", "target"):
        values[name] = Spot(**values[name]) if values[name] is not None else None
    return PlanStep(**values)


def _row_of(step: PlanStep) -> dict[str, Any]:
    row = {_NAMED.get(name, name): getattr(step, name) for name in _STEP}
    return row | {name: asdict(row[name]) if row[name] is not None else None for name in ("source", "target")}


class PlanRepository:
    """The tables plans and plan_steps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- reading --------------------------------------------------------------------------------------------------------

    def get(self, project_id: str, plan_id: UUID, *, lock: bool = False) -> StoredPlan | None:
        """One of the project's; with ``lock`` nobody else takes it further until the transaction ends."""
        return self._one(
            "p.id = :id AND p.project_id = :project" + (" FOR UPDATE" if lock else ""), {"id": plan_id, "project": project_id}
        )

    def take(self, plan_id: UUID) -> StoredPlan | None:
        """A plan that is applied, for this transaction alone; None where it is not, or somebody else has it now."""
        return self._one("p.id = :id AND p.state = 'applying' FOR UPDATE SKIP LOCKED", {"id": plan_id})

    def peek(self, plan_id: UUID) -> StoredPlan | None:
        """A plan that is applied, whoever has it."""
        return self._one("p.id = :id AND p.state = 'applying'", {"id": plan_id})

    def _one(self, condition: str, values: dict[str, Any]) -> StoredPlan | None:
        row = self._connection.execute(text(f"SELECT {_PLAN_COLUMNS} FROM plans p WHERE {condition}"), values).mappings().first()
        return _plan_from(row) if row else None

    def select(self, project_id: str, *, state: str | None, limit: int, after: UUID | None) -> list[StoredPlan]:
        """The project's, newest first, after ``after``. One past its time counts as expired."""
        rows = self._connection.execute(
            text(
                f"SELECT {_PLAN_COLUMNS} FROM plans p WHERE p.project_id = :project"
                " AND (CAST(:state AS text) IS NULL OR :state = CASE WHEN p.state IN ('proposed', 'approved')"
                "  AND p.valid_until <= now() THEN 'expired' ELSE p.state END)"
                " AND (CAST(:after AS uuid) IS NULL OR p.seq < (SELECT seq FROM plans WHERE id = :after))"
                " ORDER BY p.seq DESC LIMIT :limit"
            ),
            {"project": project_id, "state": state, "after": after, "limit": limit},
        ).mappings()
        return [_plan_from(row) for row in rows]

    def steps(self, plan_id: UUID) -> list[PlanStep]:
        """A plan's steps, in their order."""
        columns = ", ".join(_COLUMNS)
        rows = self._connection.execute(
            text(f"SELECT {columns} FROM plan_steps WHERE plan_id = :id ORDER BY number"), {"id": plan_id}
        ).mappings()
        return [_step_from(row) for row in rows]

    def counts(self, plan_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
        """How many steps of each plan are in which state."""
        rows = self._connection.execute(
            text(
                "SELECT plan_id, state, count(*) FROM plan_steps WHERE plan_id = ANY(CAST(:ids AS uuid[])) GROUP BY plan_id, state"
                " ORDER BY plan_id, state"
            ),
            {"ids": list(plan_ids)},
        )
        found: dict[UUID, dict[str, int]] = {plan_id: {} for plan_id in plan_ids}
        for plan_id, state, count in rows:
            found[plan_id][state] = count
        return found

    def applying(self, region: str, *, limit: int) -> list[UUID]:
        """Plans that are applied, the longest not looked at first."""
        rows = self._connection.execute(
            text(
                "SELECT id FROM plans WHERE state = 'applying' AND region = :region ORDER BY looked_at NULLS FIRST, seq LIMIT :limit"
            ),
            {"region": region, "limit": limit},
        )
        return [row[0] for row in rows]

    def disturbed(self, project_id: str, region: str, *, since: datetime) -> frozenset[str]:
        """Clusters of the project of which a plan began to move, shrink or delete something since then."""
        rows = self._connection.execute(
            text(
                "SELECT DISTINCT s.ref FROM plan_steps s JOIN plans p ON p.id = s.plan_id WHERE s.began_at > :since"
                " AND s.act IN ('move', 'shrink', 'delete') AND p.project_id = :project AND p.region = :region"
            ),
            {"since": since, "project": project_id, "region": region},
        )
        return frozenset(row[0] for row in rows)

    # -- writing --------------------------------------------------------------------------------------------------------

    def add(self, plan: StoredPlan, steps: Sequence[PlanStep]) -> None:
        """Write a plan with its steps. Writing it again changes nothing: a job that is done twice made it before."""
        made = self._connection.execute(
            text(
                "INSERT INTO plans (id, project_id, region, summary, basis, requested_by, valid_until, created_at) VALUES (:id,"
                " :project, :region, CAST(:summary AS jsonb), CAST(:basis AS jsonb), :by, :until, :at) ON CONFLICT DO NOTHING RETURNING 1"
            ),
            {
                "id": plan.id,
                "project": plan.project_id,
                "region": plan.region,
                "summary": as_json(plan.summary),
                "basis": as_json(plan.basis),
                "by": plan.requested_by,
                "until": plan.valid_until,
                "at": plan.created_at,
            },
        ).first()
        if made is not None and steps:
            self._connection.execute(
                text(
                    f"INSERT INTO plan_steps (plan_id, {', '.join(_COLUMNS)}) SELECT :plan, {', '.join('x.' + n for n in _COLUMNS)}"
                    f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x({_RECORD})"
                ),
                {"plan": plan.id, "rows": as_json([_row_of(step) for step in steps])},
            )

    def put(self, plan: StoredPlan) -> None:
        """Write how far a plan has come. The table refuses a second one of a project that is applied (Conflict)."""
        self._connection.execute(
            text(
                "UPDATE plans SET state = :state, reason = :reason, detail = :detail, approved_by = :approved_by,"
                " approved_at = :approved_at, applied_by = :applied_by, began_at = :began_at, looked_at = :looked_at,"
                " finished_at = :finished_at WHERE id = :id"
            ),
            {
                "id": plan.id,
                "state": plan.state.value,
                "reason": plan.reason,
                "detail": plan.detail,
                "approved_by": plan.approved_by,
                "approved_at": plan.approved_at,
                "applied_by": plan.applied_by,
                "began_at": plan.began_at,
                "looked_at": plan.looked_at,
                "finished_at": plan.finished_at,
            },
        )

    def put_steps(self, plan_id: UUID, steps: Sequence[PlanStep]) -> None:
        """Write how far these steps have come."""
        if steps:
            changes = ", ".join(f"{name} = x.{name}" for name in _MOVING)
            self._connection.execute(
                text(
                    f"UPDATE plan_steps s SET {changes} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x({_RECORD})"
                    " WHERE s.plan_id = :plan AND s.number = x.number"
                ),
                {"plan": plan_id, "rows": as_json([_row_of(step) for step in steps])},
            )

    def expire(self) -> int:
        """End the plans that were not applied in time; how many."""
        gone: int = self._connection.execute(
            text(
                "WITH over AS (UPDATE plans SET state = 'expired', reason = 'EXPIRED', detail = 'It was not applied in time.',"
                "  finished_at = now() WHERE state IN ('proposed', 'approved') AND valid_until <= now() RETURNING id),"
                " dropped AS (UPDATE plan_steps s SET state = 'dropped' FROM over WHERE s.plan_id = over.id AND s.state = 'waiting')"
                " SELECT count(*) FROM over"
            )
        ).scalar_one()
        return gone

    def forget_old(self, *, days: int) -> int:
        """Drop plans past their keeping time; how many."""
        return self._connection.execute(
            text("DELETE FROM plans WHERE finished_at < now() - :age"), {"age": timedelta(days=days)}
        ).rowcount
