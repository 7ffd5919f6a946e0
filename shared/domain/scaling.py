"""How many workers a cluster should have: what its policy makes of what lies on it, and why.

A group grows where what is held does not fit or takes more than ``scale_out_above`` of its scarcest resource, and shrinks where it takes
less than ``scale_in_below`` and all of it fits on fewer nodes. Both aim at ``target``. Nothing shrinks on an unknown: where a policy does
not say that placements tell all, the measured use must be known, and low.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.domain.capacity import Capacity, Shape
from shared.domain.clusters import NODE_COUNT_MAX
from shared.domain.fleet import Group, Member, shape_of
from shared.domain.workloads import Isolation, Placement
from shared.errors import FieldError

if TYPE_CHECKING:
    from shared.domain.accelerators import NodeShape

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOWS_MAX: Final = 32


class Action(StrEnum):
    """What a decision asks for."""

    NONE = "none"
    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    CREATE = "create"  #: no cluster can take the work, not even a larger one
    HIBERNATE = "hibernate"
    WAKE = "wake"


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the week with bounds of its own. Times are local to the policy's zone; one that ends before it starts runs over midnight."""

    days: frozenset[int]
    start: time
    end: time
    least: int = 0
    most: int | None = None
    hibernate: bool = False

    def holds(self, local: datetime) -> bool:
        """Whether a local time is in it."""
        now, today = local.time(), local.weekday()
        if self.start <= self.end:
            return today in self.days and self.start <= now < self.end
        return (today in self.days and now >= self.start) or ((today - 1) % 7 in self.days and now < self.end)


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    """Bounds are of all workers together; shares are of the scarcest resource, 0 to 1."""

    enabled: bool = False
    least: int = 0
    most: int = NODE_COUNT_MAX
    scale_out_above: float = 0.9
    scale_in_below: float = 0.4
    target: float = 0.7
    cool_down_s: float = 600.0
    trust_placements: bool = False  #: placements tell all that runs here; otherwise measured use must be known to shrink anything
    zone: str = "UTC"
    schedule: tuple[Window, ...] = ()

    def window(self, now: datetime) -> Window | None:
        """The first window of the schedule that ``now`` is in."""
        local = now.astimezone(ZoneInfo(self.zone))
        return next((one for one in self.schedule if one.holds(local)), None)

    def as_dict(self) -> dict[str, Any]:
        """As it is given and stored."""
        return {
            "enabled": self.enabled,
            "min_nodes": self.least,
            "max_nodes": self.most,
            "scale_out_above": self.scale_out_above,
            "scale_in_below": self.scale_in_below,
            "target_utilization": self.target,
            "cool_down_seconds": self.cool_down_s,
            "trust_placements": self.trust_placements,
            "time_zone": self.zone,
            "schedule": [
                {
                    "days": [DAYS[day] for day in sorted(one.days)],
                    "start": f"{one.start:%H:%M}",
                    "end": f"{one.end:%H:%M}",
                    "min_nodes": one.least,
                    "max_nodes": one.most,
                    "hibernate": one.hibernate,
                }
                for one in self.schedule
            ],
        }


def read_policy(fields: Mapping[str, Any]) -> tuple[ScalePolicy, list[FieldError]]:
    """The policy of well-formed fields, and what does not fit together in it."""
    wrong: list[FieldError] = []
    usual = ScalePolicy()
    zone = fields.get("time_zone", "UTC")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        wrong.append(FieldError("time_zone", "exists", f"There is no time zone {zone!r}; they are named like Asia/Seoul."))
        zone = "UTC"
    least, most = fields.get("min_nodes", usual.least), fields.get("max_nodes", usual.most)
    if least > most:
        wrong.append(FieldError("min_nodes", "max_nodes", f"min_nodes ({least}) is more than max_nodes ({most})."))
    below = fields.get("scale_in_below", usual.scale_in_below)
    target = fields.get("target_utilization", usual.target)
    above = fields.get("scale_out_above", usual.scale_out_above)
    if not below < target <= above:
        words = f"It must lie between scale_in_below ({below:g}) and scale_out_above ({above:g})."
        wrong.append(FieldError("target_utilization", "between", words))
    windows = []
    for index, one in enumerate(fields.get("schedule", ())):
        start, end = time.fromisoformat(one["start"]), time.fromisoformat(one["end"])
        if start == end:
            wrong.append(FieldError(f"schedule.{index}.end", "after_start", "A window must not end when it starts."))
        lower, upper = one.get("min_nodes", 0), one.get("max_nodes")
        if upper is not None and lower > upper:
            words = f"min_nodes ({lower}) is more than max_nodes ({upper})."
            wrong.append(FieldError(f"schedule.{index}.min_nodes", "max_nodes", words))
        if one.get("hibernate") and lower:
            wrong.append(FieldError(f"schedule.{index}.min_nodes", "hibernate", "A hibernated cluster has no workers."))
        days = frozenset(DAYS.index(day) for day in one["days"])
        windows.append(Window(days, start, end, lower, upper, bool(one.get("hibernate"))))
    policy = ScalePolicy(
        enabled=fields.get("enabled", False),
        least=least,
        most=most,
        scale_out_above=above,
        scale_in_below=below,
        target=target,
        cool_down_s=fields.get("cool_down_seconds", usual.cool_down_s),
        trust_placements=fields.get("trust_placements", False),
        zone=zone,
        schedule=tuple(windows),
    )
    return policy, wrong


