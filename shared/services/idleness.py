"""Asks every source about clusters, and judges what they say. A fixed number of statements, however many clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from shared.domain.cleanup_policy import MEASURED, Source
from shared.domain.clusters import Scope
from shared.domain.idleness import Facts, Placed, Usage, Verdict, Work, judge
from shared.errors import KcloudError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from shared.db.uow import UnitOfWork
    from shared.domain.cleanup_policy import CleanupPolicy
    from shared.domain.clusters import Cluster
    from shared.domain.ports import Clock, Flavor, PlacementSource, UsageSource
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

log = get_logger(__name__)

T = TypeVar("T")

#: Extra specs that say nothing of devices. A flavor that has others may hold an accelerator that the catalogue does not know.
_HARMLESS: Final = ("hw:", "hw_rng:", "quota:", "aggregate_instance_extra_specs:", "os:", "trait:COMPUTE_", "trait:HW_CPU_")


def stored_usage(uow: UnitOfWork) -> UsageSource:
    """What collectors have written to cluster_metrics."""
    return uow.activity


def stored_placements(uow: UnitOfWork) -> PlacementSource:
    """Our own table of placements."""
    return uow.activity


class Watch:
    """Looks at clusters. ``usage`` and ``placements`` give the sources of a transaction."""

    def __init__(
        self,
        accelerators: AcceleratorService,
        catalogs: Catalogs,
        clock: Clock,
        *,
        region: str,
        usage: Callable[[UnitOfWork], UsageSource] = stored_usage,
        placements: Callable[[UnitOfWork], PlacementSource] = stored_placements,
    ) -> None:
        self._accelerators = accelerators
        self._catalogs = catalogs
        self._clock = clock
        self._region = region
        self._usage = usage
        self._placements = placements

    def plain_flavors(self, project_id: str) -> frozenset[str]:
        """Flavors, by id and by name, that are known to have no accelerator; none where the cloud does not tell.

        Asks the cloud where its answer is no longer remembered, so it is called outside transactions.
        """
        try:
            catalog = self._catalogs.get(Scope(self._region, project_id))
        except KcloudError as exc:
            log.warning("cleanup.no_catalog", project=project_id, reason=exc.reason)
            return frozenset()
        return frozenset(word for flavor in catalog.flavors if self._is_plain(flavor) for word in (flavor.id, flavor.name))

    def _is_plain(self, flavor: Flavor) -> bool:
        shape = self._accelerators.catalogue.node(flavor)
        return shape.accelerator is None and not shape.devices and all(key.startswith(_HARMLESS) for key in flavor.extra_specs)

    def look(
        self, uow: UnitOfWork, project_id: str, clusters: Sequence[Cluster], policy: CleanupPolicy, plain: frozenset[str]
    ) -> dict[UUID, Verdict]:
        """What all sources say of each of these clusters now."""
        now = self._clock.now()
        return {facts.cluster.id: judge(facts, policy, now) for facts in self._facts(uow, project_id, clusters, policy, plain)}

    def _facts(
        self, uow: UnitOfWork, project_id: str, clusters: Sequence[Cluster], policy: CleanupPolicy, plain: frozenset[str]
    ) -> Iterable[Facts]:
        ids = [cluster.id for cluster in clusters]
        since = self._clock.now() - timedelta(minutes=policy.max_age_minutes)
        failures: dict[Source, str] = {}
        usage = _asked(failures, MEASURED, lambda: self._usage(uow).usage(ids, since=since))
        placed = _asked(failures, (Source.PLACEMENTS,), lambda: self._placements(uow).placed(ids))
        work = uow.activity.work(ids)
        holds = uow.cleanup.holds(ids)
        connected = uow.activity.connected(project_id)
        added = uow.activity.added_flavors(ids)
        for cluster in clusters:
            flavors = [cluster.flavor, *added.get(cluster.id, ())]
            yield Facts(
                cluster,
                usage=None if usage is None else usage.get(cluster.id, Usage()),
                placed=None if placed is None else placed.get(cluster.id, Placed()),
                work=work.get(cluster.id, Work()),
                hold=holds.get(cluster.id),
                hold_known=True,
                connected_by=connected.get(cluster.id, ()),
                no_accelerator=all(flavor is not None and flavor in plain for flavor in flavors),
                failures=failures,
            )


def _asked(failures: dict[Source, str], sources: Sequence[Source], ask: Callable[[], Mapping[UUID, T]]) -> Mapping[UUID, T] | None:
    """What a source answers. One that fails is noted, and counts as in use."""
    try:
        return ask()
    except KcloudError as exc:
        failures |= dict.fromkeys(sources, f"The source failed: {exc.detail}")
        return None
