"""Inventory: the whole list of a scope, in slices, so that what happens outside this system is noticed.

Clusters made elsewhere become rows with ``managed: false``; clusters that vanished become ``gone``, after a GET has confirmed
it; and a cluster that carries the mark of one of our jobs though no live row holds it (the second child of a create whose answer
was lost, or one that appeared after its delete) is removed, by a delete job of its own.

A slice is bounded in time and the slices are spaced out, so that the inventory takes its small share of Magnum's time however
many clusters there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.db.clusters import observation
from shared.domain.clusters import LABEL_CLUSTER, LABEL_JOB, Cluster, ObservedCluster, Scope
from shared.domain.jobs import JobState
from shared.domain.lifecycle import phase_of
from shared.domain.ports import Actor
from shared.errors import CloudBeingWritten, CloudError, CloudNotFound, LeaseLost
from shared.observability.logging import get_logger
from shared.services.clusters import cluster_row
from shared.services.leftovers import Leftovers
from shared.services.usage import Sight, tell, tell_groups

if TYPE_CHECKING:
    from shared.db.scopes import ScopeRow
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.ports import Clock, Cloud, CloudGateway
    from shared.services.clusters import ClusterService
    from shared.settings import EngineSettings

log = get_logger(__name__)

_SLICE_S = 4.0
_CONFIRM_PER_SLICE = 50
_GROUPS_PER_SLICE = 20
#: Small pages: Magnum reads a page in one go, 2 ms a cluster, and a tick's question waits behind it.
_PAGE_MAX = 200


@dataclass
class Slice:
    """One slice's findings."""

    listed: int = 0
    found: int = 0
    gone: int = 0
    strays: int = 0
    spent_s: float = 0.0
    marker: str | None = None
    whole: bool = False


