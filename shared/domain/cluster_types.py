"""Cluster types: the strategies that clusters are made by, and the Magnum cluster templates that they become.

A type is data (heat/cluster_templates.yaml, or made by POST /templates). Its Magnum template's name ends with a hash of what it is
rendered to, so that a changed type makes a new template and no cluster's template ever changes under it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from shared.domain.clusters import MASTER_COUNT_MAX, NAME_PATTERN, NODE_COUNT_MAX, RESERVED_LABEL_PREFIX, NodeGroupSpec
from shared.domain.clusters import NAME_MAX as GROUP_NAME_MAX
from shared.domain.drivers import DRIVERS, Driver, driver_for
from shared.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(NAME_PATTERN)
NAME_MAX: Final = 50  #: the hash comes behind it
_TEXTS: Final = (
    "image",
    "flavor",
    "master_flavor",
    "network_driver",
    "volume_driver",
    "external_network",
    "keypair",
    "driver",
    "description",
)
_MAPS: Final = ("labels", "images", "network_drivers")
_COUNTS: Final = {"node_count": (0, NODE_COUNT_MAX), "master_count": (1, MASTER_COUNT_MAX), "docker_volume_size": (1, 16_384)}
_FLAGS: Final = ("master_lb_enabled", "floating_ip_enabled")
_GROUP: Final = ("name", "flavor", "node_count", "min_node_count", "max_node_count", "role", "labels")
FIELDS: Final = ("name", "coe", *_TEXTS, *_MAPS, *_COUNTS, *_FLAGS, "node_groups")
REQUIRED: Final = ("name", "image", "flavor", "master_flavor")


@dataclass(frozen=True, slots=True)
class ClusterType:
    """One strategy. Counts are nodes; ``node_groups`` are the groups besides the default one."""

    name: str
    image: str
    flavor: str
    master_flavor: str
    coe: str = "kubernetes"
    description: str = ""
    node_count: int = 1
    master_count: int = 1
    network_driver: str | None = None
    volume_driver: str | None = None
    external_network: str | None = None
    keypair: str | None = None
    driver: str | None = None
    docker_volume_size: int | None = None
    master_lb_enabled: bool = False
    floating_ip_enabled: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)  #: by Magnum driver
    network_drivers: dict[str, str] = field(default_factory=dict)  #: by Magnum driver
    node_groups: tuple[NodeGroupSpec, ...] = ()

    def body(self, driver: Driver | None = None) -> dict[str, Any]:
        """The Magnum cluster template, for a driver where that is known: POST /v1/clustertemplates takes it, name included."""
        known = driver.name if driver else ""
        values: dict[str, Any] = {
            "coe": self.coe,
            "image_id": self.images.get(known, self.image),
            "flavor_id": self.flavor,
            "master_flavor_id": self.master_flavor,
            "network_driver": self.network_drivers.get(known, self.network_driver),
            "volume_driver": self.volume_driver,
            "external_network_id": self.external_network,
            "keypair_id": self.keypair,
            "docker_volume_size": self.docker_volume_size,
            "master_lb_enabled": self.master_lb_enabled,
            "floating_ip_enabled": self.floating_ip_enabled,
            "labels": dict(self.labels),
            "driver": self.driver,
        }
        content = {name: value for name, value in values.items() if value is not None}
        return {"name": f"{self.name}-{_hash(content)}", **content}

    def content(self) -> dict[str, Any]:
        """The type as it was written, without what has its usual value."""
        document: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if name == "node_groups":
                value = [_group_content(group) for group in value]
            if value is not False and value not in (None, "", {}, []):  # 0 equals False, and is a count
                document[name] = value
        return document


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _group_content(group: NodeGroupSpec) -> dict[str, Any]:
    values = {
        "name": group.name,
        "flavor": group.flavor,
        "node_count": group.node_count,
        "min_node_count": group.least,
        "max_node_count": group.most,
        "role": group.role if group.role != "worker" else None,
        "labels": group.labels or None,
    }
    return {name: value for name, value in values.items() if value is not None}


Report = Callable[[str, str, str], None]
_WORDS_OF_NAME: Final = (
    f"Must begin with a letter, go on with letters, digits, '.', '_' or '-', and have at most {NAME_MAX} characters."
)


def parse(document: Mapping[str, Any], *, path: str = "") -> tuple[ClusterType | None, list[FieldError]]:
    """The type that a document describes, or everything that is wrong with it. ``path`` comes before the fields' names."""
    findings: list[FieldError] = []

    def wrong(name: str, rule: str, words: str) -> None:
        findings.append(FieldError(f"{path}{name}", rule, words))

    _check_known(document, FIELDS, wrong)
    for name in REQUIRED:
        if document.get(name) in (None, ""):
            wrong(name, "required", "This field is required.")
    _check_scalars(document, wrong)
    for name in _MAPS:
        _check_map(name, document.get(name), wrong)
    groups = _groups(document.get("node_groups"), wrong)
    _check_drivers(document, wrong)
    if findings:
        return None, findings
    values = {name: value for name, value in document.items() if value is not None and name != "node_groups"}
    return ClusterType(**values, node_groups=groups), []


