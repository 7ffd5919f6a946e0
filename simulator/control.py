"""The control endpoint, under /_control: faults, time, bulk clusters, statistics. It is for tests, and has no login."""

import uuid
from typing import Any

from simulator.heat import Heat
from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.magnum.making import add_default_groups, merged
from simulator.magnum.model import Cluster
from simulator.magnum.personalities import known, personality
from simulator.magnum.service import Magnum

_ORDERS = ("expire_tokens", "conductor_down", "conductor_up", "keystone_down", "keystone_up", "lists_broken", "lists_mended")


def _bad(words: str) -> HttpError:
    return HttpError(Answer(400, {"error": words}))


def routes(magnum: Magnum, keystone: Keystone, heat: Heat) -> Router:
    """Everything under /_control."""
    handlers = _Control(magnum, keystone)

    def set_heat(request: Request) -> Answer:
        with heat.lock:
            try:
                return Answer(200, heat.configure(request.json()))
            except (ValueError, TypeError) as exc:
                raise _bad(str(exc)) from exc

    router = Router()
    router.add("GET", "/", handlers.state)
    router.add("GET", "/faults", lambda _: Answer(200, {"faults": magnum.conductor.faults.listed()}))
    router.add("POST", "/faults", handlers.add_fault)
    router.add("DELETE", "/faults", handlers.clear_faults)
    router.add("DELETE", "/faults/{id}", handlers.drop_fault)
    router.add("POST", "/heat", set_heat)
    router.add("POST", "/clock", handlers.clock)
    router.add("POST", "/settings", handlers.settings)
    router.add("GET", "/statistics", lambda _: Answer(200, magnum.costs.statistics()))
    router.add("DELETE", "/statistics", handlers.reset_statistics)
    router.add("GET", "/audit", handlers.audit)
    router.add("GET", "/completions", handlers.completions)
    router.add("GET", "/machines/{id}", handlers.machines)
    router.add("POST", "/images", handlers.image)
    router.add("POST", "/clusters", handlers.bulk)
    return router


