"""HOT documents, as far as Heat's own functions and parameters go that the simulated Heat knows."""

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

VERSIONS = {"2018-08-31", "2021-04-16", "rocky", "wallaby"}
_SECTIONS = {"heat_template_version", "description", "parameters", "parameter_groups", "resources", "outputs", "conditions"}
_FUNCTIONS = {"get_param", "get_resource", "get_attr", "str_replace", "list_join"}


#: Resource types of which nothing can be read but `show`.
WITHOUT_ATTRIBUTES = {"OS::Neutron::RouterInterface", "OS::Neutron::ExtraRouteSet"}


class HotError(Exception):
    """What Heat answers with 400."""


class Document:
    """A parsed document with its parameters' values."""

    def __init__(self, text: Any, given: Mapping[str, Any], types: set[str]) -> None:
        self.body = _parsed(text)
        self.resources: dict[str, dict[str, Any]] = self.body.get("resources") or {}
        self.outputs: dict[str, dict[str, Any]] = self.body.get("outputs") or {}
        self.parameters = _values(self.body.get("parameters") or {}, given)
        for name, spec in self.resources.items():
            kind = spec.get("type") if isinstance(spec, dict) else None
            if kind not in types:
                raise HotError(f"ResourceTypeUnavailable: : resources.{name}: : The Resource Type ({kind}) could not be found.")
            for wanted in self.needs(name):
                if wanted not in self.resources:
                    raise HotError(f'InvalidTemplateReference: : The specified reference "{wanted}" (in {name}) is incorrect.')
        for name, spec in self.outputs.items():
            for call in _calls(spec, "get_attr"):
                kind = self.resources.get(call[0], {}).get("type")
                if kind in WITHOUT_ATTRIBUTES and len(call) > 1 and call[1] != "show":
                    words = f"The Referenced Attribute ({call[0]} {call[1]}) is incorrect."
                    raise HotError(f"InvalidTemplateAttribute: outputs.{name}.value.get_attr: : {words}")
        for spec in [*self.resources.values(), *self.outputs.values()]:
            for reference in _calls(spec, "get_param"):
                wanted = reference[0] if isinstance(reference, list) else reference
                if wanted not in self.parameters and not str(wanted).startswith("OS::"):
                    raise HotError(f"UserParameterMissing: : The Parameter ({wanted}) was not provided.")

    def needs(self, name: str) -> list[str]:
        """The resources that must be there before this one."""
        spec = self.resources[name]
        named = spec.get("depends_on") or []
        found = [named] if isinstance(named, str) else list(named)
        found += _calls(spec.get("properties"), "get_resource")
        found += [call[0] for call in _calls(spec.get("properties"), "get_attr")]
        return [str(one) for one in dict.fromkeys(found)]

    def order(self) -> list[str]:
        """All resources, each after what it needs."""
        placed: list[str] = []
        left = list(self.resources)
        while left:
            ready = [name for name in left if all(need in placed for need in self.needs(name))]
            if not ready:
                raise HotError(f"CircularDependencyException: : Circular Dependency Found: {left}")
            placed += ready
            left = [name for name in left if name not in ready]
        return placed

    def value(self, node: Any, resource: Callable[[str], Any], attribute: Callable[[str, list[Any]], Any]) -> Any:
        """A node with its functions worked out."""
        if isinstance(node, list):
            return [self.value(one, resource, attribute) for one in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name in _FUNCTIONS:
                return self._call(name, argument, resource, attribute)
        return {key: self.value(one, resource, attribute) for key, one in node.items()}

    def _call(self, name: str, argument: Any, resource: Callable[[str], Any], attribute: Callable[[str, list[Any]], Any]) -> Any:
        if name == "get_resource":
            return resource(argument)
        given = self.value(argument, resource, attribute)
        if name == "get_attr":
            return attribute(given[0], given[1:])
        if name == "get_param":
            path = given if isinstance(given, list) else [given]
            return dig(self.parameters[path[0]], path[1:])
        if name == "str_replace":
            text = given["template"]
            for key, value in given["params"].items():
                text = text.replace(key, str(value))
            return text
        return str(given[0]).join(str(one) for one in given[1])


def dig(value: Any, path: list[Any]) -> Any:
    """The part of a value at a path; None where there is none."""
    for step in path:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def _calls(node: Any, function: str) -> Iterator[Any]:
    if isinstance(node, list):
        for one in node:
            yield from _calls(one, function)
    elif isinstance(node, dict):
        for key, one in node.items():
            if key == function and len(node) == 1:
                yield one
            else:
                yield from _calls(one, function)


def _parsed(text: Any) -> dict[str, Any]:
    try:
        body = yaml.safe_load(text) if isinstance(text, str) else text
    except yaml.YAMLError as exc:
        raise HotError(f"Template format error: {exc}") from exc
    if not isinstance(body, dict):
        raise HotError("The template is not a JSON object or YAML mapping.")
    version = str(body.get("heat_template_version", ""))
    if version not in VERSIONS:
        raise HotError(
            f'InvalidTemplateVersion: : The template version is invalid: "heat_template_version: {version}".'
            f' "heat_template_version" should be one of: {", ".join(sorted(VERSIONS))}'
        )
    for section in body:
        if section not in _SECTIONS:
            raise HotError(f"InvalidTemplateSection: : The template section is invalid: {section}")
    return body


def _values(specs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in specs:
            raise HotError(f"UnknownUserParameter: : The Parameter ({name}) was not defined in template.")
    values = {}
    for name, spec in specs.items():
        if name not in given and "default" not in spec:
            raise HotError(f"UserParameterMissing: : The Parameter ({name}) was not provided.")
        values[name] = _converted(name, spec, given.get(name, spec.get("default")))
    return values


def _converted(name: str, spec: Mapping[str, Any], value: Any) -> Any:
    kind = spec.get("type")
    try:
        if kind == "number":
            value = float(value) if "." in str(value) else int(value)
        elif kind == "boolean":
            value = str(value).lower() in {"true", "1", "yes", "on", "t", "y"}
        elif kind == "comma_delimited_list" and isinstance(value, str):
            value = value.split(",") if value else []
        elif kind == "json" and isinstance(value, str):
            value = json.loads(value)
    except ValueError as exc:
        raise HotError(f"StackValidationFailed: : Parameter '{name}' is invalid: {exc}") from exc
    for constraint in spec.get("constraints") or []:
        wrong = _breaks(constraint, value)
        if wrong:
            raise HotError(f"StackValidationFailed: : Parameter '{name}' is invalid: {constraint.get('description', wrong)}")
    return value


def _breaks(constraint: Mapping[str, Any], value: Any) -> str | None:
    if "allowed_values" in constraint and value not in constraint["allowed_values"]:
        return f"{json.dumps(value)} is not an allowed value {json.dumps(constraint['allowed_values'])}"
    length = constraint.get("length")
    if length and not length.get("min", 0) <= len(value) <= length.get("max", 10**9):
        return f"length ({len(value)}) is out of range (min: {length.get('min')}, max: {length.get('max')})"
    if constraint.get("custom_constraint") == "net_cidr":
        try:
            ipaddress.ip_network(value)
        except ValueError as exc:
            return f"Error validating value '{value}': Invalid net cidr {exc}"
    return None
