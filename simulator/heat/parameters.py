"""Parameters of a template: their types, defaults and constraints (HOT specification, section "Parameters")."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from simulator.heat.wire import HotError

#: What a custom constraint says against a value; None: nothing.
Check = Callable[[str, str], str | None]
_TYPES = {
    "string": "String",
    "number": "Number",
    "boolean": "Boolean",
    "comma_delimited_list": "CommaDelimitedList",
    "json": "Json",
}
_TRUE, _FALSE = {"1", "on", "t", "true", "y", "yes"}, {"0", "f", "false", "n", "no", "off"}


def values(specs: Mapping[str, Any], given: Mapping[str, Any], check: Check, pseudo: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter's value. Raises :class:`HotError` for unknown, missing and wrong ones."""
    for spec in specs.values():
        if not isinstance(spec, Mapping) or spec.get("type") not in _TYPES:
            kind = spec.get("type") if isinstance(spec, Mapping) else spec
            raise HotError(f"Invalid type ({kind})", "InvalidSchemaError")
    for name in given:
        if name not in specs:
            raise HotError(f"The Parameter ({name}) was not defined in template.", "UnknownUserParameter")
    found = dict(pseudo)
    for name, spec in specs.items():
        if name not in given and "default" not in spec:
            raise HotError(f"The Parameter ({name}) was not provided.", "UserParameterMissing")
        try:
            value = _converted(spec["type"], given.get(name, spec.get("default")))
            for constraint in spec.get("constraints") or []:
                wrong = _breaks(constraint, value, check)
                if wrong:
                    raise ValueError(constraint.get("description", wrong))  # noqa: TRY301 - told below, with the parameter's name
        except (ValueError, TypeError) as exc:
            raise HotError(f"Parameter '{name}' is invalid: {exc}") from exc
        found[name] = value
    return found


def _converted(kind: str, value: Any) -> Any:
    if kind == "number":
        return value if isinstance(value, int | float) else _number(str(value))
    if kind == "boolean":
        if str(value).lower() not in _TRUE | _FALSE:
            known = ", ".join(repr(one) for one in sorted(_TRUE | _FALSE))
            raise ValueError(f"Unrecognized value '{value}', acceptable values are: {known}")
        return str(value).lower() in _TRUE
    if kind == "comma_delimited_list":
        if isinstance(value, dict):
            raise TypeError("Value must be a comma-delimited list string: 'dict' object has no attribute 'split'")
        return value if isinstance(value, list) else [one.strip() for one in str(value).split(",")] if value else []
    if kind == "json":
        return _json(value)
    if isinstance(value, dict | list):
        raise TypeError(f"Value must be a string; got {value!r}")
    return str(value) if value is not None else ""


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value if value is not None else {}
    try:
        return json.loads(value) if value else {}
    except ValueError as exc:
        raise ValueError(f"Value must be valid JSON: {exc}") from exc


def _breaks(constraint: Mapping[str, Any], value: Any, check: Check) -> str | None:
    told = json.dumps(value)
    if "allowed_values" in constraint and any(
        one not in constraint["allowed_values"] for one in (value if isinstance(value, list) else [value])
    ):
        return f"{told} is not an allowed value {json.dumps(constraint['allowed_values'])}"
    if "length" in constraint and not _within(len(value), constraint["length"]):
        return f"length ({len(value)}) is out of range {_bounds(constraint['length'])}"
    if "range" in constraint and not _within(value, constraint["range"]):
        return f"{value} is out of range {_bounds(constraint['range'])}"
    if "allowed_pattern" in constraint and not re.fullmatch(constraint["allowed_pattern"], str(value)):
        return f'{told} does not match pattern "{constraint["allowed_pattern"]}"'
    modulo = constraint.get("modulo")
    if modulo and value % modulo["step"] != modulo["offset"]:
        return f"{value} is not a multiple of {modulo['step']} with an offset of {modulo['offset']}"
    custom = constraint.get("custom_constraint")
    return check(custom, str(value)) if custom else None


def _within(value: Any, bounds: Mapping[str, Any]) -> bool:
    return bool(bounds.get("min", value) <= value <= bounds.get("max", value))


def _bounds(bounds: Mapping[str, Any]) -> str:
    return f"(min: {bounds.get('min')}, max: {bounds.get('max')})"


def described(specs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters as the call ``validate`` tells them."""
    return {name: _described(name, spec) for name, spec in specs.items()}


def _described(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "Type": _TYPES.get(spec.get("type", "string"), "String"),
        "Description": spec.get("description", ""),
        "NoEcho": "true" if spec.get("hidden") else "false",
        "Label": spec.get("label", name),
    }
    if "default" in spec:
        told["Default"] = spec["default"]
    for constraint in spec.get("constraints") or []:
        length, span = constraint.get("length") or {}, constraint.get("range") or {}
        for bounds, names in ((length, ("MinLength", "MaxLength")), (span, ("MinValue", "MaxValue"))):
            told |= {key: bounds[bound] for bound, key in zip(("min", "max"), names, strict=True) if bound in bounds}
        for mine, theirs in (
            ("allowed_values", "AllowedValues"),
            ("allowed_pattern", "AllowedPattern"),
            ("custom_constraint", "CustomConstraint"),
        ):
            if mine in constraint:
                told[theirs] = constraint[mine]
    return told
