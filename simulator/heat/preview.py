"""What an update would do."""

from typing import Any

from simulator.heat.hot import Document
from simulator.heat.types import TYPES


class _Renamed:
    """A scope in which a resource is its name, and one that would be made anew another one."""

    def __init__(self, anew: set[str]) -> None:
        self._anew = anew

    def resource(self, name: str) -> Any:
        return f"{name}, made anew" if name in self._anew else name

    def attribute(self, name: str, path: list[Any]) -> Any:
        return f"{self.resource(name)}: {path}"


def changes(old: Document, new: Document) -> dict[str, list[str]]:
    """Names of resources by what would happen to them. Who needs one that is made anew changes, too."""
    found: dict[str, list[str]] = {"unchanged": [], "updated": [], "replaced": [], "added": [], "deleted": []}
    anew: set[str] = set()
    for name in new.order():
        before, after = old.resources.get(name), new.resources[name]
        if before is None:
            found["added"].append(name)
            anew.add(name)
            continue
        kind = "replaced"
        if before["type"] == after["type"]:
            kind = TYPES[after["type"]].changes(old.properties(name, _Renamed(set())), new.properties(name, _Renamed(anew)))
        found[kind].append(name)
        if kind == "replaced":
            anew.add(name)
    found["deleted"] = [name for name in old.resources if name not in new.resources]
    return found
