"""Plans on their way: states, what became of steps, what comes next, and what differs. Pure."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.domain.consolidation.model import Cluster, Group, Layout, Pod, Problem, Spot
from shared.domain.consolidation.numbering import in_turn, numbered
from shared.domain.consolidation.packing import violations
from shared.domain.consolidation.plan import Act
from shared.domain.jobs import JobState
from shared.domain.plan_drift import closed_up, concerned, differences, expected
from shared.domain.plans import (
    ENDED,
    TRANSITIONS,
    Limits,
    PlanState,
    PlanStep,
    StepState,
    StoredPlan,
    check_transition,
    due,
    settle,
)
from shared.errors import Conflict
from tests.builders import NOW

P, S = PlanState, StepState
ALLOWED = {
    (P.PROPOSED, P.APPROVED),
    (P.PROPOSED, P.CANCELLED),
    (P.PROPOSED, P.EXPIRED),
    (P.APPROVED, P.APPLYING),
    (P.APPROVED, P.CANCELLED),
    (P.APPROVED, P.EXPIRED),
    (P.APPLYING, P.APPLIED),
    (P.APPLYING, P.STALE),
    (P.APPLYING, P.FAILED),
    (P.APPLYING, P.CANCELLED),
}
HOUR = timedelta(hours=1)
POD = UUID(int=1)


@pytest.mark.parametrize("old,new", list(product(PlanState, PlanState)))
def test_a_plan_goes_these_ways_and_no_other(old: PlanState, new: PlanState) -> None:
    if (old, new) in ALLOWED:
        check_transition(old, new)
        return
    with pytest.raises(Conflict, match=f"The plan is {old} and can't become {new}") as refused:
        check_transition(old, new)
    assert refused.value.reason == "PLAN_STATE"
    assert (refused.value.hint is not None) == (old in ENDED)


def test_every_state_has_its_ways_and_what_has_ended_has_none() -> None:
    assert set(TRANSITIONS) == set(PlanState)
    assert (
        {state for state in PlanState if not TRANSITIONS[state]} == ENDED == set(PlanState) - {P.PROPOSED, P.APPROVED, P.APPLYING}
    )


@pytest.mark.parametrize("state", PlanState)
def test_only_what_is_not_applied_yet_expires(state: PlanState) -> None:
    plan = StoredPlan(uuid4(), "p", "r", state, created_at=NOW, valid_until=NOW + HOUR)
    assert plan.at(NOW + HOUR - timedelta(seconds=1)) is plan
    assert (plan.at(NOW + HOUR).state is P.EXPIRED) == (state in {P.PROPOSED, P.APPROVED, P.EXPIRED})


def a_step(number: int, act: Act, state: StepState = S.WAITING, **changes: Any) -> PlanStep:
    move: dict[str, Any] = (
        {"placement_id": POD, "source": Spot("a", "w", 0), "target": Spot("b", "w", 0)} if act is Act.MOVE else {}
    )
    return replace(PlanStep(number, act, "a", "a", "To try it.", state=state), **(move | changes))


# -- what became of what had begun -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*JobState, None])
@pytest.mark.parametrize("act", [Act.CREATE, Act.GROW, Act.SHRINK, Act.DELETE])
def test_a_step_ends_as_its_job_does(act: Act, state: JobState | None) -> None:
    job = uuid4()
    settled = settle([a_step(0, act, S.RUNNING, job_id=job)], {job: (state, "NO_VALID_HOST: none")}, set(), NOW)
    (after,) = settled.steps
    if state is JobState.SUCCEEDED:
        assert (after.state, after.ended_at, settled.stop) == (S.DONE, NOW, None)
    elif state in {JobState.QUEUED, JobState.RUNNING, JobState.CONVERGING}:
        assert (after.state, settled.stop) == (S.RUNNING, None)
    else:
        assert after.state is S.FAILED
        assert settled.stop is not None
        assert (settled.stop.state, settled.stop.reason) == (P.FAILED, "STEP_FAILED")
        assert "NO_VALID_HOST: none" in settled.stop.detail


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("state", StepState)
def test_a_move_is_skipped_where_nothing_is_left_to_move_and_fails_past_its_deadline(
    state: StepState, late: bool, held: bool
) -> None:
    deadline = NOW if late else NOW + HOUR
    settled = settle([a_step(0, Act.MOVE, state, deadline_at=deadline)], {}, {POD} if held else set(), NOW)
    (after,) = settled.steps
    if state in {S.WAITING, S.RUNNING} and not held:
        assert (after.state, settled.stop) == (S.SKIPPED, None)
    elif state is S.RUNNING and late:
        assert after.state is S.FAILED
        assert settled.stop is not None
        assert settled.stop.reason == "MOVES_NOT_DONE"
    else:
        assert (after.state, settled.stop) == (state, None)


# -- what comes next ---------------------------------------------------------------------------------------------------------

FREE = Limits(clusters=10, window=HOUR)
WAY = [Act.CREATE, Act.GROW, Act.MOVE, Act.MOVE, Act.SHRINK, Act.DELETE]


def way(*states: StepState, **changes: Any) -> list[PlanStep]:
    return [a_step(number, act, state, **changes) for number, (act, state) in enumerate(zip(WAY, states, strict=True))]


W, R, D = S.WAITING, S.RUNNING, S.DONE


@pytest.mark.parametrize(
    "states,begins",
    [
        ((W, W, W, W, W, W), [0]),
        ((R, W, W, W, W, W), []),
        ((D, W, W, W, W, W), [1]),
        ((D, R, W, W, W, W), []),
        ((D, D, W, W, W, W), [2, 3]),
        ((D, D, R, W, W, W), [3]),
        ((D, D, R, R, W, W), []),
        ((D, D, D, R, W, W), []),
        ((D, D, D, S.SKIPPED, W, W), [4]),
        ((D, D, D, D, R, W), []),
        ((D, D, D, D, D, W), [5]),
        ((D, D, D, D, D, R), []),
        ((D, D, D, D, D, D), []),
    ],
)
def test_room_is_made_first_and_taken_away_last(states: tuple[StepState, ...], begins: list[int]) -> None:
    assert [step.number for step in due(way(*states), FREE).steps] == begins


def test_what_waits_for_moves_says_so() -> None:
    found = due(way(D, D, R, R, W, W), FREE)
    assert [step.number for step in found.waits] == [4]
    assert found.why == "MOVES_UNDER_WAY: 2 moves, such as step 2, must be reported as done, or end, before."


@pytest.mark.parametrize("states", [(W, W, W, W, W, W), (D, D, W, W, W, W), (D, D, D, D, W, W), (D, D, D, D, D, W)])
def test_a_deny_window_holds_every_kind_of_step(states: tuple[StepState, ...]) -> None:
    found = due(way(*states), replace(FREE, denied_by="mon 08:00-18:00 UTC"))
    assert found.steps == ()
    assert [step.number for step in found.waits] == [step.number for step in due(way(*states), FREE).steps]
    assert found.why == "DENY_WINDOW: nothing is begun in the window mon 08:00-18:00 UTC."


@pytest.mark.parametrize(
    "most,recent,begins",
    [(1, set(), [0, 2]), (2, set(), [0, 1, 2]), (1, {"b"}, [1]), (1, {"x"}, []), (2, {"x"}, [0, 2]), (3, {"x"}, [0, 1, 2])],
)
def test_no_more_clusters_are_disturbed_than_the_budget_says(most: int, recent: set[str], begins: list[int]) -> None:
    moves = [a_step(number, Act.MOVE, ref=ref) for number, ref in enumerate("aba")]
    found = due(moves, Limits(most, HOUR, frozenset(recent)))
    assert [step.number for step in found.steps] == begins
    assert [step.number for step in found.waits] == [number for number in range(3) if number not in begins]
    assert (found.why is None) == (not found.waits)


@pytest.mark.parametrize("act", [Act.CREATE, Act.GROW])
def test_making_room_disturbs_nobody(act: Act) -> None:
    assert len(due([a_step(0, act)], Limits(1, HOUR, frozenset({"x", "y"}))).steps) == 1


# -- what a step rests on ----------------------------------------------------------------------------------------------------


def a_basis() -> dict[str, Any]:
    def state(name: str, nodes: int) -> dict[str, Any]:
        return {"name": name, "phase": "Ready", "groups": {"w": {"flavor": "gpu", "nodes": nodes}}}

    return {
        "clusters": {"a": state("a", 1), "b": state("b", 2)},
        "placements": {"a": {str(POD): ["w", 0]}, "b": {"stays": ["w", 1]}},
        "types": {"new:t": {"flavor": "npu", "masters": 1}},
    }


def test_nothing_differs_from_itself() -> None:
    basis = a_basis()
    assert differences(expected(basis, []), basis, {"a", "b", "new:t"}) == []


def _differ(**changes: Any) -> list[str]:
    present = a_basis()
    for path, value in changes.items():
        *way_there, last = path.split("__")
        level = present
        for part in way_there:
            level = level[part]
        if value is None:
            del level[last]
        else:
            level[last] = value
    return differences(expected(a_basis(), []), present, {"a", "b", "new:t"})


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"clusters__a": None}, "Cluster 'a' is gone."),
        ({"clusters__a__phase": "Updating"}, "Cluster 'a': phase is 'Updating', not 'Ready'."),
        ({"clusters__b__groups__w__nodes": 3}, "Cluster 'b': node group w is 3 x gpu, not 2 x gpu."),
        ({"clusters__b__groups__w__flavor": "cpu"}, "Cluster 'b': node group w is 2 x cpu, not 2 x gpu."),
        ({"clusters__b__groups__w": None}, "Cluster 'b': node group w is not there, not 2 x gpu."),
        ({"clusters__b__groups__v": {"nodes": 1, "flavor": "gpu"}}, "Cluster 'b': node group v is 1 x gpu, not not there."),
        ({"placements__a__other": ["w", 0]}, "Cluster 'a': placement other has come to it."),
        ({"placements__b__stays": ["w", 0]}, "Cluster 'b': placement stays lies on w/0, not w/1."),
        ({"types__new:t": None}, "Cluster type 't' is not what it was, or can't be used any more."),
    ],
)
def test_what_differs_is_said(changes: dict[str, Any], words: str) -> None:
    assert _differ(**changes) == [words]


def test_what_has_ended_makes_no_difference() -> None:
    assert _differ(placements__b__stays=None) == []


def test_what_is_expected_follows_the_steps_that_are_done() -> None:
    steps = [
        a_step(0, Act.GROW, ref="a", group="w", nodes_before=1, nodes=2),
        a_step(1, Act.MOVE, ref="a", target=Spot("b", "w", 0)),
        a_step(2, Act.SHRINK, ref="b", group="w", nodes_before=2, nodes=1, keeps=(1,)),
    ]
    seen = []
    for count in range(4):
        done = [replace(step, state=D) if step.number < count else step for step in steps]
        found = expected(a_basis(), done)
        seen.append(
            (found["clusters"]["a"]["groups"]["w"]["nodes"], found["placements"], found["clusters"]["b"]["groups"]["w"]["nodes"])
        )
    before = a_basis()["placements"]
    moved = {"a": {}, "b": {"stays": ["w", 1], str(POD): ["w", 0]}}
    shrunk = {"a": {}, "b": {"stays": ["w", 0], str(POD): ["w", 0]}}
    assert seen == [(1, before, 2), (2, before, 2), (2, moved, 2), (2, shrunk, 1)]


def test_a_step_rests_on_its_cluster_and_a_move_on_both() -> None:
    assert concerned([a_step(0, Act.CREATE, ref="new:t"), a_step(1, Act.GROW, ref="new:t")]) == {"new:t"}
    assert concerned([a_step(0, Act.MOVE)]) == {"a", "b"}
    assert concerned([a_step(0, Act.DELETE, ref="c")]) == {"c"}


@pytest.mark.parametrize(
    "keeps,nodes,numbers",
    [((0, 1), 2, {}), ((1,), 1, {1: 0}), ((0, 3), 2, {3: 1}), ((2, 3, 4), 3, {3: 0, 4: 1}), ((), 0, {})],
)
def test_nodes_that_stay_close_up(keeps: tuple[int, ...], nodes: int, numbers: dict[int, int]) -> None:
    assert closed_up(keeps, nodes) == numbers
    assert {numbers.get(number, number) for number in keeps} == set(range(nodes))


# -- numbers of nodes, and turns ---------------------------------------------------------------------------------------------


def a_problem(*clusters: tuple[str, int], pods: dict[str, tuple[str, int, int]]) -> Problem:
    return Problem(
        clusters=tuple(
            Cluster(name, "t", "t", "s", 1.0, 10.0, (Group("w", "gpu", 8000, 8000, "a100", 4, 1.0, 100.0, nodes, 0, nodes + 4),))
            for name, nodes in clusters
        ),
        pods=tuple(Pod(name, name, "t", Spot(at, "w", node), accelerators=gpus) for name, (at, node, gpus) in pods.items()),
    )


def a_layout(nodes: dict[str, set[int]], spots: dict[str, tuple[str, int]]) -> Layout:
    return Layout(
        {pod: Spot(cluster, "w", node) for pod, (cluster, node) in spots.items()},
        {cluster: {"w": frozenset(numbers)} for cluster, numbers in nodes.items()},
    )


@pytest.mark.parametrize(
    "kept,spots,numbers",
    [
        ({0, 5}, {"x": 5, "y": 0}, {"x": 1, "y": 0}),  # two nodes are there, and two stay
        ({0, 4, 5}, {"x": 4, "y": 5}, {"x": 2, "y": 1}),  # it grows by one: the new one is taken first
        ({5}, {"x": 5, "y": 5}, {"x": 1, "y": 1}),  # it shrinks: what stays is a node that is there
        ({1}, {"x": 1, "y": 1}, {"x": 1, "y": 1}),
    ],
)
def test_a_plan_names_nodes_that_there_will_be(kept: set[int], spots: dict[str, int], numbers: dict[str, int]) -> None:
    problem = a_problem(("a", 2), pods={"x": ("a", 0, 1), "y": ("a", 1, 1)})
    layout = numbered(problem, a_layout({"a": kept}, {pod: ("a", node) for pod, node in spots.items()}))
    assert {pod: spot.node for pod, spot in layout.spots.items()} == numbers
    assert len(layout.nodes["a"]["w"]) == len(kept)
    assert max(layout.nodes["a"]["w"]) < max(2, len(kept))
    assert violations(problem, layout) == []


def test_each_move_finds_its_place_free_in_its_turn() -> None:
    # z fills what y leaves, y what x leaves, and x has room at once.
    problem = a_problem(("a", 3), ("b", 1), pods={"x": ("a", 0, 4), "y": ("a", 1, 4), "z": ("a", 2, 4)})
    layout = a_layout({"a": {0, 1}, "b": {0}}, {"x": ("b", 0), "y": ("a", 0), "z": ("a", 1)})
    assert in_turn(problem, layout) == ["x", "y", "z"]


def test_those_that_swap_places_come_last() -> None:
    problem = a_problem(("a", 2), ("b", 1), pods={"x": ("a", 0, 4), "y": ("a", 1, 4), "z": ("b", 0, 1)})
    layout = a_layout({"a": {0, 1}, "b": {0}}, {"x": ("a", 1), "y": ("a", 0), "z": ("b", 0)})
    assert in_turn(problem, layout) == ["x", "y"]
    assert in_turn(problem, a_layout({"a": {0, 1}, "b": {0}}, {"x": ("a", 0), "y": ("a", 1), "z": ("b", 0)})) == []
