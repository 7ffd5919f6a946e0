"""Heat and a little of Neutron, in memory (the port ``StackGateway``). It passes the same contract as the real ones.

Stacks take a moment; they come to the outputs that the shipped template of a network declares.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import yaml

from shared.domain.ports import Clock
from shared.domain.stacks import TAG, Leftover, ObservedStack, StackResource
from shared.errors import CloudRejected, CloudTimeout, CloudUnavailable

T = TypeVar("T")


@dataclass
class FakeStack:
    """One stack inside."""

    seen: ObservedStack
    project_id: str
    template: dict[str, Any]
    until: datetime  #: when what is under way is done
    fails: str | None = None
    made: list[StackResource] = field(default_factory=list)


class FakeHeat:
    """All projects' stacks."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.takes_s = 0.0
        self.stacks: dict[str, FakeStack] = {}
        self.created: list[str] = []  #: names of all stacks that ever came to be
        self.fail: dict[str, str] = {}  #: the next action of this verb ends with this reason
        self.lose: set[str] = set()  #: verbs whose next answer is lost after it was executed
        self.away = False
        self.subnets: dict[str, list[tuple[str, str]]] = {}
        self.external = ["public"]
        self.things: dict[str, list[Leftover]] = {}  #: what else is in a project
        self.deleted: list[str] = []  #: names in the order of their removal

    def advance(self) -> None:
        """Finish what is due."""
        now = self.clock.now()
        for stack in list(self.stacks.values()):
            verb, _, rest = stack.seen.status.partition("_")
            if rest != "IN_PROGRESS" or stack.until > now:
                continue
            if stack.fails:
                stack.seen = replace(stack.seen, status=f"{verb}_FAILED", status_reason=stack.fails)
                stack.fails = None
            elif verb == "DELETE":
                stack.seen = replace(stack.seen, status="DELETE_COMPLETE")
                self.deleted.append(stack.seen.name)
            else:
                done = replace(stack.seen, status=f"{verb}_COMPLETE", status_reason=f"Stack {verb} completed successfully")
                stack.seen = replace(done, outputs=_outputs(stack))