@dataclass(frozen=True, slots=True)
class Use:
    """The measured use of a cluster: parts from 0 to 1; None where nobody has measured it lately."""

    cpu: float | None = None
    accelerator: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: new sizes by node group, why, and what kept more from being done."""

    action: Action
    targets: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def target_nodes(self) -> int | None:
        """The workers in all after it; None where nothing changes."""
        return sum(self.targets.values()) if self.targets else None


def utilisation(node: NodeShape, count: int, held: Sequence[Placement]) -> float:
    """The held part of a group's scarcest resource; 0 for a group without nodes that holds nothing, more than 1 where it can't hold it."""
    if not held:
        return 0.0
    if not count:
        return float("inf")
    alone = sum(1 for one in held if one.isolation is not Isolation.SHARED)
    shared = [one for one in held if one.isolation is Isolation.SHARED]
    parts = [alone / count]
    free = count - alone
    for size, amount in (
        (node.cpu_milli, sum(one.cpu_milli for one in shared)),
        (node.memory_mib, sum(one.memory_mib for one in shared)),
        (node.devices * 1000, sum(one.accelerators * one.share_milli for one in shared)),
    ):
        if amount and (free <= 0 or not size):
            return float("inf")
        if amount:
            parts.append((alone + amount / size) / count)
    return max(parts)


def nodes_that_hold(node: NodeShape, held: Iterable[Placement], *, most: int = NODE_COUNT_MAX) -> int | None:
    """On how many empty nodes all of it fits, the largest first, each on the first node that has room; None for more than ``most``."""
    capacity = Capacity()
    alone: set[int] = set()
    order = sorted(held, key=lambda one: (-one.accelerators * one.share_milli, -one.cpu_milli, -one.memory_mib, str(one.id)))
    for one in order:
        shape = shape_of(one)
        found = None
        if one.isolation is Isolation.SHARED:
            found = next((slot for slot in range(capacity.size) if slot not in alone and _room(capacity, slot, shape)), None)
        if found is None:
            if capacity.size >= most:
                return None
            model = node.accelerator.id if node.accelerator else ""
            found = capacity.add(cpu_milli=node.cpu_milli, memory_mib=node.memory_mib, model=model, devices=node.devices)
        devices = capacity.devices_for(found, shape)
        if devices is None:
            return None  # not even an empty node holds it
        capacity.take(found, shape, devices)
        if one.isolation is not Isolation.SHARED:
            alone.add(found)
    return capacity.size


def _room(capacity: Capacity, slot: int, shape: Shape) -> bool:
    return capacity.devices_for(slot, shape) is not None


def decide(
    policy: ScalePolicy,
    member: Member,
    held: Sequence[Placement],
    *,
    now: datetime,
    changed_at: datetime | None,
    use: Use,
    least_workers: int = 0,
    slept_by_policy: bool = False,
) -> Decision:
    """What the policy makes of a cluster. ``held``: all that is held there, displaced or not; ``least_workers``: what its driver can do."""
    window = policy.window(now)
    if member.closed == "HIBERNATED":
        if slept_by_policy and (window is None or not window.hibernate):
            return Decision(Action.WAKE, reasons=("The schedule's hours of sleep are over.",))
        return Decision(Action.NONE, blocked=("It is hibernated.",))
    if member.closed is not None:
        return Decision(Action.NONE, blocked=(f"The cluster is {member.phase}: nothing is changed meanwhile.",))
    if changed_at is not None and (waited := (now - changed_at).total_seconds()) < policy.cool_down_s:
        words = f"Its size changed {waited:.0f} s ago; the policy waits {policy.cool_down_s:g} s."
        return Decision(Action.NONE, blocked=(words,))
    if window is not None and window.hibernate:
        return _sleep(policy, held, use)
    least = max(policy.least, window.least if window else 0)
    most = min(policy.most, window.most if window and window.most is not None else policy.most)
    return _sized(policy, member, held, use, least=least, most=most, floor=least_workers)


def _sleep(policy: ScalePolicy, held: Sequence[Placement], use: Use) -> Decision:
    if held:
        return Decision(Action.NONE, blocked=(f"The schedule says to hibernate, but {len(held)} placements are held there.",))
    doubt = _doubt(policy, use)
    if doubt:
        return Decision(Action.NONE, blocked=(f"The schedule says to hibernate, but {doubt}",))
    return Decision(Action.HIBERNATE, reasons=("The schedule says to hibernate, and nothing is held there.",))


def _doubt(policy: ScalePolicy, use: Use) -> str | None:
    """Why the use is not known to be low; None where it is."""
    if policy.trust_placements:
        return None
    for name, part in (("cores", use.cpu), ("accelerators", use.accelerator)):
        if part is None:
            return f"the measured use of its {name} is not known, which counts as in use."
        if part >= policy.scale_in_below:
            return f"{part:.0%} of its {name} are in use by measurement."
    return None


def _sized(
    policy: ScalePolicy, member: Member, held: Sequence[Placement], use: Use, *, least: int, most: int, floor: int
) -> Decision:
    counts = {group.name: group.count for group in member.groups}
    targets, reasons, blocked = dict(counts), [], []
    for group in member.groups:
        mine = [one for one in held if one.node_group == group.name]
        if group.shape is None:
            blocked.append(f"Group {group.name}: nothing is known of flavor {group.flavor!r}.")
            continue
        wanted, why, why_not = _group_size(policy, group, group.shape, mine, use, floor=floor)
        targets[group.name] = wanted
        reasons += why
        blocked += why_not
    _bound(targets, counts, member, least=least, most=most, reasons=reasons, blocked=blocked)
    changed = {name: count for name, count in targets.items() if count != counts[name]}
    if not changed:
        return Decision(Action.NONE, reasons=tuple(reasons), blocked=tuple(blocked))
    total, before = sum(targets.values()), sum(counts.values())
    action = Action.SCALE_OUT if any(targets[name] > counts[name] for name in changed) else Action.SCALE_IN
    reasons.append(f"{before} workers become {total}.")
    return Decision(action, targets, tuple(reasons), tuple(blocked))


def _group_size(
    policy: ScalePolicy, group: Group, node: NodeShape, held: Sequence[Placement], use: Use, *, floor: int
) -> tuple[int, list[str], list[str]]:
    part = utilisation(node, group.count, held)
    packed = nodes_that_hold(node, held)
    if packed is None:
        return group.count, [], [f"Group {group.name}: something is held there that no node of {node.flavor} can hold."]
    for_target = _for_target(node, held, policy.target)
    wanted = max(packed, for_target)
    said = f"Group {group.name}: {part:.0%} of {group.count} nodes are held" if group.count else f"Group {group.name} has no nodes"
    if packed > group.count or part > policy.scale_out_above:
        why = f"{said}; {len(held)} placements need {packed} nodes, and {wanted} for {policy.target:.0%}."
        return max(wanted, group.count), [why], []
    if part < policy.scale_in_below and wanted < group.count:
        doubt = _doubt(policy, use)
        if doubt:
            return group.count, [], [f"{said}, but {doubt}"]
        smaller = max(wanted, floor)
        return smaller, [f"{said}; {len(held)} placements fit on {packed} nodes, and {wanted} for {policy.target:.0%}."], []
    return group.count, [f"{said}: within the policy."], []


def _for_target(node: NodeShape, held: Sequence[Placement], target: float) -> int:
    count = 0
    while utilisation(node, count, held) > target:
        count += 1
        if count >= NODE_COUNT_MAX:
            break
    return count


def _bound(
    targets: dict[str, int],
    counts: Mapping[str, int],
    member: Member,
    *,
    least: int,
    most: int,
    reasons: list[str],
    blocked: list[str],
) -> None:
    """Keep to the bounds of groups and of the whole."""
    for group in member.groups:
        if group.most is not None and targets[group.name] > group.most:
            blocked.append(f"Group {group.name} may have {group.most} nodes; {targets[group.name]} are wanted.")
            targets[group.name] = max(group.most, counts[group.name])
    first = member.groups[0].name if member.groups else ""
    total = sum(targets.values())
    if member.groups and total < least:
        reasons.append(f"The policy wants at least {least} workers.")
        targets[first] += least - total
    for name in reversed(list(targets)):
        over = sum(targets.values()) - most
        grown = targets[name] - counts[name]
        if over > 0 and grown > 0:
            cut = min(over, grown)
            blocked.append(f"The policy allows {most} workers: group {name} gets {cut} fewer than wanted.")
            targets[name] -= cut
