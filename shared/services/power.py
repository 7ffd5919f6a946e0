"""Power budgets as hard limits: no change is promised with which a project or the site could draw more than its budget."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from shared.domain import rating
from shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.db.budgets import HeldBudget
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.accelerators import NodeShape
    from shared.domain.clusters import Scope
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs
    from shared.settings import PlacementSettings


#: The highest draw of a node of which only its existence is known: 4 cores and 16 GB.
_USUAL_W: Final = rating.BASE_W + 4 * rating.W_PER_CORE + 16 * rating.W_PER_GB


def watts_of(shape: NodeShape | None) -> float:
    """Watts of a node at its highest; one of a flavor that nobody knows counts as a usual one."""
    return shape.max_w if shape is not None else _USUAL_W


_MOST_REMEMBERED: Final = 10_000
#: For how long it is remembered that a project has no budget of its own: a new one is in force as long after it was given.
_REMEMBERED_S: Final = 1.0


class PowerBudgets:
    """What a region's and a project's clusters may draw at their highest. The sum is over nodes that are wanted or there, masters included.

    A project's own budgets (:mod:`shared.services.budgets`) are kept at the same place: those of watts like the settings', and those of money
    and energy that refuse whatever adds.
    """

    def __init__(
        self, database: Database, catalogs: Catalogs, accelerators: AcceleratorService, settings: PlacementSettings
    ) -> None:
        self._database = database
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._project_w = settings.project_power_w
        self._site_w = settings.site_power_w
        self._none: dict[str, float] = {}

    def concerns(self, project_id: str) -> bool:
        """Whether a change of the project has to be held against any budget."""
        if self._project_w is not None or self._site_w is not None:
            return True
        if self._none.get(project_id, 0.0) > time.monotonic():
            return False
        with self._database.single() as uow:
            found = uow.budgets.any(project_id)
        if not found:
            if len(self._none) >= _MOST_REMEMBERED:
                self._none.clear()
            self._none[project_id] = time.monotonic() + _REMEMBERED_S
        return found

    def forget(self, project_id: str) -> None:
        """It has a budget from now on. Other processes see that within a second."""
        self._none.pop(project_id, None)

    @contextmanager
    def kept(self, uow: UnitOfWork, scope: Scope) -> Iterator[None]:
        """What is written inside may not exceed a budget by adding watts; what takes watts away always may.

        Raises Conflict ``POWER_BUDGET`` or ``BUDGET_EXCEEDED``, upon which the caller's transaction must not commit. To be entered before
        any row of a cluster is locked: all who check wait for one another.
        """
        own = uow.budgets.bounds(scope.project_id)
        if self._project_w is None and self._site_w is None and own.watts is None and own.refusing is None:
            yield
            return
        uow.placements.hold_power(scope.region)
        before = self._drawn(uow, scope)
        yield
        after = self._drawn(uow, scope)
        if own.refusing is not None and after[0] > before[0]:
            raise exceeded(own.refusing)
        names = (
            ("The project's", self._project_w, 0),
            ("The site's", self._site_w, 1),
            (f"The project's own ({own.power})", own.watts, 0),
        )
        for name, budget, of in names:
            if budget is not None and after[of] > before[of] and after[of] > budget:
                msg = (
                    f"{name} power budget is {budget:.0f} W. Its clusters may draw up to {before[of]:.0f} W by now, and with this"
                    f" {after[of]:.0f} W."
                )
                raise Conflict(
                    msg, reason="POWER_BUDGET", hint="Scale in, hibernate or delete clusters first, or ask for fewer nodes."
                )

    def drawn(self, uow: UnitOfWork, scope: Scope) -> float:
        """Watts that the project's clusters may draw at their highest."""
        return self._drawn(uow, scope)[0]

    def _drawn(self, uow: UnitOfWork, scope: Scope) -> tuple[float, float]:
        shapes = self._accelerators.shapes(self._catalogs.get(scope))
        watts = [(project, watts_of(shapes.get(flavor)) * count) for project, flavor, count in uow.placements.nodes(scope.region)]
        return sum(w for project, w in watts if project == scope.project_id), sum(w for _, w in watts)


def exceeded(held: HeldBudget) -> Conflict:
    """The refusal of a budget of money or energy."""
    one = held.budget
    used = f"{held.used:.2f}" if held.used is not None else "an unknown part"
    expected = f", {held.forecast:.2f} expected by its end" if held.forecast is not None else ""
    msg = f"The budget {one.name!r} is {one.amount:f} {one.unit} a {one.period}; {used} is used{expected}. It refuses what adds nodes."
    return Conflict(
        msg, reason="BUDGET_EXCEEDED", hint="Scale in, hibernate or delete clusters, or raise the budget (GET /budgets)."
    )
