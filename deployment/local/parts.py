"""The whole system as real processes, started, killed and started again one by one: for fault tests and benchmarks."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg2
import psycopg2.extras
import requests
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from deployment.local.environment import ROOT, Plan, plan
from deployment.local.ports import free_port
from deployment.local.processes import spawn
from deployment.local.supervision import programs
from shared.db import migrate

#: Short periods, so that a round takes seconds; the relations between them are those of production.
FAST: Final = {
    "LEASE_TTL": "8",
    "OS_TIMEOUT": "2.5",
    "RELAY_INTERVAL": "0.3",
    "REDISPATCH_AFTER": "2",
    "TICK_MIN": "0.4",
    "TICK_MAX": "2",
    "LOST_ANSWER_GRACE": "3",
    "INVENTORY_INTERVAL": "2",
    "INVENTORY_SHARE": "0.5",
    "MONITORING_UPDATE_INTERVAL": "1",
    "API_WORKERS": "1",
    "API_THREADS": "8",
    "WORKER_CONCURRENCY": "8",
    "JOB_MAX_CRASHES": "50",
    "LOG_FORMAT": "json",
}


ALL: Final = ("simulator", "api", "worker", "relay", "beat")


class NotInTime(RuntimeError):
    """What was waited for did not come."""


class Parts:
    """PostgreSQL, Valkey, simulator, API, worker, relay and beats, each a process of its own.

    Entering starts the servers, migrates, and starts ``programs``; there is also "beat2", a second beat. ``settings`` are
    environment variables over the fast ones; with OS_AUTH_URL and its companions among them, that cloud takes the simulator's place,
    and "simulator" must not be among the programs.
    """

    def __init__(self, home: Path, programs_: Iterable[str] = ALL, **settings: str) -> None:
        self._first = tuple(programs_)
        ports = {name: str(free_port()) for name in ("API_PORT", "FLOWER_PORT", "SIMULATOR_PORT")}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "DATABASE", "REDIS", "POSTGRES"))}
        self.plan: Plan = plan({**clean, "STATE_DIR": str(home), **FAST, **ports, **settings})
        if self.plan.postgres is None or self.plan.valkey is None:
            msg = "the environment names real servers"
            raise RuntimeError(msg)
        self._simulator_url = self.plan.simulator.url if self.plan.simulator else ""
        self.postgres, self.valkey = self.plan.postgres, self.plan.valkey
        self._commands = {program.name: program.command for program in programs(self.plan) if not program.server}
        beat = [word.replace("beat-schedule", "beat2-schedule") for word in self._commands["beat"]]
        self._commands["beat2"] = beat
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    # -- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.valkey.start()
            migrate.upgrade(self.plan.environment["DATABASE_URL"])
            for name in self._first:
                self.start(name)
            if "api" in self._first:
                self.until(self._is_ready, 60, "the API is ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None) -> None:
        for name in list(self._running):
            self.kill(name)
        self.valkey.stop()
        self.postgres.stop()

    def start(self, name: str) -> None:
        """Start a program, unless it runs."""
        if self.runs(name):
            return
        # Through spawn: a fault test starts programs from a thread that ends before they do.
        with (self.plan.log_dir / f"{name}.log").open("ab") as log:
            self._running[name] = spawn(self._commands[name], cwd=ROOT, output=log, env=self.plan.environment)

    def runs(self, name: str) -> bool:
        """Whether the program is there."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def pid(self, name: str) -> int:
        """Its process id."""
        return self._running[name].pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a program with everything it started; by default without a chance to say goodbye."""
        process = self._running.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait(20)

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as supervisord does in `make run`; which those were.

        Celery's worker is one of them: kombu 5.7 raises AttributeError where it closes a lost connection to Redis that holds
        unacknowledged messages, and the worker ends.
        """
        gone = [name for name, process in self._running.items() if process.poll() is not None]
        for name in gone:
            self.start(name)
        return gone

    def _is_ready(self) -> bool:
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = (self.plan.log_dir / f"{name}.log").read_text(errors="replace")[-3000:]
                raise NotInTime(f"{name} ended with {process.returncode}:\n{tail}")
        try:
            return requests.get(f"{self.api}/ready", timeout=5).ok
        except requests.RequestException:
            return False

    # -- asking ---------------------------------------------------------------------------------------------------

    @property
    def api(self) -> str:
        """The API's address."""
        return self.plan.api.url

    @property
    def simulator(self) -> str:
        """The simulator's address."""
        return self._simulator_url

    @property
    def auth_url(self) -> str:
        """Keystone's address."""
        return self.plan.environment["OS_AUTH_URL"]

    def token(self, username: str = "admin", password: str | None = None, project: str = "kcloud") -> str:
        """A token of Keystone, the simulator's unless the settings name another."""
        auth = v3.Password(
            self.auth_url,
            username=username,
            password=password or self.plan.environment["OS_PASSWORD"],
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
        )
        return str(Session(auth=auth, timeout=10).get_token())

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """The simulator's control endpoint."""
        answer = requests.request(method, f"{self.simulator}/_control{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Straight from the database."""
        connection = psycopg2.connect(self.postgres.dsn(), cursor_factory=psycopg2.extras.RealDictCursor)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return [dict(row) for row in cursor.fetchall()]
        finally:
            connection.close()

    def until(self, predicate: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Wait for a true answer, and return it; raise :class:`NotInTime`. While a part is away, the answer is no."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = None
            with contextlib.suppress(psycopg2.Error, requests.RequestException):
                answer = predicate()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise NotInTime(f"not within {timeout_s:g} s: {what}")
            time.sleep(0.1)
