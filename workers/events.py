"""What Flower is told: a job's task stays STARTED while the cloud works, and ends with the job.

A job's task raises ``Ignore`` after its call, which leaves it STARTED; when the job ends, an event with the task's id (which is
the job's) completes that row, with the whole runtime.
"""

import queue
import threading
import time
from collections.abc import Callable

from celery import Celery

from shared.domain.jobs import Job, JobState
from shared.observability.logging import get_logger

log = get_logger(__name__)

_HELD = 20_000
_QUIET_AFTER_ERROR_S = 10.0


class FlowerAnnouncer:
    """Sends ends of jobs to Celery's event stream, from a thread of its own: watching never delays work, nor fails it."""

    def __init__(self, app: Celery, hostname: Callable[[], str]) -> None:
        self._app = app
        self._hostname = hostname
        self._queue: queue.Queue[Job] = queue.Queue(_HELD)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def finished(self, job: Job) -> None:
        """Returns at once. With too many waiting, the event is dropped: the row in PostgreSQL is the truth."""
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            return
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
                    self._thread.start()

    def flush(self, seconds: float) -> None:
        """Wait until all is sent, at most so long."""
        until = time.monotonic() + seconds
        while self._queue.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.02)

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            batch = [job]
            while len(batch) < 500:  # noqa: PLR2004
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            try:
                self._send(batch)
            except Exception:  # noqa: BLE001 - kombu raises many kinds; whatever it is, watching must not matter
                log.warning("flower.unreachable", dropped=len(batch))
                time.sleep(_QUIET_AFTER_ERROR_S)
            finally:
                for _ in batch:
                    self._queue.task_done()

    def _send(self, jobs: list[Job]) -> None:
        with self._app.events.default_dispatcher(hostname=self._hostname(), enabled=True) as dispatcher:
            for job in jobs:
                began = job.started_at or job.created_at
                runtime = ((job.finished_at or began) - began).total_seconds()
                if job.state is JobState.SUCCEEDED:
                    dispatcher.send("task-succeeded", uuid=str(job.id), result=str(job.result or {}), runtime=runtime)
                elif job.state is JobState.FAILED:
                    error = job.error or {}
                    words = f"{error.get('reason')}: {error.get('detail')}"
                    dispatcher.send("task-failed", uuid=str(job.id), exception=words, traceback=error.get("hint") or "")
                else:
                    dispatcher.send("task-revoked", uuid=str(job.id), terminated=False, signum=None, expired=False)
