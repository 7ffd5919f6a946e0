"""Lists as Neutron gives them: filters, tags, order, pages, chosen fields."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from simulator.http import Request
from simulator.network.attributes import known
from simulator.network.base import Thing, absent, fault, invalid

_PAGING = {"limit", "marker", "sort_key", "sort_dir", "page_reverse", "fields"}
_TAGS = {"tags", "tags-any", "not-tags", "not-tags-any"}


def chosen(request: Request) -> list[str]:
    """The fields that the caller wants; none: all."""
    return [value for name, value in _pairs(request) if name == "fields"]


def _pairs(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.environ.get("QUERY_STRING", ""), keep_blank_values=True)


def narrowed(thing: Thing, fields: list[str]) -> Thing:
    """Only those fields."""
    return {name: value for name, value in thing.items() if name in fields} if fields else thing


def page(kind: str, plural: str, request: Request, seen: list[Thing]) -> dict[str, Any]:
    """The answer's body. ``seen``: all that the caller may see. Raises Neutron's refusals of odd questions."""
    pairs = _pairs(request)
    wanted: dict[str, list[str]] = {}
    for name, value in pairs:
        wanted.setdefault(name, []).append(value)
    unknown = sorted(set(wanted) - known(kind) - _PAGING - _TAGS)
    if unknown:
        raise fault(400, "HTTPBadRequest", f"{unknown} is invalid attribute for filtering")
    filters = {name: values for name, values in wanted.items() if name not in _PAGING}
    found = [thing for thing in seen if all(_meets(thing, name, values) for name, values in filters.items())]
    found = _ordered(kind, found, wanted)
    limit = _limit(wanted)
    if limit is None:
        return {plural: [narrowed(thing, chosen(request)) for thing in found]}
    marker = wanted.get("marker", [None])[-1]
    if marker is not None:
        place = next((i for i, thing in enumerate(found) if thing["id"] == marker), None)
        if place is None:
            raise absent(kind, marker)
        found = found[place + 1 :]
    shown = found[:limit]
    body: dict[str, Any] = {plural: [narrowed(thing, chosen(request)) for thing in shown]}
    if len(shown) == limit:
        kept = [(name, value) for name, value in pairs if name != "marker"]
        query = urlencode([*kept, ("marker", shown[-1]["id"])])
        body[f"{plural}_links"] = [{"rel": "next", "href": f"{request.origin}/network{request.path}?{query}"}]
    return body


def _limit(wanted: dict[str, list[str]]) -> int | None:
    text = wanted.get("limit", [None])[-1]
    if text is None:
        return None
    if not text.isdigit():
        raise fault(400, "HTTPBadRequest", f"Limit must be an integer 0 or greater and not '{text}'")
    return int(text) or None


def _ordered(kind: str, found: list[Thing], wanted: dict[str, list[str]]) -> list[Thing]:
    keys, ways = wanted.get("sort_key", []), wanted.get("sort_dir", [])
    if ways and len(keys) != len(ways):
        raise fault(400, "HTTPBadRequest", "The number of sort_keys and sort_dirs must be same")
    for key in keys:
        if key not in known(kind):
            raise fault(400, "HTTPBadRequest", f"['{key}'] is invalid attribute for sort_keys")
    ordered = sorted(found, key=lambda thing: str(thing["id"])) if "limit" in wanted else list(found)
    for number in reversed(range(len(keys))):
        name, descending = keys[number], bool(ways) and ways[number] == "desc"
        ordered.sort(key=lambda thing: str(thing.get(name) or ""), reverse=descending)
    return ordered


def _meets(thing: Thing, name: str, values: list[str]) -> bool:
    if name in _TAGS:
        asked, held = {tag for value in values for tag in value.split(",")}, set(thing["tags"])
        some = bool(asked & held)
        return {"tags": asked <= held, "tags-any": some, "not-tags": not asked <= held, "not-tags-any": not some}[name]
    if name == "fixed_ips":
        return any(_at(place, values) for place in thing["fixed_ips"])
    value = thing.get(name)
    if isinstance(value, list):
        return any(one in value for one in values)
    if isinstance(value, bool):
        return any(_flag(one) == value for one in values)
    return any(one == ("" if value is None else str(value)) for one in values)


def _at(place: dict[str, str], values: list[str]) -> bool:
    wishes = [value.replace(":", "=", 1).partition("=") for value in values]
    return all(place.get(key) == value for key, _, value in wishes)


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise invalid(f"'{text}' cannot be converted to boolean.")
    return text.lower() in {"true", "1"}
