"""The trace's arrivals and departures over its own time line, through the product's decisions, on a clock of its own.

Matching, growth and new clusters are decided by ``Matcher``, sizes by ``shared.domain.scaling.decide`` with its default policy (placements
trusted), hibernation and deletion by cleanup's default times. A node is paid for from the moment it is asked for until it is removed; it takes
work when it is ready. Only empty nodes are removed: nothing that runs is moved.

Beside it, with the same matching: a fleet that never shrinks; a plain threshold (a cluster under half full for ten minutes gives its empty nodes
back but for one, and stays); and the bound of a perfect forecast, a linear programme over what runs at each hour with nodes that can be
divided, no control planes and no waiting.
"""

import csv
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np

from shared.domain import rating
from shared.domain.accelerators import NodeShape
from shared.domain.fleet import Member, ProjectFleet
from shared.domain.matching import Limits, Matcher, TypeOffer, Wait, Way
from shared.domain.ports import Flavor
from shared.domain.pricing import LearntPrices
from shared.domain.scaling import Action, ScalePolicy, Use, decide
from shared.domain.workloads import Placement, Workload
from shared.services.accelerators import load_catalogue
from shared.settings import PlacementSettings

LIST: Final = "default"
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_GROW_S, _CREATE_S = 180.0, 300.0
_LOOK_S: Final = 600.0  #: sizes are looked at as often as the default cool-down allows changes
_HIBERNATE_S, _DELETE_S = 3 * 3600.0, 168 * 3600.0  #: cleanup's defaults: two hours idle and one of grace; then a week asleep
_HOUR_S: Final = 3600.0
_THRESHOLD: Final = 0.5
#: Name, cores, MiB, PCI alias.
Flavors = Sequence[tuple[str, int, int, str]]
_FLAVORS: Final = (
    ("t4", 48, 196_608, "t4:2"),
    ("a10", 96, 393_216, "a10:8"),
    ("v100", 64, 262_144, "v100:8"),
    ("a100", 128, 786_432, "a100:8"),
    ("cpu", 32, 131_072, ""),
)
#: The trace's names of models. Cards that the catalogue lacks are taken for V100.
_MODELS: Final = {
    "T4": "nvidia-t4",
    "A10": "nvidia-a10",
    "G2": "nvidia-a10",
    "G3": "nvidia-a100",
    "P100": "nvidia-v100",
    "V100M16": "nvidia-v100",
    "V100M32": "nvidia-v100",
}
_CORE_W: Final = rating.W_PER_CORE * rating.ASSUMED_UTILISATION / 1000


@dataclass(frozen=True)
class Pod:
    """A task: what it wants, when it comes, and how long it runs, in seconds of the trace."""

    work: Workload
    at: float
    runs_s: float


@dataclass
class _Cluster:
    """``ready``: by node, when it can take work."""

    id: UUID
    name: str
    flavor: str
    ready: list[float] = field(default_factory=list)
    changed_at: float = -1e12
    idle_since: float | None = None
    low_since: float | None = None
    asleep_since: float | None = None
    held: dict[UUID, Placement] = field(default_factory=dict)


@dataclass
class _Totals:
    node_s: float = 0.0
    joules: float = 0.0
    device_s: float = 0.0
    money: float = 0.0
    waits: list[float] = field(default_factory=list)
    made: int = 0
    hibernated: int = 0
    deleted: int = 0
    resized: int = 0
    unplaced: int = 0


