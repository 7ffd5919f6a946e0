"""From a question to a plan: the layout, how good it is proven to be, its steps with their reasons, and what was rejected.

Pods lie on clusters of their own tenancy, and a cluster has one, so tenancies share nothing but budgets. Each is solved by itself, with
all of every budget to itself. That drops rules and adds none, and the objective is a sum over tenancies, so the sum of their bounds is a
bound of the whole. Where their answers together break a budget, the whole is solved at once.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.consolidation.fleet import MONEY, WATT, Fleet
from shared.domain.consolidation.model import Layout, Problem, Spot, findings, present
from shared.domain.consolidation.numbering import in_turn, numbered
from shared.domain.consolidation.packing import cost_per_hour, disruption, objective, violations, watts
from shared.domain.consolidation.relaxation import Relaxed, relax
from shared.domain.consolidation.search import improve
from shared.domain.consolidation.solver import SEED, Limits, Model
from shared.errors import Conflict, InvalidRequest

#: The solver's own time, in its own seconds, for each second of the clock that a caller grants: so few that the clock seldom stops it.
_EFFORT: Final = 0.25
_CORES: Final = 2


class Act(StrEnum):
    """What a step does. The order is that in which steps run: room is made first, and taken away last."""

    CREATE = "create"
    GROW = "grow"
    MOVE = "move"
    SHRINK = "shrink"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``group``, ``nodes_before`` and ``nodes`` of a resize, ``keeps`` the numbers of the nodes that a shrink leaves; ``pod``,
    ``source`` and ``target`` of a move.
    """

    act: Act
    cluster: str
    reason: str
    group: str | None = None
    nodes_before: int = 0
    nodes: int = 0
    keeps: tuple[int, ...] = ()
    pod: str | None = None
    source: Spot | None = None
    target: Spot | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A cluster that stays, and why."""

    cluster: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan. ``objective`` and ``bound`` in money per hour: no layout is below the bound. ``gap``: their distance as part of the
    objective. ``optimal``: the distance is no more than what prices were rounded by, to millionths each.
    """

    layout: Layout
    steps: tuple[Step, ...]
    rejected: tuple[Rejected, ...]
    objective: float
    bound: float
    gap: float
    optimal: bool
    objective_before: float
    cost_before: float
    cost: float
    watts_before: float
    watts: float
    moves: float


def consolidate(problem: Problem, *, seconds: float = 25.0) -> Plan:
    """The best layout that is found in about so many seconds of two cores. Same question, same plan, unless the clock stops the solver
    before its own count of work does.

    Raises:
        InvalidRequest: the question makes no sense; says all of why.
        Conflict: the present breaks a rule, and nothing was found that keeps all.
    """
    wrong = findings(problem)
    if wrong:
        message = "The question makes no sense."
        raise InvalidRequest(message, errors=wrong)
    ends = time.monotonic() + seconds
    limits = _limits(problem)
    parts = [_part(problem, name) for name in sorted({c.tenancy for c in problem.clusters})]
    # A third is kept for the whole, which is needed only where budgets bind over tenancies.
    whole_s = seconds / 3 if limits and len(parts) > 1 else 0.0
    each_s = (seconds - whole_s) * _CORES / max(_CORES, len(parts))
    with ThreadPoolExecutor(_CORES) as pool:
        answers = list(pool.map(lambda part: _solve(part, limits, each_s, ends), parts))
    slack = _rounding(problem)
    bound = sum(a.bound for a in answers)
    found = [present(problem)]
    if all(a.layout is not None for a in answers):
        found.append(_joined(a.layout for a in answers if a.layout is not None))
    good = _best(problem, found)
    if limits and len(parts) > 1 and found[-1] is not good and not any(a.impossible for a in answers):
        whole = _solve(problem, limits, max(1.0, whole_s), ends)
        bound = max(bound, whole.bound)
        good = _best(problem, [one for one in (*found, whole.layout) if one is not None])
    if good is None:
        proven = any(a.impossible for a in answers)
        why = sorted(violations(problem, present(problem)))
        words = (
            "Nothing keeps every rule" + ("; that is proven" if proven else " as far as was searched") + f". Now: {'; '.join(why)}."
        )
        raise Conflict(words)
    return _plan(problem, good, bound / MONEY - slack, slack)


