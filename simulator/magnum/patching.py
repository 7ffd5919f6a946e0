"""PATCH: Magnum's share of RFC 6902, with its refusals."""

import ast
import copy
from collections.abc import Iterable
from typing import Any

from simulator.http import HttpError, Request
from simulator.magnum.reading import Field, check_text
from simulator.magnum.wire import body_of, fault, invalid

_INTERNAL = {"/created_at", "/id", "/links", "/updated_at", "/uuid", "/project_id", "/user_id"}
_PATH = Field(mandatory=True, pattern=r"^(/[\w-]+)+$")
_OPERATION = Field(choices=("add", "replace", "remove"))
#: Given as the text of a Python literal, since a value is text or a number.
_LITERALS = {"/labels", "/health_status_reason", "/node_labels", "/node_taints"}

Patch = list[dict[str, Any]]


def read_patch(request: Request, *, internal: Iterable[str] = (), mandatory: Iterable[str] = ()) -> Patch:
    """The operations asked for. Raises 400 for what is none, or for attributes that no client changes."""
    body = body_of(request, "patch")
    if not isinstance(body, list):
        raise invalid("patch", body, f"Value not a valid list: {body}")
    found: Patch = []
    for item in body:
        if not isinstance(item, dict):
            raise fault(500, f"'{type(item).__name__}' object has no attribute 'keys'", code="server")
        value = item.get("value")
        if value is not None and not isinstance(value, str | int):
            raise invalid("value", value, f"Wrong type. Expected '(<class 'str'>, <class 'int'>)', got '{type(value)}'")
        for name, field in (("path", _PATH), ("op", _OPERATION)):
            if item.get(name) is None:
                raise invalid(name, None, "Mandatory field missing.")
            check_text(name, item[name], field)
        one = {"path": item["path"], "op": item["op"]} | ({"value": value} if "value" in item else {})
        if one["path"] in _INTERNAL or one["path"] in internal:
            raise fault(400, f"'{one['path']}' is an internal attribute and can not be updated")
        if one["op"] == "remove" and one["path"] in mandatory:
            raise fault(400, f"'{one['path']}' is a mandatory attribute and can not be removed")
        if one["op"] != "remove" and "value" not in one:
            raise fault(400, "'add' and 'replace' operations needs value")
        found.append(one)
    return found


def apply(document: dict[str, Any], patch: Patch) -> dict[str, Any]:
    """The document as the patch would have it. Raises 400."""
    changed = copy.deepcopy(document)
    for one in patch:
        keys = one["path"].lstrip("/").split("/")
        if one["op"] == "add" and len(keys) == 1:
            _check_addition(changed, one["path"], keys[0])
        value = one.get("value")
        if one["op"] == "replace" and one["path"] in _LITERALS and not isinstance(value, dict | list):
            try:
                value = ast.literal_eval(str(value))
            except (SyntaxError, ValueError) as exc:
                raise _refused(patch, str(exc)) from None
        _change(changed, keys, one["op"], value, patch)
    return changed


def _check_addition(document: dict[str, Any], path: str, key: str) -> None:
    if key not in document:
        raise fault(400, f"Adding a new attribute {path} to the root of the resource is not allowed.")
    if document[key] is not None:
        raise fault(400, f"The attribute {path} has existed, please use 'replace' operation instead.")


def _change(document: dict[str, Any], keys: list[str], operation: str, value: Any, patch: Patch) -> None:
    place: Any = document
    for key in keys[:-1]:
        place = place.get(key) if isinstance(place, dict) else None
    last = keys[-1]
    if not isinstance(place, dict):
        raise _refused(patch, f"member '{last}' not found in {place}")
    if operation != "add" and last not in place:
        raise _refused(patch, f"can't {operation} a non-existent object '{last}'")
    if operation == "remove":
        del place[last]
    else:
        place[last] = value


def _refused(patch: Patch, reason: str) -> HttpError:
    return fault(400, f"Couldn't apply patch '{patch}'. Reason: {reason}")
