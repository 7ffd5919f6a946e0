"""Placements: looked at, extended, ended; and what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import numpy as np

from shared.domain.capacity import Shape
from shared.domain.clusters import Scope
from shared.domain.ports import Actor, Page
from shared.domain.pricing import Mix, Prices
from shared.errors import Conflict, FieldError, InvalidRequest, NotFound, as_sentence
from shared.services.fleets import CHANGES_KEPT

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.domain.fleet import Member, ProjectFleet
    from shared.domain.workloads import Placement
    from shared.services.fleets import Fleets
    from shared.settings import PlacementSettings


#: Placements that prices are learnt from, the latest of a project; and projects a beat looks at.
_LEARNT_FROM: Final = 20_000
_SCOPES: Final = 100


class PlacementService:
    """Placements of the actor's project."""

    def __init__(self, database: Database, fleets: Fleets, *, region: str, settings: PlacementSettings) -> None:
        self._database = database
        self._fleets = fleets
        self._region = region
        self._settings = settings

    def page(
        self, actor: Actor, *, cluster_id: UUID | None, active: bool | None, limit: int, marker: UUID | None
    ) -> Page[Placement]:
        """The project's, newest first."""
        with self._database.single() as uow:
            if marker is not None and uow.placements.get(actor.project_id, marker) is None:
                words = f"{str(marker)!r} is not the id of a placement in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            items = uow.placements.select(actor.project_id, cluster_id=cluster_id, active=active, limit=limit + 1, after=marker)
        return Page(items[:limit], str(items[limit - 1].id) if len(items) > limit else None)

    def get(self, actor: Actor, placement_id: str) -> Placement:
        """One, ended ones too."""
        with self._database.single() as uow:
            found = uow.placements.get(actor.project_id, _as_id(placement_id))
        if found is None:
            raise _no_placement(placement_id)
        return found

    def extend(self, actor: Actor, placement_id: str, lease_s: float | None, *, findings: list[FieldError]) -> Placement:
        """A new lease from now on. :class:`Conflict` where it has ended."""
        held = self.get(actor, placement_id)
        if lease_s is not None and lease_s > self._settings.lease_max_s:
            words = f"A lease is at most {self._settings.lease_max_s:.0f} seconds."
            findings = [*findings, FieldError("lease_seconds", "range", words)]
        if findings:
            raise InvalidRequest(as_sentence(findings), errors=findings)
        with self._database.begin() as uow:
            extended = uow.placements.extend(actor.project_id, held.id, lease_s=lease_s)
        if extended is None:
            msg = "The placement has ended: what it held may be another's already."
            raise Conflict(msg, reason="PLACEMENT_ENDED", hint="Match the workload again.")
        return extended

    def end(self, actor: Actor, placement_id: str) -> Placement:
        """Free what it holds. Ending an ended one changes nothing."""
        held = self.get(actor, placement_id)
        with self._database.begin() as uow:
            uow.placements.end([held.id], reason="RELEASED")
        return self.get(actor, placement_id)

    def sweep(self) -> int:
        """End what has expired and what lies on clusters that are no more; how many."""
        with self._database.begin() as uow:
            ended = uow.placements.sweep()
            uow.placements.forget_changes(older_than_s=CHANGES_KEPT.total_seconds())
        return ended

    def learn(self) -> int:
        """Price room anew where something was held since; for how many projects. Every process goes by what is written here, so that
        the same question has the same answer wherever it is asked.
        """
        with self._database.begin() as uow:
            news = uow.placements.scopes_with_news(limit=_SCOPES)
        for scope in news:
            with self._database.begin() as uow:
                mix = Mix()
                for cpu, memory, accelerators, share, count in uow.placements.shapes_asked(scope, limit=_LEARNT_FROM):
                    mix.learn(Shape(cpu, memory, accelerators, share), float(count))
                uow.placements.keep_prices(scope, Prices.of(mix).as_dict())
        return len(news)

    def available(self, actor: Actor) -> list[dict[str, Any]]:
        """Clusters that take work, in the order of names, with what is free on them."""
        scope = Scope(self._region, actor.project_id)
        with self._fleets.held(scope) as fresh, self._database.begin() as uow:
            fleet = fresh(uow)
            members = sorted((m for m in fleet.members.values() if m.closed is None), key=lambda m: m.name)
            return [_available(fleet, member) for member in members]


def _available(fleet: ProjectFleet, member: Member) -> dict[str, Any]:
    capacity = fleet.capacity
    slots = np.array([slot for group in member.groups for slot in group.slots], dtype=np.int64)
    cpu, memory, milli = capacity.cpu[slots], capacity.memory[slots], capacity.free_milli[slots]
    parts = [
        1 - float(free.sum()) / float(whole.sum())
        for free, whole in (
            (cpu, capacity.cpu_all[slots]),
            (memory, capacity.memory_all[slots]),
            (milli, capacity.count[slots] * 1000),
        )
        if whole.sum()
    ]
    best = slots[np.lexsort((cpu, milli))[-1]] if len(slots) else None
    free = capacity.free(int(best)) if best is not None else None
    return {
        "id": str(member.id),
        "name": member.name,
        "workload_type": member.workload_type,
        "available_cpu": float(cpu.sum()) / 1000,
        "available_memory": round(float(memory.sum()) / 1024, 3),
        "available_gpu": float(milli.sum()) / 1000,
        "utilization": round(max(parts, default=0.0), 4),
        "largest": {
            "cpu_cores": free.cpu_milli / 1000 if free else 0.0,
            "memory_gb": round(free.memory_mib / 1024, 3) if free else 0.0,
            "accelerators": sum(free.devices) / 1000 if free else 0.0,
        },
        "placements": member.pods,
        "displaced": len(member.displaced),
    }


def _as_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _no_placement(text[:100]) from None


def _no_placement(ref: str) -> NotFound:
    return NotFound(f"The project has no placement {ref!r}.", reason="PLACEMENT_NOT_FOUND")
