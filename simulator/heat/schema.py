"""What a resource type is: the properties that it takes, and what it does with them."""

from dataclasses import dataclass
from typing import Any

from simulator.heat.clouds import Clouds
from simulator.heat.functions import has_later
from simulator.heat.wire import HotError

Values = dict[str, Any]
_FLAGS = {"true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"}


class Failed(Exception):
    """A resource could not be made, changed or removed, for this reason."""


@dataclass(frozen=True)
class Property:
    """One property. ``later``: can be changed without making the resource anew. ``ref``: a thing named by id or name."""

    kind: str = "text"
    needed: bool = False
    later: bool = True
    null: bool = False  #: null means something
    ref: str | None = None
    choices: tuple[str, ...] = ()

    def check(self, where: str, value: Any, clouds: Clouds) -> None:
        """Raises :class:`HotError` with Heat's words."""
        wrong = None
        if self.kind == "flag" and str(value).lower() not in _FLAGS:
            wrong = f'"{value}" is not a valid boolean'
        elif self.kind == "number" and not str(value).lstrip("-").isdigit():
            wrong = f"Value '{value}' is not an integer"
        elif self.kind == "list" and not isinstance(value, list):
            wrong = f'"{value}" is not a list'
        elif self.kind == "map" and not isinstance(value, dict):
            wrong = f'"{value}" is not a map'
        elif self.kind == "text" and isinstance(value, list | dict):
            wrong = f"Value must be a string; got {value!r}"
        elif self.choices and value not in self.choices:
            wrong = f'"{value}" is not an allowed value [{", ".join(self.choices)}]'
        elif self.ref:
            wrong = clouds.check(self.ref, str(value))
        if wrong:
            raise HotError(f"Property error: : {where}: : {wrong}")


@dataclass(frozen=True)
class Type:
    """A resource type; what it makes is told by the subclasses."""

    properties: dict[str, Property]
    attributes: frozenset[str] = frozenset()

    def has(self, attribute: str) -> bool:
        """Whether it can be read of such a resource."""
        return attribute == "show" or attribute in self.attributes

    def takes_null(self, name: str) -> bool:
        """Whether null says something other than that the property is not given."""
        return name in self.properties and self.properties[name].null

    def check(self, name: str, given: Values, clouds: Clouds) -> None:
        """Raises :class:`HotError` for properties that it does not take."""
        where = f"resources.{name}.properties"
        for key, value in given.items():
            if key not in self.properties:
                raise HotError(f"Property error: : {where}: : Unknown Property {key}")
            if not has_later(value) and value is not None:
                self.properties[key].check(f"{where}.{key}", value, clouds)
        for key, one in self.properties.items():
            if one.needed and key not in given:
                raise HotError(f"Property error: : {where}: : Property {key} not assigned")

    def changes(self, before: Values, after: Values) -> str:
        """What new properties mean: ``unchanged``, ``updated`` in place, or ``replaced`` by a new resource."""
        different = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        if not different:
            return "unchanged"
        return "updated" if all(self.properties[key].later for key in different if key in self.properties) else "replaced"

    def make(self, clouds: Clouds, given: Values, name: str) -> str:
        """The new thing's id. ``name``: the resource's."""
        raise NotImplementedError

    def change(self, clouds: Clouds, held: str, before: Values, given: Values) -> str:
        """Change it in place; its id."""
        raise NotImplementedError

    def remove(self, clouds: Clouds, held: str, given: Values) -> None:
        """Remove it. HTTP's 404 means that it is gone already."""
        raise NotImplementedError

    def show(self, clouds: Clouds, held: str, given: Values) -> Values:
        """Its attributes."""
        del clouds, held, given
        return {}
