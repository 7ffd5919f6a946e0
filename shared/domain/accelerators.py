"""The catalogue of accelerators, and what a node of a flavor has, costs and draws.

The catalogue is data (shared/data/accelerators.yaml, or the file that ACCELERATORS_FILE names) that an operator edits. The model of a
node's power is P = base + cores x c x u + GB x m + sum over accelerators of idle + (max - idle) x u (FACTS.md, D6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from shared.domain import rating
from shared.errors import FieldError

if TYPE_CHECKING:
    from shared.domain.ports import Flavor

_ID: Final = re.compile(r"^[a-z0-9][a-z0-9.-]{0,63}\Z")
KINDS: Final = ("gpu", "npu")
_REQUIRED: Final = ("id", "vendor", "kind", "name", "memory_gb", "idle_w", "max_w", "price_per_hour")
_OPTIONAL: Final = ("slice_of", "slices", "aliases", "resource", "source")
_NUMBERS: Final = {"memory_gb": 100_000.0, "idle_w": 100_000.0, "max_w": 100_000.0, "price_per_hour": 1_000_000.0}
_FLAVOR: Final = ("flavor", "accelerator", "count")
_MOST_PER_NODE: Final = 64
#: Nova's and Cyborg's extra specs that name a device, in the order in which they are believed.
_BY_MODEL: Final = "accelerator:model"
_BY_ALIAS: Final = "pci_passthrough:alias"
_BY_PROFILE: Final = "accel:device_profile"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One row: watts and price are of one device (or slice), per hour; memory in GB."""

    id: str
    vendor: str
    kind: str
    name: str
    memory_gb: float
    idle_w: float
    max_w: float
    price_per_hour: float
    slice_of: str | None = None
    slices: int = 1  #: how many of these make up the whole device
    aliases: tuple[str, ...] = ()
    resource: str | None = None  #: the name under which Kubernetes counts it
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For answers."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "kind": self.kind,
            "name": self.name,
            "memory_gb": self.memory_gb,
            "idle_w": self.idle_w,
            "max_w": self.max_w,
            "price_per_hour": self.price_per_hour,
            "slice_of": self.slice_of,
            "slices": self.slices,
            "aliases": list(self.aliases),
            "resource": self.resource,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class NodeShape:
    """A node of one flavor: what workloads may have of it, its price per hour, and its watts."""

    flavor: str
    cpu_milli: int
    memory_mib: int
    vcpus: int
    memory_gb: float
    accelerator: Accelerator | None = None
    devices: int = 0
    read_from: str = "none"  #: which extra spec or mapping told of the accelerators

    @property
    def price_per_hour(self) -> float:
        """Cores, memory and devices."""
        device = self.accelerator.price_per_hour * self.devices if self.accelerator else 0.0
        return self.vcpus * rating.PRICE_PER_CORE_HOUR + self.memory_gb * rating.PRICE_PER_GB_HOUR + device

    @property
    def idle_w(self) -> float:
        """Watts of a node that does nothing."""
        return (
            rating.BASE_W + self.memory_gb * rating.W_PER_GB + (self.accelerator.idle_w * self.devices if self.accelerator else 0.0)
        )

    @property
    def max_w(self) -> float:
        """Watts with every core and device busy."""
        device = self.accelerator.max_w * self.devices if self.accelerator else 0.0
        return rating.BASE_W + self.memory_gb * rating.W_PER_GB + self.vcpus * rating.W_PER_CORE + device

    def draw_w(self, cpu_milli: float, devices: float) -> float:
        """Watts that work adds to an idle node: its cores at the assumed utilisation, and its devices (whole or in part) at their highest."""
        rise = (self.accelerator.max_w - self.accelerator.idle_w) * devices if self.accelerator else 0.0
        return cpu_milli / 1000 * rating.W_PER_CORE * rating.ASSUMED_UTILISATION + rise

    def as_dict(self) -> dict[str, Any]:
        """For answers."""
        return {
            "flavor": self.flavor,
            "cpu_milli": self.cpu_milli,
            "memory_mib": self.memory_mib,
            "vcpus": self.vcpus,
            "memory_gb": self.memory_gb,
            "accelerator": self.accelerator.id if self.accelerator else None,
            "accelerator_count": self.devices,
            "read_from": self.read_from,
            "price_per_hour": round(self.price_per_hour, 6),
            "idle_w": round(self.idle_w, 3),
            "max_w": round(self.max_w, 3),
        }


@dataclass(frozen=True, slots=True)
class Reserve:
    """What a node's own services keep: of its memory a share, of its cores some thousandths."""

    cpu_milli: int = 0
    memory_share: float = 0.0


