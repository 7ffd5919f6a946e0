"""The file that names the sources: read whole, checked whole, every finding with its field and rule.

    budget_s: 10
    sources:
      - name: central
        url: https://prometheus.example:9090
        bearer_token_file: /run/secrets/prometheus-token
        selector: 'region="RegionOne",job!="test"'
        readers: [kepler, dcgm]
        metrics:
          dcgm_energy: {unit: J, plausible: [5, 900]}

Secrets stand in files of their own, read anew at each collection, so that a renewed token needs no restart.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import yaml

from shared.errors import ConfigurationError, FieldError
from shared.telemetry.families import COUNTER_FACTORS, FACTORS, FAMILIES, READERS, Family, Kind

_LABEL: Final = r"[a-zA-Z_][a-zA-Z0-9_]*"
_MATCHER: Final = rf'\s*{_LABEL}\s*(?:=|!=|=~|!~)\s*"(?:[^"\\\n]|\\.)*"\s*'
_SELECTOR: Final = re.compile(rf"{_MATCHER}(?:,{_MATCHER})*,?\s*")
_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_SOURCE_MAX: Final = 100

#: Labels that may carry Magnum's uuid, Nova's id, and a node's name: the first that a series has counts. ``instance`` is the
#: address that Prometheus scraped, its port cut off: the last resort. ``exported_node`` is the exporter's own ``node`` where
#: Prometheus gave the series one of its own.
CLUSTER_LABELS: Final = ("magnum_cluster_uuid",)
INSTANCE_LABELS: Final = ("openstack_instance_id", "vm_id")
NODE_LABELS: Final = (
    "exported_node",
    "node",
    "node_name",
    "kubernetes_node_name",
    "nodename",
    "Hostname",
    "hostname",
    "host",
    "instance",
)

#: Kubernetes' own, and those that operators of nodes, devices and metrics are usually installed in.
SYSTEM_NAMESPACES: Final = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "magnum-tiller",
    "monitoring",
    "kepler",
    "gpu-operator",
    "nvidia-gpu-operator",
    "node-feature-discovery",
    "furiosa-system",
    "rbln-system",
)
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Source:
    """One Prometheus, or what speaks like one (Thanos, Mimir, VictoriaMetrics), and what is read from it. Times in seconds."""

    name: str
    url: str
    selector: str = ""  #: label matchers in Prometheus' own notation, put into every query
    cluster: str = ""  #: Magnum's uuid, where all series are of one cluster
    readers: tuple[str, ...] = READERS
    cluster_labels: tuple[str, ...] = CLUSTER_LABELS
    instance_labels: tuple[str, ...] = INSTANCE_LABELS
    node_labels: tuple[str, ...] = NODE_LABELS
    system_namespaces: tuple[str, ...] = SYSTEM_NAMESPACES  #: pods in them are no sign of use
    window_s: int = 120  #: rates are taken over it, and a value older than it is none; at least twice the scrape interval
    delay_s: float = 0.0  #: how far behind the present the source is complete
    connect_timeout_s: float = 2.0
    timeout_s: float = 5.0  #: one query
    budget_s: float = 8.0  #: all queries of one collection
    max_bytes: int = 256 * 1024**2  #: one answer, decompressed
    bearer_token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    families: Mapping[str, Family] = field(default_factory=lambda: FAMILIES)


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """All sources. After ``budget_s`` seconds a collection ends with what it has."""

    sources: tuple[Source, ...] = ()
    budget_s: float = 10.0


def load(path: str | Path) -> TelemetryConfig:
    """Read the file. Raises :class:`ConfigurationError` whose ``errors`` name every wrong field and its rule."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"The telemetry file {path} cannot be read: {exc.strerror or exc}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"The telemetry file {path} is no YAML: {exc}") from exc
    return parse(content)


def parse(content: Any) -> TelemetryConfig:
    """As :func:`load`, of what the file holds. An empty file means no source: the model alone works."""
    checker = _Checker()
    made = checker.config(content if content is not None else {})
    if checker.errors:
        words = "; ".join(f"{error.field}: {error.detail}" for error in checker.errors)
        raise ConfigurationError(f"Telemetry: {words}", errors=checker.errors)
    return made


