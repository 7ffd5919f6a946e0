"""Budgets, and how they stood when they were last looked at."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from shared.db.rows import as_json
from shared.domain.budgets import Action, Budget, Kind, Of, Period, Threshold


class HeldBudget(NamedTuple):
    """A budget and its state. ``told``: numbers of the thresholds that were told of in the period that began at ``span_start``."""

    budget: Budget
    created_by: str
    created_at: datetime
    span_start: datetime | None
    used: Decimal | None
    forecast: Decimal | None
    evaluated_at: datetime | None
    told: tuple[int, ...]
    refusing_since: datetime | None


class Bounds(NamedTuple):
    """What budgets say of a project now: the least watts of its power budgets, and the one that refuses whatever adds."""

    watts: float | None
    power: str | None  #: the name of the budget with the least watts
    refusing: HeldBudget | None


def _from(row: RowMapping) -> HeldBudget:
    thresholds = tuple(Threshold(Decimal(str(one["at"])), Action(one["action"]), Of(one["of"])) for one in row["thresholds"])
    period = Period(row["period"]) if row["period"] else None
    budget = Budget(
        row["id"],
        row["project_id"],
        row["name"],
        Kind(row["kind"]),
        row["amount"],
        thresholds,
        row["currency"],
        period,
        row["binding"],
    )
    return HeldBudget(
        budget,
        row["created_by"],
        row["created_at"],
        row["span_start"],
        row["used"],
        row["forecast"],
        row["evaluated_at"],
        tuple(row["passed"]),
        row["refusing_since"],
    )


class BudgetRepository:
    """The table budgets."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def select(self, project_id: str) -> list[HeldBudget]:
        """The project's, oldest first."""
        return self._rows("WHERE project_id = :project ORDER BY seq", project=project_id)

    def get(self, project_id: str, budget_id: UUID, *, lock: bool = False) -> HeldBudget | None:
        """One of the project's."""
        words = "WHERE project_id = :project AND id = :id" + (" FOR UPDATE" if lock else "")
        return next(iter(self._rows(words, project=project_id, id=budget_id)), None)

    def bounds(self, project_id: str) -> Bounds:
        """What holds for the project's next change."""
        held = self._rows("WHERE project_id = :project AND (kind = 'power' OR refusing_since IS NOT NULL)", project=project_id)
        power = min((one for one in held if one.budget.kind is Kind.POWER), key=lambda one: one.budget.amount, default=None)
        refusing = min(
            (one for one in held if one.refusing_since is not None and one.budget.kind is not Kind.POWER),
            key=lambda one: one.budget.name,
            default=None,
        )
        return Bounds(float(power.budget.amount) if power else None, power.budget.name if power else None, refusing)

    def any(self, project_id: str) -> bool:
        """Whether the project has one."""
        return bool(
            self._connection.execute(
                text("SELECT EXISTS (SELECT 1 FROM budgets WHERE project_id = :project)"), {"project": project_id}
            ).scalar()
        )

    def projects(self) -> list[str]:
        """Those that have budgets."""
        return [row[0] for row in self._connection.execute(text("SELECT DISTINCT project_id FROM budgets ORDER BY 1"))]

    def add(self, budget: Budget, *, by: str) -> HeldBudget:
        """A new one. AlreadyExists where the project has one of its name."""
        self._connection.execute(
            text(
                "INSERT INTO budgets (id, project_id, name, kind, currency, period, amount, thresholds, binding, created_by)"
                " VALUES (:id, :project, :name, :kind, :currency, :period, :amount, CAST(:thresholds AS jsonb), :binding, :by)"
            ),
            {
                "id": budget.id,
                "project": budget.project_id,
                "name": budget.name,
                "kind": budget.kind.value,
                "currency": budget.currency,
                "period": budget.period.value if budget.period else None,
                "amount": budget.amount,
                "thresholds": as_json([one.as_dict() for one in budget.thresholds]),
                "binding": budget.binding,
                "by": by,
            },
        )
        [made] = self._rows("WHERE id = :id", id=budget.id)
        return made

    def delete(self, budget_id: UUID) -> None:
        """Take it away."""
        self._connection.execute(text("DELETE FROM budgets WHERE id = :id"), {"id": budget_id})

    def note(
        self,
        budget_id: UUID,
        *,
        at: datetime,
        span_start: datetime | None,
        used: Decimal,
        forecast: Decimal | None,
        told: Sequence[int],
        refuses: bool,
    ) -> None:
        """How it stands."""
        self._connection.execute(
            text(
                "UPDATE budgets SET evaluated_at = :at, span_start = :span, used = :used, forecast = :forecast,"
                " passed = CAST(:told AS jsonb), refusing_since = CASE WHEN :refuses THEN coalesce(refusing_since, :at) END WHERE id = :id"
            ),
            {
                "id": budget_id,
                "at": at,
                "span": span_start,
                "used": used,
                "forecast": forecast,
                "told": as_json(list(told)),
                "refuses": refuses,
            },
        )

    def _rows(self, words: str, **values: object) -> list[HeldBudget]:
        rows = self._connection.execute(text(f"SELECT * FROM budgets {words}"), values).mappings()
        return [_from(row) for row in rows]