@dataclass(frozen=True)
class Catalogue:
    """All rows, and the flavors that are mapped by configuration."""

    rows: Mapping[str, Accelerator]
    flavors: tuple[tuple[str, str, int], ...] = ()
    reserve: Reserve = field(default_factory=Reserve)

    def find(self, word: str) -> Accelerator | None:
        """By id or alias, whatever the case; None where nothing has it."""
        word = word.lower().replace("_", "-")
        if word in self.rows:
            return self.rows[word]
        return next((row for row in self.rows.values() if word in row.aliases), None)

    def named_in(self, text: str) -> Accelerator | None:
        """The row of which a word of ``text`` is the id or an alias: the longest that is in it, at word boundaries."""
        text = text.lower().replace("_", "-")
        found: tuple[int, Accelerator] | None = None
        for row in self.rows.values():
            for word in (row.id, *row.aliases):
                if re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) and (found is None or len(word) > found[0]):
                    found = (len(word), row)
        return found[1] if found else None

    def wanted(self, *, kind: str | None, models: Iterable[str], memory_gb: float | None) -> list[Accelerator]:
        """Rows of a kind, of some models (ids or aliases; slices of a named device are not it), with at least so much memory."""
        named = {row.id for word in models if (row := self.find(word)) is not None}
        return [
            row
            for row in self.rows.values()
            if (kind is None or row.kind == kind)
            and (not named or row.id in named)
            and (memory_gb is None or row.memory_gb >= memory_gb)
        ]

    def node(self, flavor: Flavor) -> NodeShape:
        """What a node of ``flavor`` has."""
        accelerator, count, source = self._devices(flavor)
        memory = flavor.ram_mb
        return NodeShape(
            flavor=flavor.name,
            cpu_milli=max(0, flavor.vcpus * 1000 - self.reserve.cpu_milli),
            memory_mib=max(0, int(memory * (1 - self.reserve.memory_share))),
            vcpus=flavor.vcpus,
            memory_gb=memory / 1024,
            accelerator=accelerator,
            devices=count,
            read_from=source,
        )

    def _devices(self, flavor: Flavor) -> tuple[Accelerator | None, int, str]:
        for pattern, accelerator, count in self.flavors:
            if fnmatchcase(flavor.name, pattern):
                return self.rows[accelerator], count, "configuration"
        specs = flavor.extra_specs
        stated = _integer(specs.get("accelerator:count"))
        for key, text in self._words(specs):
            name, amount = _named_amount(key, text)
            row = self.find(name) or self.named_in(name)
            if row is not None:
                return row, stated or amount, key
        words = flavor.name.lower().replace("_", "-").replace("-", ".").split(".")
        if words[0] not in KINDS:
            return None, 0, "none"
        row = next((found for word in words[1:] if (found := self.find(word))), None) or self.find(words[0])
        return row, stated or 1, "name"

    @staticmethod
    def _words(specs: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        for key in (_BY_MODEL, _BY_ALIAS, _BY_PROFILE):
            if specs.get(key):
                yield key, specs[key]
        yield from (
            (key, key.removeprefix("resources:CUSTOM_") + ":" + specs[key]) for key in specs if key.startswith("resources:CUSTOM_")
        )
        if _integer(specs.get("resources:VGPU")):
            traits = [key.removeprefix("trait:CUSTOM_") for key in specs if key.startswith("trait:CUSTOM_")]
            yield "resources:VGPU", f"{' '.join(traits) or 'vgpu'}:{specs['resources:VGPU']}"


def _named_amount(key: str, text: str) -> tuple[str, int]:
    """``a100:4`` is four; of a profile's name, ``npu-intel-x2`` is two."""
    name, _, amount = text.partition(",")[0].partition(":")
    if key == _BY_PROFILE:
        many = re.search(r"[-_]x(\d+)\Z", name)
        return (name[: many.start()], int(many.group(1))) if many else (name, 1)
    return name, _integer(amount) or 1


def _integer(words: str | None) -> int:
    return int(words) if words and words.isdigit() else 0


# -- reading the file ---------------------------------------------------------------------------------------------------


def read(document: Any, *, reserve: Reserve | None = None) -> tuple[Catalogue | None, list[FieldError]]:
    """The catalogue that a document describes, or everything that is wrong with it: each finding names the row and the field."""
    if not isinstance(document, Mapping) or not isinstance(document.get("accelerators"), list):
        return None, [FieldError("accelerators", "required", "The document needs a list named accelerators.")]
    wrong = [
        FieldError(str(name), "unknown", "Known are accelerators and flavors.")
        for name in document
        if name not in {"accelerators", "flavors"}
    ]
    rows: dict[str, Accelerator] = {}
    words: dict[str, str] = {}
    for index, item in enumerate(document["accelerators"]):
        where = f"accelerators.{index}"
        found = _row(where, item)
        if isinstance(found, list):
            wrong += found
            continue
        for word in (found.id, *found.aliases):
            if word in words and words[word] != found.id:
                wrong.append(FieldError(f"{where}.aliases", "unique", f"{word!r} names {words[word]} already."))
            words.setdefault(word, found.id)
        if found.id in rows:
            wrong.append(FieldError(f"{where}.id", "unique", f"There is another {found.id!r}."))
        rows[found.id] = found
    wrong += _check_slices(document["accelerators"], rows)
    flavors, bad = _flavors(document.get("flavors") or [], rows)
    wrong += bad
    return (None, wrong) if wrong else (Catalogue(rows, tuple(flavors), reserve or Reserve()), [])


def _row(where: str, item: Any) -> Accelerator | list[FieldError]:
    if not isinstance(item, Mapping):
        return [FieldError(where, "type", "A row is a map.")]
    wrong = [FieldError(f"{where}.{name}", "required", "This field is required.") for name in _REQUIRED if name not in item]
    wrong += [
        FieldError(f"{where}.{name}", "unknown", f"Known are {', '.join((*_REQUIRED, *_OPTIONAL))}.")
        for name in item
        if name not in (*_REQUIRED, *_OPTIONAL)
    ]
    if "id" in item and not (isinstance(item["id"], str) and _ID.match(item["id"])):
        wrong.append(FieldError(f"{where}.id", "pattern", "Small letters, digits, dots and dashes, at most 64."))
    if "kind" in item and item["kind"] not in KINDS:
        wrong.append(FieldError(f"{where}.kind", "choice", f"One of {', '.join(KINDS)}."))
    for name, most in _NUMBERS.items():
        value = item.get(name)
        if name in item and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most):
            wrong.append(FieldError(f"{where}.{name}", "range", f"A number from 0 to {most:g}."))
    wrong += [
        FieldError(f"{where}.{name}", "type", "A text.")
        for name in ("vendor", "name", "slice_of", "resource", "source")
        if item.get(name) is not None and not isinstance(item[name], str)
    ]
    aliases = item.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(word, str) and word for word in aliases):
        wrong.append(FieldError(f"{where}.aliases", "type", "A list of texts."))
    slices = item.get("slices", 1)
    if isinstance(slices, bool) or not isinstance(slices, int) or not 1 <= slices <= _MOST_PER_NODE:
        wrong.append(FieldError(f"{where}.slices", "range", f"A whole number from 1 to {_MOST_PER_NODE}."))
    if not wrong and item["idle_w"] > item["max_w"]:
        wrong.append(FieldError(f"{where}.idle_w", "max_w", "An idle device can't draw more than max_w."))
    if wrong:
        return wrong
    return Accelerator(
        id=item["id"],
        vendor=item["vendor"],
        kind=item["kind"],
        name=item["name"],
        memory_gb=float(item["memory_gb"]),
        idle_w=float(item["idle_w"]),
        max_w=float(item["max_w"]),
        price_per_hour=float(item["price_per_hour"]),
        slice_of=item.get("slice_of"),
        slices=slices,
        aliases=tuple(word.lower().replace("_", "-") for word in aliases),
        resource=item.get("resource"),
        source=item.get("source") or "",
    )