def _check_known(document: Mapping[str, Any], known: tuple[str, ...], wrong: Report) -> None:
    for name in document:
        if name not in known:
            wrong(str(name)[:200], "unknown", f"There is no such field. There are: {', '.join(known)}.")


def _check_scalars(document: Mapping[str, Any], wrong: Report) -> None:
    name = document.get("name")
    if name not in (None, "") and (not isinstance(name, str) or len(name) > NAME_MAX or not _NAME.match(name)):
        wrong("name", "pattern", _WORDS_OF_NAME)
    if document.get("coe", "kubernetes") != "kubernetes":
        wrong("coe", "choice", "Must be kubernetes: Magnum has no other any more.")
    for field_name in _TEXTS:
        value = document.get(field_name)
        if value is not None and (not isinstance(value, str) or len(value) > 255):  # noqa: PLR2004 - Magnum's columns
            wrong(field_name, "string", "Must be a string of at most 255 characters.")
    for field_name, (least, most) in _COUNTS.items():
        _check_count(field_name, document.get(field_name), least, most, wrong)
    masters = document.get("master_count")
    if isinstance(masters, int) and masters % 2 == 0:
        wrong("master_count", "odd", "Must be odd, so that the masters can form a majority.")
    for field_name in _FLAGS:
        if not isinstance(document.get(field_name, False), bool):
            wrong(field_name, "boolean", "Must be true or false.")


def _check_map(name: str, value: Any, wrong: Report) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        wrong(name, "object", "Must be a map of strings to strings.")
        return
    for key, one in value.items():
        if not isinstance(key, str) or not isinstance(one, str):
            wrong(f"{name}.{key}", "string", 'Must be a string: write "true", not true.')


def _check_count(name: str, value: Any, least: int, most: int, wrong: Report) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
        wrong(name, "range", f"Must be a whole number between {least} and {most}.")


