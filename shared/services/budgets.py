"""Budgets of projects: given, listed, taken away, and looked at by beat, which tells, refuses and hibernates at their thresholds.

What adds nodes is held against them in its own transaction (:mod:`shared.services.power`); what is already used is looked at here, since
it takes a sum over the period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from shared.domain.budgets import USUAL, Action, Budget, Kind, Of, Period, State, Threshold, fresh, span_of, state_of
from shared.domain.clusters import Phase, Scope
from shared.domain.ports import Actor, ClusterFilter
from shared.errors import FieldError, InvalidRequest, KcloudError, NotFound, as_sentence
from shared.observability.logging import get_logger
from shared.observability.metrics import TURNS_FAILED
from shared.services.webhooks import enqueue

if TYPE_CHECKING:
    from datetime import datetime

    from shared.db.budgets import HeldBudget
    from shared.db.uow import Database
    from shared.domain.ports import Clock
    from shared.services.clusters import ClusterService
    from shared.services.costs import CostService, Spending
    from shared.services.power import PowerBudgets

log = get_logger(__name__)

#: Who asks for what budgets do.
KEEPER: Final = "kcloud:budgets"
#: Clusters that one look hibernates.
_HIBERNATES: Final = 20
MOST_PER_PROJECT: Final = 20


class BudgetService:
    """Budgets of the actor's project."""

    def __init__(
        self, database: Database, costs: CostService, power: PowerBudgets, clusters: ClusterService, clock: Clock, *, region: str
    ) -> None:
        self._database = database
        self._costs = costs
        self._power = power
        self._clusters = clusters
        self._clock = clock
        self._region = region

    # -- what callers ask -----------------------------------------------------------------------------------------------

    def listed(self, actor: Actor) -> list[dict[str, Any]]:
        """The project's budgets as they stood when they were last looked at; those that never were are looked at now."""
        with self._database.single() as uow:
            held = uow.budgets.select(actor.project_id)
        if any(one.evaluated_at is None for one in held):
            self.look(actor.project_id)
            with self._database.single() as uow:
                held = uow.budgets.select(actor.project_id)
        return [self._shown(one) for one in held]

    def add(
        self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError], validate_only: bool = False
    ) -> dict[str, Any] | None:
        """A new one, in force at once, and within a second in other processes. None: it was only validated. Raises InvalidRequest with all findings, AlreadyExists."""
        wrong = list(findings) or _broken(fields)
        with self._database.single() as uow:
            there = uow.budgets.select(actor.project_id)
        if not wrong and len(there) >= MOST_PER_PROJECT:
            wrong = [FieldError("name", "max_budgets", f"A project has at most {MOST_PER_PROJECT} budgets.")]
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        kind = Kind(fields["kind"])
        budget = Budget(
            uuid4(),
            actor.project_id,
            fields["name"],
            kind,
            Decimal(fields["amount"]),
            tuple(_threshold(one) for one in fields["thresholds"]) if "thresholds" in fields else USUAL,
            fields.get("currency"),
            None if kind is Kind.POWER else Period(fields.get("period", Period.MONTH.value)),
            bool(fields.get("binding")),
        )
        if validate_only:
            return None
        with self._database.begin() as uow:
            uow.budgets.add(budget, by=actor.user_id)
            uow.audit.record(actor, "budgets:add", None, {"id": budget.id, **fields})
        self._power.forget(actor.project_id)
        self.look(actor.project_id)
        with self._database.single() as uow:
            made = uow.budgets.get(actor.project_id, budget.id)
        if made is None:
            raise _no_budget(str(budget.id))
        return self._shown(made)

    def get(self, actor: Actor, ref: str) -> dict[str, Any]:
        """One."""
        return self._shown(self._found(actor, ref))

    def is_binding(self, actor: Actor, ref: str) -> bool:
        """Whether an administrator set it."""
        return self._found(actor, ref).budget.binding

    def delete(self, actor: Actor, ref: str) -> None:
        """Take it away; what it refused may be asked for again."""
        held = self._found(actor, ref)
        with self._database.begin() as uow:
            uow.budgets.delete(held.budget.id)
            uow.audit.record(actor, "budgets:delete", None, {"id": held.budget.id, "name": held.budget.name})

    def _found(self, actor: Actor, ref: str) -> HeldBudget:
        try:
            key = UUID(ref)
        except ValueError:
            raise _no_budget(ref) from None
        with self._database.single() as uow:
            held = uow.budgets.get(actor.project_id, key)
        if held is None:
            raise _no_budget(ref)
        return held

    # -- looking --------------------------------------------------------------------------------------------------------

    def look_at_all(self, *, every_s: float) -> int:
        """Look at the budgets of each project that is due; how many projects. Two beats don't double it."""
        with self._database.single() as uow:
            projects = uow.budgets.projects()
        looked = 0
        for project_id in projects:
            with self._database.begin() as uow:
                due = uow.series.turn(f"budgets:{project_id}", every_s=every_s * 0.8)
            if due:
                try:
                    self.look(project_id)
                    looked += 1
                except KcloudError as exc:
                    TURNS_FAILED.labels("budgets").inc()
                    log.warning("budgets.not_looked_at", project_id=project_id, reason=exc.reason, detail=exc.detail)
        return looked

    def look(self, project_id: str) -> None:
        """See how the project's budgets stand, tell of thresholds that are new in their period, and do what is called for."""
        now = self._clock.now()
        with self._database.single() as uow:
            held = uow.budgets.select(project_id)
        spent: dict[Period, Spending] = {
            period: self._costs.spending(project_id, *span_of(period, now))
            for period in {one.budget.period for one in held if one.budget.period is not None}
        }
        asleep_wanted = False
        for one in held:
            asleep_wanted |= self._note(one.budget, spent, now)
        if asleep_wanted:
            self._hibernate(project_id)

    def _note(self, budget: Budget, spent: Mapping[Period, Spending], now: datetime) -> bool:
        """Write how one stands, and tell; whether it asks for hibernation."""
        scope = Scope(self._region, budget.project_id)
        span = span_of(budget.period, now)[0] if budget.period is not None else None
        with self._database.begin() as uow:
            held = uow.budgets.get(budget.project_id, budget.id, lock=True)
            if held is None:
                return False
            used, forecast = (
                (Decimal(str(self._power.drawn(uow, scope))), None) if budget.period is None else _of(budget, spent[budget.period])
            )
            state = state_of(budget, used, forecast)
            told = held.told if held.span_start == span else ()
            news = fresh(state, told)
            # A sum only grows within its period; watts fall again, and are told of anew when they rise.
            known = sorted({*told, *state.passed}) if budget.period is not None else list(state.passed)
            refuses = state.does(budget, Action.REFUSE)
            uow.budgets.note(budget.id, at=now, span_start=span, used=used, forecast=forecast, told=known, refuses=refuses)
            for number in news:
                threshold = budget.thresholds[number]
                payload = {"budget": _plain(budget), "threshold": threshold.as_dict(), **_figures(state)}
                enqueue(uow, budget.project_id, "budget.threshold", payload, at=now)
                log.info("budgets.threshold", project_id=budget.project_id, budget=budget.name, **threshold.as_dict())
        return state.does(budget, Action.HIBERNATE)

    def _hibernate(self, project_id: str) -> None:
        actor = Actor(KEEPER, project_id, frozenset({"member"}), request_id=f"budget-{uuid4()}")
        page = self._clusters.list(actor, ClusterFilter(), limit=1000, marker=None)
        awake = [one for one in page.items if one.phase is Phase.READY and one.managed and one.labels.get("persistent") != "true"]
        with self._database.single() as uow:
            now = self._clock.now()
            kept = {key for key, hold in uow.cleanup.holds([one.id for one in awake]).items() if hold.until_at > now}
        for one in [each for each in awake if each.id not in kept][:_HIBERNATES]:
            try:
                self._clusters.request_hibernate(actor, str(one.id))
                log.info("budgets.hibernates", project_id=project_id, cluster_id=str(one.id))
            except KcloudError as exc:
                log.warning("budgets.not_hibernated", cluster_id=str(one.id), reason=exc.reason, detail=exc.detail)

    def _shown(self, held: HeldBudget) -> dict[str, Any]:
        budget = held.budget
        state = state_of(budget, held.used or Decimal(0), held.forecast)
        span = span_of(budget.period, held.evaluated_at or self._clock.now()) if budget.period is not None else (None, None)
        return {
            **_plain(budget),
            "thresholds": [
                one.as_dict() | {"reached": number in state.passed, "told": number in held.told}
                for number, one in enumerate(budget.thresholds)
            ],
            "start": span[0],
            "end": span[1],
            **_figures(state),
            "evaluated_at": held.evaluated_at,
            "refusing_since": held.refusing_since,
            "created_by": held.created_by,
            "created_at": held.created_at,
        }


