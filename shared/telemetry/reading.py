"""From series to readings: values that can't be true are left out and told, units become base units, clusters are found."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.domain.power import Reading
from shared.domain.telemetry import Basis, Finding, Inventory, Part, Quantity, Sample
from shared.telemetry.config import Source
from shared.telemetry.families import NODE_INFO, Family, Kind, Merge, is_blank
from shared.telemetry.http import Series
from shared.telemetry.promql import METRIC

#: Kepler up to 0.9 says in the label ``source`` that it had no sensor and estimated.
_ESTIMATED: Final = ("model", "estimator", "regressor")
#: Wrong units are mostly wrong by one of these.
_SLIPS: Final = (1000.0, 0.001, 1e6, 1e-6)
_SLIPS_OF_RATIOS: Final = (0.01, 100.0)


class Findings:
    """Counts what was left out: one finding per source, family and rule, with the first case as its example."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str, str], str] = {}
        self._count: Counter[tuple[str, str, str]] = Counter()

    def add(self, source: str, family: str, rule: str, detail: str, labels: dict[str, str] | None = None) -> None:
        """One more case. ``detail`` may say ``{series}``, which is written out for the first case alone: there may be many."""
        key = (source, family, rule)
        self._count[key] += 1
        if key not in self._first:
            self._first[key] = detail.replace("{series}", _shown(labels or {}))

    def all(self) -> tuple[Finding, ...]:
        """In the order of their first cases."""
        return tuple(Finding(*key, detail=detail, count=self._count[key]) for key, detail in self._first.items())


@dataclass(slots=True)
class Joins:
    """Which cluster and Nova instance a node's name stands for. Filled by ``learn`` before any series is read."""

    inventory: Inventory
    _instances: dict[tuple[str, str], str] = field(default_factory=dict)
    _nodes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _names: dict[str, str] = field(default_factory=dict)
    _owners: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def learn(self, source: Source, series: Iterable[Series]) -> None:
        """Take kube_node_info's links between nodes and Nova instances."""
        for labels, _ in series:
            if labels.get(METRIC) != NODE_INFO:
                continue
            node = labels.get("node", "")
            # provider_id is openstack:///<id> or openstack://<region>/<id>; system_uuid is the same id, from the firmware.
            instance = (labels.get("provider_id", "").rpartition("/")[2] or labels.get("system_uuid", "")).lower()
            cluster = source.cluster or _first(labels, source.cluster_labels).lower() or self.inventory.instances.get(instance, "")
            if node and cluster:
                self._nodes[node].add(cluster)
                if instance:
                    self._instances[cluster, node] = instance
                    self._names[instance] = node
                    self._owners[instance].add(cluster)

    def place(self, source: Source, family: Family, labels: dict[str, str]) -> tuple[str, str, str]:
        """Cluster, node and instance; the cluster is empty where nothing says it."""
        instance = _first(labels, source.instance_labels).lower()
        node = _first(labels, source.node_labels) if family.has_node else ""
        if node and node == labels.get("instance"):
            node = node.rpartition(":")[0] or node
        cluster = source.cluster or _first(labels, source.cluster_labels).lower()
        if not cluster and instance:
            cluster = self.inventory.instances.get(instance, "") or _only(self._owners.get(instance, ()))
        if not cluster and node:
            cluster = self.inventory.nodes.get(node, "") or _only(self._nodes.get(node, ()))
        if cluster and node and not instance:
            instance = self._instances.get((cluster, node), "")
        return cluster, node or self._names.get(instance, ""), instance

    def asked(self, cluster: str) -> bool:
        """Whether this cluster is wanted."""
        return self.inventory.clusters is None or cluster in self.inventory.clusters


@dataclass(slots=True)
class _Group:
    """The series of one thing, by the labels that tell them from each other: two of the same are two scrapes of one exporter."""

    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    model: str = ""
    broken: bool = False


_Key = tuple[str, str, str, str, str, Basis, str]