class _Checker:
    """Collects findings while it reads. A wrong field yields its default, so that the rest is still checked."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def wrong(self, where: str, rule: str, detail: str) -> None:
        self.errors.append(FieldError(where, rule, detail))

    def config(self, content: Any) -> TelemetryConfig:
        fields = self._mapping("file", content, {"sources", "budget_s"}, prefix="")
        given = fields.get("sources", [])
        if not isinstance(given, list) or len(given) > _SOURCE_MAX:
            self.wrong("sources", "list", f"must be a list of at most {_SOURCE_MAX} sources.")
            given = []
        sources = [self._source(f"sources[{i}]", item) for i, item in enumerate(given)]
        seen: set[str] = set()
        for i, source in enumerate(sources):
            if source.name and source.name in seen:
                self.wrong(f"sources[{i}].name", "unique", f"{source.name!r} is the name of another source.")
            seen.add(source.name)
        return TelemetryConfig(tuple(sources), self._number("budget_s", fields.get("budget_s", 10.0), 0.1, 25.0, 10.0))

    def _source(self, where: str, item: Any) -> Source:
        known = {f.name for f in dataclasses.fields(Source)} - {"families"} | {"metrics"}
        fields = self._mapping(where, item, known)
        at = f"{where}."
        numbers = {
            name: self._number(at + name, fields[name], low, high, default)
            for name, low, high, default in (
                ("delay_s", 0.0, 3600.0, 0.0),
                ("connect_timeout_s", 0.05, 20.0, 2.0),
                ("timeout_s", 0.05, 20.0, 5.0),
                ("budget_s", 0.05, 25.0, 8.0),
            )
            if name in fields
        }
        whole = {
            name: int(self._number(at + name, fields[name], low, high, default, whole=True))
            for name, low, high, default in (("window_s", 2, 3600, 120), ("max_bytes", 1024, 4 * 1024**3, 256 * 1024**2))
            if name in fields
        }
        labels: dict[str, tuple[str, ...]] = {
            name: self._names(at + name, fields[name], re.compile(_LABEL), "names of labels")
            for name in ("cluster_labels", "instance_labels", "node_labels")
            if name in fields
        }
        if "system_namespaces" in fields and fields["system_namespaces"] != []:
            given = fields["system_namespaces"]
            labels["system_namespaces"] = self._names(at + "system_namespaces", given, _NAMESPACE, "names of namespaces")
        elif "system_namespaces" in fields:
            labels["system_namespaces"] = ()
        words = {
            name: self._text(at + name, fields[name])
            for name in ("bearer_token_file", "username", "password_file", "ca_file")
            if fields.get(name) is not None
        }
        self._credentials(where, words)
        return Source(
            name=self._matching(at + "name", fields.get("name"), _NAME, "letters, digits, '.', '_' and '-', 1 to 63 of them"),
            url=self._url(at + "url", fields.get("url")),
            selector=self._selector(at + "selector", fields.get("selector", "")),
            cluster=self._uuid(at + "cluster", fields.get("cluster")),
            readers=self._readers(at + "readers", fields.get("readers", list(READERS))),
            families=self._families(at + "metrics", fields.get("metrics", {})),
            **numbers,  # type: ignore[arg-type]  # a dict of keywords has one type of value for mypy
            **whole,  # type: ignore[arg-type]
            **labels,  # type: ignore[arg-type]
            **words,  # type: ignore[arg-type]
        )

    def _credentials(self, where: str, given: Mapping[str, str]) -> None:
        if "bearer_token_file" in given and ("username" in given or "password_file" in given):
            self.wrong(f"{where}.bearer_token_file", "one_of", "a token and a user name exclude each other.")
        if ("username" in given) != ("password_file" in given):
            missing = "password_file" if "username" in given else "username"
            self.wrong(f"{where}.{missing}", "required", "username and password_file belong together.")

    def _families(self, where: str, given: Any) -> Mapping[str, Family]:
        fields = self._mapping(where, given, set(FAMILIES))
        if not fields:
            return FAMILIES
        changed = {name: self._family(f"{where}.{name}", FAMILIES[name], item) for name, item in fields.items()}
        return {**FAMILIES, **changed}

    def _family(self, where: str, family: Family, item: Any) -> Family:
        fields = self._mapping(where, item, {"names", "unit", "scale", "plausible", "sentinels", "basis", "enabled"})
        new: dict[str, Any] = {}
        if "names" in fields:
            new["metrics"] = self._names(f"{where}.names", fields["names"], _METRIC, "names of metrics") or family.metrics
        if "unit" in fields:
            units = sorted(COUNTER_FACTORS if family.kind is Kind.COUNTER else FACTORS[family.quantity])
            if fields["unit"] in units:
                new["unit"] = fields["unit"]
            else:
                self.wrong(f"{where}.unit", "one_of", f"must be one of {', '.join(units)}, got {fields['unit']!r}.")
        if "scale" in fields:
            new["scale"] = self._number(f"{where}.scale", fields["scale"], 1e-12, 1e12, 1.0)
        if "plausible" in fields:
            new["low"], new["high"] = self._range(f"{where}.plausible", fields["plausible"], family)
        if "sentinels" in fields:
            given = fields["sentinels"] if isinstance(fields["sentinels"], list) else [fields["sentinels"]]
            new["sentinels"] = tuple(
                self._number(f"{where}.sentinels[{i}]", n, -math.inf, math.inf, 0.0) for i, n in enumerate(given)
            )
        if "basis" in fields:
            if fields["basis"] in ("measured", "modelled"):
                new["basis"] = type(family.basis)(fields["basis"])
            else:
                self.wrong(f"{where}.basis", "one_of", f"must be measured or modelled, got {fields['basis']!r}.")
        if "enabled" in fields:
            if not isinstance(fields["enabled"], bool):
                self.wrong(f"{where}.enabled", "boolean", "must be true or false.")
            new["enabled"] = fields["enabled"] is True
        return dataclasses.replace(family, **new)

    def _range(self, where: str, given: Any, family: Family) -> tuple[float, float]:
        numbers = [n for n in given if _is_number(n)] if isinstance(given, list) else []
        if len(numbers) != 2 or len(numbers) != len(given) or not numbers[0] < numbers[1]:  # noqa: PLR2004 - a pair
            self.wrong(where, "range", f"must be [lowest, highest] in the base unit, lowest below highest, got {given!r}.")
            return family.low, family.high
        return float(numbers[0]), float(numbers[1])

    def _mapping(self, where: str, given: Any, known: set[str], *, prefix: str | None = None) -> dict[str, Any]:
        if not isinstance(given, dict):
            self.wrong(where, "mapping", f"must be a mapping, got {type(given).__name__}.")
            return {}
        start = f"{where}." if prefix is None else prefix
        for key in given:
            if key not in known:
                self.wrong(f"{start}{key}", "unknown", f"is not known; known are {', '.join(sorted(known))}.")
        return {key: value for key, value in given.items() if key in known}

    def _number(self, where: str, given: Any, low: float, high: float, default: float, *, whole: bool = False) -> float:
        if not _is_number(given) or not low <= given <= high or (whole and given != int(given)):
            kind = "a whole number" if whole else "a number"
            bounds = f" between {low:g} and {high:g}" if math.isfinite(low) else ""
            self.wrong(where, "range", f"must be {kind}{bounds}, got {given!r}.")
            return default
        return float(given)

    def _text(self, where: str, given: Any) -> str:
        if not isinstance(given, str) or not given.strip():
            self.wrong(where, "text", f"must be text that is not empty, got {given!r}.")
            return ""
        return given

    def _matching(self, where: str, given: Any, pattern: re.Pattern[str], rule: str) -> str:
        if not isinstance(given, str) or not pattern.fullmatch(given):
            self.wrong(where, "required" if given is None else "pattern", f"must be {rule}, got {given!r}.")
            return ""
        return given

    def _names(self, where: str, given: Any, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
        items = [given] if isinstance(given, str) else given
        if not isinstance(items, list) or not items or not all(isinstance(n, str) and pattern.fullmatch(n) for n in items):
            self.wrong(where, "pattern", f"must be {what} ({pattern.pattern}), got {given!r}.")
            return ()
        return tuple(items)

    def _readers(self, where: str, given: Any) -> tuple[str, ...]:
        if not isinstance(given, list) or not given or not all(isinstance(n, str) and n in READERS for n in given):
            self.wrong(where, "one_of", f"must be a list of {', '.join(READERS)}, got {given!r}.")
            return READERS
        return tuple(dict.fromkeys(given))

    def _url(self, where: str, given: Any) -> str:
        if not isinstance(given, str):
            self.wrong(where, "required", "must be the address of a Prometheus, such as http://prometheus:9090.")
            return ""
        try:
            parts = urlsplit(given)
            port_ok = parts.port is None or parts.port > 0
        except ValueError:
            self.wrong(where, "url", "is no address: its host or port is wrong.")
            return ""
        if parts.username is not None or parts.password is not None:
            self.wrong(where, "no_secret", "must not hold a user or password; use username and password_file.")
        elif parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok or parts.query or parts.fragment:
            self.wrong(where, "url", f"must be http:// or https://, a host, and no query, got {given!r}.")
        return given.rstrip("/")

    def _selector(self, where: str, given: Any) -> str:
        if given in ("", None):
            return ""
        if not isinstance(given, str) or not _SELECTOR.fullmatch(given):
            self.wrong(where, "selector", f'must be label matchers without braces, such as region="a",job=~"b|c", got {given!r}.')
            return ""
        return given.strip().rstrip(",")

    def _uuid(self, where: str, given: Any) -> str:
        if given is None:
            return ""
        try:
            return str(UUID(given))
        except (ValueError, AttributeError, TypeError):
            self.wrong(where, "uuid", f"must be the uuid of a Magnum cluster, got {given!r}.")
            return ""


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and not math.isnan(given)
