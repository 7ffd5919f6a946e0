"""How Magnum reads a body: which fields there are, what each may hold, and what it answers to anything else.

It is lenient where one would not expect it (a count of "3" or 1.5 passes), and its clients find that out later: so it is here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.http import Dropped
from simulator.magnum.wire import fault, invalid

_TRUE = {"t", "true", "on", "y", "yes", "1"}
_FALSE = {"f", "false", "off", "n", "no", "0"}


@dataclass(frozen=True)
class Field:
    """One field: ``least`` and ``most`` bound a number's value or a text's length."""

    kind: str = "text"  #: text, integer, boolean, labels, strings, texts or objects
    mandatory: bool = False
    readonly: bool = False
    least: int | None = None
    most: int | None = None
    pattern: str = ""
    choices: tuple[str, ...] = ()


TEXT = Field(least=1, most=255)
COUNT = Field("integer", least=0)
LABELS = Field("labels")
BOOLEAN = Field("boolean")
READONLY = Field(readonly=True)


def read(argument: str, body: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields that were given, converted. Raises Magnum's 400s; 500 for what is no object."""
    if not isinstance(body, dict):
        raise fault(500, f"'{type(body).__name__}' object has no attribute 'keys'", code="server")
    unknown = sorted(set(body) - set(fields))
    if unknown:
        raise fault(400, f"Unknown attribute{'s' * (len(unknown) > 1)} for argument {argument}: {', '.join(unknown)}")
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in body:
            value = _convert(argument, body, name, field)
            if field.readonly:
                raise invalid(name, value, "Cannot set read only field.")
            found[name] = value
        elif field.mandatory:
            raise invalid(name, None, "Mandatory field missing.")
    return found


def _convert(argument: str, body: dict[str, Any], name: str, field: Field) -> Any:
    value = body[name]
    if value is None:
        return None
    match field.kind:
        case "integer":
            return _integer(argument, body, name, field)
        case "boolean":
            return _boolean(value)
        case "labels" | "strings":
            return _labels(argument, body, name)
        case "texts" | "objects":
            if not isinstance(value, list):
                raise invalid(argument, body, f"Value not a valid list: {value}")
            return value
        case _:
            return check_text(name, value, field)


def _integer(argument: str, body: dict[str, Any], name: str, field: Field) -> int:
    try:
        number = int(body[name])
    except (TypeError, ValueError) as exc:
        raise invalid(argument, body, str(exc)) from None
    if field.least is not None and number < field.least:
        raise invalid(name, number, f"Value should be greater or equal to {field.least}")
    if field.most is not None and number > field.most:
        raise invalid(name, number, f"Value should be lower or equal to {field.most}")
    return number


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Dropped  # the real service fails while it words this error, and its server closes the connection


def _labels(argument: str, body: dict[str, Any], name: str) -> dict[str, str]:
    value = body[name]
    if not isinstance(value, dict):
        raise invalid(argument, body, f"Value not a valid dict: {value}")
    for item in value.values():
        if not isinstance(item, str | int | float):
            kinds = "(<class 'str'>, <class 'int'>, <class 'bool'>, <class 'float'>)"
            raise invalid(name, value, f"Wrong type. Expected '{kinds}', got '{type(item)}'")
    return {str(key): str(item) for key, item in value.items()}


def check_text(name: str, value: Any, field: Field) -> str:
    """A text within its bounds. Raises 400."""
    if field.choices and value not in field.choices:
        raise invalid(name, value, f"Value should be one of: {', '.join(field.choices)}")
    if not isinstance(value, str):
        raise invalid(name, value, f"Wrong type. Expected '<class 'str'>', got '{type(value)}'")
    if field.least is not None and len(value) < field.least:
        raise invalid(name, value, f"Value should have a minimum character requirement of {field.least}")
    if field.most is not None and len(value) > field.most:
        raise invalid(name, value, f"Value should have a maximum character requirement of {field.most}")
    if field.pattern and not re.match(field.pattern, value):
        raise invalid(name, value, f"Value should match the pattern {field.pattern}")
    return value
