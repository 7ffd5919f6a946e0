"""The WSGI application: all services under one port, by prefix."""

import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator import compute, control, groups, heat, identity, image, network, seed, volume
from simulator.clock import Clock
from simulator.costs import Costs
from simulator.faults import Faults
from simulator.http import REASONS, Answer, Dropped, HttpError, Request, Router
from simulator.magnum import clusters, nodegroups, others, templates
from simulator.magnum.attachments import Attachments
from simulator.magnum.lifecycle import Conductor, Timing
from simulator.magnum.model import Collection
from simulator.magnum.personalities import DEFAULT, personality
from simulator.magnum.service import Magnum
from simulator.store import Store

log = logging.getLogger(__name__)

_PREFIXES = {
    "identity": "keystone",
    "container-infra": "magnum",
    "compute": "nova",
    "image": "glance",
    "network": "neutron",
    "orchestration": "heat",
    "volume": "cinder",
    "_control": "control",
}


@dataclass(frozen=True)
class Config:
    """How to simulate."""

    state_dir: Path | None = None
    speed: float = 1.0
    cost_model: bool = False
    magnum_workers: int = 1
    token_s: float = 3600.0
    timing: Timing = field(default_factory=Timing)
    seed: int = 1
    driver: str = DEFAULT


class Simulator:
    """All services over one state."""

    def __init__(self, config: Config) -> None:
        self.store = Store(config.state_dir)
        kept = dict(self.store.all("clock"))
        self.clock = Clock(config.speed, float(kept.get("offset", 0.0)))
        keystone = identity.Keystone(self.store, self.clock, token_s=config.token_s)
        nova, glance, neutron = compute.Nova(self.store), image.Glance(self.store), network.Neutron(self.store)
        collection = Collection(self.store)
        self.faults = Faults(config.seed)
        conductor = Conductor(collection, self.clock, self.faults, config.timing, config.seed)
        cinder = volume.Cinder(self.store)
        conductor.attachments = Attachments(neutron, cinder)
        self.costs = Costs(on=config.cost_model, workers=config.magnum_workers)
        magnum = Magnum(keystone, nova, glance, neutron, collection, conductor, self.clock, self.costs)
        orchestration = heat.Heat(self.store, magnum, self.clock)
        magnum.driver = personality(config.driver).name
        seed.plant(keystone, nova, glance, neutron, collection)
        infra = Router()
        clusters.routes(magnum, infra)
        templates.routes(magnum, infra)
        nodegroups.routes(magnum, infra)
        others.routes(magnum, infra, self.store)
        self._keystone, self._magnum, self._heat = keystone, magnum, orchestration
        self._routers = {
            "keystone": groups.add_routes(identity.routes(keystone), keystone),
            "magnum": infra,
            "nova": compute.routes(nova, keystone),
            "glance": image.routes(glance, keystone),
            "neutron": network.routes(neutron, keystone),
            "cinder": volume.routes(cinder, keystone),
            "heat": heat.routes(orchestration, keystone),
            "control": control.routes(magnum, keystone, orchestration),
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI."""
        first, _, rest = environ.get("PATH_INFO", "/").lstrip("/").partition("/")
        request = Request(environ, _PREFIXES.get(first, ""), f"/{rest}")
        try:
            answer = self._answer(request)
        except HttpError as exc:
            answer = exc.answer
        except Dropped:
            _hang_up(environ)
            answer = Answer(503)
        except Exception as exc:  # a fault of the simulator itself: say so, as services do
            log.exception("simulator failed at %s %s", request.method, request.path)
            words = f"{type(exc).__name__}: {exc}"
            answer = Answer(500, {"errors": [{"status": 500, "title": words, "detail": words, "code": "server", "links": []}]})
        body = answer.encoded()
        headers = {**request.extra, **answer.headers}
        if body:
            headers.setdefault("Content-Type", "application/json")
        headers["Content-Length"] = str(len(body))
        if request.service == "keystone":
            headers["Vary"] = "X-Auth-Token"
        if "WWW-Authenticate" in headers:
            headers["WWW-Authenticate"] = f'Keystone uri="{request.origin}/identity"'
        headers["x-openstack-request-id"] = request.id
        start_response(f"{answer.status} {REASONS.get(answer.status, 'Unknown')}", list(headers.items()))
        return [] if request.method == "HEAD" else [body]

    def _let_time_pass(self) -> None:
        """What is due in one service shows in the others: a cluster that is gone by now holds no ports."""
        with self._magnum.collection.lock:
            self._magnum.conductor.catch_up()
        with self._heat.lock:
            self._heat.settle()

    def _answer(self, request: Request) -> Answer:
        router = self._routers.get(request.service)
        if router is None:
            return Answer(300, {"services": [f"/{prefix}" for prefix in _PREFIXES]})
        if request.service not in {"control", "keystone"}:
            self._let_time_pass()
        handler, route, methods = router.find(request)
        if request.service != "control":
            self.costs.count(request.service, request.method, route)
        if request.service == "keystone" and self._keystone.down:
            self._keystone.identify(request)
        lost = request.service != "control" and self.faults.before(request)
        answer = _call(handler, request, methods)
        if request.path == "/clock" and request.service == "control":
            self.store.put("clock", "offset", self.clock.offset)
        if lost:
            raise Dropped
        return answer


def _call(handler: Callable[[Request], Answer] | None, request: Request, methods: list[str]) -> Answer:
    if handler is not None:
        request.raw()  # always read: an unread body would be taken for the connection's next request
        return handler(request)
    if request.service == "magnum":
        status, title = (405, "Method Not Allowed") if methods or "/actions/" in request.path else (404, "Not Found")
        error = {"request_id": "", "code": "", "status": status, "title": title, "detail": "", "links": []}
        return Answer(status, {"errors": [error]})
    if methods:
        return Answer(
            405,
            {"error": {"code": 405, "title": "Method Not Allowed", "message": "Method not allowed"}},
            {"Allow": ", ".join(methods)},
        )
    if request.service == "keystone":
        return Answer(404, b"<!doctype html>\n<title>404 Not Found</title>\n", {"Content-Type": "text/html; charset=utf-8"})
    return Answer(404, {"error": {"code": 404, "title": "Not Found", "message": f"{request.path} could not be found."}})


def _hang_up(environ: dict[str, Any]) -> None:
    """Close the connection under the server, so that the client never hears an answer."""
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def create_app(config: Config) -> Simulator:
    """The application."""
    return Simulator(config)