def _groups(value: Any, wrong: Report) -> tuple[NodeGroupSpec, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        wrong("node_groups", "array", "Must be a list of node groups.")
        return ()
    found: list[NodeGroupSpec] = []
    names: set[str] = set()
    for index, one in enumerate(value):
        if not isinstance(one, dict):
            wrong(f"node_groups.{index}", "object", "Must be a map.")
            continue
        made = _group(one, f"node_groups.{index}.", wrong)
        found += [made] if made is not None else []
        name = one.get("name")
        if isinstance(name, str) and name in names:
            wrong(f"node_groups.{index}.name", "unique", f"There are two groups {name[:100]!r}.")
        names |= {name} if isinstance(name, str) else set()
    return tuple(found)


def _group(one: Mapping[str, Any], path: str, wrong: Report) -> NodeGroupSpec | None:
    findings: list[str] = []

    def refuse(name: str, rule: str, words: str) -> None:
        findings.append(name)
        wrong(f"{path}{name}", rule, words)

    _check_known(one, _GROUP, refuse)
    if not _is_name(one.get("name")) or one["name"] in {"default-worker", "default-master"}:
        refuse("name", "pattern", "Must be a name of letters, digits, '.', '_' and '-', not that of a default group.")
    flavor = one.get("flavor")
    if flavor in (None, ""):
        refuse("flavor", "required", "This field is required: a flavor's name.")
    elif not isinstance(flavor, str) or len(flavor) > 255:  # noqa: PLR2004 - Magnum's column
        refuse("flavor", "string", "Must be a string of at most 255 characters.")
    role = one.get("role")
    if role is not None and (not _is_name(role) or role == "master"):
        refuse("role", "pattern", "Must be a name of letters, digits, '.', '_' and '-', not master.")
    for field_name, least in (("node_count", 0), ("min_node_count", 0), ("max_node_count", 1)):
        _check_count(field_name, one.get(field_name), least, NODE_COUNT_MAX, refuse)
    _check_group_labels(one.get("labels"), refuse)
    count = 1 if one.get("node_count") is None else one["node_count"]
    fewest, most = one.get("min_node_count"), one.get("max_node_count")
    if not {"node_count", "min_node_count", "max_node_count"} & set(findings):
        if fewest is not None and fewest > count:
            refuse("min_node_count", "range", "Must be at most node_count.")
        if most is not None and most < count:
            refuse("max_node_count", "range", "Must be at least node_count.")
    if findings:
        return None
    labels = dict(one.get("labels") or {})
    return NodeGroupSpec(one["name"], count, flavor=flavor, role=role or "worker", least=fewest, most=most, labels=labels)


def _check_group_labels(labels: Any, wrong: Report) -> None:
    _check_map("labels", labels, wrong)
    for key in labels if isinstance(labels, dict) else ():
        if str(key).startswith(RESERVED_LABEL_PREFIX):
            wrong(f"labels.{key}", "reserved", f"Labels that begin with {RESERVED_LABEL_PREFIX} are set by this service.")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= GROUP_NAME_MAX and _NAME.match(value) is not None


def _check_drivers(document: Mapping[str, Any], wrong: Report) -> None:
    names = {driver.name: driver for driver in DRIVERS}
    own = document.get("network_drivers")
    own = own if isinstance(own, dict) else {}
    images = document.get("images")
    keyed = {"images": images if isinstance(images, dict) else {}, "network_drivers": own}
    for name, values in keyed.items():
        for key in values:
            if key not in names:
                wrong(f"{name}.{key}", "choice", f"Must be a Magnum driver: {', '.join(names)}.")
    for key, value in own.items():
        if key in names and value not in names[key].network_drivers:
            wrong(f"network_drivers.{key}", "choice", f"{key} takes {', '.join(names[key].network_drivers)}.")
    named, network = document.get("driver"), document.get("network_driver")
    driver = driver_for(named) if named and isinstance(named, str) else None
    if driver and driver.known and network and driver.name not in own and network not in driver.network_drivers:
        wrong("network_driver", "choice", f"{driver.name} takes {', '.join(driver.network_drivers)}.")


def parse_file(document: Any) -> tuple[dict[str, ClusterType], list[FieldError]]:
    """The types of a file in the form ``cluster_templates: {key: type}``, by name, or everything that is wrong with it."""
    types = document.get("cluster_templates") if isinstance(document, dict) else None
    if not isinstance(types, dict):
        return {}, [FieldError("cluster_templates", "required", "The file must hold a map cluster_templates.")]
    found: dict[str, ClusterType] = {}
    findings: list[FieldError] = []
    for key, one in types.items():
        place = f"cluster_templates.{key}."
        if not isinstance(one, dict):
            findings.append(FieldError(place.rstrip("."), "object", "Must be a map."))
            continue
        made, wrong = parse(one, path=place)
        findings += wrong
        if made is not None and made.name in found:
            findings.append(FieldError(f"{place}name", "unique", f"There are two types {made.name!r}."))
        elif made is not None:
            found[made.name] = made
    return found, findings
