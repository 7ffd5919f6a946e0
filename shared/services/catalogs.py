"""What each project can build from, remembered for a minute, so that a request is checked without asking the cloud.

While the cloud does not answer, the last catalog stands: a request checked against it may fail later, with Magnum's own
words, which is better than refusing work because of an outage.
"""

import threading
from datetime import timedelta

from shared.domain.clusters import Scope
from shared.domain.ports import Catalog, Clock, Cloud
from shared.errors import CloudError, Unavailable

#: A name that is not in the catalog is looked up again, but not more often than this.
_MISS_S = 2.0


class Catalogs:
    """Catalogs by scope. Safe to use from many threads; only one of them reads a scope at a time."""

    def __init__(self, cloud: Cloud, clock: Clock, ttl_s: float) -> None:
        self._cloud = cloud
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)
        self._held: dict[Scope, Catalog] = {}
        self._locks: dict[Scope, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, scope: Scope) -> Catalog:
        """The catalog, at most a minute old unless the cloud is away. Raises Unavailable where none was ever read."""
        held = self._held.get(scope)
        if held is not None and self._clock.now() - held.read_at < self._ttl:
            return held
        return self._read(scope, held, self._ttl)

    def after_miss(self, scope: Scope) -> Catalog:
        """The catalog once more, because something was not in it."""
        held = self._held.get(scope)
        return self._read(scope, held, timedelta(seconds=_MISS_S))

    def held(self, scope: Scope) -> Catalog | None:
        """What is remembered, without asking anyone."""
        return self._held.get(scope)

    def forget(self) -> None:
        """Read every catalog anew at the next question."""
        self._held.clear()

    def _read(self, scope: Scope, held: Catalog | None, old: timedelta) -> Catalog:
        with self._guard:
            lock = self._locks.setdefault(scope, threading.Lock())
        if held is not None and lock.locked():
            return held  # somebody reads it already
        with lock:
            again = self._held.get(scope)
            if again is not None and self._clock.now() - again.read_at < old:
                return again
            try:
                fresh = self._cloud.gateway(scope).catalog()
            except CloudError as exc:
                if held is not None and exc.retryable:
                    return held
                if exc.retryable:
                    msg = f"The request can't be checked: OpenStack does not answer ({exc.detail})."
                    raise Unavailable(msg, reason=exc.reason, retry_after_s=10) from exc
                raise
            self._held[scope] = fresh
            return fresh
