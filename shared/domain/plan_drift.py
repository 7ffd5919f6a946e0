"""Drift: what the steps of a plan rest on, what the present should be by now, and what of it is not so. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from shared.domain.consolidation.plan import Act
from shared.domain.plans import NEW, PlanStep, StepState


def concerned(steps: Iterable[PlanStep]) -> set[str]:
    """What these steps rest on: clusters by id, and by ``new:<type>`` the types of those that are to be made."""
    found = set()
    for step in steps:
        refs = {step.ref} if step.target is None else {step.ref, step.target.cluster}
        found |= {ref for ref in refs if step.act is Act.CREATE or not ref.startswith(NEW)}
    return found


def closed_up(keeps: Sequence[int], nodes: int) -> dict[int, int]:
    """New numbers of the nodes that a shrink to ``nodes`` leaves: those beyond the end take the places of those that go."""
    places = iter(sorted(set(range(nodes)) - set(keeps)))
    return {number: next(places) for number in sorted(keeps) if number >= nodes}


def expected(basis: Mapping[str, Any], steps: Sequence[PlanStep]) -> dict[str, Any]:
    """What the clusters of the basis, and those that the plan has made, should look like now: as they were, and what the steps have
    done since.
    """
    clusters = {
        ref: {**one, "groups": {name: dict(g) for name, g in one["groups"].items()}} for ref, one in basis["clusters"].items()
    }
    placements = {ref: dict(spots) for ref, spots in basis["placements"].items()}
    made: dict[str, str] = {}
    for step in steps:
        over = step.state is StepState.DONE
        if step.act is Act.CREATE and over and step.cluster_id is not None:
            made[step.ref] = str(step.cluster_id)
            clusters[str(step.cluster_id)] = {"name": step.name, "phase": "Ready", "managed": True, "healthy": True, "groups": {}}
            placements[str(step.cluster_id)] = {}
        elif step.is_move:
            _expect_move(step, placements)
        elif over and step.group is not None:
            ref = made.get(step.ref, step.ref)
            clusters[ref]["groups"].setdefault(step.group, {})["nodes"] = step.nodes
            if step.act is Act.SHRINK:
                new = closed_up(step.keeps, step.nodes)
                spots = placements[ref]
                spots.update({pod: [g, new.get(n, n)] for pod, (g, n) in spots.items() if g == step.group})
    return {"clusters": clusters, "placements": placements, "types": basis["types"]}


def _expect_move(step: PlanStep, placements: dict[str, dict[str, Any]]) -> None:
    pod = str(step.placement_id)
    if step.state in {StepState.DONE, StepState.SKIPPED}:
        placements.get(step.ref, {}).pop(pod, None)
    if step.state is StepState.DONE and step.target is not None:
        placements.setdefault(step.target.cluster, {})[pod] = [step.target.group, step.target.node]


def differences(should: Mapping[str, Any], present: Mapping[str, Any], refs: Collection[str]) -> list[str]:
    """What of these is not as it should be, in words. A placement that has ended is no difference: it only leaves room."""
    found: list[str] = []
    for ref in sorted(refs):
        if ref.startswith(NEW):
            if present["types"].get(ref) != should["types"].get(ref):
                found.append(f"Cluster type {ref.removeprefix(NEW)!r} is not what it was, or can't be used any more.")
            continue
        want, have = should["clusters"].get(ref), present["clusters"].get(ref)
        if want is None or have is None:
            found.append(f"Cluster {(want or have or {'name': ref})['name']!r} is {'gone' if want else 'not known to the plan'}.")
            continue
        found += _of_cluster(want, have)
        found += _of_placements(want["name"], should["placements"].get(ref, {}), present["placements"].get(ref, {}))
    return found


def _of_cluster(want: Mapping[str, Any], have: Mapping[str, Any]) -> Iterable[str]:
    name = want["name"]
    for key in sorted(set(want) - {"groups", "name"}):
        if have.get(key) != want[key]:
            yield f"Cluster {name!r}: {key} is {have.get(key)!r}, not {want[key]!r}."
    for group in sorted(set(want["groups"]) | set(have["groups"])):
        one, other = want["groups"].get(group), have["groups"].get(group)
        if one is None and not want["groups"]:
            continue
        if one is None or other is None or any(other.get(key) != value for key, value in one.items()):
            yield f"Cluster {name!r}: node group {group} is {_group(other)}, not {_group(one)}."


def _of_placements(name: str, spots: Mapping[str, Any], present: Mapping[str, Any]) -> Iterable[str]:
    for pod, spot in sorted(present.items()):
        if pod not in spots:
            yield f"Cluster {name!r}: placement {pod} has come to it."
        elif list(spots[pod]) != list(spot):
            yield f"Cluster {name!r}: placement {pod} lies on {spot[0]}/{spot[1]}, not {spots[pod][0]}/{spots[pod][1]}."


def _group(one: Mapping[str, Any] | None) -> str:
    return "not there" if one is None else " x ".join(str(one[key]) for key in ("nodes", "flavor") if key in one)
