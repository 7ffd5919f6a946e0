"""Collection of what meters say, for all clusters at once; samples take from it what is fresh.

Nothing waits for it: the series go on with the model alone while every source is dead.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shared.domain.readings import Nodes, by_cluster, read
from shared.domain.telemetry import Inventory
from shared.errors import KcloudError
from shared.observability.logging import get_logger
from shared.observability.metrics import COLLECTIONS_FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from shared.db.telemetry import Metered
    from shared.db.uow import Database
    from shared.domain.accelerators import NodeShape
    from shared.domain.ports import Clock, Cloud
    from shared.domain.readings import ClusterReading
    from shared.domain.telemetry import Collected, Telemetry
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

log = get_logger(__name__)


class CollectionService:
    """Asks the meters of a region. ``sources``: their names, in the order of the file that names them."""

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        cloud: Cloud,
        catalogs: Catalogs,
        accelerators: AcceleratorService,
        clock: Clock,
        *,
        region: str,
        sources: Sequence[str],
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._cloud = cloud
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._clock = clock
        self._region = region
        self._names = tuple(sources)

    def collect(self, *, every_s: float) -> int:
        """One collection of all live clusters; of how many something was read. Of several workers, one does it in ``every_s``."""
        if not self._names:
            with self._database.begin() as uow:  # those that were named before are nobody's any more
                uow.telemetry.note_sources(self._region, self._clock.now(), [])
            return 0
        with self._database.begin() as uow:
            if not uow.series.turn(f"telemetry:{self._region}", every_s=every_s * 0.8):
                return 0
            clusters = uow.telemetry.metered(self._region)
        begin = time.monotonic()
        at = self._clock.now()
        collected = self._telemetry.collect(Inventory(frozenset(one.magnum_uuid for one in clusters)), at)
        found = self._read(clusters, collected)
        with self._database.begin() as uow:
            uow.telemetry.write(found)
            uow.telemetry.note_sources(self._region, at, self._reports(collected))
        for failure in collected.failures:
            COLLECTIONS_FAILED.labels(failure.source, failure.reason).inc()
            log.warning(
                "telemetry.failed", source=failure.source, reader=failure.reader, reason=failure.reason, detail=failure.detail
            )
        log.debug("telemetry.collected", clusters=len(found), of=len(clusters), seconds=round(time.monotonic() - begin, 3))
        return len(found)

    def _read(self, clusters: Sequence[Metered], collected: Collected) -> dict[UUID, ClusterReading]:
        samples = by_cluster(collected.samples)
        shapes = self._shapes() if samples else {}
        return {
            one.id: read(
                samples[one.magnum_uuid], [Nodes(shapes.get(flavor or ""), count) for flavor, count in one.nodes], collected.at
            )
            for one in clusters
            if one.magnum_uuid in samples
        }

    def _shapes(self) -> Mapping[str, NodeShape]:
        try:
            return self._accelerators.shapes(self._catalogs.get(self._cloud.own_scope()))
        except KcloudError as exc:
            log.warning("telemetry.no_catalog", reason=exc.reason)
            return {}

    def _reports(self, collected: Collected) -> list[dict[str, Any]]:
        failures: dict[str, list[dict[str, str]]] = defaultdict(list)
        for failure in collected.failures:
            failures[failure.source].append({"reader": failure.reader, "reason": failure.reason, "detail": failure.detail})
        findings: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for finding in collected.findings:
            findings[finding.source].append({key: value for key, value in asdict(finding).items() if key != "source"})
        samples = Counter(sample.source for sample in collected.samples)
        return [
            {
                "name": name,
                "answered": all(one["reader"] for one in failures[name]),
                "samples": samples[name],
                "failures": failures[name],
                "findings": findings[name],
            }
            for name in self._names
        ]

    def sources(self) -> list[dict[str, Any]]:
        """How each source was at the last collection; those that were never asked have no ``looked_at``."""
        with self._database.single() as uow:
            known = uow.telemetry.sources(self._region, self._names)
        never: dict[str, Any] = {"looked_at": None, "answered_at": None, "samples": 0, "failures": [], "findings": []}
        return [{**never, **known.get(name, {}), "name": name} for name in self._names]
