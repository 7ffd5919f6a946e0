"""Fleets of projects in memory, kept up by what has changed in the database since the last look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.domain.fleet import ProjectFleet
from shared.domain.pricing import WATT, LearntPrices, Prices

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.placements import Horizon
    from shared.db.uow import UnitOfWork
    from shared.domain.accelerators import NodeShape
    from shared.domain.clusters import Scope
    from shared.domain.workloads import Placement
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

#: How long what has changed is kept in the database; a fleet that was not looked at for as long is read anew.
CHANGES_KEPT: Final = timedelta(hours=1)
#: A fleet is read anew now and then whatever is told of it: a restored database tells no changes.
_READ_ANEW: Final = timedelta(minutes=10)
#: Fleets that a process remembers.
_MOST_HELD: Final = 64


@dataclass
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    fleet: ProjectFleet | None = None
    horizon: Horizon | None = None
    shapes: dict[str, NodeShape] = field(default_factory=dict)
    read_at: datetime | None = None
    scorer: LearntPrices = field(default_factory=LearntPrices)
    learnt_at: datetime | None = None  #: of the prices that the scorer goes by


class Fleets:
    """One fleet per project and region. Safe to use from many threads; one of them at a time has a fleet."""

    def __init__(self, catalogs: Catalogs, accelerators: AcceleratorService, *, watt_weight: float = WATT) -> None:
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._watt_weight = watt_weight
        self._held: dict[Scope, _Held] = {}
        self._guard = threading.Lock()

    @contextmanager
    def held(self, scope: Scope) -> Iterator[Callable[[UnitOfWork], ProjectFleet]]:
        """Have the scope's fleet to oneself; what is given brings it up to what a transaction sees.

        The transaction must end inside of this: after an exception, whatever was seated may not be in the database, and the fleet is
        read anew by the next who wants it.
        """
        shapes = self._accelerators.shapes(self._catalogs.get(scope))
        with self._guard:
            if scope not in self._held and len(self._held) >= _MOST_HELD:
                self._held.pop(next(iter(self._held)))
            held = self._held.setdefault(scope, _Held())
        with held.lock:
            try:
                yield lambda uow: self._fresh(uow, scope, held, shapes)
            except BaseException:
                held.fleet = None
                raise

    def imagined(
        self, uow: UnitOfWork, scope: Scope, only: UUID | None = None
    ) -> tuple[ProjectFleet, dict[UUID, Mapping[str, Any]], dict[str, NodeShape]]:
        """A fleet that nobody else sees, to be changed at will, of the whole project or of one cluster; with the rows and shapes it was
        made of.
        """
        shapes = self._accelerators.shapes(self._catalogs.get(scope))
        scorer = LearntPrices(watt=self._watt_weight)
        learnt = uow.placements.prices(scope)
        if learnt is not None:
            scorer.use(Prices.from_dict(learnt[0]))
        fleet = ProjectFleet(scorer)
        rows = uow.placements.clusters(scope, [only] if only else None)
        placements = _by_cluster(uow.placements.active(scope, [only] if only else None))
        for row in rows:
            fleet.put(dict(row), placements.get(row["id"], []), shapes)
        return fleet, {row["id"]: dict(row) for row in rows}, shapes

    def forget(self) -> None:
        """Read every fleet anew at the next question."""
        with self._guard:
            self._held.clear()

    def _fresh(self, uow: UnitOfWork, scope: Scope, held: _Held, shapes: dict[str, NodeShape]) -> ProjectFleet:
        horizon = uow.placements.horizon()
        if held.fleet is None or held.horizon is None or held.shapes != shapes or horizon.at - held.horizon.at > CHANGES_KEPT / 2:
            held.scorer, held.learnt_at = LearntPrices(watt=self._watt_weight), None
            held.fleet = ProjectFleet(held.scorer)
            rows = uow.placements.clusters(scope)
            placements = _by_cluster(uow.placements.active(scope))
        else:
            changed = uow.placements.changed_since(scope, held.horizon)
            rows = uow.placements.clusters(scope, changed) if changed else []
            placements = _by_cluster(uow.placements.active(scope, changed)) if changed else {}
            self._expire(held.fleet, uow, scope, held.horizon, placements)
        for row in rows:  # before any is put: a placement may have gone from one of them to another
            held.fleet.drop(row["id"])
        for row in rows:
            held.fleet.put(dict(row), placements.get(row["id"], []), shapes)
        learnt = uow.placements.prices(scope)
        if learnt is not None and learnt[1] != held.learnt_at:
            held.scorer.use(Prices.from_dict(learnt[0]))
            held.learnt_at = learnt[1]
        held.horizon, held.shapes = horizon, shapes
        return held.fleet

    @staticmethod
    def _expire(fleet: ProjectFleet, uow: UnitOfWork, scope: Scope, since: Horizon, fresh: dict[UUID, list[Placement]]) -> None:
        # A lease runs out without anybody writing a row, until the sweep does.
        for key in uow.placements.expired_since(scope, since):
            if key not in {one.id for held in fresh.values() for one in held}:
                fleet.unseat(key)


def _by_cluster(placements: list[Placement]) -> dict[UUID, list[Placement]]:
    found: dict[UUID, list[Placement]] = {}
    for placement in placements:
        found.setdefault(placement.cluster_id, []).append(placement)
    return found
