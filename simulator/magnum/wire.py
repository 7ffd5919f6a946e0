"""Magnum's errors, microversions and the way it reads requests."""

import re
from typing import Any

from simulator.http import Answer, HttpError, Request

LOWEST, HIGHEST = (1, 1), (1, 14)
_VERSION = re.compile(r"(?:container-infra|container-infrastructure-management)\s+(\S+)\Z")
MANAGEMENT = "container-infrastructure-management"


def fault(status: int, words: str, *, code: str = "client") -> HttpError:
    """An error in Magnum's shape. The title is the first sentence without its dot."""
    title = words.split(". ", maxsplit=1)[0].removesuffix(".")
    error = {"request_id": "", "code": code, "status": status, "title": title, "detail": words, "links": []}
    return HttpError(Answer(status, {"errors": [error]}))


def invalid(attribute: str, value: Any, why: str) -> HttpError:
    """The 400 that names an attribute."""
    return fault(400, f"Invalid input for field/attribute {attribute}. Value: '{value}'. {why}")


def microversion(request: Request) -> tuple[int, int]:
    """The version asked for; 1.1 where none is. Raises 406 outside of what there is."""
    wanted = request.header("OpenStack-API-Version")
    matched = _VERSION.match(wanted.strip()) if wanted else None
    if not matched:
        return LOWEST
    text = matched.group(1)
    if text == "latest":
        return HIGHEST
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise fault(400, f"Invalid format for version: {text}")
    version = (int(major), int(minor))
    if not LOWEST <= version <= HIGHEST:
        error = {
            "max_version": "1.14",
            "min_version": "1.1",
            "code": "magnum.microversion-unsupported",
            "links": [{"rel": "help", "href": "http://docs.openstack.org/api-guide/compute/microversions.html"}],
            "title": "Requested microversion is unsupported",
        }
        raise HttpError(Answer(406, {"errors": [error]}, headers(version)))
    return version


def headers(version: tuple[int, int]) -> dict[str, str]:
    """What every answer tells of versions."""
    return {
        "OpenStack-API-Minimum-Version": f"{MANAGEMENT} 1.1",
        "OpenStack-API-Maximum-Version": f"{MANAGEMENT} 1.14",
        "OpenStack-API-Version": f"{MANAGEMENT} {version[0]}.{version[1]}",
        "vary": "OpenStack-API-Version",
    }


def require(version: tuple[int, int], least: tuple[int, int]) -> None:
    """Below ``least`` the call does not exist: 406 with nothing said, as the real one answers."""
    if version < least:
        error = {"request_id": "", "code": "", "status": 406, "title": "", "detail": "", "links": []}
        raise HttpError(Answer(406, {"errors": [error]}))


def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        body = request.json()
    except ValueError:
        raise fault(400, "Request is not in valid JSON format") from None
    if not isinstance(body, dict):
        raise fault(500, f"'{type(body).__name__}' object has no attribute 'keys'", code="server")
    return body


def integer(attribute: str, value: Any, *, whole: dict[str, Any] | None = None) -> int | None:
    """A number as Magnum reads it: "3" and 1.5 pass, which its users find out later."""
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError) as exc:
        named = "cluster" if whole is not None else attribute
        raise invalid(named, whole if whole is not None else value, str(exc)) from None
    if number < 0:
        raise invalid(attribute, number, "Value should be greater or equal to 0")
    return number


def paging(request: Request, known: tuple[str, ...]) -> tuple[int, str | None, str, bool]:
    """Limit, marker, sort key and whether descending."""
    query = request.query
    for name in query:
        if name not in {"limit", "marker", "sort_key", "sort_dir", *known}:
            raise fault(400, f'Unknown argument: "{name}"')
    limit = 1000
    if "limit" in query:
        try:
            limit = int(query["limit"])
        except ValueError as exc:
            raise invalid("limit", query["limit"], f"unable to convert to int. Error: {exc}") from None
        if limit <= 0:
            raise fault(400, "Limit must be positive")
    direction = query.get("sort_dir", "asc")
    if direction not in {"asc", "desc"}:
        raise fault(400, f"Invalid sort direction: {direction}. Acceptable values are 'asc' or 'desc'")
    key = query.get("sort_key", "id")
    if key not in {"id", "uuid", "name", "status", "created_at", "updated_at", "stack_id", "keypair"}:
        raise fault(400, f'The sort_key value "{key}" is an invalid field for sorting')
    return min(limit, 1000), query.get("marker"), key, direction == "desc"
