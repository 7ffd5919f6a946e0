"""What a request carries besides its token: a JSON body, query parameters, preferences. Nothing is guessed or converted."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from flask import Request, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import HttpProblem, UnsupportedMediaType
from api.schemas.fields import STORABLE, UNSTORABLE, RequestSchema, near
from shared.errors import FieldError, InvalidRequest, NotFound

LIMIT_MAX: Final = 1000
LIMIT_USUAL: Final = 50
_INTEGER = re.compile(r"[0-9]{1,18}\Z")
_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,6})"?\s*(?:$|[,;])', re.IGNORECASE)
_DISCARD_BYTES, _PIECE = 16 * 1024 * 1024, 64 * 1024
#: The schema of what :func:`word` takes.
WORD: Final = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": STORABLE}
#: Times outside make arithmetic on them overflow, and mean a slip anyway.
_YEARS: Final = range(2000, 2101)


class _RefusedJson(ValueError):
    """JSON that the grammar allows, or that Python would take, and that is not taken here."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        msg = f"The name {twice!r} stands twice in one object."
        raise _RefusedJson(msg)
    return made


def _constant(name: str) -> float:
    msg = f"{name} is not JSON."
    raise _RefusedJson(msg)


_DECODE: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def read_json(source: Request) -> tuple[dict[str, Any], bool]:
    """The body's object, and whether its text has escapes that may stand for what can't be stored.

    Raises UnsupportedMediaType (415), HttpProblem (400), or werkzeug's RequestEntityTooLarge (413).
    """
    kind = source.mimetype
    if kind != "application/json":
        detail = f"The body must be application/json, not {kind}." if kind else "The header Content-Type must be application/json."
        raise UnsupportedMediaType(detail, headers={"Accept": "application/json"})
    charset = source.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType(f"JSON is UTF-8, not {charset}.", headers={"Accept": "application/json"})
    raw = _read(source)
    if not raw.strip():
        raise HttpProblem("The body is empty; a JSON object is needed.", reason="EMPTY_BODY")
    try:
        document = _DECODE(raw.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise HttpProblem(f"The body is not UTF-8: byte {exc.start} can't be read.", reason="MALFORMED_JSON") from exc
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        raise HttpProblem(f"The body is not JSON: {exc.msg} at {where}.", reason="MALFORMED_JSON") from exc
    except RecursionError as exc:
        raise HttpProblem("The body is nested too deeply.", reason="MALFORMED_JSON") from exc
    except ValueError as exc:  # ours, and Python's about numbers of thousands of digits
        words = str(exc) if isinstance(exc, _RefusedJson) else "A number is too long."
        raise HttpProblem(f"The body is not JSON that is taken here: {words}", reason="MALFORMED_JSON") from exc
    if not isinstance(document, dict):
        raise HttpProblem("The body must be a JSON object.", reason="NOT_AN_OBJECT")
    return document, b"\\u" in raw


def _read(source: Request) -> bytes:
    try:
        raw = source.get_data(cache=False)
    except RequestEntityTooLarge:
        _discard(source)
        raise
    if source.content_length is None and len(raw) == source.max_content_length:
        _discard(source)
        raise RequestEntityTooLarge  # werkzeug cuts a body in chunks off at the limit, without a word
    return raw


def _discard(source: Request) -> None:
    """Read on, within reason: gunicorn closes a connection whose request was not read, and cannot announce it.

    The client's next request on it would get no answer.
    """
    for _ in range(_DISCARD_BYTES // _PIECE):
        if not source.environ["wsgi.input"].read(_PIECE):
            return


def read_fields(schema: RequestSchema) -> tuple[dict[str, Any], dict[str, Any], list[FieldError]]:
    """The present request's body: as it came, its well-formed fields, and every finding."""
    document, suspicious = read_json(request)
    valid, findings = schema.examine(document, suspicious=suspicious)
    return document, valid, findings


# -- query ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter: how it is read (the parser raises ValueError with words), and how it is documented."""

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str
    default: Any = None
    required: bool = False

    def spec(self) -> dict[str, Any]:
        """Its OpenAPI form."""
        schema = dict(self.schema)
        if self.default is not None:
            schema["default"] = self.default
        return {"name": self.name, "in": "query", "required": self.required, "schema": schema, "description": self.description}


@dataclass(frozen=True)
class Query:
    """The query parameters of one operation. Others are refused: ``?validate_olny=true`` must not create a cluster."""

    params: tuple[Param, ...]
    _defaults: dict[str, Any] = field(init=False)
    _by_name: dict[str, Param] = field(init=False)
    _required: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_defaults", {param.name: param.default for param in self.params})
        object.__setattr__(self, "_required", tuple(param.name for param in self.params if param.required))
        object.__setattr__(self, "_by_name", {param.name: param for param in self.params})

    def read(self) -> dict[str, Any]:
        """The present request's values, defaults included. Raises InvalidRequest that names every wrong one."""
        if not request.query_string and not self._required:
            return self._defaults
        values = dict(self._defaults)
        wrong = [FieldError(name, "required", "This parameter is required.") for name in self._required if name not in request.args]
        for name, texts in request.args.lists():
            param = self._by_name.get(name)
            if param is None:
                known = near(name, self._by_name) or f" There are: {', '.join(self._by_name) or 'none'}."
                wrong.append(FieldError(name[:100], "unknown", f"There is no such query parameter.{known}"))
            elif len(texts) > 1:
                wrong.append(FieldError(name, "once", "May be given once only."))
            else:
                try:
                    values[name] = param.parse(texts[0])
                except ValueError as exc:
                    wrong.append(FieldError(name, "invalid", str(exc)))
        if wrong:
            names = ", ".join(one.field for one in wrong)
            plural = "s" if len(wrong) > 1 else ""
            raise InvalidRequest(
                f"The request has {len(wrong)} wrong query parameter{plural}: {names}.", errors=wrong, location="query"
            )
        return values


def whole(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers between two bounds."""

    def parse(text: str) -> int:
        if not _INTEGER.match(text) or not least <= int(text) <= most:
            msg = f"Must be a whole number between {least} and {most}."
            raise ValueError(msg)
        return int(text)

    return parse


def truth(text: str) -> bool:
    """The words true and false."""
    if text not in {"true", "false"}:
        msg = "Must be true or false."
        raise ValueError(msg)
    return text == "true"


def one_of(choices: Mapping[str, str]) -> Callable[[str], str]:
    """A parser of words, whatever their case; ``choices`` maps the lower case to what is meant."""

    def parse(text: str) -> str:
        found = choices.get(text.lower())
        if found is None:
            msg = f"Must be one of: {', '.join(choices.values())}."
            raise ValueError(msg)
        return found

    return parse


def word(text: str) -> str:
    """Any text of 1 to 255 characters."""
    if not 1 <= len(text) <= 255 or UNSTORABLE.search(text):  # noqa: PLR2004 - what labels may have
        msg = "Must have 1 to 255 characters, none of them zero."
        raise ValueError(msg)
    return text


def uuid(text: str) -> UUID:
    """An id."""
    try:
        return UUID(text)
    except ValueError:
        msg = "Must be an id (a UUID)."
        raise ValueError(msg) from None


def moment(text: str) -> datetime:
    """A time of RFC 3339; UTC where it names no offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or len(text) < len("2026-01-01T00:00") or at.year not in _YEARS:
        msg = "Must be a time like 2026-01-31T12:00:00Z, between the years 2000 and 2100 (write the + of an offset as %2B)."
        raise ValueError(msg)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


LIMIT: Final = Param(
    "limit",
    whole(1, LIMIT_MAX),
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    "How many objects a page may have.",
    LIMIT_USUAL,
)
MARKER: Final = Param(
    "marker",
    word,
    WORD,
    "The id of the last object of the page before; the Link header has it.",
)
UUID_MARKER: Final = Param("marker", uuid, {"type": "string", "format": "uuid"}, "The id of the last object of the page before.")
VALIDATE_ONLY: Final = Param(
    "validate_only", truth, {"type": "boolean"}, "Check everything, do nothing, and answer with all findings.", default=False
)
START: Final = Param("start", moment, {"type": "string", "format": "date-time"}, "The window's beginning.")
END: Final = Param("end", moment, {"type": "string", "format": "date-time"}, "The window's end, not included; by default now.")
NOTHING: Final = Query(())


# -- path and headers ----------------------------------------------------------------------------------------------------


def job_id(text: str) -> UUID:
    """A job's id out of a path. What is no UUID names no job."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"The project has no job {text[:100]!r}.", reason="JOB_NOT_FOUND") from None


def wait_seconds(most: float) -> int | None:
    """The seconds that the caller prefers to wait (RFC 7240), ``most`` at the most; None where no such preference is read.

    A preference that can't be read is ignored, as the RFC wants it.
    """
    header = request.environ.get("HTTP_PREFER")
    if not header:
        return None
    found = _WAIT.search(header)
    return min(int(found[1]), int(most)) if found else None
