"""Power budgets as hard limits: no change is promised with which a project or the site could draw more than its budget."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from shared.domain import rating
from shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.db.uow import UnitOfWork
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


class PowerBudgets:
    """What a region's and a project's clusters may draw at their highest. The sum is over nodes that are wanted or there, masters included."""

    def __init__(self, catalogs: Catalogs, accelerators: AcceleratorService, settings: PlacementSettings) -> None:
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._project_w = settings.project_power_w
        self._site_w = settings.site_power_w

    @property
    def set(self) -> bool:
        """Whether there is any budget."""
        return self._project_w is not None or self._site_w is not None

    @contextmanager
    def kept(self, uow: UnitOfWork, scope: Scope) -> Iterator[None]:
        """What is written inside may not exceed a budget by adding watts; what takes watts away always may.

        Raises Conflict ``POWER_BUDGET``, upon which the caller's transaction must not commit. To be entered before any row of a
        cluster is locked: all who check wait for one another.
        """
        if not self.set:
            yield
            return
        uow.placements.hold_power(scope.region)
        before = self._drawn(uow, scope)
        yield
        after = self._drawn(uow, scope)
        names = (("The project's", self._project_w), ("The site's", self._site_w))
        for (name, budget), was, would in zip(names, before, after, strict=True):
            if budget is not None and would > was and would > budget:
                msg = (
                    f"{name} power budget is {budget:.0f} W. Its clusters may draw up to {was:.0f} W by now, and with this"
                    f" {would:.0f} W."
                )
                raise Conflict(
                    msg, reason="POWER_BUDGET", hint="Scale in, hibernate or delete clusters first, or ask for fewer nodes."
                )

    def _drawn(self, uow: UnitOfWork, scope: Scope) -> tuple[float, float]:
        shapes = self._accelerators.shapes(self._catalogs.get(scope))
        watts = [(project, watts_of(shapes.get(flavor)) * count) for project, flavor, count in uow.placements.nodes(scope.region)]
        return sum(w for project, w in watts if project == scope.project_id), sum(w for _, w in watts)
