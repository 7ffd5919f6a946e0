"""What views work with."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars

from api.auth import Guard
from api.inputs import wait_seconds
from shared.domain.jobs import Job
from shared.domain.ports import Actor

if TYPE_CHECKING:
    from shared.bootstrap import Container


class Slots:
    """So many requests of a kind may hold a thread at a time, in this process."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(max(1, most))

    def take(self) -> bool:
        """Take one if there is one; do not wait."""
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        """Give one back."""
        self._free.release()

    @contextmanager
    def one(self) -> Iterator[bool]:
        """One for a block, or False."""
        taken = self.take()
        try:
            yield taken
        finally:
            if taken:
                self.give_back()


@dataclass(frozen=True)
class Kit:
    """The wired product, the guard at the door, and the limits on what holds threads."""

    container: "Container"
    guard: Guard
    waits: Slots
    streams: Slots
    max_wait_s: float

    def waited(self, actor: Actor, job: Job) -> tuple[Job, dict[str, str]]:
        """The job after the time that the caller prefers to wait, and the header that says so.

        Where too many wait already, the preference is not honoured, which RFC 7240 permits: waiting must not keep others out.
        """
        seconds = wait_seconds(self.max_wait_s)
        if not seconds or job.is_terminal:
            return job, {"Preference-Applied": f"wait={seconds}"} if seconds else {}
        with self.waits.one() as may_wait:
            if not may_wait:
                return job, {}
            return self.container.jobs.wait(actor, job.id, seconds), {"Preference-Applied": f"wait={seconds}"}

    def promise_headers(self, job: Job, location: str, *, replayed: bool) -> dict[str, str]:
        """The headers of an answer that carries a job."""
        bind_contextvars(job_id=str(job.id))  # for the line that is written when the request is done
        if job.cluster_id is not None:
            bind_contextvars(cluster_id=str(job.cluster_id))
        headers = {"Location": location, "Operation-Location": f"/jobs/{job.id}"}
        if not job.is_terminal:
            headers["Retry-After"] = str(self.container.jobs.retry_after(job))
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return headers
