"""What consolidation plans: the best there is where that can be counted out, and never over a node or a budget."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.consolidation import fleet_of
from shared.domain.consolidation.model import WHOLE, Cluster, Group, Layout, Pod, Problem, Spot, findings, present
from shared.domain.consolidation.packing import objective, shares_fit, violations
from shared.domain.consolidation.plan import Act, Plan, consolidate
from shared.domain.workloads import Isolation
from shared.errors import Conflict, InvalidRequest


def a_group(nodes: int = 1, **changes: Any) -> Group:
    given: dict[str, Any] = {"name": "w", "flavor": "g", "cpu_milli": 4000, "memory_mib": 8000, "model": "A100", "devices": 2}
    given |= {"cost_per_hour": 1.0, "watts": 500.0, "nodes": nodes, "least": 0, "most": nodes}
    return Group(**(given | changes))


def a_cluster(name: str, *groups: Group, **changes: Any) -> Cluster:
    given: dict[str, Any] = {"tenancy": "t", "project": "p", "site": "s", "control_cost_per_hour": 0.5, "control_watts": 100.0}
    return Cluster(id=name, groups=groups, **(given | changes))


def a_pod(name: str, cluster: str, node: int = 0, **changes: Any) -> Pod:
    given: dict[str, Any] = {"workload": name, "tenancy": "t", "cpu_milli": 1000, "memory_mib": 1000, "accelerators": 1}
    return Pod(id=name, at=Spot(cluster, "w", node), **(given | changes))


TWO = (a_cluster("a", a_group()), a_cluster("b", a_group()))


def plan(clusters: tuple[Cluster, ...], pods: tuple[Pod, ...], **changes: Any) -> Plan:
    problem = Problem(clusters, pods, **changes)
    found = consolidate(problem, seconds=4)
    assert violations(problem, found.layout) == []
    assert found.objective == pytest.approx(objective(problem, found.layout))
    assert found.bound <= found.objective <= found.objective_before + 1e-9
    return found


def test_two_half_empty_clusters_become_one() -> None:
    found = plan(TWO, (a_pod("x", "a"), a_pod("y", "b")), money_per_move=0.01, money_per_watt=0.001)
    assert [step.act for step in found.steps] == [Act.MOVE, Act.DELETE]
    assert found.optimal
    assert (found.cost_before, found.cost, found.moves) == (3.0, 1.5, 1.0)
    assert found.objective == pytest.approx(1.5 + 0.001 * 600 + 0.01)
    assert "1.5000 per hour and 600 W less" in found.steps[1].reason
    (kept,) = found.rejected
    assert kept.cluster != found.steps[1].cluster
    assert "proven" in kept.reason


@pytest.mark.parametrize(
    "one, other",
    [
        ({"movable": False}, {"movable": False}),
        ({"isolation": Isolation.NODE}, {}),
        ({"isolation": Isolation.CLUSTER}, {"movable": False}),
        ({"accelerators": 2}, {}),
        ({"cpu_milli": 3500}, {}),
        ({"memory_mib": 7500}, {}),
        ({"forbidden": frozenset({"b"})}, {"forbidden": frozenset({"a"})}),
    ],
)
def test_what_may_not_lie_together_stays_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = plan(TWO, (a_pod("x", "a", **one), a_pod("y", "b", **other)))
    assert found.steps == ()
    assert found.optimal


def test_models_and_tenancies_are_kept_apart() -> None:
    other = a_cluster("b", a_group(model="H100"))
    x, y = (a_pod(name, at, models=frozenset({model})) for name, at, model in (("x", "a", "A100"), ("y", "b", "H100")))
    assert plan((TWO[0], other), (x, y)).steps == ()
    foreign = replace(TWO[1], tenancy="u")
    assert plan((TWO[0], foreign), (a_pod("x", "a"), a_pod("y", "b", tenancy="u"))).steps == ()


def test_a_move_must_save_what_it_weighs() -> None:
    pods = (a_pod("x", "a"), a_pod("y", "b"))
    assert plan(TWO, pods, money_per_move=1.49).moves == 1
    assert plan(TWO, pods, money_per_move=1.51).steps == ()


def test_shares_of_a_device_lie_on_one_device() -> None:
    # 600 + 600 + 600 of 2000 thousandths is not too much in sum, but no two of them share a device.
    pods = tuple(a_pod(f"p{i}", "ab"[i // 2], share_milli=600) for i in range(3))
    assert plan(TWO, pods).steps == ()
    three = tuple(a_cluster(name, a_group()) for name in "abc")
    spread = tuple(a_pod(name, name, share_milli=share) for name, share in zip("abc", (600, 600, 500), strict=True))
    assert [step.act for step in plan(three, spread).steps] == [Act.MOVE, Act.DELETE]  # two on one node, not three
    less = tuple(replace(pod, share_milli=500) for pod in pods)
    assert Act.DELETE in [step.act for step in plan(TWO, less).steps]


def test_a_cheaper_cluster_is_made_where_that_pays() -> None:
    new = a_cluster("n", a_group(0, most=2, cost_per_hour=0.2), exists=False, control_cost_per_hour=0.1)
    found = plan((TWO[0], new), (a_pod("x", "a"),))
    assert [step.act for step in found.steps] == [Act.CREATE, Act.GROW, Act.MOVE, Act.DELETE]
    # On the way both are there: 600 W of the old and 600 W of the new.
    assert plan((TWO[0], new), (a_pod("x", "a"),), site_watts={"s": 1200}).steps == found.steps
    assert plan((TWO[0], new), (a_pod("x", "a"),), site_watts={"s": 1199}).steps == ()


def test_a_budget_over_tenancies_holds_for_their_sum() -> None:
    clusters = [a_cluster(name, a_group(), tenancy=name) for name in "ab"]
    new = [
        a_cluster(f"n{name}", a_group(0, most=1, cost_per_hour=0.2), exists=False, tenancy=name, control_cost_per_hour=0.0)
        for name in "ab"
    ]
    pods = tuple(a_pod(f"x{name}", name, tenancy=name) for name in "ab")
    # Either may be renewed within 1800 W on the way, not both.
    found = plan((*clusters, *new), pods, site_watts={"s": 1800})
    assert [step.act for step in found.steps].count(Act.CREATE) == 1
    assert found.optimal


def test_a_fleet_over_its_budget_comes_within_it_or_is_refused() -> None:
    pods = (a_pod("x", "a"), a_pod("y", "b"))
    with pytest.raises(Conflict, match="site s draws 1200 W"):
        consolidate(Problem(TWO, pods, site_watts={"s": 599}), seconds=4)
    expensive = Problem(TWO, pods, money_per_move=100.0, site_watts={"s": 600})
    found = consolidate(expensive, seconds=4)
    assert (found.watts_before, found.watts) == (1200, 600)
    assert violations(expensive, found.layout) == []


def test_nonsense_is_named_with_all_its_fields() -> None:
    bad = Problem(
        (*TWO, TWO[0], a_cluster("c", a_group(2, most=1))),
        (a_pod("x", "a", 7), a_pod("y", "a", share_milli=0), a_pod("z", "b", tenancy="u")),
        money_per_watt=float("nan"),
        site_watts={"s": -1.0},
    )
    fields = {found.field for found in findings(bad)}
    assert fields == {"money_per_watt", "site_watts.s", "clusters.a", "clusters.c.w", "pods.x", "pods.y", "pods.z"}
    with pytest.raises(InvalidRequest, match="makes no sense"):
        consolidate(bad)


def random_problem(seed: int, *, clusters: int, nodes: int, pods: int) -> Problem:
    """A fleet whose present keeps every rule, budgets included or not."""
    rng = random.Random(seed)
    made = []
    for number in range(clusters):
        exists = number < 2 or rng.random() < 0.6
        here = rng.randint(1, nodes) if exists else 0
        group = a_group(
            here,
            devices=rng.choice((1, 2)),
            model=rng.choice(("A100", "H100")),
            cost_per_hour=rng.choice((0.5, 1.0, 1.3)),
            watts=rng.choice((300.0, 500.0)),
            least=rng.choice((0, 0, 1)) if here else 0,
            most=max(1, here + rng.choice((0, 1))),
        )
        changes = {"exists": exists, "fixed": exists and rng.random() < 0.1, "deletable": rng.random() < 0.8}
        made.append(a_cluster(f"c{number}", group, tenancy=rng.choice("tu") if number > 1 else "t", **changes))
    problem = Problem(tuple(made), (), rng.choice((0.0, 0.001)), rng.choice((0.0, 0.05, 0.4)))
    for number in range(pods):
        cluster = rng.choice([c for c in made if c.exists])
        pod = a_pod(
            f"p{number}",
            cluster.id,
            rng.randrange(cluster.groups[0].nodes),
            tenancy=cluster.tenancy,
            cpu_milli=rng.choice((500, 1000, 2500)),
            accelerators=(devices := rng.choice((0, 1, 1, 2))),
            share_milli=rng.choice((300, 500, 600, WHOLE)) if devices == 1 else WHOLE,
            models=rng.choice((None, None, frozenset({"A100"}))),
            movable=rng.random() < 0.9,
            isolation=rng.choice((*[Isolation.SHARED] * 8, Isolation.NODE, Isolation.CLUSTER)),
            priority=rng.choice((100, 200)),
            forbidden=frozenset(rng.sample([c.id for c in made], 1)) if rng.random() < 0.2 else frozenset(),
        )
        more = replace(problem, pods=(*problem.pods, pod))
        if not violations(more, present(more)):
            problem = more
    if rng.random() < 0.5:
        problem = replace(problem, site_watts={"s": rng.choice((1.0, 1.2)) * sum(_watts(c) for c in made)})
    return problem


def _watts(cluster: Cluster) -> float:
    return (cluster.control_watts + cluster.groups[0].watts * cluster.groups[0].nodes) if cluster.exists else 0.0


def every_layout(problem: Problem) -> Iterator[Layout]:
    """Each way to lay the pods on nodes there could be, with the fewest nodes and clusters that this allows."""
    spots = [Spot(c.id, "w", number) for c in problem.clusters for number in range(c.groups[0].most)]
    for chosen in product(spots, repeat=len(problem.pods)):
        nodes: dict[str, dict[str, frozenset[int]]] = {}
        for c in problem.clusters:
            used = {spot.node for spot in chosen if spot.cluster == c.id}
            if not used and not (c.exists and (c.fixed or not c.deletable)):
                continue
            wanted = c.groups[0].nodes if c.fixed else max(c.groups[0].least, len(used))
            more = [number for number in range(c.groups[0].most) if number not in used][: wanted - len(used)]
            nodes[c.id] = {"w": frozenset({*used, *more})}
        yield Layout({pod.id: spot for pod, spot in zip(problem.pods, chosen, strict=True)}, nodes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_a_plan_is_the_best_of_all_that_there_are(seed: int) -> None:
    problem = random_problem(seed, clusters=3, nodes=2, pods=3)
    best = min(objective(problem, layout) for layout in every_layout(problem) if not violations(problem, layout))
    found = consolidate(problem, seconds=4)
    assert violations(problem, found.layout) == []
    assert found.objective == pytest.approx(best, abs=1e-5)
    assert found.optimal
    assert found.bound <= best + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_no_plan_is_over_a_node_or_a_budget_and_the_same_question_has_the_same_plan(seed: int) -> None:
    problem = random_problem(seed, clusters=6, nodes=4, pods=25)
    found = consolidate(problem, seconds=4)
    assert violations(problem, found.layout) == []
    assert found.bound <= found.objective <= found.objective_before + 1e-9
    for cluster in problem.clusters:
        for group in cluster.groups:
            kept = found.layout.nodes.get(cluster.id, {}).get(group.name, frozenset())
            assert kept <= set(range(max(group.nodes, len(kept)))), "nodes that there are, once what grows has grown"
    assert consolidate(problem, seconds=4) == found


def test_twenty_clusters_of_one_tenancy_are_planned_to_the_proven_best() -> None:
    found = consolidate(fleet_of(20, 200, 1), seconds=28)
    assert found.optimal
    assert found.objective == pytest.approx(205.348, abs=1e-3)


@given(st.lists(st.sampled_from((100, 200, 300, 500, 600, 900)), max_size=5), st.integers(0, 3))
def test_shares_fit_where_some_way_to_lay_them_does(shares: list[int], devices: int) -> None:
    ways = product(range(devices), repeat=len(shares))
    fits = any(all(sum(s for s, at in zip(shares, way, strict=True) if at == d) <= WHOLE for d in range(devices)) for way in ways)
    assert shares_fit(shares, devices) == fits