def pods(folder: Path) -> list[Pod]:
    """The list's tasks by the time of their coming. Those that never ended run to the trace's end."""
    found = []
    with (folder / f"openb_pod_list_{LIST}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number = int(row["num_gpu"])
            begun = float(row["scheduled_time"] or row["creation_time"])
            models = tuple(sorted({_MODELS[word] for word in row["gpu_spec"].split("|") if word})) if number else ()
            work = Workload(
                row["name"],
                cpu_milli=int(row["cpu_milli"]),
                memory_mib=int(row["memory_mib"]),
                accelerators=number,
                share_milli=int(row["gpu_milli"] or 1000) if number == 1 else 1000,
                models=models,
            )
            found.append(Pod(work, float(row["creation_time"]), max(1.0, float(row["deletion_time"] or begun) - begun)))
    return sorted(found, key=lambda pod: pod.at)


class _World:
    """A fleet, its clock, and one policy of shrinking."""

    def __init__(self, shrink: str, flavors: Flavors = _FLAVORS) -> None:
        self._shrink = shrink
        self._catalogue = load_catalogue(PlacementSettings())
        self.shapes: dict[str, NodeShape] = {
            name: self._catalogue.node(Flavor(name, name, vcpus, ram, {"pci_passthrough:alias": alias} if alias else {}))
            for name, vcpus, ram, alias in flavors
        }
        self.master = self._catalogue.node(Flavor("m", "m", 4, 16_384, {}))
        self.scorer = LearntPrices(online=True)
        self.fleet = ProjectFleet(self.scorer)
        self.clusters: dict[UUID, _Cluster] = {}
        self.totals = _Totals()
        self.now = 0.0
        self._ids = count(1)
        offers = [
            TypeOffer(n, shape, self.master, 1, "default-worker", {}, Wait(_CREATE_S, _CREATE_S))
            for n, shape in self.shapes.items()
        ]
        waits = {(way, ""): Wait(_GROW_S, _GROW_S) for way in (Way.SCALE, Way.WAKE, Way.CREATE)}
        self._matcher = Matcher(self.fleet, self._catalogue, Limits({}, 0.12), now=_BEGIN, waits=waits, offers=offers)

    # -- the clock --------------------------------------------------------------------------------------------------------

    def pass_to(self, at: float) -> None:
        """Pay for what is there until then."""
        seconds = at - self.now
        if seconds > 0:
            nodes = sum(len(one.ready) for one in self.clusters.values())
            self.totals.node_s += seconds * nodes
            self.totals.joules += seconds * self.watts()
            self.totals.device_s += seconds * sum(
                len(one.ready) * self.shapes[one.flavor].devices for one in self.clusters.values()
            )
            prices = [len(one.ready) * self.shapes[one.flavor].price_per_hour for one in self.clusters.values()]
            self.totals.money += seconds / 3600 * (sum(prices) + len(self.clusters) * self.master.price_per_hour)
        self.now = at

    def watts(self) -> float:
        """Everything that is on: nodes, and one master for each cluster."""
        found = len(self.clusters) * (self.master.idle_w + self.master.vcpus * 1000 * _CORE_W)
        for one in self.clusters.values():
            shape = self.shapes[one.flavor]
            found += shape.idle_w * len(one.ready)
            found += sum(shape.draw_w(held.cpu_milli, held.accelerators * held.share_milli / 1000) for held in one.held.values())
        return found

    # -- what happens -------------------------------------------------------------------------------------------------------

    def arrive(self, pod: Pod) -> tuple[float, UUID, UUID] | None:
        """Place it; when it will end, where, and as what. None where no way was found."""
        matched = self._matcher.match(pod.work, first_only=True)
        self.scorer.learn(matched.shape)
        best = matched.best
        if best is not None and best.way is not Way.USE:
            if best.way is Way.CREATE and best.type is not None:
                self._create(best.type.name, best.nodes)
            elif best.member is not None:
                self._resize(self.clusters[best.member.id], (best.target_nodes or 0), ready=self.now + _GROW_S)
            matched = self._matcher.match(pod.work, first_only=True)
            best = matched.best
        if best is None or best.way is not Way.USE or best.member is None:
            self.totals.unplaced += 1
            return None
        cluster, seat = self.clusters[best.member.id], best.seats[0]
        placement = _placement(UUID(int=next(self._ids)), cluster.id, pod.work, seat.node, seat.devices)
        self.fleet.seat(placement, seat.slot)
        cluster.held[placement.id] = placement
        cluster.idle_since = cluster.asleep_since = None
        wait = max(0.0, cluster.ready[seat.node] - self.now)
        self.totals.waits.append(wait)
        return self.now + wait + pod.runs_s, cluster.id, placement.id

    def leave(self, cluster_id: UUID, placement_id: UUID) -> None:
        """A pod has ended."""
        cluster = self.clusters[cluster_id]
        del cluster.held[placement_id]
        self.fleet.unseat(placement_id)
        if not cluster.held:
            cluster.idle_since = self.now

    def look(self) -> None:
        """What beat does."""
        if self._shrink == "never":
            return
        for cluster in list(self.clusters.values()):
            if self._shrink == "threshold":
                self._by_threshold(cluster)
            else:
                self._by_policy(cluster)

    def _by_threshold(self, cluster: _Cluster) -> None:
        shape, nodes = self.shapes[cluster.flavor], len(cluster.ready)
        held = [shape.cpu_milli and one.cpu_milli / shape.cpu_milli for one in cluster.held.values()]
        devices = (
            [one.accelerators * one.share_milli / 1000 / shape.devices for one in cluster.held.values()] if shape.devices else [0.0]
        )
        if max(sum(held), sum(devices)) >= _THRESHOLD * nodes:
            cluster.low_since = None
            return
        cluster.low_since = self.now if cluster.low_since is None else cluster.low_since
        if self.now - cluster.low_since >= _LOOK_S:
            self._shrink_to(cluster, 1)

    def _by_policy(self, cluster: _Cluster) -> None:
        if cluster.idle_since is not None and not cluster.held:
            idle = self.now - cluster.idle_since
            if cluster.asleep_since is None and idle >= _HIBERNATE_S:
                self._shrink_to(cluster, 0)
                cluster.asleep_since = self.now
                self.totals.hibernated += 1
            elif cluster.asleep_since is not None and self.now - cluster.asleep_since >= _DELETE_S:
                self.fleet.drop(cluster.id)
                del self.clusters[cluster.id]
                self.totals.deleted += 1
                return
        if cluster.asleep_since is not None:
            return
        said = decide(
            ScalePolicy(enabled=True, trust_placements=True),
            self._member(cluster),
            list(cluster.held.values()),
            now=_BEGIN + timedelta(seconds=self.now),
            changed_at=_BEGIN + timedelta(seconds=cluster.changed_at) if cluster.changed_at >= 0 else None,
            use=Use(),
        )
        if said.action is Action.SCALE_IN:
            self._shrink_to(cluster, said.target_nodes or 0)

    # -- sizes ----------------------------------------------------------------------------------------------------------------

    def _create(self, flavor: str, nodes: int) -> None:
        number = next(self._ids)
        cluster = _Cluster(UUID(int=number), f"{flavor}-{number}", flavor)
        self.clusters[cluster.id] = cluster
        self.totals.made += 1
        self._resize(cluster, nodes, ready=self.now + _CREATE_S)

    def _resize(self, cluster: _Cluster, nodes: int, *, ready: float) -> None:
        cluster.ready += [ready] * (nodes - len(cluster.ready))
        cluster.changed_at = self.now
        cluster.asleep_since = None
        self.totals.resized += 1
        self._tell(cluster)

    def _shrink_to(self, cluster: _Cluster, target: int) -> None:
        """Down to ``target`` nodes, as far as nodes are empty; the others move up, so that nodes are numbered from 0."""
        busy = {one.node for one in cluster.held.values()}
        spare = [number for number in range(len(cluster.ready)) if number not in busy]
        gone = set(spare[max(0, target - len(busy)) :])
        if not gone or len(cluster.ready) <= target:
            return
        kept = [number for number in range(len(cluster.ready)) if number not in gone]
        numbers = {old: new for new, old in enumerate(kept)}
        cluster.ready = [cluster.ready[old] for old in kept]
        cluster.held = {key: replace(one, node=numbers[one.node]) for key, one in cluster.held.items()}
        cluster.changed_at = self.now
        self.totals.resized += 1
        self._tell(cluster)

    def _tell(self, cluster: _Cluster) -> None:
        nodes = len(cluster.ready)
        row = {
            "id": cluster.id,
            "name": cluster.name,
            "phase": "Ready",
            "live": True,
            "flavor": cluster.flavor,
            "master_flavor": None,
            "template_id": cluster.flavor,
            "template_name": cluster.flavor,
            "node_count": nodes,
            "observed_node_count": nodes,
            "masters": 1,
            "labels": {},
            "health_status": None,
            "hibernated_sizes": None,
            "groups": [],
        }
        self.fleet.put(row, list(cluster.held.values()), self.shapes)

    def _member(self, cluster: _Cluster) -> Member:
        return self.fleet.members[cluster.id]


def _placement(key: UUID, cluster: UUID, work: Workload, node: int, devices: tuple[int, ...]) -> Placement:
    return Placement(
        id=key,
        request_id=key,
        project_id="p",
        region="r",
        cluster_id=cluster,
        node_group="default-worker",
        node=node,
        workload=work.name,
        replica=0,
        cpu_milli=work.cpu_milli,
        memory_mib=work.memory_mib,
        accelerators=work.accelerators,
        share_milli=work.share_milli,
        devices=devices,
        created_at=_BEGIN,
        models=work.models or None,
    )


def run(found: list[Pod], shrink: str, begin: float, end: float, flavors: Flavors = _FLAVORS) -> dict[str, Any]:
    """What a fleet of these flavors costs and how long tasks wait, under a policy of shrinking: never, threshold or ours."""
    world = _World(shrink, flavors)
    world.now = begin
    ends: list[tuple[float, int, UUID, UUID]] = []
    order = count()
    look = begin
    for pod in [*found, None]:
        at = pod.at if pod is not None else end
        while (ends and ends[0][0] <= at) or look <= at:
            if ends and ends[0][0] <= look:
                moment, _, cluster, placement = heapq.heappop(ends)
                world.pass_to(moment)
                world.leave(cluster, placement)
            else:
                world.pass_to(look)
                world.look()
                look += _LOOK_S
        world.pass_to(at)
        if pod is not None and (placed := world.arrive(pod)) is not None:
            heapq.heappush(ends, (placed[0], next(order), placed[1], placed[2]))
    totals = world.totals
    waits = np.array(totals.waits)
    return {
        "node_hours": round(totals.node_s / 3600),
        "device_hours": round(totals.device_s / 3600),
        "kwh": round(totals.joules / 3.6e6),
        "cost": round(totals.money),
        "waited": round(float((waits > 0).mean()), 4),
        "wait_mean_s": round(float(waits.mean()), 1),
        "wait_p95_s": round(float(np.quantile(waits, 0.95)), 1),
        "clusters_made": totals.made,
        "resizes": totals.resized,
        "hibernated": totals.hibernated,
        "deleted": totals.deleted,
        "unplaced": totals.unplaced,
    }


def bound(found: list[Pod], begin: float, end: float, flavors: Flavors = _FLAVORS) -> dict[str, Any]:
    """Node-hours, accelerator-hours, kWh and money of a perfect forecast, each by itself: at the middle of each hour the least that holds
    what runs then.
    """
    shapes = list(_World("never", flavors).shapes.values())
    nodes_h = devices_h = kwh = cost = 0.0
    starts = sorted(found, key=lambda pod: pod.at)
    running: list[tuple[float, int, Workload]] = []
    place = 0
    for moment in _hours(begin, end):
        while place < len(starts) and starts[place].at <= moment:
            heapq.heappush(running, (starts[place].at + starts[place].runs_s, place, starts[place].work))
            place += 1
        while running and running[0][0] <= moment:
            heapq.heappop(running)
        works = Counter((w.cpu_milli, w.memory_mib, w.accelerators, w.share_milli, w.models) for _, _, w in running)
        devices_h += _least(shapes, works, lambda shape: float(shape.devices), lambda _shape, _work: 0.0)
        cost += _least(shapes, works, lambda shape: shape.price_per_hour, lambda _shape, _work: 0.0)
        nodes_h += _least(shapes, works, lambda _shape: 1.0, lambda _shape, _work: 0.0)
        kwh += (
            _least(shapes, works, lambda shape: shape.idle_w, lambda shape, work: shape.draw_w(work[0], work[2] * work[3] / 1000))
            / 1000
        )
    return {"node_hours": round(nodes_h), "device_hours": round(devices_h), "kwh": round(kwh), "cost": round(cost)}


def _hours(begin: float, end: float) -> Iterator[float]:
    moment = begin + _HOUR_S / 2
    while moment < end:
        yield moment
        moment += _HOUR_S


_Asked = tuple[int, int, int, int, tuple[str, ...]]


def _least(
    shapes: list[NodeShape],
    works: Counter[_Asked],
    of_node: Callable[[NodeShape], float],
    of_work: Callable[[NodeShape, _Asked], float],
) -> float:
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    objective = solver.Objective()
    objective.SetMinimization()
    whole = {work: solver.Constraint(float(number), float(number)) for work, number in works.items()}
    for shape in shapes:
        nodes = solver.NumVar(0.0, solver.infinity(), "")
        objective.SetCoefficient(nodes, of_node(shape))
        room = [solver.Constraint(-solver.infinity(), 0.0) for _ in range(3)]
        for limit, has in zip(room, (shape.cpu_milli, shape.memory_mib, shape.devices * 1000), strict=True):
            limit.SetCoefficient(nodes, -float(has))
        for work, constraint in whole.items():
            model = shape.accelerator.id if shape.accelerator else ""
            if work[2] > shape.devices or (work[2] and work[4] and model not in work[4]):
                continue
            here = solver.NumVar(0.0, solver.infinity(), "")
            constraint.SetCoefficient(here, 1.0)
            objective.SetCoefficient(here, of_work(shape, work))
            for limit, asked in zip(room, (work[0], work[1], work[2] * work[3]), strict=True):
                limit.SetCoefficient(here, float(asked))
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        msg = "the bound has no solution"
        raise RuntimeError(msg)
    return float(objective.Value())


def measure(folder: str) -> dict[str, Any]:
    """The weeks in which the trace's tasks come, under each policy."""
    found = pods(Path(folder))
    begin = found[int(len(found) * 0.005)].at  # a handful of tasks come in the months before
    found = [replace(pod, at=max(pod.at, begin), runs_s=pod.runs_s - max(0.0, begin - pod.at)) for pod in found]
    found = [pod for pod in found if pod.runs_s > 0]
    end = max(pod.at for pod in found) + 86_400.0
    figures: dict[str, Any] = {"tasks": len(found), "days": round((end - begin) / 86_400.0, 1)}
    for shrink in ("never", "threshold", "ours"):
        figures[shrink] = run(found, shrink, begin, end)
    figures["bound"] = bound(found, begin, end)
    return figures
