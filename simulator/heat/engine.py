"""How stacks move. Nothing runs in the background: what is due by now happens when somebody asks.

An action is a row of steps, one for each resource, spread evenly over the time that the action takes. What is in use when it shall
go is tried again for a while, as in Heat (real services took 73 s until DELETE_FAILED), and then fails the stack.
"""

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from simulator.clock import Clock
from simulator.heat.clouds import Clouds
from simulator.heat.hot import Document
from simulator.heat.model import NAMES, Made, Stack
from simulator.heat.schema import Failed
from simulator.heat.types import TYPES
from simulator.heat.wire import HotError
from simulator.http import HttpError
from simulator.magnum.service import Magnum
from simulator.store import Store

_SECONDS = 1.0
_RETRY_S = 3.0
_CLASSES = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}
_FAULT = {"stack", "resource", "action", "reason", "count"}


class Heat:
    """The orchestration service. ``seconds``: of one action; ``retry_s``: how long what is in use is tried again."""

    def __init__(self, store: Store, magnum: Magnum, clock: Clock) -> None:
        self._store = store
        self._magnum = magnum
        self._clock = clock
        self.lock = threading.RLock()
        self.seconds = _SECONDS
        self.retry_s = _RETRY_S
        self.faults: list[dict[str, Any]] = []
        self.stacks: dict[str, Stack] = {}
        for key, body in store.all("stack"):
            self.stacks[key] = Stack(**{name: value for name, value in body.items() if name in NAMES})
        self._documents: dict[str, Document] = {}
        self._moving = {key for key, stack in self.stacks.items() if stack.state == "IN_PROGRESS"}

    def now(self) -> float:
        """The simulated time."""
        return self._clock.now()

    def clouds(self, project: str, user: str, stack: str = "") -> Clouds:
        """A project's way to the other services."""
        magnum = self._magnum
        return Clouds(magnum.neutron, magnum.nova, magnum.glance, magnum, project, user, stack)

    def of(self, stack: Stack) -> Clouds:
        """The services, as the stack's owner."""
        return self.clouds(stack.project_id, stack.user_id, stack.name)

    def configure(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The control endpoint: ``seconds``, ``retry_s``, ``fail_next`` (a reason) and ``faults``. ValueError names what is wrong."""
        self.seconds = float(body.get("seconds", self.seconds))
        self.retry_s = float(body.get("retry_s", self.retry_s))
        for one in body.get("faults", self.faults):
            if set(one) - _FAULT:
                raise ValueError(
                    f"a fault of a stack knows {', '.join(sorted(_FAULT))}, not {', '.join(sorted(set(one) - _FAULT))}"
                )
        self.faults = [dict(one) for one in body.get("faults", self.faults)]
        if body.get("fail_next"):
            self.faults.append({"reason": body["fail_next"], "count": 1})
        return {"seconds": self.seconds, "retry_s": self.retry_s, "faults": self.faults}

    # -- documents ----------------------------------------------------------------------------------------------------

    def document(self, stack: Stack) -> Document:
        """The stack's own, read once."""
        if stack.id not in self._documents:
            self._documents[stack.id] = self.read(stack, stack.template, stack.parameters)
        return self._documents[stack.id]

    def read(self, stack: Stack, template: Any, parameters: Mapping[str, Any]) -> Document:
        """Another one for the same stack. Raises :class:`HotError`."""
        return Document(template, parameters, self.of(stack), pseudo(stack.id, stack.name, stack.project_id))

    def scope(self, stack: Stack) -> Made:
        """What is there by now."""
        return Made(stack, self.of(stack))

    # -- actions --------------------------------------------------------------------------------------------------------

    def create(self, stack: Stack, document: Document) -> None:
        """Begin to make a new stack."""
        self.stacks[stack.id] = stack
        self._adopt(stack, document)
        self._begin(stack, "CREATE", [["make", name] for name in document.order()])

    def update(self, stack: Stack, document: Document, template: Any, parameters: dict[str, Any]) -> None:
        """Begin to make a stack what another document says, also while another action is under way, which ends there."""
        if stack.state == "COMPLETE":
            stack.before = [stack.template, stack.parameters]
        self._turn(stack, document, template, parameters, "UPDATE")

    def _turn(self, stack: Stack, document: Document, template: Any, parameters: dict[str, Any], action: str) -> None:
        gone = [name for name in self._backwards(stack) if name not in document.resources]
        stack.template, stack.parameters = template, parameters
        self._adopt(stack, document)
        stack.updated_at = self.now()
        steps = [["make", name] for name in document.order()] + [["drop", name] for name in gone]
        self._begin(stack, action, [*steps, ["sweep", ""]])

    def delete(self, stack: Stack) -> None:
        """Begin to remove a stack."""
        steps = [["sweep", ""]] if stack.old else []
        self._begin(stack, "DELETE", steps + [["drop", name] for name in self._backwards(stack)])

    def _backwards(self, stack: Stack) -> list[str]:
        """What there is, each before what it needs."""
        order = [name for name in self.document(stack).order() if name in stack.made]
        return [name for name in reversed(list(stack.made)) if name not in order] + list(reversed(order))

    def _adopt(self, stack: Stack, document: Document) -> None:
        self._documents[stack.id] = document

    def _begin(self, stack: Stack, action: str, steps: list[list[str]]) -> None:
        stack.action, stack.state, stack.reason = action, "IN_PROGRESS", f"Stack {action} started"
        stack.steps, stack.done, stack.began_at = steps, 0, self.now()
        stack.lasts = self._clock.lasting(self.seconds)
        stack.happened(stack.began_at, stack.name, stack.status, stack.reason)
        self._moving.add(stack.id)
        self.keep(stack)

    def keep(self, stack: Stack) -> None:
        """Write it through."""
        self._store.put("stack", stack.id, asdict(stack))

    # -- time -----------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let all that is due by now happen. Callers hold ``lock``."""
        now = self.now()
        for key in list(self._moving):
            stack = self.stacks[key]
            before = (stack.action, stack.done, stack.state)
            busy: dict[str, str] = {}
            while stack.state == "IN_PROGRESS" and self._step(stack, now, busy):
                pass
            if before != (stack.action, stack.done, stack.state):
                self.keep(stack)
            if stack.state != "IN_PROGRESS":
                self._moving.discard(key)

    def _step(self, stack: Stack, now: float, busy: dict[str, str]) -> bool:
        """Do what is next; False where nothing is due. ``busy``: what could not go in this round, and why."""
        at = stack.due(stack.done)
        if at > now:
            return False
        if stack.done >= len(stack.steps):
            self._end(stack, at, None)
            return True
        what, name = stack.steps[stack.done]
        try:
            if what == "make":
                self._make(stack, name, at)
            elif what == "drop":
                self._drop(stack, name, at)
            else:
                self._sweep(stack, at)
        except _Busy as exc:
            busy[name] = str(exc)
            if self._other_first(stack, busy):
                return True
            if now < stack.due(len(stack.steps) - 1) + self._clock.lasting(self.retry_s):
                return False
            name = next(iter(busy))
            self._broken(stack, name, busy[name], now)
        except Failed as exc:
            self._broken(stack, name, str(exc), at)
        else:
            stack.done += 1
            if stack.done == len(stack.steps):
                self._end(stack, max(at, stack.began_at + stack.lasts), None)
        return True

    def _other_first(self, stack: Stack, busy: dict[str, str]) -> bool:
        """While something is in use, what does not depend on it goes."""
        document = self.document(stack)
        for number in range(stack.done + 1, len(stack.steps)):
            what, name = stack.steps[number]
            needed = name in document.resources and any(other in stack.made for other in document.needed_by(name))
            if what == "drop" and name not in busy and not needed:
                stack.steps.insert(stack.done, stack.steps.pop(number))
                return True
        return False

    def _broken(self, stack: Stack, name: str, reason: str, at: float) -> None:
        held = stack.made.get(name)
        what = "DELETE" if stack.steps[stack.done][0] != "make" else "UPDATE" if held and held.get("id") else "CREATE"
        if held is not None:
            stack.mark(at, name, f"{what}_FAILED", reason)
        self._end(stack, at, f"Resource {what} failed: {reason}")

    def _end(self, stack: Stack, at: float, failed: str | None) -> None:
        stack.state = "FAILED" if failed else "COMPLETE"
        stack.reason = failed or f"Stack {stack.action} completed successfully"
        stack.happened(at, stack.name, stack.status, stack.reason)
        if stack.action == "DELETE" and not failed:
            stack.deleted_at = at
        if failed and not stack.disable_rollback and stack.action in {"CREATE", "UPDATE"}:
            self._back(stack)

    def _back(self, stack: Stack) -> None:
        """Roll back: a new stack to nothing, an update to what was before."""
        if stack.action == "CREATE" or stack.before is None:
            self._begin(stack, "ROLLBACK", [["drop", name] for name in self._backwards(stack)])
            return
        template, parameters = stack.before
        self._turn(stack, self.read(stack, template, parameters), template, parameters, "ROLLBACK")

    # -- single resources -----------------------------------------------------------------------------------------------

    def _make(self, stack: Stack, name: str, at: float) -> None:
        document, clouds = self.document(stack), self.of(stack)
        spec = document.resources[name]
        kind = TYPES[spec["type"]]
        held = stack.made.get(name)
        try:
            given = document.properties(name, self.scope(stack))
        except HotError as exc:
            raise Failed(f"StackValidationFailed: resources.{name}: {exc}") from exc
        change = kind.changes(held["properties"], given) if held and held["id"] and held["type"] == spec["type"] else "replaced"
        if held and change == "unchanged" and not held["status"].endswith("FAILED"):
            return
        if held and held["id"] and change == "replaced":
            stack.old.append({**held, "name": name})
            held = None
        if (held is None or not held["id"]) and self._taken_back(stack, name, given):
            return
        if held is None or not held["id"]:
            stack.made[name] = {"id": "", "type": spec["type"], "properties": given, "created_at": at}
            stack.mark(at, name, "CREATE_IN_PROGRESS")
            physical = self._ask(stack, name, "CREATE", lambda: kind.make(clouds, given, name))
            stack.mark(at, name, "CREATE_COMPLETE", id=physical)
            return
        stack.mark(at, name, "UPDATE_IN_PROGRESS")
        physical = self._ask(stack, name, "UPDATE", lambda: kind.change(clouds, held["id"], held["properties"], given))
        stack.mark(at, name, "UPDATE_COMPLETE", id=physical, properties=given)

    def _taken_back(self, stack: Stack, name: str, given: dict[str, Any]) -> bool:
        """Whether what is wanted was replaced before and is still there: a rollback takes it back."""
        for number, old in enumerate(stack.old):
            if old["name"] == name and old["properties"] == given:
                stack.made[name] = {key: value for key, value in stack.old.pop(number).items() if key != "name"}
                return True
        return False

    def _drop(self, stack: Stack, name: str, at: float) -> None:
        held = stack.made.get(name)
        if held is None:
            return
        if held["id"]:
            if held["status"] != "DELETE_IN_PROGRESS":
                stack.mark(at, name, "DELETE_IN_PROGRESS")
            self._remove(stack, name, held)
            stack.mark(at, name, "DELETE_COMPLETE")
        del stack.made[name]

    def _sweep(self, stack: Stack, at: float) -> None:
        while stack.old:
            held = stack.old[-1]
            self._remove(stack, held["name"], held)
            stack.old.pop()
            stack.happened(at, held["name"], "DELETE_COMPLETE", "state changed")

    def _remove(self, stack: Stack, name: str, held: dict[str, Any]) -> None:
        kind, clouds = TYPES[held["type"]], self.of(stack)
        self._ask(stack, name, "DELETE", lambda: kind.remove(clouds, held["id"], held["properties"]))

    def _ask(self, stack: Stack, name: str, action: str, call: Any) -> Any:
        """Ask another service. Raises :class:`Failed` with its words."""
        self._fail_if_asked(stack, name, action)
        try:
            return call()
        except HotError as exc:
            raise Failed(f"NotFound: resources.{name}: {exc}") from exc
        except HttpError as exc:
            status = exc.answer.status
            if action == "DELETE" and status == 404:  # noqa: PLR2004 - gone already
                return None
            words = f"{_CLASSES.get(status, 'InternalServerError')}: resources.{name}: {_words(exc)}"
            if action == "DELETE" and status == 409:  # noqa: PLR2004 - in use: perhaps not for long
                raise _Busy(words) from exc
            raise Failed(words) from exc

    def _fail_if_asked(self, stack: Stack, name: str, action: str) -> None:
        place = {"stack": {stack.name, stack.id}, "resource": {name, stack.made.get(name, {}).get("type", "")}, "action": {action}}
        for one in self.faults:
            if all(one[key] in known for key, known in place.items() if key in one):
                if one.get("count") is not None:
                    one["count"] -= 1
                    if one["count"] <= 0:
                        self.faults.remove(one)
                raise Failed(f"Conflict: resources.{name}: {one.get('reason', 'Scripted failure.')}")


class _Busy(Failed):
    """Something uses it."""


def pseudo(key: str, name: str, project: str) -> dict[str, str]:
    """Parameters that every stack has."""
    return {"OS::stack_id": key, "OS::stack_name": name, "OS::project_id": project}


def _words(exc: HttpError) -> str:
    body = exc.answer.body if isinstance(exc.answer.body, dict) else {}
    if "NeutronError" in body:
        return str(body["NeutronError"]["message"])
    if "errors" in body:  # Magnum's
        return f"{body['errors'][0]['detail']} (HTTP {exc.answer.status})"
    return str(exc.answer.status)