class FakeStackGateway:
    """One project's view."""

    def __init__(self, heat: FakeHeat, project_id: str) -> None:
        self._heat = heat
        self._project = project_id

    def get(self, ref: str) -> ObservedStack | None:
        """As Heat: a deleted stack is shown by its id and not by its name."""
        self._reach()
        self._heat.advance()
        by_id = self._heat.stacks.get(ref)
        if by_id is not None and by_id.project_id == self._project:
            return by_id.seen
        found = self._named(ref)
        return found.seen if found else None

    def listed(self) -> list[ObservedStack]:
        self._reach()
        self._heat.advance()
        mine = [stack.seen for stack in self._heat.stacks.values() if stack.project_id == self._project]
        return [replace(seen, outputs={}) for seen in mine if seen.status != "DELETE_COMPLETE"]

    def create(self, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> str:
        del timeout_minutes
        self._reach()
        document = _parsed(template, parameters)
        if self._named(name) is not None:
            msg = f"The Stack ({name}) already exists."
            raise CloudRejected(msg, reason="CLOUD_CONFLICT", upstream_status=409)
        now = self._heat.clock.now().replace(microsecond=0)
        seen = ObservedStack(
            id=str(uuid4()), name=name, status="CREATE_IN_PROGRESS", created_at=now, parameters=dict(parameters), tags=(TAG,)
        )
        made = FakeStack(seen, self._project, document, self._done_at(), self._heat.fail.pop("create", None))
        made.made = [
            StackResource(key, spec["type"], "CREATE_COMPLETE", str(uuid4())) for key, spec in document["resources"].items()
        ]
        self._heat.stacks[seen.id] = made
        self._heat.created.append(name)
        return self._answer("create", lambda: seen.id)

    def update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> None:
        del name, timeout_minutes
        self._reach()
        stack = self._heat.stacks[ref]
        stack.template = _parsed(template, parameters)
        now = self._heat.clock.now().replace(microsecond=0)
        last = stack.seen.updated_at
        if last is not None and now <= last:  # Heat's times are of whole seconds; here two updates never share one
            now = last + timedelta(seconds=1)
        stack.seen = replace(stack.seen, status="UPDATE_IN_PROGRESS", updated_at=now, parameters=dict(parameters))
        stack.until, stack.fails = self._done_at(), self._heat.fail.pop("update", None)
        self._answer("update", lambda: None)

    def delete(self, ref: str, name: str) -> bool:
        del name
        self._reach()
        stack = self._heat.stacks.get(ref)
        if stack is None or stack.seen.status == "DELETE_COMPLETE":
            return False
        stack.seen = replace(stack.seen, status="DELETE_IN_PROGRESS")
        stack.until, stack.fails = self._done_at(), self._heat.fail.pop("delete", None)
        return self._answer("delete", lambda: True)

    def preview(self, name: str, template: str, parameters: Mapping[str, Any]) -> list[StackResource]:
        del name
        self._reach()
        document = _parsed(template, parameters)
        return [StackResource(key, spec["type"], "INIT") for key, spec in document["resources"].items()]

    def preview_update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any]) -> dict[str, list[StackResource]]:
        same = self._heat.stacks[ref].seen.parameters == dict(parameters)
        resources = self.preview(name, template, parameters)
        kinds: dict[str, list[StackResource]] = {
            "added": [],
            "deleted": [],
            "replaced": [],
            "updated": [] if same else resources,
            "unchanged": resources if same else [],
        }
        return kinds

    def resources(self, ref: str, name: str) -> list[StackResource]:
        del name
        self._reach()
        return self._heat.stacks[ref].made

    def subnets(self) -> list[tuple[str, str]]:
        self._reach()
        return self._heat.subnets.get(self._project, [])

    def external_networks(self) -> list[str]:
        self._reach()
        return self._heat.external

    def carrying(self, marks: Sequence[str]) -> dict[str, list[Leftover]]:
        self._reach()
        things = self._heat.things.get(self._project, [])
        found = {mark: [thing for thing in things if mark in thing.name] for mark in marks}
        return {mark: left for mark, left in found.items() if left}

    def _named(self, name: str) -> FakeStack | None:
        for stack in self._heat.stacks.values():
            if stack.seen.name == name and stack.project_id == self._project and stack.seen.status != "DELETE_COMPLETE":
                return stack
        return None

    def _done_at(self) -> datetime:
        return self._heat.clock.now() + timedelta(seconds=self._heat.takes_s)

    def _reach(self) -> None:
        if self._heat.away:
            msg = "Heat does not answer."
            raise CloudUnavailable(msg, executed=False)

    def _answer(self, verb: str, value: Callable[[], T]) -> T:
        if verb in self._heat.lose:
            self._heat.lose.discard(verb)
            msg = "The answer was lost."
            raise CloudTimeout(msg, executed=None)
        return value()


def _parsed(template: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(template)
    json.dumps(dict(parameters))
    for name in parameters:
        if name not in document.get("parameters", {}):
            msg = f"The Parameter ({name}) was not defined in template."
            raise CloudRejected(msg, upstream_status=400)
    for name, spec in document.get("parameters", {}).items():
        if name not in parameters and "default" not in spec:
            msg = f"The Parameter ({name}) was not provided."
            raise CloudRejected(msg, upstream_status=400)
    return document


def _outputs(stack: FakeStack) -> dict[str, Any]:
    ids = {resource.name: resource.physical_id for resource in stack.made}
    found: dict[str, Any] = {}
    for name in stack.template.get("outputs", {}):
        found[name] = ids.get(name.removesuffix("_id"), stack.seen.parameters.get(name))
    return found