class _Control:
    def __init__(self, magnum: Magnum, keystone: Keystone) -> None:
        self._magnum = magnum
        self._keystone = keystone

    def state(self, _request: Request) -> Answer:
        """The present in numbers."""
        magnum = self._magnum
        with magnum.collection.lock:
            magnum.conductor.catch_up()
            states: dict[str, int] = {}
            for cluster in magnum.collection.clusters.values():
                states[cluster.status] = states.get(cluster.status, 0) + 1
        body = {
            "now": magnum.clock.now(),
            "speed": magnum.clock.speed,
            "clusters": states,
            "conductor": "down" if magnum.conductor.down else "up",
            "keystone": "down" if self._keystone.down else "up",
            "cost_model": magnum.costs.on,
            "faults": magnum.conductor.faults.listed(),
        }
        return Answer(200, body)

    def add_fault(self, request: Request) -> Answer:
        """Script a fault, or give an order."""
        body = request.json()
        kind = body.get("kind")
        if kind in _ORDERS:
            self._order(kind)
            return Answer(200, {"done": kind})
        try:
            made = self._magnum.conductor.faults.add(body)
        except (ValueError, TypeError) as exc:
            raise _bad(str(exc)) from None
        return Answer(201, made.as_dict())

    def _order(self, kind: str) -> None:
        magnum = self._magnum
        with magnum.collection.lock:
            if kind == "expire_tokens":
                self._keystone.expire_all()
            elif kind == "conductor_down":
                magnum.conductor.down = True
            elif kind == "conductor_up":
                magnum.conductor.up()
            elif kind.startswith("keystone"):
                self._keystone.down = kind == "keystone_down"
            else:
                magnum.lists_broken = kind == "lists_broken"

    def clear_faults(self, _request: Request) -> Answer:
        """End all faults; everything is up again."""
        self._magnum.conductor.faults.clear()
        for kind in ("conductor_up", "keystone_up", "lists_mended"):
            self._order(kind)
        return Answer(204)

    def drop_fault(self, request: Request) -> Answer:
        """End one."""
        number = request.variables["id"]
        if not number.isdigit() or not self._magnum.conductor.faults.remove(int(number)):
            raise HttpError(Answer(404, {"error": f"there is no fault {number}"}))
        return Answer(204)

    def clock(self, request: Request) -> Answer:
        """``advance_s``: let time pass; ``speed``: how much faster work goes."""
        body = request.json()
        magnum = self._magnum
        with magnum.collection.lock:
            if "speed" in body:
                if not float(body["speed"]) > 0:
                    raise _bad("speed must be greater than 0")
                magnum.clock.speed = float(body["speed"])
            magnum.clock.advance(float(body.get("advance_s", 0.0)))
            magnum.conductor.catch_up()
        return Answer(200, {"now": magnum.clock.now(), "speed": magnum.clock.speed})

    def settings(self, request: Request) -> Answer:
        """``cost_model``, ``driver`` (of new templates), ``quota``, ``token_s``, and the timing's fields."""
        body = request.json()
        timing = self._magnum.conductor.timing
        for name, value in body.items():
            if name == "cost_model":
                self._magnum.costs.on = bool(value)
            elif name == "driver":
                if not known(str(value)):
                    raise _bad(f"there is no driver {value!r}")
                self._magnum.driver = personality(str(value)).name
            elif name == "quota":
                self._magnum.quota = int(value)
            elif name == "token_s":
                self._keystone.token_s = float(value)
            elif hasattr(timing, name):
                setattr(timing, name, float(value))
            else:
                raise _bad(f"there is no setting {name!r}")
        return Answer(200, body)

    def reset_statistics(self, _request: Request) -> Answer:
        """Count anew."""
        self._magnum.costs.reset()
        return Answer(204)

    def audit(self, _request: Request) -> Answer:
        """Every cluster ever made."""
        with self._magnum.collection.lock:
            self._magnum.conductor.catch_up()
            return Answer(200, {"clusters": list(self._magnum.collection.audit.values())})

    def completions(self, _request: Request) -> Answer:
        """Of each cluster that is there: its status, and when exactly it last arrived at a *_COMPLETE or *_FAILED."""
        with self._magnum.collection.lock:
            self._magnum.conductor.catch_up()
            rows = {c.uuid: [c.status, c.completed_at] for c in self._magnum.collection.clusters.values()}
        return Answer(200, {"clusters": rows})

    def image(self, request: Request) -> Answer:
        """A public image of this ``name`` with these ``properties``."""
        body = request.json()
        if not isinstance(body.get("name"), str) or not isinstance(body.get("properties"), dict):
            raise _bad("name must be a text and properties an object")
        self._magnum.glance.add(body["name"], body["properties"])
        return Answer(201, self._magnum.glance.find(body["name"]))

    def machines(self, request: Request) -> Answer:
        """Of a cluster's node groups, by name: the machines that run, whatever Magnum tells of them."""
        uuid_ = request.variables["id"]
        with self._magnum.collection.lock:
            self._magnum.conductor.catch_up()
            cluster = self._magnum.collection.clusters.get(uuid_)
            if cluster is None:
                raise HttpError(Answer(404, {"error": f"there is no cluster {uuid_}"}))
            rows = {
                group.name: [
                    {"id": group.machine(node), "number": node, "address": group.address(node, cluster)} for node in group.nodes
                ]
                for group in cluster.groups
            }
        return Answer(200, {"machines": rows})

    def bulk(self, request: Request) -> Answer:
        """Make ``count`` clusters at once: in progress, ending ``from_s`` to ``to_s`` from now, or complete (without ``to_s``).

        ``spread_s``: their last changes lie so far back, spread evenly.
        """
        body = request.json()
        magnum = self._magnum
        now = magnum.clock.now()
        project = self._keystone.add_project(str(body.get("project", "kcloud")))
        count = int(body["count"])
        ends = body.get("to_s") is not None
        with magnum.collection.lock:
            template = next(
                t for t in magnum.collection.templates.values() if t.name == body.get("template", "gpu-intensive-template")
            )
            made = [self._one(body, number, project, template.uuid, template.body, now, ends=ends) for number in range(count)]
            magnum.collection.add(made)
            if ends:
                first, last = float(body.get("from_s", 0.0)), float(body["to_s"])
                for number, cluster in enumerate(made):
                    magnum.conductor.schedule(cluster, "create", first + (last - first) * (number + 1) / count)
        return Answer(201, {"clusters": [{"uuid": c.uuid, "name": c.name} for c in made], "project_id": project})

    def _one(
        self, body: dict[str, Any], number: int, project: str, template: str, base: dict[str, Any], now: float, *, ends: bool
    ) -> Cluster:
        status = "CREATE_IN_PROGRESS" if ends else "CREATE_COMPLETE"
        labels, _, _, _ = merged(base.get("labels") or {}, body.get("labels"), merge=True)
        identity = self._magnum.collection.next_id()
        cluster = Cluster(
            id=identity,
            uuid=str(uuid.uuid4()),
            name=f"{body.get('prefix', 'bulk')}-{number}",
            template=template,
            project_id=project,
            user_id=self._keystone.add_user("admin", ""),
            keypair=base.get("keypair_id"),
            flavor_id=base.get("flavor_id"),
            master_flavor_id=base.get("master_flavor_id"),
            labels=labels,
            labels_overridden={},
            labels_added={},
            labels_skipped={},
            create_timeout=60,
            stack_id=str(uuid.uuid4()),
            status=status,
            driver=str(base.get("driver")),
            created_at=now,
            updated_at=now - float(body.get("spread_s", 0.0)) * (1 - number / int(body["count"])),
            options={},
            completed_at=None if ends else now,
        )
        add_default_groups(cluster, base.get("image_id"), 1, int(body.get("node_count", 1)))
        for group in [] if ends else cluster.groups:
            group.settle(group.node_count)
        return cluster
