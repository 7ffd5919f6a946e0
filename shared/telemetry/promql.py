"""The queries: one per reader and source, however many clusters there are.

All metrics of a reader are joined by ``or`` into one expression. ``or`` and ``rate`` forget metrics' names, so each series carries
its metric's name in a label of ours. Series that differ only in labels we don't need (pods that use a card, two scrapes of one
exporter) are joined by ``max``, so that they count once and the answer stays small.
"""

import json
from collections.abc import Iterable
from typing import Final

from shared.telemetry.config import Source
from shared.telemetry.families import NODE_INFO, Family, Kind

#: Holds the metric's name in answers.
METRIC: Final = "kcloud_metric"


def expressions(source: Source) -> dict[str, str]:
    """Each reader's query; a reader without an enabled family has none."""
    made = {}
    for reader in source.readers:
        families = [family for family in source.families.values() if family.reader == reader and family.enabled]
        parts = [_part(source, family) for family in families if family.kind is Kind.COUNTER or _is_special(family)]
        plain = [family for family in families if family.kind is Kind.GAUGE and not _is_special(family)]
        if plain:
            parts.append(_gauges(source, plain))
        if reader == "kube_state":
            parts.append(_node_info(source))
        if families:
            made[reader] = " or ".join(parts)
    return made


def _is_special(family: Family) -> bool:
    return bool(family.where) or family.in_prometheus != "max"


def _gauges(source: Source, families: Iterable[Family]) -> str:
    chosen = list(families)
    names = "|".join(name for family in chosen for name in family.metrics)
    # A plain selector would give values of up to five minutes ago; what is older than the window is missing.
    vector = f"last_over_time({_selected(source, names)}[{source.window_s}s])"
    kept = ",".join(dict.fromkeys(["__name__", *(label for family in chosen for label in _labels(source, family))]))
    return f'label_replace(max by ({kept}) ({vector}), "{METRIC}", "$1", "__name__", "(.+)")'


def _part(source: Source, family: Family) -> str:
    if family.pods:
        return _named(_pods(source), family.metrics[0])
    function = "rate" if family.kind is Kind.COUNTER else "last_over_time"
    labels = _labels(source, family)
    joined = []
    for name in family.metrics:
        vector = f"{function}({_selected(source, name, family.where)}[{source.window_s}s])"
        if family.running_only:
            vector = _running(source, vector)
        joined.append(_named(f"{family.in_prometheus} by ({','.join(labels)}) ({vector})", name))
    return " or ".join(joined)


def _running(source: Source, vector: str) -> str:
    # kube-state-metrics goes on telling the requests of pods that ended.
    own = ",".join(("namespace", "pod", *source.cluster_labels))
    phase = _selected(source, "kube_pod_status_phase", 'phase="Running"')
    return f"{vector} * on ({own}) group_left () (max by ({own}) (last_over_time({phase}[{source.window_s}s])) == 1)"


def _pods(source: Source) -> str:
    """Pods that run or wait for a node. Zero where Kubernetes tells only of others, so that nothing runs differs from nothing is known."""
    kept = ",".join(source.cluster_labels)
    own = ",".join(("namespace", "pod", *source.cluster_labels))
    system = f"namespace!~{json.dumps('|'.join(source.system_namespaces))}" if source.system_namespaces else ""
    alive = ",".join(filter(None, ('phase=~"Pending|Running|Unknown"', system)))
    theirs = f"max by ({own}) (last_over_time({_selected(source, 'kube_pod_status_phase', alive)}[{source.window_s}s])) == 1"
    daemons = _selected(source, "kube_pod_info", 'created_by_kind=~"DaemonSet|Node"')
    others = f"max by ({own}) (last_over_time({daemons}[{source.window_s}s]))"
    every = f"last_over_time({_selected(source, 'kube_pod_status_phase')}[{source.window_s}s])"
    return f"(sum by ({kept}) (({theirs}) unless on ({own}) ({others})) or max by ({kept}) ({every}) * 0)"


def _node_info(source: Source) -> str:
    labels = ("node", "provider_id", "system_uuid", *source.cluster_labels)
    vector = f"last_over_time({_selected(source, NODE_INFO)}[{source.window_s}s])"
    return _named(f"max by ({','.join(labels)}) ({vector})", NODE_INFO)


def _named(expression: str, metric: str) -> str:
    return f'label_replace({expression}, "{METRIC}", "{metric}", "", "")'


def _selected(source: Source, names: str, where: str = "") -> str:
    operator = "=~" if "|" in names else "="
    return "{" + ",".join(m for m in (f"__name__{operator}{json.dumps(names)}", where, source.selector) if m) + "}"


def _labels(source: Source, family: Family) -> tuple[str, ...]:
    """What must stay apart. Labels that a series does not have cost nothing."""
    places = (*source.cluster_labels, *source.instance_labels, *(source.node_labels if family.has_node else ()))
    own = (*family.device_labels, *family.model_labels, *family.apart, *((family.zone_label,) if family.zone_label else ()))
    return tuple(dict.fromkeys((*places, *own)))
