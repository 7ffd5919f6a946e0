"""Looking at a scope's clusters: the list's head, what an earlier tick left of it, and some clusters by themselves.

A tick's budget of Magnum's time may end before the list has been followed back to the last tick's mark. What is left is kept as a
*gap*: the next tick reads the head first, so that new changes are seen at once, and then goes on with the gap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.pacing import Look
from shared.errors import CloudBeingWritten, CloudError, CloudNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.clusters import Cluster, ObservedCluster
    from shared.domain.jobs import Job
    from shared.domain.ports import Clock, CloudGateway

#: `updated_at` has a resolution of one second, and is written a moment before it shows.
_OVERLAP = timedelta(seconds=2)
#: How far Magnum's clock may be from ours. What differs more is left to the GETs.
_SKEW = timedelta(minutes=2)
_FIRST_PAGE_MIN = 20
#: The part of a tick's budget that an old gap may take: long ticks would delay what changes now.
_GAP_SHARE = 0.25

#: One look at a job's cluster: the job, its cluster's row, what Magnum showed (None: 404), and when.
Sight = tuple["Job", "Cluster", "ObservedCluster | None", datetime]


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes since ``until`` that come after the cluster ``marker`` in the list were not looked at yet."""

    until: datetime
    marker: str | None

    @classmethod
    def from_dict(cls, pacing: dict[str, Any]) -> Gap | None:
        """As a tick left it."""
        kept = pacing.get("gap")
        return cls(datetime.fromisoformat(kept["until"]), kept["marker"]) if kept else None

    def as_dict(self) -> dict[str, Any]:
        """For the next tick."""
        return {"until": self.until.isoformat(), "marker": self.marker}


@dataclass
class Seen:
    """What a tick saw, and what that cost."""

    look: Look
    found: dict[str, ObservedCluster] = field(default_factory=dict)
    at: dict[str, datetime] = field(default_factory=dict)
    gets: int = 0
    gets_s: float = 0.0
    pages: int = 0
    listed: int = 0
    listed_s: float = 0.0
    changes: int = 0
    watermark: datetime | None = None  #: the newest change seen; what is older is seen, or in the gap
    gap: Gap | None = None
    refused: str | None = None  #: why lists could not be used

    @property
    def spent_s(self) -> float:
        """Magnum's time that the looks took, as far as it shows from here."""
        return self.gets_s + self.listed_s


def back_to(watermark: datetime | None, oldest_submission: datetime) -> datetime:
    """No change before this matters: it was looked at, or came before anything in flight was asked for."""
    since_asked = oldest_submission - _SKEW
    return max(watermark - _OVERLAP, since_asked) if watermark else since_asked


class Watcher:
    """One tick's looks, bounded by ``budget_s`` of waiting for Magnum."""

    def __init__(
        self,
        gateway: CloudGateway,
        clock: Clock,
        seen: Seen,
        *,
        page_size: int,
        budget_s: float,
        settle: Callable[[list[str]], None] = lambda _uuids: None,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._seen = seen
        self._page_size = page_size
        self._settle = settle  # called after each page, so that what it shows need not wait for the next
        self._budget_s = budget_s
        self._until = time.monotonic() + budget_s

    @property
    def time_is_up(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() >= self._until

    def newest(self, since: datetime, gap: Gap | None, expected: int) -> None:
        """Follow the list, latest change first, back to ``since``; then go on with ``gap``."""
        first = min(max(expected, _FIRST_PAGE_MIN), self._page_size)
        rest = self._walk(since, None, first, until_s=self._until, head=True)
        if rest is not None:
            # One gap is kept: from here down to the end of the older one, some of which is then read twice.
            self._seen.gap = Gap(min(since, gap.until), rest.marker) if gap else rest
        elif gap is not None:
            until_s = min(self._until, time.monotonic() + _GAP_SHARE * self._budget_s)
            self._seen.gap = self._walk(gap.until, gap.marker, self._page_size, until_s=until_s, head=False)

    def _walk(self, until: datetime, marker: str | None, limit: int, *, until_s: float, head: bool) -> Gap | None:
        """Pages after ``marker`` until one reaches behind ``until``; what is left where that can't be finished."""
        seen = self._seen
        while time.monotonic() < until_s:
            asked = time.monotonic()
            try:
                items = self._gateway.page(limit=limit, marker=marker, newest_first=True)
            except CloudNotFound:
                return Gap(until, None)  # the marker's cluster went: from the top again, next time
            except CloudError as exc:
                if exc.retryable and not isinstance(exc, CloudBeingWritten):
                    raise
                # A half-written cluster is in the list (openstack-facts.md, 1 and 2): GETs stand in meanwhile.
                seen.refused = exc.reason
                return Gap(until, marker)
            finally:
                seen.pages += 1
                seen.listed_s += time.monotonic() - asked
            changed = self._take(items)
            if head:
                if seen.watermark is None and changed:
                    seen.watermark = max(changed)
                seen.changes += sum(1 for moment in changed if moment > until)
            if any(moment < until for moment in changed) or len(items) < limit:
                return None
            marker, limit = items[-1].uuid, self._page_size
        return Gap(until, marker)

    def _take(self, items: list[ObservedCluster]) -> list[datetime]:
        seen, now = self._seen, self._clock.now()
        seen.listed += len(items)
        fresh = [item for item in items if item.uuid not in seen.found]
        for item in fresh:
            seen.found[item.uuid] = item
            seen.at[item.uuid] = now
        self._settle([item.uuid for item in fresh])
        return [item.updated_at for item in items if item.updated_at is not None]

    def alone(self, due: list[tuple[Job, Cluster]]) -> list[Sight]:
        """GETs of these, in their order, as far as the budget goes."""
        sights: list[Sight] = []
        for job, cluster in due:
            if cluster.magnum_uuid is None or cluster.magnum_uuid in self._seen.found:
                continue
            if self.time_is_up:
                break
            asked = time.monotonic()
            try:
                observed = self._gateway.get(cluster.magnum_uuid)
            except CloudBeingWritten:
                continue
            finally:
                self._seen.gets += 1
                self._seen.gets_s += time.monotonic() - asked
            sights.append((job, cluster, observed, self._clock.now()))
        return sights
