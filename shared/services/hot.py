"""The shipped Heat templates: what there is, what each takes, and the document that Heat is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from shared.domain.stacks import NETWORK
from shared.errors import ConfigurationError, FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "heat"
_JSON_TYPES: Final = {
    "string": (str,),
    "number": (int, float, str),
    "boolean": (bool, str),
    "comma_delimited_list": (list, str),
    "json": (dict, list, str),
}


@dataclass(frozen=True)
class HotTemplate:
    """One shipped template."""

    name: str
    text: str
    description: str = ""
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, dict[str, Any]]:
        """The parameters that a caller may give."""
        return self.parameters

    def findings(self, given: Mapping[str, Any], *, filled: frozenset[str] = frozenset()) -> list[FieldError]:
        """What is wrong with the caller's parameters, as far as the document tells. ``filled``: those that need not be given."""
        wrong = [
            FieldError(
                f"parameters.{name}"[:200],
                "unknown",
                f"Template {self.name} has no such parameter. It has: {', '.join(self.asked)}.",
            )
            for name in given
            if name not in self.asked
        ]
        for name, spec in self.asked.items():
            if name not in given:
                if "default" not in spec and name not in filled:
                    wrong.append(FieldError(f"parameters.{name}", "required", "This parameter is required."))
                continue
            kind = str(spec.get("type", "string")).lower()
            if not isinstance(given[name], _JSON_TYPES.get(kind, (object,))) or (
                kind == "number" and isinstance(given[name], bool)
            ):
                wrong.append(FieldError(f"parameters.{name}", "type", f"Must be a {kind}."))
        return wrong


class HotTemplates:
    """Those of a directory, read at the first question."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory

    @cached_property
    def all(self) -> dict[str, HotTemplate]:
        """By name. Raises :class:`ConfigurationError` where one can't be read."""
        found = {}
        for path in sorted(self._directory.glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            try:
                document = yaml.safe_load(text)
            except yaml.YAMLError as exc:
                msg = f"{path.name} is not YAML: {exc}"
                raise ConfigurationError(msg) from exc
            if not isinstance(document, dict) or "heat_template_version" not in document:
                continue
            about = " ".join(str(document.get("description", "")).split())
            found[path.stem] = HotTemplate(path.stem, text, about, document.get("parameters") or {})
        return found

    def get(self, name: str) -> HotTemplate | None:
        """One of them."""
        return self.all.get(name)

    def network(self) -> HotTemplate:
        """That of a cluster's own network. Raises :class:`ConfigurationError` where the directory has none."""
        found = self.get(NETWORK)
        if found is None:
            msg = f"There is no {NETWORK}.yaml in {self._directory}."
            raise ConfigurationError(msg)
        return found
