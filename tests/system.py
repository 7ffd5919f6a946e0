"""The whole system as real processes, started, killed and started again one by one."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import requests
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from deployment.local.environment import ROOT, Plan, plan
from deployment.local.supervision import programs
from shared.db import migrate
from tests.waiting import find_free_port, wait_until

#: Short periods, so that a round takes seconds; the relations between them are those of production.
FAST = {
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


class System:
    """PostgreSQL, Valkey, simulator, API, worker, relay and beats, each a process of its own.

    ``extra`` programs: "beat2", a second beat.
    """

    def __init__(self, home: Path, **settings: str) -> None:
        ports = {name: str(find_free_port()) for name in ("API_PORT", "FLOWER_PORT", "SIMULATOR_PORT")}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "DATABASE", "REDIS", "POSTGRES"))}
        self.plan: Plan = plan({**clean, "STATE_DIR": str(home), **FAST, **ports, **settings})
        if self.plan.postgres is None or self.plan.valkey is None or self.plan.simulator is None:
            msg = "the environment names real servers"
            raise RuntimeError(msg)
        self.postgres, self.valkey = self.plan.postgres, self.plan.valkey
        self._commands = {program.name: program.command for program in programs(self.plan) if not program.server}
        beat = [word.replace("beat-schedule", "beat2-schedule") for word in self._commands["beat"]]
        self._commands["beat2"] = beat
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    # -- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> "System":
        try:
            self.postgres.start()
            self.valkey.start()
            migrate.upgrade(self.plan.environment["DATABASE_URL"])
            for name in ("simulator", "api", "worker", "relay", "beat"):
                self.start(name)
            wait_until(self._is_ready, 60, what="the system is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        for name in list(self._running):
            self.kill(name)
        self.valkey.stop()
        self.postgres.stop()

    def start(self, name: str) -> None:
        """Start a program, unless it runs."""
        if self.runs(name):
            return
        log = (self.plan.log_dir / f"{name}.log").open("ab")
        self._running[name] = subprocess.Popen(
            self._commands[name], cwd=ROOT, env=self.plan.environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def runs(self, name: str) -> bool:
        """Whether the program is there."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a program with everything it started; by default without a chance to say goodbye."""
        process = self._running.pop(name, None)
        if process is None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        process.wait(20)

    def _is_ready(self) -> bool:
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = (self.plan.log_dir / f"{name}.log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"{name} ended with {process.returncode}:\n{tail}")
        try:
            return requests.get(f"{self.api}/ready", timeout=5).status_code == 200
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
        if self.plan.simulator is None:
            raise AssertionError("no simulator")
        return self.plan.simulator.url

    def token(self, username: str = "admin", password: str = "secretpassword", project: str = "kcloud") -> str:
        """A token of the simulator's Keystone."""
        auth = v3.Password(
            f"{self.simulator}/identity/v3",
            username=username,
            password=password,
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
        )
        token = Session(auth=auth, timeout=10).get_token()
        assert token
        return str(token)

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

    def until(self, predicate: Any, timeout_s: float, what: str) -> Any:
        """Wait; while the database is away, the answer is no."""

        def asked() -> Any:
            try:
                return predicate()
            except (psycopg2.Error, requests.RequestException):
                return None

        return wait_until(asked, timeout_s, every_s=0.2, what=what)


def pause(seconds: float) -> None:
    """Let time pass while faults act; nothing is asserted to have happened by then."""
    time.sleep(seconds)
