"""HOT documents: read, checked as Heat checks them, and put in order."""

from collections.abc import Mapping
from typing import Any

import yaml

from simulator.heat.clouds import Clouds
from simulator.heat.functions import LATER, Evaluator, Scope, calls, conditions, dig, has_later
from simulator.heat.parameters import values
from simulator.heat.types import TYPES
from simulator.heat.wire import HotError

VERSIONS = (
    *("2013-05-23", "2014-10-16", "2015-04-30", "2015-10-15", "2016-04-08", "2016-10-14", "2017-02-24", "2017-09-01", "2018-03-02"),
    *("2018-08-31", "2021-04-16", "newton", "ocata", "pike", "queens", "rocky", "wallaby"),
)
_SECTIONS = {"heat_template_version", "description", "parameters", "parameter_groups", "resources", "outputs", "conditions"}
_KEYS = {"type", "properties", "metadata", "depends_on", "deletion_policy", "update_policy", "description", "condition"}


def parsed(text: Any) -> dict[str, Any]:
    """The document behind a template's text. Raises :class:`HotError`."""
    try:
        body = yaml.safe_load(text) if isinstance(text, str) else text
    except yaml.YAMLError as exc:
        words = f"Template not in valid format: Error parsing template [root stack] {exc}"
        raise HotError(words, "HTTPBadRequest") from exc
    if not isinstance(body, dict):
        words = "Template not in valid format: The template is not a JSON object or YAML mapping."
        raise HotError(words, "HTTPBadRequest")
    if "heat_template_version" not in body:
        raise HotError("Template not in valid format: Template format version not found.", "HTTPBadRequest")
    version = str(body["heat_template_version"])
    if version not in VERSIONS:
        words = f'"heat_template_version: {version}". "heat_template_version" should be one of: {", ".join(VERSIONS)}'
        raise HotError(f"The template version is invalid: {words}", "InvalidTemplateVersion")
    for section, content in body.items():
        if section not in _SECTIONS:
            raise HotError(f"The template section is invalid: {section}")
        if section not in {"heat_template_version", "description", "parameter_groups"} and not isinstance(content, dict | None):
            raise HotError(f"'{type(content).__name__}' object has no attribute 'items'")
    return body


