"""What callers send: names, tags, templates with their parameters, and what a list shall show."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import yaml

from simulator.heat import shapes
from simulator.heat.model import Stack
from simulator.heat.wire import HotError, bad, fault
from simulator.http import Request

_NAME = re.compile(r"[a-zA-Z][\w.-]{0,254}\Z", re.ASCII)
_MAX_TAG = 80
_SORTABLE = {"stack_name": "name", "stack_status": "status", "creation_time": "created_at", "updated_time": "updated_at"}


def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON. Raises 400 where it is no object."""
    try:
        body = request.json()
    except ValueError as exc:
        raise bad(str(exc)) from exc
    if not isinstance(body, dict):
        raise bad()
    return body


def name_of(body: Mapping[str, Any]) -> str:
    """A new stack's name."""
    if "stack_name" not in body:
        raise bad("No stack name specified")
    name = body["stack_name"]
    if not isinstance(name, str) or not _NAME.match(name):
        words = 'must contain only alphanumeric or "_-." characters, must start with alpha and must be 255 characters or less.'
        raise fault(400, "StackValidationFailed", f"Invalid stack name {name} {words}")
    return name


def template_of(body: Mapping[str, Any]) -> Any:
    """The template, as text or as an object."""
    if not body.get("template"):
        raise bad("No template specified")
    return body["template"]


def parameters_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, those of the environment first."""
    environment = body.get("environment") or {}
    if isinstance(environment, str):
        try:
            environment = yaml.safe_load(environment) or {}
        except yaml.YAMLError as exc:
            raise bad(f"Environment not in valid format: {exc}") from exc
    if not isinstance(environment, dict):
        raise bad("Environment not in valid format: The environment is not a valid YAML mapping data type.")
    return {**(environment.get("parameters") or {}), **(body.get("parameters") or {})}


def tags_of(body: Mapping[str, Any]) -> list[str]:
    """Tags, which callers write with commas."""
    given = body.get("tags") or ""
    if not isinstance(given, str):
        raise bad()
    tags = [tag.strip() for tag in given.split(",") if tag.strip()]
    for tag in tags:
        if len(tag) > _MAX_TAG:
            raise bad(f'Invalid tag, "{tag}" is longer than {_MAX_TAG} characters')
    return list(dict.fromkeys(tags))


def options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """How long an action may take, and whether a failure is rolled back."""
    found: dict[str, Any] = {}
    if "timeout_mins" in body:
        found["timeout_mins"] = whole_number("timeout_mins", body["timeout_mins"])
    if "disable_rollback" in body:
        text = str(body["disable_rollback"]).lower()
        if text not in {"true", "false"}:
            raise fault(400, "ValueError", None)
        found["disable_rollback"] = text == "true"
    return found


def whole_number(name: str, value: Any) -> int:
    """A number that is not negative."""
    if not str(value).isdigit():
        raise bad(f"Only integer is acceptable by '{name}'.")
    return int(value)


def refused(exc: HotError) -> Exception:
    """A wrong document, in HTTP."""
    return fault(400, exc.kind, str(exc))


def page(request: Request, stacks: list[Stack]) -> dict[str, Any]:
    """The answer to a list. ``stacks``: all of the project. Unknown questions, orders and markers are passed over, as by Heat."""
    query = request.query
    found = [one for one in stacks if _shown(one, query)]
    way = query.get("sort_dir", "desc") != "asc"
    keys = [_SORTABLE[key] for key in query.get("sort_keys", "").split(",") if key in _SORTABLE] or ["created_at"]
    found.sort(key=lambda one: tuple(str(getattr(one, key) or "") for key in keys), reverse=way)
    total = len(found)
    places = [number for number, one in enumerate(found) if one.id == query.get("marker")]
    found = found[places[0] + 1 :] if places else found
    limit = whole_number("limit", query["limit"]) if "limit" in query else 0
    shown = found[:limit] if limit else found
    body: dict[str, Any] = {"stacks": [shapes.brief(one, request) for one in shown]}
    if limit and len(shown) == limit:
        link = urlencode({**query, "marker": shown[-1].id})
        body["links"] = [{"rel": "next", "href": f"{request.origin}/orchestration{request.path}?{link}"}]
    if query.get("with_count", "").lower() == "true":
        body["count"] = total
    return body


def _shown(stack: Stack, query: Mapping[str, str]) -> bool:
    if stack.deleted_at is not None and query.get("show_deleted", "").lower() != "true":
        return False
    held = set(stack.tags)

    def asked(name: str) -> set[str]:
        return {tag for tag in query.get(name, "").split(",") if tag}

    if not asked("tags") <= held or (asked("tags-any") and not asked("tags-any") & held):
        return False
    if (asked("not-tags") and asked("not-tags") <= held) or asked("not-tags-any") & held:
        return False
    equal = {"name": stack.name, "id": stack.id, "action": stack.action, "username": stack.user_name}
    if any(query.get(name, value) != value for name, value in equal.items()):
        return False
    return query.get("status", stack.state) in {stack.state, stack.status}
