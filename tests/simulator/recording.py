"""How a conversation is kept: a line an answer, without repeating what most answers have in common."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDING = Path(__file__).with_name("real.json")
#: An answer is told by its differences from an earlier one that shares so many fields with it.
_ALIKE = 6


def write(path: Path, heard: dict[str, Any]) -> None:
    """Keep a conversation. Sets of headers are numbered; bodies are told as :func:`_shorten` does."""
    headers: list[dict[str, str]] = []
    told: dict[str, dict[str, Any]] = {}
    lines = []
    for label, note in heard.items():
        if note["headers"] not in headers:
            headers.append(note["headers"])
        short = _shorten(note["body"], note["status"], told)
        if isinstance(note["body"], dict):
            told[label] = note["body"]
        lines.append(f"{json.dumps(label)}: {json.dumps([note['status'], headers.index(note['headers']), short], sort_keys=True)}")
    sets = ",\n".join(json.dumps(each, sort_keys=True) for each in headers)
    path.write_text('{"headers": [\n' + sets + '\n],\n"answers": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A conversation that was kept."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    heard: dict[str, Any] = {}
    for label, (status, number, short) in kept["answers"].items():
        body = _lengthen(short, status, heard)
        heard[label] = {"status": status, "headers": kept["headers"][number], "body": body}
    return heard


def _error(code: str, status: int, detail: str) -> dict[str, Any]:
    title = detail.split(".", maxsplit=1)[0]
    return {"errors": [{"request_id": "", "code": code, "status": status, "title": title, "detail": detail, "links": []}]}


def _links(path: str) -> list[dict[str, str]]:
    return [{"href": f"<endpoint>/v1/{path}", "rel": "self"}, {"href": f"<endpoint>/{path}", "rel": "bookmark"}]


def _shorten(value: Any, status: int, told: dict[str, dict[str, Any]]) -> Any:
    """``~error``: Magnum's shape of it; ``~links``: Magnum's two links to one thing; ``~like``: an earlier answer, but for these."""
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], dict):
            path = str(value[0].get("href")).removeprefix("<endpoint>/v1/")
            if value == _links(path):
                return {"~links": path}
        return [_shorten(item, status, {}) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) == ["errors"] and "detail" in value["errors"][0]:
        code, detail = value["errors"][0]["code"], value["errors"][0]["detail"]
        if value == _error(code, status, detail):
            return {"~error": [code, detail]}
    label, shared = max(((name, _shared(value, body)) for name, body in told.items()), key=lambda each: each[1], default=("", 0))
    if shared >= _ALIKE:
        other = told[label]
        short = {key: _shorten(item, status, {}) for key, item in value.items() if key not in other or other[key] != item}
        lacking = sorted(other.keys() - value.keys())
        return {"~like": label, **short} | ({"~without": lacking} if lacking else {})
    return {key: _shorten(item, status, {}) for key, item in value.items()}


def _shared(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(key in other and other[key] == item for key, item in one.items())


def _lengthen(short: Any, status: int, heard: dict[str, Any]) -> Any:
    if isinstance(short, list):
        return [_lengthen(item, status, heard) for item in short]
    if not isinstance(short, dict):
        return short
    if "~links" in short:
        return _links(short["~links"])
    if "~error" in short:
        code, detail = short["~error"]
        return _error(code, status, detail)
    base = heard[short["~like"]]["body"] if "~like" in short else {}
    kept = {key: item for key, item in base.items() if key not in short.get("~without", ())}
    return kept | {key: _lengthen(item, status, heard) for key, item in short.items() if key not in {"~like", "~without"}}


def compare(real: Any, here: Any, place: str = "") -> Iterator[str]:
    """Where two answers differ, a line each."""
    if isinstance(real, dict) and isinstance(here, dict):
        for key in sorted(real.keys() | here.keys()):
            where = f"{place}.{key}" if place else key
            if key not in here:
                yield f"{where}: missing, really {json.dumps(real[key])[:300]}"
            elif key not in real:
                yield f"{where}: is {json.dumps(here[key])[:200]}, really there is none"
            else:
                yield from compare(real[key], here[key], where)
    elif isinstance(real, list) and isinstance(here, list):
        if len(real) != len(here):
            yield f"{place}: {len(here)} entries, really {len(real)}"
        for number, (left, right) in enumerate(zip(real, here, strict=False)):
            yield from compare(left, right, f"{place}[{number}]")
    elif real != here:
        yield f"{place}: is {json.dumps(here)[:300]}, really {json.dumps(real)[:300]}"
