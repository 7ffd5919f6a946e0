"""What Magnum's calls cost, measured on the real service (medians, one process): 2 ms per cluster listed over a base of 8, a GET
12, a create 175. With the model on, calls take that time, one after the other on ``workers`` workers; it is accounted always.
"""

import threading
import time
from collections import Counter
from typing import Any

LIST_BASE_S, LISTED_S, GET_S, CREATE_S, WRITE_S, OTHER_S = 0.008, 0.002, 0.012, 0.175, 0.030, 0.010


class Costs:
    """Accounts and, where asked, takes Magnum's time."""

    def __init__(self, *, on: bool = False, workers: int = 1) -> None:
        self.on = on
        self._slots = threading.Semaphore(workers)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.calls: Counter[str] = Counter()
            self.listed = 0
            self.magnum_s = 0.0
            self.since = time.time()

    def count(self, service: str, method: str, route: str) -> None:
        """One call came."""
        with self._lock:
            self.calls[f"{service} {method} {route}"] += 1

    def charge(self, seconds: float, *, listed: int = 0) -> None:
        """Magnum worked so long, and takes the time where the model is on."""
        with self._lock:
            self.magnum_s += seconds
            self.listed += listed
        if self.on:
            with self._slots:
                time.sleep(seconds)

    def statistics(self) -> dict[str, Any]:
        """What was counted since the last reset."""
        with self._lock:
            return {
                "calls": dict(self.calls),
                "listed": self.listed,
                "magnum_seconds": round(self.magnum_s, 6),
                "seconds": round(time.time() - self.since, 3),
            }
