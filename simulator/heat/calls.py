"""What all calls of Heat's begin with: who asks, and for which stack."""

from simulator.heat.engine import Heat
from simulator.heat.model import Stack
from simulator.heat.wire import fault, no_stack
from simulator.http import Request
from simulator.identity import Identity, Keystone

_WRITERS = {"admin", "manager", "member"}


class Base:
    """The service and who may ask."""

    def __init__(self, heat: Heat, keystone: Keystone) -> None:
        self._heat = heat
        self._keystone = keystone

    def _me(self, request: Request, rule: str = "", *, writes: bool = False) -> Identity:
        me = self._keystone.identify(request)
        if request.variables.get("project", me.project_id) != me.project_id:
            raise fault(403, "HTTPForbidden", "Access was denied to this resource.")
        if writes and not me.roles & _WRITERS:
            raise fault(403, "Forbidden", f"You are not authorized to use {rule}.")
        return me

    def _find(self, request: Request, me: Identity) -> Stack:
        """The stack of a path with name and id; the deleted too."""
        self._heat.settle()
        name, key = request.variables["name"], request.variables["id"]
        stack = self._heat.stacks.get(key)
        if stack is None or stack.project_id != me.project_id or stack.name != name:
            raise no_stack(name)
        return stack