def _check_slices(items: list[Any], rows: Mapping[str, Accelerator]) -> list[FieldError]:
    wrong = []
    for index, item in enumerate(items):
        row = rows.get(item.get("id", "")) if isinstance(item, Mapping) else None
        if row is None or row.slice_of is None:
            continue
        whole = rows.get(row.slice_of)
        where = f"accelerators.{index}"
        if whole is None or whole.slice_of is not None:
            wrong.append(FieldError(f"{where}.slice_of", "exists", f"{row.slice_of!r} is not a whole device of this file."))
        elif row.memory_gb * row.slices > whole.memory_gb:
            words = f"{row.slices} slices of {row.memory_gb:g} GB are more than the {whole.memory_gb:g} GB of {whole.id}."
            wrong.append(FieldError(f"{where}.memory_gb", "sum", words))
        elif row.max_w * row.slices > whole.max_w:
            words = f"{row.slices} slices of {row.max_w:g} W are more than the {whole.max_w:g} W of {whole.id}."
            wrong.append(FieldError(f"{where}.max_w", "sum", words))
    return wrong


def _flavors(items: Any, rows: Mapping[str, Accelerator]) -> tuple[list[tuple[str, str, int]], list[FieldError]]:
    if not isinstance(items, list):
        return [], [FieldError("flavors", "type", "A list.")]
    found: list[tuple[str, str, int]] = []
    wrong: list[FieldError] = []
    for index, item in enumerate(items):
        where = f"flavors.{index}"
        if not isinstance(item, Mapping) or set(item) - set(_FLAVOR) or "flavor" not in item or "accelerator" not in item:
            wrong.append(FieldError(where, "fields", "A map with flavor and accelerator, and perhaps count."))
            continue
        count = item.get("count", 1)
        if not isinstance(item["flavor"], str) or not item["flavor"]:
            wrong.append(FieldError(f"{where}.flavor", "type", "A flavor's name, or a shell pattern of names."))
        elif item["accelerator"] not in rows:
            wrong.append(FieldError(f"{where}.accelerator", "exists", f"This file has no accelerator {item['accelerator']!r}."))
        elif isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_PER_NODE:
            wrong.append(FieldError(f"{where}.count", "range", f"A whole number from 1 to {_MOST_PER_NODE}."))
        else:
            found.append((item["flavor"], item["accelerator"], count))
    return found, wrong