@dataclass(frozen=True, slots=True)
class _Answer:
    layout: Layout | None
    impossible: bool
    bound: int


def _solve(problem: Problem, limits: Limits, seconds: float, ends: float) -> _Answer:
    fleet = Fleet(problem, grow=max(1, len(problem.pods)))
    if not violations(problem, fleet.layout()):
        stop = time.monotonic() + seconds / 4
        # Budgets are looked at before each gain is taken.
        improve(fleet, lambda: not limits or not violations(problem, fleet.layout()), lambda: time.monotonic() > stop, seed=SEED)
    third = seconds * _EFFORT / 3
    relaxed = relax(fleet, seed=SEED, effort_s=third, wall_s=_wall(seconds / 3, ends))
    least = relaxed.bound
    if relaxed.kept is not None and _guided(fleet, limits, relaxed, third, _wall(seconds / 3, ends)) == least:
        return _Answer(fleet.layout(), False, least)
    answer = Model(fleet, limits, least).solve(effort_s=3 * third, wall_s=_wall(2 * seconds, ends))
    return _Answer(fleet.layout() if answer.found else None, answer.impossible, max(answer.bound, least))


def _wall(seconds: float, ends: float) -> float:
    return max(0.5, min(seconds, ends - time.monotonic()))


def _guided(fleet: Fleet, limits: Limits, relaxed: Relaxed, effort_s: float, wall_s: float) -> int | None:
    """Look for a layout with groups as large as the bound would have them: often there is one. Millionths of the best that is known, as
    which the fleet then lies; None where there is none yet.
    """
    sound = not violations(fleet.problem, fleet.layout())
    before, where = fleet.total() if sound else None, dict(fleet.where)
    found = Model(fleet, limits, relaxed.bound, relaxed.kept).solve(effort_s=effort_s, wall_s=wall_s).found
    if not found or (before is not None and fleet.total() >= before):
        fleet.lie(where)
        return before
    return fleet.total()


def _part(problem: Problem, tenancy: str) -> Problem:
    return replace(
        problem,
        clusters=tuple(c for c in problem.clusters if c.tenancy == tenancy),
        pods=tuple(p for p in problem.pods if p.tenancy == tenancy),
    )


def _limits(problem: Problem) -> dict[tuple[str, str], tuple[int, int]]:
    """Each budget in milliwatts, at the end and on the way: there, a fleet that is over it already may stay so, but draw no more."""
    now = present(problem)
    found = {}
    for key, budgets in (("site", problem.site_watts), ("project", problem.project_watts)):
        for name, budget in budgets.items():
            before = watts(problem, now, **{key: name})
            limit = math.floor(budget * WATT + 1e-6)
            found[key, name] = (limit, max(limit, math.ceil(before * WATT - 1e-6)))
    return found


def _rounding(problem: Problem) -> float:
    """The most by which prices rounded to millionths can differ from the true ones, over everything there could be."""
    parts = len(problem.pods) + sum(1 + sum(max(g.most, g.nodes) for g in c.groups) for c in problem.clusters)
    return 0.5 * parts / MONEY


def _joined(layouts: Iterable[Layout]) -> Layout:
    spots: dict[str, Spot] = {}
    nodes: dict[str, dict[str, frozenset[int]]] = {}
    for layout in layouts:
        spots.update(layout.spots)
        nodes.update({c: dict(groups) for c, groups in layout.nodes.items()})
    return Layout(spots, nodes)


def _best(problem: Problem, layouts: Iterable[Layout]) -> Layout | None:
    return min((one for one in layouts if not violations(problem, one)), key=lambda one: objective(problem, one), default=None)