def _plain(budget: Budget) -> dict[str, Any]:
    kept = asdict(budget)
    del kept["thresholds"], kept["project_id"]
    return {
        **kept,
        "id": str(budget.id),
        "kind": budget.kind.value,
        "period": budget.period.value if budget.period else None,
        "amount": format(budget.amount, "f"),
        "unit": budget.unit,
    }


def _figures(state: State) -> dict[str, Any]:
    return {
        "used": format(state.used, "f"),
        "forecast": format(state.forecast, "f") if state.forecast is not None else None,
    }


def _of(budget: Budget, spent: Spending) -> tuple[Decimal, Decimal]:
    if budget.kind is Kind.ENERGY:
        return spent.kwh, spent.expected_kwh
    code = str(budget.currency)
    return spent.money.get(code, Decimal(0)), spent.expected_money.get(code, Decimal(0))


def _threshold(given: Mapping[str, Any]) -> Threshold:
    return Threshold(Decimal(str(given["at"])), Action(given["action"]), Of(given.get("of", Of.ACTUAL.value)))


def _broken(fields: Mapping[str, Any]) -> list[FieldError]:
    """Rules between fields."""
    kind, wrong = Kind(fields["kind"]), []
    if kind is Kind.MONEY and "currency" not in fields:
        wrong.append(FieldError("currency", "required", "A budget of money names its currency."))
    if kind is not Kind.MONEY and "currency" in fields:
        wrong.append(FieldError("currency", "only_money", "Only a budget of money has a currency."))
    if kind is Kind.POWER and "period" in fields:
        wrong.append(FieldError("period", "not_power", "Watts are bounded at any moment; such a budget has no period."))
    if Decimal(fields["amount"]) <= 0:
        wrong.append(FieldError("amount", "positive", "Must be more than 0."))
    if kind is Kind.POWER:
        wrong += [
            FieldError(f"thresholds.{number}.of", "not_power", "Watts have no forecast.")
            for number, one in enumerate(fields.get("thresholds", ()))
            if one.get("of") == Of.FORECAST.value
        ]
    return wrong


def _no_budget(ref: str) -> NotFound:
    return NotFound(f"The project has no budget {ref[:100]!r}.", reason="BUDGET_NOT_FOUND")