class Inventory:
    """Slices of inventories. One instance serves all threads of a worker."""

    def __init__(self, database: Database, cloud: Cloud, clock: Clock, clusters: ClusterService, *, engine: EngineSettings) -> None:
        self._database = database
        self._cloud = cloud
        self._clock = clock
        self._clusters = clusters
        self._engine = engine
        self._leftovers = Leftovers(database, cloud)

    def take(self, scope: Scope) -> Slice | None:
        """The scope's next slice; None where none is due or another worker is at it."""
        with self._database.begin() as uow:
            row = uow.scopes.claim_inventory(scope, uuid4(), ttl_s=self._engine.lease_ttl_s)
            now = uow.jobs.now()
        if row is None:
            return None
        started = datetime.fromisoformat(row.last["started_at"]) if row.last.get("marker") else now
        piece = Slice(marker=row.last.get("marker"))
        try:
            self._walk(row, piece, started)
            self._read_groups(row.scope, piece)
        except (CloudError, LeaseLost) as exc:
            log.warning("inventory.cloud_error", project=scope.project_id, reason=exc.reason, detail=exc.detail)
            with self._database.begin() as uow:
                uow.scopes.release_inventory(
                    scope, row.token, after_s=self._engine.inventory_interval_s, last={"error": exc.reason}, whole=False
                )
            return None
        between = piece.spent_s / self._engine.inventory_share
        after = max(self._engine.inventory_interval_s, between) if piece.whole else between
        last = {
            "started_at": started,
            "marker": None if piece.whole else piece.marker,
            "listed": piece.listed,
            "found": piece.found,
            "gone": piece.gone,
            "strays": piece.strays,
        }
        with self._database.begin() as uow:
            uow.scopes.release_inventory(scope, row.token, after_s=after, last=last, whole=piece.whole)
        if piece.whole:
            self._leftovers.check(scope)
        if piece.found or piece.gone or piece.strays:
            log.info("inventory.noticed", project=scope.project_id, found=piece.found, gone=piece.gone, strays=piece.strays)
        return piece

    def _walk(self, row: ScopeRow, piece: Slice, started: datetime) -> None:
        gateway = self._cloud.gateway(row.scope)
        begun, size = time.monotonic(), min(self._engine.page_size, _PAGE_MAX)
        while time.monotonic() - begun < _SLICE_S:
            asked = time.monotonic()
            at = self._clock.now()  # what the page shows may be as old as that
            try:
                items = gateway.page(limit=size, marker=piece.marker)
            except CloudNotFound:
                piece.marker = None  # the cluster it named has gone: begin again next time
                return
            finally:
                piece.spent_s += time.monotonic() - asked
            piece.listed += len(items)
            if items:
                # An administrator is shown every project's clusters, and this is the inventory of one.
                ours = [item for item in items if item.project_id in {None, row.scope.project_id}]
                self._write(row.scope, ours, at, piece)
                piece.marker = items[-1].uuid
            if len(items) < size:
                piece.whole = True
                self._confirm_gone(gateway, row.scope, started, piece)
                return

    def _write(self, scope: Scope, items: list[ObservedCluster], at: datetime, piece: Slice) -> None:
        with self._database.begin() as uow:
            # Locked first: a tick that ends a job meanwhile would otherwise be overwritten with what its job was still doing.
            known = uow.clusters.by_uuids(scope.region, [item.uuid for item in items])
            active = uow.jobs.active_kinds([cluster.id for cluster in known.values()])
            observations: list[dict[str, Any]] = []
            used: list[Sight] = []
            for item in items:
                cluster = known.get(item.uuid)
                if cluster is None:
                    self._unknown(uow, scope, item, piece)
                    continue
                if cluster.deleted_at is not None:
                    self._stray(uow, scope, item, cluster, piece)
                    continue
                verdict = phase_of(item, active.get(cluster.id), hibernated=cluster.hibernated_sizes is not None)
                observations.append(observation(cluster, item, at, verdict, arrived=False))
                used.append((cluster, item, at))
            tell(uow, used, uow.clusters.observe(observations))

    def _read_groups(self, scope: Scope, piece: Slice) -> None:
        """Where a change of a cluster's size did not tell which of its node groups changed, ask for them: a few in each slice."""
        with self._database.single() as uow:
            doubted = uow.usage.doubted(scope, limit=_GROUPS_PER_SLICE)
        if not doubted:
            return
        gateway = self._cloud.gateway(scope)
        for cluster_id, uuid in doubted:
            asked = time.monotonic()
            try:
                groups = gateway.node_groups(uuid)
                if sum(not group.is_master for group in groups) > 1:
                    groups = gateway.node_groups(uuid, detailed=True)  # with the dates of their changes
            except CloudNotFound:
                continue  # the next walk tells that it is gone
            finally:
                piece.spent_s += time.monotonic() - asked
            at = self._clock.now()
            with self._database.begin() as uow:
                tell_groups(uow, cluster_id, groups, at)

    def _unknown(self, uow: UnitOfWork, scope: Scope, item: ObservedCluster, piece: Slice) -> None:
        ours = _as_uuid(item.labels.get(LABEL_CLUSTER))
        origin = uow.clusters.by_ids([ours]).get(ours) if ours else None
        if origin is not None and origin.project_id == scope.project_id:
            if origin.magnum_uuid is None and origin.live:
                return  # its create is still finding it
            self._stray(uow, scope, item, origin, piece)
            return
        phase, reason, detail = phase_of(item, None)
        row = replace(cluster_row(scope, item, self._clock.now()), phase=phase, reason=reason, reason_detail=detail)
        if uow.clusters.add_found(row):
            piece.found += 1
            now = self._clock.now()
            before = uow.clusters.observe([observation(row, item, now, (phase, reason, detail), arrived=True)])
            tell(uow, [(row, item, now)], before)

    def _stray(self, uow: UnitOfWork, scope: Scope, item: ObservedCluster, origin: Cluster, piece: Slice) -> None:
        """A cluster of ours that should not be: remove it, and say whose twin or ghost it is."""
        if item.status.value.startswith("DELETE_") and item.raw_status != "DELETE_FAILED":
            return
        if origin.magnum_uuid == item.uuid:
            uow.clusters.revive(origin.id)
            row = uow.clusters.by_id(origin.id, lock=True) or origin
        else:
            row = replace(cluster_row(scope, item, self._clock.now()), managed=True, name=item.name)
            if not uow.clusters.add_found(row):
                return
            uow.clusters.seen(row.id, item.raw_status)
        actor = Actor(user_id="inventory", project_id=scope.project_id, roles=frozenset(), request_id=f"stray-{item.uuid}")
        accepted = self._clusters.delete_within(uow, actor, row, reason="STRAY")
        uow.jobs.record(
            [
                (
                    accepted.job.id,
                    "stray_found",
                    JobState.QUEUED.value,
                    {"magnum_uuid": item.uuid, "of_cluster": str(origin.id), "of_job": item.labels.get(LABEL_JOB)},
                )
            ]
        )
        piece.strays += 1
        log.warning("inventory.stray", magnum_uuid=item.uuid, of_cluster=str(origin.id), of_job=item.labels.get(LABEL_JOB))

    def _confirm_gone(self, gateway: CloudGateway, scope: Scope, started: datetime, piece: Slice) -> None:
        with self._database.begin() as uow:
            missing = uow.clusters.unseen_since(scope, started, limit=_CONFIRM_PER_SLICE)
        gone: list[UUID] = []
        for cluster in missing:
            if cluster.magnum_uuid is None:
                continue
            try:
                if gateway.get(cluster.magnum_uuid) is None:
                    gone.append(cluster.id)
            except CloudBeingWritten:
                continue
        if not gone:
            return
        with self._database.begin() as uow:
            busy = uow.jobs.active_kinds(gone)
            vanished = [cluster_id for cluster_id in gone if cluster_id not in busy]  # a job's own tick tells of the others
            uow.clusters.mark_gone(vanished)
            uow.usage.close(vanished)
        piece.gone += len(vanished)


def _as_uuid(words: str | None) -> UUID | None:
    try:
        return UUID(words) if words else None
    except ValueError:
        return None