class Document:
    """A parsed document with its parameters' values. Raises :class:`HotError` for what Heat answers with 400."""

    def __init__(self, text: Any, given: Mapping[str, Any], clouds: Clouds, pseudo: Mapping[str, Any]) -> None:
        self.body = parsed(text)
        self.description: str = self.body.get("description", "No description")
        self.parameters = values(self.body.get("parameters") or {}, given, clouds.check, pseudo)
        self.conditions = conditions(self.body.get("conditions") or {}, self.parameters)
        self._clouds = clouds
        self.resources = self._active("resources")
        self.outputs = self._active("outputs")

    def _active(self, section: str) -> dict[str, dict[str, Any]]:
        found = {}
        for name, spec in (self.body.get(section) or {}).items():
            if section == "resources":
                _check_keys(spec)
            elif not isinstance(spec, dict) or "value" not in spec:
                words = f"Output validation error: : outputs.{name}: : Each output definition must contain a value key."
                raise HotError(words)
            wanted = spec.get("condition", True)
            if isinstance(wanted, str) and wanted not in self.conditions:
                raise HotError(f'Invalid condition "{wanted}"')
            if wanted is True or (isinstance(wanted, str) and self.conditions[wanted]):
                found[str(name)] = spec
        return found

    def check_shape(self) -> None:
        """What can be said without parameters: references, order, and which properties there are."""
        for name in self.resources:
            self._check_references(name)
        self.order()
        for name, spec in self.resources.items():
            given = spec.get("properties") or {}
            TYPES[spec["type"]].check(name, dict.fromkeys(given, LATER), self._clouds)

    def check(self) -> None:
        """Everything that Heat looks at before it makes a stack."""
        for name in self.resources:
            self._check_references(name)
        self.order()
        for name, spec in self.resources.items():
            try:
                found = self.properties(name, _Before())
            except HotError as exc:
                kind = "StackValidationFailed" if exc.kind == "UserParameterMissing" else exc.kind
                raise HotError(f"Property error: : resources.{name}.properties: : {exc}", kind) from exc
            TYPES[spec["type"]].check(name, found, self._clouds)

    def _check_references(self, name: str) -> None:
        for where, wanted in self._references(name):
            known = self.body.get("resources") or {}
            if wanted not in known:
                words = f'The specified reference "{wanted}" (in {where}) is incorrect.'
                raise HotError(words, "InvalidTemplateReference")
        places = [
            (f"resources.{name}.properties.{key}", node) for key, node in (self.resources[name].get("properties") or {}).items()
        ]
        places += [(f"outputs.{output}.value", spec["value"]) for output, spec in self.outputs.items()]
        for place, node in places:
            for call in calls(node, "get_attr"):
                kind = TYPES.get(str(self.resources.get(_first(call), {}).get("type")))
                if kind is not None and isinstance(call, list) and len(call) > 1 and not kind.has(str(call[1])):
                    raise HotError(f"{place}.get_attr: : The Referenced Attribute ({call[0]} {call[1]}) is incorrect.")

    def _references(self, name: str) -> list[tuple[str, str]]:
        spec = self.resources[name]
        named = spec.get("depends_on") or []
        found = [(name, str(one)) for one in ([named] if isinstance(named, str) else named)]
        for key, node in (spec.get("properties") or {}).items():
            found += [(f"{name}.Properties.{key}", _first(one)) for one in calls(node, "get_resource")]
            found += [(f"{name}.Properties.{key}", _first(one)) for one in calls(node, "get_attr")]
        return found

    def needs(self, name: str) -> list[str]:
        """The resources that must be there before this one. One whose condition does not hold is not waited for."""
        return [one for one in dict.fromkeys(wanted for _, wanted in self._references(name)) if one in self.resources]

    def needed_by(self, name: str) -> list[str]:
        """The resources that wait for this one."""
        return [other for other in self.resources if name in self.needs(other)]

    def order(self) -> list[str]:
        """All resources, each after what it needs. Raises :class:`HotError` for a circle."""
        placed: list[str] = []
        left = {name: self.needs(name) for name in self.resources}
        while left:
            ready = [name for name, needs in left.items() if all(need in placed for need in needs)]
            if not ready:
                circle = ", ".join(f"{name}: {needs}" for name, needs in left.items())
                raise HotError(f"Circular Dependency Found: {{{circle}}}", "CircularDependencyException")
            placed += ready
            for name in ready:
                del left[name]
        return placed

    def properties(self, name: str, scope: Scope) -> dict[str, Any]:
        """A resource's properties, worked out. What is null is not given."""
        spec = self.resources[name]
        kind = TYPES[spec["type"]]
        found = Evaluator(self.parameters, self.conditions, scope).value(spec.get("properties") or {})
        return {key: value for key, value in found.items() if value is not None or kind.takes_null(key)}

    def output(self, name: str, scope: Scope) -> Any:
        """An output's value; None where it can't be worked out (yet)."""
        try:
            found = Evaluator(self.parameters, self.conditions, scope).value(self.outputs[name]["value"])
        except HotError:
            return None
        return None if has_later(found) else found


class _Before:
    """Before anything is made."""

    def resource(self, name: str) -> Any:
        del name
        return LATER

    def attribute(self, name: str, path: list[Any]) -> Any:
        del name
        return dig(LATER, path)


def _first(argument: Any) -> str:
    return str(argument[0] if isinstance(argument, list) and argument else argument)


def _check_keys(spec: Any) -> None:
    if not isinstance(spec, dict) or "type" not in spec:
        raise HotError("Each resource must contain a type key.")
    for key in spec:
        if key not in _KEYS:
            raise HotError(f'"{key}" is not a valid keyword inside a resource definition')
    if spec["type"] not in TYPES:
        raise HotError(f"The Resource Type ({spec['type']}) could not be found.")