def _plan(problem: Problem, layout: Layout, bound: float, slack: float) -> Plan:
    now = present(problem)
    layout = numbered(problem, layout)
    value = objective(problem, layout)
    bound = max(0.0, min(bound, value))
    turn = {pod: number for number, pod in enumerate(in_turn(problem, layout))}
    return Plan(
        layout=layout,
        steps=tuple(
            sorted(
                _steps(problem, layout),
                key=lambda s: (list(Act).index(s.act), turn.get(s.pod or "", 0), s.cluster, s.group or ""),
            )
        ),
        rejected=tuple(_rejected(problem, layout, optimal=value - bound <= 2 * slack + 1e-9)),
        objective=value,
        bound=bound,
        gap=(value - bound) / value if value else 0.0,
        optimal=value - bound <= 2 * slack + 1e-9,
        objective_before=objective(problem, now),
        cost_before=cost_per_hour(problem, now),
        cost=cost_per_hour(problem, layout),
        watts_before=watts(problem, now),
        watts=watts(problem, layout),
        moves=disruption(problem, layout),
    )


def _steps(problem: Problem, layout: Layout) -> Iterable[Step]:
    comes = Counter(layout.spots[p.id].cluster for p in problem.pods if layout.spots[p.id] != p.at)
    for c in problem.clusters:
        there = layout.nodes.get(c.id)
        if there is None:
            if c.exists:
                saved = c.control_cost_per_hour + sum(g.cost_per_hour * g.nodes for g in c.groups)
                drawn = c.control_watts + sum(g.watts * g.nodes for g in c.groups)
                yield Step(Act.DELETE, c.id, f"Nothing lies on it any more; {saved:.4f} per hour and {drawn:g} W less.")
            continue
        if not c.exists:
            yield Step(
                Act.CREATE,
                c.id,
                f"Pods that come to it: {comes[c.id]}; its control plane is {c.control_cost_per_hour:.4f} per hour.",
            )
        for g in c.groups:
            count = len(there.get(g.name, ()))
            if count == g.nodes:
                continue
            change = count - g.nodes
            worth = f"{change * g.cost_per_hour:+.4f} per hour and {change * g.watts:+g} W"
            act, words = (Act.GROW, "It takes more pods") if change > 0 else (Act.SHRINK, "The other nodes hold what is left")
            keeps = tuple(sorted(there.get(g.name, ()))) if act is Act.SHRINK else ()
            yield Step(act, c.id, f"{words}; {worth}.", group=g.name, nodes_before=g.nodes, nodes=count, keeps=keeps)
    for pod in problem.pods:
        to = layout.spots[pod.id]
        if to != pod.at:
            cost = problem.money_per_move * pod.priority / 100
            gone = pod.at.cluster not in layout.nodes
            empty = gone or pod.at.node not in layout.nodes[pod.at.cluster].get(pod.at.group, ())
            words = "its cluster goes" if gone else "its node goes" if empty else "others need its place"
            reason = f"{words[0].upper()}{words[1:]}; the move weighs {cost:g} per hour."
            yield Step(Act.MOVE, pod.at.cluster, reason, pod=pod.id, source=pod.at, target=to)


def _rejected(problem: Problem, layout: Layout, *, optimal: bool) -> Iterable[Rejected]:
    for c in problem.clusters:
        if c.exists != (c.id in layout.nodes):
            continue
        if not c.exists:
            yield Rejected(c.id, "Not created: " + _worth(optimal=optimal))
            continue
        stuck = [p.id for p in problem.pods if p.at.cluster == c.id and layout.spots[p.id] == p.at and not p.movable]
        if c.fixed:
            reason = "It is to stay as it is."
        elif not c.deletable:
            reason = "It may not be deleted."
        elif stuck:
            reason = f"Pods on it may not move: {len(stuck)}, such as {min(stuck)}."
        else:
            reason = "Not deleted: " + _worth(optimal=optimal)
        yield Rejected(c.id, reason)


def _worth(*, optimal: bool) -> str:
    if optimal:
        return "no plan that keeps every rule and does so costs less; that is proven."
    return "no plan that keeps every rule, does so and costs less was found; the bound says by how much one could."
