"""What is kept of a stack."""

import uuid
from dataclasses import dataclass, field, fields
from typing import Any

from simulator.heat.clouds import Clouds
from simulator.heat.functions import LATER, dig
from simulator.heat.types import TYPES
from simulator.http import HttpError

#: One piece of work: what (make, drop, sweep), and on which resource.
Step = list[str]


@dataclass
class Stack:
    """One stack. ``made``: what each resource is, by name; ``old``: what was replaced and still has to go."""

    id: str
    name: str
    project_id: str
    user_id: str
    user_name: str
    template: Any
    parameters: dict[str, Any]
    tags: list[str]
    created_at: float
    timeout_mins: int | None = None
    disable_rollback: bool = True
    action: str = "CREATE"
    state: str = "IN_PROGRESS"
    reason: str = ""
    updated_at: float | None = None
    deleted_at: float | None = None
    began_at: float = 0.0
    lasts: float = 0.0  #: seconds that the action takes
    steps: list[Step] = field(default_factory=list)
    done: int = 0  #: how many steps are behind
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    old: list[dict[str, Any]] = field(default_factory=list)
    before: list[Any] | None = None  #: template and parameters to go back to
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """As Heat shows it."""
        return f"{self.action}_{self.state}"

    def due(self, number: int) -> float:
        """When a step is done."""
        return self.began_at + self.lasts * (number + 1) / max(len(self.steps), 1)

    def happened(self, at: float, name: str, status: str, reason: str) -> None:
        """Remember an event; the stack's own have its name."""
        held = self.made.get(name, {})
        physical = self.id if name == self.name and not held else held.get("id", "")
        kept = {"type": held.get("type", "OS::Heat::Stack"), "properties": held.get("properties", {})}
        told = {"name": name, "status": status, "reason": reason, "physical": physical, "at": at}
        self.events.append({"id": str(uuid.uuid4()), **told, **kept})

    def mark(self, at: float, name: str, status: str, reason: str = "state changed", **values: Any) -> None:
        """A resource's status, and the event of it."""
        self.made[name] |= {"status": status, "reason": reason, "updated_at": at, **values}
        self.happened(at, name, status, reason)

    def exists(self, name: str) -> bool:
        """Whether a resource is there."""
        return bool(self.made.get(name, {}).get("id"))


#: For reading back what was kept by another version.
NAMES = {one.name for one in fields(Stack)}


class Made:
    """The scope in which a stack's functions are worked out: what is there by now."""

    def __init__(self, stack: Stack, clouds: Clouds) -> None:
        self._stack = stack
        self._clouds = clouds

    def resource(self, name: str) -> Any:
        """Its physical id."""
        return self._stack.made[name]["id"] if self._stack.exists(name) else LATER

    def attribute(self, name: str, path: list[Any]) -> Any:
        """What the service tells of it now."""
        if not self._stack.exists(name):
            return LATER
        held = self._stack.made[name]
        try:
            shown = TYPES[held["type"]].show(self._clouds, held["id"], held["properties"])
        except HttpError:
            return None  # somebody else removed it
        return dig(shown, path[1:] if path and path[0] == "show" else path)
