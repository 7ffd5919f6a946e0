"""Stacks, resources and events as Heat shows them."""

from typing import Any

from simulator.clock import iso
from simulator.heat.engine import Heat
from simulator.heat.hot import Document
from simulator.heat.model import Stack
from simulator.heat.types import TYPES
from simulator.http import HttpError, Request

Shape = dict[str, Any]


def time(moment: float | None) -> str | None:
    """As Heat writes times."""
    return None if moment is None else str(iso(moment)).replace("+00:00", "Z")


def address(stack: Stack, request: Request) -> str:
    """A stack's own."""
    return f"{request.origin}/orchestration/v1/{stack.project_id}/stacks/{stack.name}/{stack.id}"


def links(stack: Stack, request: Request) -> list[Shape]:
    """A stack's link to itself."""
    return [{"href": address(stack, request), "rel": "self"}]


def brief(stack: Stack, request: Request) -> Shape:
    """As lists show it; there a stack without tags has null for them."""
    return {
        "id": stack.id,
        "links": links(stack, request),
        "stack_name": stack.name,
        "description": "",
        "stack_status": stack.status,
        "stack_status_reason": stack.reason,
        "creation_time": time(stack.created_at),
        "updated_time": time(stack.updated_at),
        "deletion_time": time(stack.deleted_at),
        "stack_owner": stack.user_name,
        "parent": None,
        "stack_user_project_id": stack.project_id,
        "tags": stack.tags or None,
    }


def whole(stack: Stack, document: Document, request: Request) -> Shape:
    """As it is shown alone, without outputs."""
    return {
        **brief(stack, request),
        "description": document.description,
        "template_description": document.description,
        "parameters": {name: _told(value) for name, value in document.parameters.items()},
        "disable_rollback": stack.disable_rollback,
        "timeout_mins": stack.timeout_mins,
        "capabilities": [],
        "notification_topics": [],
        "tags": stack.tags,
    }


def _told(value: Any) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, list) else str(value)


def outputs(heat: Heat, stack: Stack, document: Document, *, values: bool) -> list[Shape]:
    """What the document tells, worked out or not."""
    scope = heat.scope(stack)
    shown = []
    for name, spec in document.outputs.items():
        one = {"output_key": name, "description": spec.get("description", "No description given")}
        shown.append(one | ({"output_value": document.output(name, scope)} if values else {}))
    return shown


def resource(stack: Stack, document: Document, name: str, request: Request) -> Shape:
    """One resource, of the document or left over from an earlier one."""
    held = stack.made.get(name, {})
    base = address(stack, request)
    kind = held.get("type") or document.resources[name]["type"]
    return {
        "resource_name": name,
        "logical_resource_id": name,
        "physical_resource_id": held.get("id", ""),
        "resource_type": kind,
        "resource_status": held.get("status", "INIT_COMPLETE"),
        "resource_status_reason": held.get("reason", ""),
        "creation_time": time(held.get("created_at", stack.created_at)),
        "updated_time": time(held.get("updated_at", stack.created_at)),
        "links": [{"href": f"{base}/resources/{name}", "rel": "self"}, {"href": base, "rel": "stack"}],
        "required_by": document.needed_by(name),
    }


def attributes(heat: Heat, stack: Stack, name: str) -> Shape:
    """What the service that has it tells of a resource."""
    held = stack.made.get(name)
    if held is None or not held["id"]:
        return {}
    try:
        return TYPES[held["type"]].show(heat.of(stack), held["id"], held["properties"])
    except HttpError:
        return {}


def event(stack: Stack, one: Shape, request: Request) -> Shape:
    """One event as lists show it."""
    base = address(stack, request)
    place = f"{base}/resources/{one['name']}"
    return {
        "id": one["id"],
        "links": [
            {"href": f"{place}/events/{one['id']}", "rel": "self"},
            {"href": place, "rel": "resource"},
            {"href": base, "rel": "stack"},
        ],
        "event_time": time(one["at"]),
        "logical_resource_id": one["name"],
        "resource_name": one["name"],
        "physical_resource_id": one["physical"],
        "resource_status": one["status"],
        "resource_status_reason": one["reason"],
    }


def change(stack: Stack, document: Document, name: str) -> Shape:
    """One resource in a preview of an update."""
    held = stack.made.get(name, {})
    action, _, status = str(held.get("status", "INIT_COMPLETE")).partition("_")
    return {
        "resource_name": name,
        "resource_type": document.resources[name]["type"],
        "resource_action": action,
        "resource_status": status,
        "physical_resource_id": held.get("id", ""),
        "required_by": document.needed_by(name),
        "stack_name": stack.name,
    }