def readings(
    source: Source, reader: str, series: Iterable[Series], joins: Joins, findings: Findings, at: datetime
) -> list[Reading]:
    """The readings in one answer."""
    by_metric = {name: family for family in source.families.values() if family.reader == reader for name in family.metrics}
    groups: dict[str, dict[_Key, _Group]] = defaultdict(dict)
    for labels, text in series:
        family = by_metric.get(labels.get(METRIC, ""))
        if family is None:
            continue
        cluster, node, instance = joins.place(source, family, labels)
        if not cluster:
            findings.add(source.name, family.name, "no_cluster", "nothing says which cluster {series} belongs to.", labels)
            continue
        if not joins.asked(cluster):
            continue
        zone = _zone(labels.get(family.zone_label, "")) if family.zone_label else family.zone
        model = _first(labels, family.model_labels)
        which = model if family.part is Part.NODE else _first(labels, family.device_labels)
        key = (cluster, node, instance, which, zone, _basis(family, labels), labels.get(METRIC, ""))
        group = groups[family.name].setdefault(key, _Group(model=model))
        value = _value(source, family, labels, text, findings)
        if value is None:
            group.broken = True
        else:
            apart = tuple(labels.get(name, "") for name in family.apart)
            group.values[apart] = max(value, group.values.get(apart, value))
    return [
        _reading(source, source.families[name], key, group, at)
        for name, found in groups.items()
        for key, group in found.items()
        if group.values and not (group.broken and source.families[name].merge is Merge.SUM)
    ]


def _reading(source: Source, family: Family, key: _Key, group: _Group, at: datetime) -> Reading:
    cluster, node, instance, which, zone, basis, _ = key
    if family.merge is Merge.SUM:
        value = math.fsum(group.values.values())
    elif family.merge is Merge.MEAN:
        value = math.fsum(group.values.values()) / len(group.values)
    else:
        value = max(group.values.values())
    if family.quantity is Quantity.UTILISATION:
        value = min(value, 1.0)  # rounding may exceed it, which the family's bounds allow
    device = "" if family.part in {Part.NODE, Part.CLUSTER} else which
    sample = Sample(
        cluster, node, instance, device, family.part, family.quantity, value, at, basis, source.name, family.name, group.model
    )
    return Reading(family.layer, family.rank, zone, family.space, sample)


def _value(source: Source, family: Family, labels: dict[str, str], text: str, findings: Findings) -> float | None:
    """The value in the base unit; None where it says nothing or cannot be true."""
    try:
        raw = float(text)
    except ValueError:
        raw = math.nan
    if not math.isfinite(raw):
        findings.add(source.name, family.name, "not_a_number", f"{{series}} is {text[:40]}.", labels)
        return None
    if raw in family.sentinels or (family.kind is Kind.GAUGE and is_blank(raw)):
        findings.add(source.name, family.name, "sentinel", f"{{series}} is {text[:40]}, which stands for no value.", labels)
        return None
    value = raw * family.factor
    if family.low <= value <= family.high:
        return value
    slips = _SLIPS_OF_RATIOS if family.quantity is Quantity.UTILISATION else _SLIPS
    slip = next((s for s in slips if family.low <= value * s <= family.high), None) if value else None
    hint = f" With {slip:g} times the scale ({family.scale * slip:g}) it would be: check unit and scale." if slip else ""
    words = f"{{series}} is {value:g} in the base unit, which is not between {family.low:g} and {family.high:g}.{hint}"
    findings.add(source.name, family.name, "implausible", words, labels)
    return None


def _basis(family: Family, labels: dict[str, str]) -> Basis:
    if "source" in family.apart and any(word in labels.get("source", "").lower() for word in _ESTIMATED):
        return Basis.MODELLED
    return family.basis


def _zone(text: str) -> str:
    """Without the socket's number: package-0 and package-1 are two packages."""
    name, dash, number = text.lower().rpartition("-")
    return name if dash and number.isdigit() else text.lower()


def _only(named: Collection[str]) -> str:
    """The cluster that a machine is said to be of; none where several are."""
    return next(iter(named)) if len(named) == 1 else ""


def _first(labels: dict[str, str], names: Iterable[str]) -> str:
    for name in names:
        value = labels.get(name)
        if value:
            return value
    return ""


def _shown(labels: dict[str, str]) -> str:
    inner = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k not in {METRIC, "__name__"})
    return f"{labels.get(METRIC, '')}{{{inner}}}"[:300]
