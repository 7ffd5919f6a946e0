"""Magnum's errors, microversions, paging, and how it gets at a request's body."""

import re
from typing import Any

from simulator.http import Answer, HttpError, Request

LOWEST, HIGHEST = (1, 1), (1, 14)
MANAGEMENT = "container-infrastructure-management"
_SERVICES = {MANAGEMENT, "container-infrastructure", "container-infra"}
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z")
#: Columns of a cluster that its list can be sorted by, beside those that are kept in order.
SORTABLE = {
    "id",
    "uuid",
    "name",
    "status",
    "status_reason",
    "created_at",
    "updated_at",
    "stack_id",
    "keypair",
    "cluster_template_id",
    "project_id",
    "user_id",
    "labels",
    "create_timeout",
    "api_address",
    "coe_version",
    "health_status",
    "flavor_id",
    "master_flavor_id",
}


def is_uuid(text: str) -> bool:
    """Whether Magnum takes it for a uuid, and looks for nothing of that name."""
    return _UUID.match(text) is not None


def fault(status: int, words: str, *, code: str = "client") -> HttpError:
    """An error in Magnum's shape. The title is what stands before the first dot, wherever that is."""
    error = {
        "request_id": "",
        "code": code,
        "status": status,
        "title": words.split(".", maxsplit=1)[0],
        "detail": words,
        "links": [],
    }
    return HttpError(Answer(status, {"errors": [error]}))


def bare(status: int, title: str, detail: str = "") -> HttpError:
    """An error of the web framework below Magnum, which has no code."""
    error = {"request_id": "", "code": "", "status": status, "title": title, "detail": detail, "links": []}
    return HttpError(Answer(status, {"errors": [error]}))


def invalid(attribute: str, value: Any, why: str) -> HttpError:
    """The 400 that names an attribute."""
    return fault(400, f"Invalid input for field/attribute {attribute}. Value: '{value}'. {why}")


def microversion(request: Request) -> tuple[int, int]:
    """The version asked for; 1.1 where none is. Raises 406 for one that there is not, or that can't be read."""
    words = (request.header("OpenStack-API-Version") or f"{MANAGEMENT} 1.1").split()
    if len(words) != 2 or (words[1].lower() != "latest" and words[0] not in _SERVICES):  # noqa: PLR2004 - service and version
        raise bare(406, "Not Acceptable", "Invalid service type for OpenStack-API-Version header")
    if words[1].lower() == "latest":
        return HIGHEST
    parts = words[1].split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):  # noqa: PLR2004 - major and minor
        raise bare(406, "Not Acceptable", "Invalid value for OpenStack-API-Version header")
    version = (int(parts[0]), int(parts[1]))
    if not LOWEST <= version <= HIGHEST:
        error = {
            "max_version": "1.14",
            "min_version": "1.1",
            "code": "magnum.microversion-unsupported",
            "description": f"There is no version {words[1]} of this API: it goes from 1.1 to 1.14.",
            "links": [{"rel": "help", "href": "http://docs.openstack.org/api-guide/compute/microversions.html"}],
            "title": "Requested microversion is unsupported",
        }
        raise HttpError(Answer(406, {"errors": [error]}, headers(version)))
    return version


def headers(version: tuple[int, int]) -> dict[str, str]:
    """What answers tell of versions."""
    return {
        "OpenStack-API-Minimum-Version": f"{MANAGEMENT} 1.1",
        "OpenStack-API-Maximum-Version": f"{MANAGEMENT} 1.14",
        "OpenStack-API-Version": f"{MANAGEMENT} {version[0]}.{version[1]}",
        "vary": "OpenStack-API-Version",
    }


def require(request: Request, version: tuple[int, int], least: tuple[int, int], name: str) -> None:
    """Below ``least`` the call ``name`` does not exist: 406, which tells nothing else of versions."""
    if version < least:
        request.extra.clear()
        asked = f"Version {version[0]}.{version[1]} was requested but the requested API {name} is not supported for this version."
        raise bare(406, "Not Acceptable", asked)


def body_of(request: Request, argument: str) -> Any:
    """The JSON of a request, which Magnum's methods take as ``argument``."""
    kind = (request.header("Content-Type") or "application/json").split(";")[0].strip()
    if not request.raw():
        raise fault(400, f'Missing argument: "{argument}"')
    if kind != "application/json":
        raise fault(415, f"Unknown mimetype: {kind}")
    try:
        return request.json()
    except ValueError:
        raise fault(400, "Request is not in valid JSON format") from None


def next_page(request: Request, path: str, page: tuple[int, str, str, bool]) -> str:
    """Where a list goes on after a full page: its limit, its last object's uuid, and the order."""
    limit, last, key, descending = page
    query = f"sort_key={key}&sort_dir={'desc' if descending else 'asc'}&limit={limit}&marker={last}"
    return f"{request.origin}/container-infra/v1/{path}?{query}"


def paging(request: Request, *known: str) -> tuple[int, str | None, str, bool]:
    """Limit, marker, sort key and whether descending."""
    query = request.query
    for name in query:
        if name not in {"limit", "marker", "sort_key", "sort_dir", *known}:
            raise fault(400, f'Unknown argument: "{name}"')
    marker = query.get("marker")
    if marker is not None and not is_uuid(marker):
        raise invalid("marker", marker, f"unable to convert to uuid. Error: Expected a uuid but received {marker}.")
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
    if key not in SORTABLE:
        raise fault(400, f'The sort_key value "{key}" is an invalid field for sorting')
    return min(limit, 1000), marker, key, direction == "desc"
