"""What resources are in the other services."""

import copy
import uuid
from dataclasses import dataclass

from simulator.heat.clouds import Clouds
from simulator.heat.schema import Failed, Type, Values
from simulator.heat.wire import HotError
from simulator.magnum import templates

_REFS = {
    "network": ("network_id", "network"),
    "subnet": ("subnet_id", "subnet"),
    "router": ("router_id", "router"),
    "port": ("port_id", "port"),
    "security_group": ("security_group_id", "security_group"),
    "remote_group": ("remote_group_id", "security_group"),
    "floating_network": ("floating_network_id", "network"),
}


@dataclass(frozen=True)
class InNeutron(Type):
    """What is one thing in Neutron."""

    kind: str = ""

    def _body(self, clouds: Clouds, given: Values) -> Values:
        body: Values = {}
        for key, value in given.items():
            name, kind = _REFS.get(key, (key, ""))
            body[name] = clouds.found(kind, value) if kind else value
        if self.kind == "security_group_rule":
            body.setdefault("direction", "ingress")
        body.pop("rules", None)
        gateway = body.get("external_gateway_info")
        if gateway:
            body["external_gateway_info"] = {"network_id": clouds.found("network", gateway["network"])} | {
                key: value for key, value in gateway.items() if key == "enable_snat"
            }
        for place in body.get("fixed_ips", []):
            if "subnet" in place:
                place["subnet_id"] = clouds.found("subnet", place.pop("subnet"))
        return body

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """A new thing; a group with its rules."""
        body = self._body(clouds, copy.deepcopy(given))
        if "name" in self.properties:
            body.setdefault("name", f"{clouds.stack}-{name}")
        made = clouds.neutron.create(self.kind, clouds.project, body)
        for rule in given.get("rules", []):
            self._rule(clouds, made["id"], rule)
        return str(made["id"])

    def change(self, clouds: Clouds, held: str, before: Values, given: Values) -> str:
        """Give it what is new; rules are taken away and made again, as Heat does."""
        changed = {key: value for key, value in copy.deepcopy(given).items() if before.get(key) != value}
        clouds.neutron.update(self.kind, held, self._body(clouds, changed))
        if before.get("rules") != given.get("rules"):
            for rule in list(clouds.neutron.all("security_group_rule", security_group_id=held)):
                if rule["direction"] == "ingress" and any(_same(rule, one) for one in before.get("rules", [])):
                    clouds.neutron.delete("security_group_rule", rule["id"])
            for rule in given.get("rules", []):
                self._rule(clouds, held, rule)
        return held

    def _rule(self, clouds: Clouds, group: str, rule: Values) -> None:
        body = {"direction": "ingress", **rule, "security_group_id": group}
        if body.pop("remote_mode", None) == "remote_group_id":
            body.setdefault("remote_group_id", group)
        clouds.neutron.create("security_group_rule", clouds.project, body)

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Remove it."""
        del given
        clouds.neutron.delete(self.kind, held)

    def show(self, clouds: Clouds, held: str, given: Values) -> Values:
        """As Neutron shows it."""
        del given
        return dict(clouds.neutron.find(self.kind, held))


def _same(rule: Values, given: Values) -> bool:
    wanted = {"direction": "ingress", **{key: value for key, value in given.items() if key != "remote_mode"}}
    return all(rule.get(key) == value for key, value in wanted.items())


@dataclass(frozen=True)
class Interface(Type):
    """A router's place in a subnet. Its id tells both ends, as Heat writes it."""

    def check(self, name: str, given: Values, clouds: Clouds) -> None:
        """One of subnet and port must be named."""
        super().check(name, given, clouds)
        if not {"subnet", "port"} & given.keys():
            words = "At least one of the following properties must be specified: subnet, port."
            raise HotError(words, "PropertyUnspecifiedError")

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """Attach."""
        del name
        router = clouds.found("router", given["router"])
        for kind in ("subnet", "port"):
            if kind in given:
                end = clouds.found(kind, given[kind])
                clouds.neutron.attach(router, **{kind: end})
                return f"{router}:{kind}_id={end}"
        raise Failed("StackValidationFailed: At least one of the following properties must be specified: subnet, port.")

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Detach."""
        del given
        router, _, end = held.partition(":")
        kind, _, key = end.partition("_id=")
        clouds.neutron.detach(router, **{kind: key})


@dataclass(frozen=True)
class Routes(Type):
    """Extra routes of a router."""

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """Add them."""
        router = clouds.found("router", given["router"])
        clouds.neutron.routes_add(router, given["routes"])
        return f"{router}:{name}"

    def change(self, clouds: Clouds, held: str, before: Values, given: Values) -> str:
        """Take away those that are no longer wanted, add those that are new."""
        router = held.partition(":")[0]
        clouds.neutron.routes_away(router, [one for one in before["routes"] if one not in given["routes"]])
        clouds.neutron.routes_add(router, given["routes"])
        return held

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Take them away."""
        clouds.neutron.routes_away(held.partition(":")[0], given["routes"])


@dataclass(frozen=True)
class ServerGroup(Type):
    """A server group in Nova."""

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """Make it."""
        policy = (given.get("policies") or ["anti-affinity"])[0]
        return clouds.nova.groups.add(
            clouds.project, clouds.user, given.get("name", f"{clouds.stack}-{name}"), policy, given.get("rules") or {}
        )

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Remove it; one that is gone is no error."""
        del given
        clouds.nova.groups.drop(held)


_RENAMED = {
    "image": "image_id",
    "flavor": "flavor_id",
    "master_flavor": "master_flavor_id",
    "keypair": "keypair_id",
    "external_network": "external_network_id",
}


@dataclass(frozen=True)
class ClusterTemplate(Type):
    """A cluster template in Magnum."""

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """Make it, with Heat's own defaults, which differ from Magnum's."""
        body = {_RENAMED.get(key, key): value for key, value in given.items()}
        body = {"name": f"{clouds.stack}-{name}", "master_lb_enabled": True, **body}
        if "external_network_id" in body:
            body["external_network_id"] = clouds.found("network", body["external_network_id"])
        with clouds.magnum.collection.lock:
            return templates.build(clouds.magnum, body, clouds.project, clouds.user).uuid

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Remove it. Refused while a cluster uses it."""
        del given
        with clouds.magnum.collection.lock:
            templates.drop(clouds.magnum, held)

    def show(self, clouds: Clouds, held: str, given: Values) -> Values:
        """Its name and what it was made with."""
        del given
        found = clouds.magnum.collection.templates.get(held)
        return {"name": found.name, "uuid": found.uuid, **found.body} if found is not None else {}


@dataclass(frozen=True)
class Value(Type):
    """Holds a value and makes nothing."""

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """Nothing is made. A test resource fails where it is told to."""
        del clouds
        if str(given.get("fail", "")).lower() in {"true", "1", "yes"}:
            raise Failed(f"ValueError: resources.{name}: Test Resource failed {name}")
        return str(uuid.uuid4())

    def change(self, clouds: Clouds, held: str, before: Values, given: Values) -> str:
        """Hold another one."""
        del before
        self.make(clouds, given, held)
        return held

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Nothing is there to remove."""

    def show(self, clouds: Clouds, held: str, given: Values) -> Values:
        """The value."""
        del clouds, held
        return {"value": given.get("value"), "output": given.get("value")}
