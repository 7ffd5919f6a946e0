"""Whether each part answers: asked the way its users ask."""

import base64
import contextlib
import http.client
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deployment.local.environment import LaunchError, Listener, Plan
from deployment.local.logs import LogWatcher
from deployment.local.processes import tail
from deployment.local.supervision import Supervisor

#: A program that ends this often before everything is ready will not come.
_TOO_MANY_EXITS = 3


@dataclass
class Check:
    """One thing to wait for."""

    program: str
    ask: Callable[[], bool]
    what: str  #: for the message when it does not come
    after_s: float | None = field(default=None, init=False)  #: how long it took, once it is there


def answers(listener: Listener, path: str, login: str | None = None, *, at_most: int = 299) -> bool:
    """Whether a GET there is answered with a status up to ``at_most``."""
    url = urllib.parse.urlsplit(listener.url)
    headers = {}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=3)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status <= at_most
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class WorkerPing:
    """Asks the workers over the broker, as ``celery inspect ping`` does, but without starting another Python for it."""

    def __init__(self, redis_url: str) -> None:
        """``redis_url`` is Celery's address of the broker."""
        self._url = redis_url
        self._app: Any = None

    def __call__(self) -> bool:
        """Whether one answers within half a second."""
        if self._app is None:
            from celery import Celery

            self._app = Celery(broker=self._url, set_as_current=False)
            self._app.conf.broker_connection_retry = False
        with contextlib.suppress(Exception):  # whatever is wrong with the broker now: it is asked again
            return bool(self._app.control.broadcast("ping", reply=True, timeout=0.5, limit=1))
        return False


def server_checks(plan: Plan) -> list[Check]:
    """The embedded servers."""
    servers = [server for server in (plan.postgres, plan.valkey) if server is not None]
    return [Check(server.name, server.ready, "takes no connections") for server in servers]


def program_checks(plan: Plan, redis_url: str) -> list[Check]:
    """Everything else, cheapest question first."""
    checks = []
    if plan.simulator is not None:
        simulator = plan.simulator
        checks.append(Check("simulator", lambda: answers(simulator, "/identity/v3", at_most=399), f"no answer at {simulator.url}"))
    api, flower, login = plan.api, plan.flower, plan.environment.get("FLOWER_BASIC_AUTH")
    first_login = login.split(",")[0] if login else None
    return [
        *checks,
        Check("api", lambda: answers(api, "/ready"), f"{api.url}/ready does not answer 200"),
        Check("flower", lambda: answers(flower, "/", first_login, at_most=399), f"no page at {flower.url}"),
        Check("worker", WorkerPing(redis_url), "no worker answers over the broker"),
    ]


def wait_for(
    checks: list[Check],
    *,
    manager: Supervisor,
    logs: LogWatcher,
    plan: Plan,
    started: float,
    limit_s: float,
    stopped: Callable[[], bool],
) -> None:
    """Wait until all are there, or ``stopped`` says to leave.

    ``started`` is the reading of ``time.monotonic`` that times count from. Raises :class:`LaunchError` with the culprit's log when
    the limit passes, or as soon as a program has ended three times.
    """
    deadline = time.monotonic() + limit_s
    waiting = list(checks)
    while waiting and not stopped():
        for check in list(waiting):
            if stopped() or check.ask():
                check.after_s = time.monotonic() - started
                waiting.remove(check)
        logs.news()
        for program, count in logs.exits.items():
            if count >= _TOO_MANY_EXITS:
                raise LaunchError(_story(plan, program, f"ended {count} times"))
        if not manager.running:
            raise LaunchError(f"supervisord ended; see {plan.log_dir}/supervisord.out and supervisord.log")
        if waiting and time.monotonic() > deadline:
            late = waiting[0]
            raise LaunchError(_story(plan, late.program, f"{late.what}, after {limit_s:g} s"))
        if waiting:
            time.sleep(0.05)


def _story(plan: Plan, program: str, what: str) -> str:
    log = plan.log_dir / f"{program}.log"
    return f"{program}: {what}. Its log ({log}) ends:\n{tail(log, 30)}"
