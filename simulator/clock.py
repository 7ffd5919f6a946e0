"""The simulator's time: the machine's, moved forward by what the control endpoint adds; work in the cloud runs ``speed`` times faster."""

import threading
import time


class Clock:
    """Seconds since the epoch, as the simulated services see them."""

    def __init__(self, speed: float = 1.0, offset: float = 0.0) -> None:
        self.speed = speed
        self._offset = offset
        self._lock = threading.Lock()

    def now(self) -> float:
        """The present."""
        return time.time() + self._offset

    @property
    def offset(self) -> float:
        """How far ahead of the machine's clock."""
        return self._offset

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        with self._lock:
            self._offset += seconds

    def lasting(self, seconds: float) -> float:
        """How long work of this length takes here."""
        return seconds / self.speed


def iso(moment: float | None) -> str | None:
    """As Magnum writes times: UTC, whole seconds."""
    if moment is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(moment))
