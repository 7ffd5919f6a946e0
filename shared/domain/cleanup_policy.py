"""What a project wants to happen to idle clusters, and the floor under it that its users can't go below."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.errors import FieldError


class Source(StrEnum):
    """Who is asked whether a cluster is in use."""

    ACCELERATOR_USE = "accelerator_use"
    CPU_USE = "cpu_use"
    RUNNING_PODS = "running_pods"
    PLACEMENTS = "placements"
    LAST_OPERATION = "last_operation"
    HOLD = "hold"
    PERSISTENT = "persistent"


#: What a policy can't leave out: this service knows these by itself.
ALWAYS: Final = frozenset({Source.PLACEMENTS, Source.LAST_OPERATION, Source.HOLD, Source.PERSISTENT})
#: What has to be measured in the clusters; a policy may do without one of them, by saying so.
MEASURED: Final = (Source.ACCELERATOR_USE, Source.CPU_USE, Source.RUNNING_PODS)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which clusters may be hibernated or deleted. ``end`` is not included; one before ``start`` is on the next day."""

    start: str = "08:00"
    end: str = "18:00"
    time_zone: str = "UTC"
    days: tuple[str, ...] = DAYS

    def holds(self, now: datetime) -> bool:
        """Whether ``now`` lies in it. Hours after midnight belong to the day on which the window began."""
        local = now.astimezone(ZoneInfo(self.time_zone))
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        clock = local.time()
        if start < end:
            return start <= clock < end and DAYS[local.weekday()] in self.days
        if clock >= start:
            return DAYS[local.weekday()] in self.days
        return clock < end and DAYS[(local - timedelta(days=1)).weekday()] in self.days


@dataclass(frozen=True, slots=True)
class CleanupPolicy:
    """One project's policy. The defaults are those of K-Cloud's rule ``idle-cluster-cleanup``, and touch nothing: a dry run."""

    enabled: bool = True
    dry_run: bool = True
    max_accelerator_percent: float = 10.0  #: below it the accelerators count as idle
    max_cpu_percent: float = 10.0
    max_running_pods: int = 0  #: so many pods, the system's left out, count as none
    max_age_minutes: float = 15.0  #: older measurements count as unknown
    min_idle_hours: float = 2.0
    grace_hours: float = 1.0
    hibernate_first: bool = True
    asleep_hours: float = 168.0  #: how long a hibernated cluster stays before it is deleted
    max_per_sweep: int = 5  #: clusters that one look may hibernate or delete
    sources: tuple[Source, ...] = MEASURED
    window: Window = field(default_factory=Window)

    @property
    def required(self) -> frozenset[Source]:
        """The sources without whose word a cluster counts as in use."""
        return ALWAYS | frozenset(self.sources)

    def as_dict(self) -> dict[str, Any]:
        """As stored and shown."""
        made = asdict(self)
        made["sources"] = [source.value for source in self.sources]
        made["window"] = asdict(self.window) | {"days": list(self.window.days)}
        return made


#: What a floor may hold, and which way is stricter: "most" keeps the larger value, "least" the smaller one.
STRICTER: Final[dict[str, str]] = {
    "dry_run": "most",
    "max_accelerator_percent": "least",
    "max_cpu_percent": "least",
    "max_running_pods": "least",
    "max_age_minutes": "least",
    "min_idle_hours": "most",
    "grace_hours": "most",
    "hibernate_first": "most",
    "asleep_hours": "most",
    "max_per_sweep": "least",
    "sources": "all",
    "window": "both",
}


def policy_from(content: Mapping[str, Any]) -> CleanupPolicy:
    """A policy out of checked content; what it does not say is as by default."""
    known = {f.name for f in fields(CleanupPolicy)}
    values = {name: value for name, value in content.items() if name in known}
    if "sources" in values:
        values["sources"] = _measured(values["sources"])
    if "window" in values:
        values["window"] = window_from(values["window"])
    return CleanupPolicy(**values)


def window_from(content: Mapping[str, Any]) -> Window:
    """A window out of checked content."""
    values = dict(content)
    if "days" in values:
        values["days"] = tuple(day for day in DAYS if day in values["days"])
    return Window(**values)


def _measured(names: Any) -> tuple[Source, ...]:
    return tuple(source for source in MEASURED if source.value in set(names))


def tightened(policy: CleanupPolicy, floor: Mapping[str, Any]) -> CleanupPolicy:
    """The policy, nowhere looser than the floor. The floor's window is beside the policy's: see :func:`windows_of`."""
    values: dict[str, Any] = {}
    for name, way in STRICTER.items():
        if name not in floor or way == "both":
            continue
        own = getattr(policy, name)
        if way == "all":
            values[name] = tuple(source for source in MEASURED if source in own or source.value in floor[name])
        else:
            values[name] = max(own, floor[name]) if way == "most" else min(own, floor[name])
    return CleanupPolicy(**({f.name: getattr(policy, f.name) for f in fields(CleanupPolicy)} | values))


def windows_of(policy: CleanupPolicy, floor: Mapping[str, Any]) -> tuple[Window, ...]:
    """The windows that must all be open."""
    return (policy.window, window_from(floor["window"])) if "window" in floor else (policy.window,)


def wrong_with(content: Mapping[str, Any]) -> list[FieldError]:
    """What well-formed fields of a policy or a floor say that makes no sense."""
    found = []
    window = content.get("window") or {}
    zone = window.get("time_zone", "UTC")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        words = f"There is no time zone {zone!r}; they are named like Asia/Seoul."
        found.append(FieldError("window.time_zone", "exists", words))
    usual = Window()
    if window.get("start", usual.start) == window.get("end", usual.end):
        found.append(
            FieldError("window.end", "range", "Must differ from window.start; 00:00 to 23:59 is the whole day but a minute.")
        )
    return found


def looser(content: Mapping[str, Any], floor: Mapping[str, Any]) -> list[FieldError]:
    """Each field of a policy that goes below the floor. A window can't: both must be open."""
    found = []
    for name, way in STRICTER.items():
        if name not in content or name not in floor or way == "both":
            continue
        own, bound = content[name], floor[name]
        if way == "all":
            missing = [source for source in bound if source not in own]
            if missing:
                found.append(FieldError(name, "floor", f"The project's floor requires {', '.join(missing)} as well."))
        elif way == "most" and own < bound:
            words = "true" if bound is True else f"at least {bound:g}"
            found.append(FieldError(name, "floor", f"Must be {words}: the project's floor says so."))
        elif way == "least" and own > bound:
            found.append(FieldError(name, "floor", f"Must be at most {bound:g}: the project's floor says so."))
    return found
