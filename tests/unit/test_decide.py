"""decide(): one row per situation that Magnum was seen in."""

from datetime import timedelta
from typing import Any

import pytest

from shared.domain.clusters import ObservedCluster
from shared.domain.jobs import Job, JobKind, JobState
from shared.domain.lifecycle import Decision, Fail, Limits, Resubmit, Succeed, Wait, baseline_of, decide, fingerprint
from tests.builders import NOW, a_job, ago, an_observed

LIMITS = Limits()
BEFORE = an_observed("CREATE_COMPLETE", node_count=1, updated_at=ago(600))


def converging(kind: JobKind, age_s: float = 5.0, **changes: Any) -> Job:
    job = a_job(
        kind,
        JobState.CONVERGING,
        submitted_at=ago(age_s),
        progress_at=ago(age_s),
        baseline=baseline_of(BEFORE) if kind is not JobKind.CREATE else {},
    )
    if kind is JobKind.RESIZE:
        changes.setdefault("params", {"node_count": 3, "target_total": 3})
    return a_job(kind, **{**{name: getattr(job, name) for name in job.__dataclass_fields__ if name != "kind"}, **changes})


def verdict(job: Job, observed: ObservedCluster | None, *, seen: bool = True, limits: Limits = LIMITS) -> Decision:
    return decide(job, observed, seen_before=seen, now=NOW, limits=limits)


@pytest.mark.parametrize(
    "status,expected",
    [
        ("CREATE_IN_PROGRESS", Wait),
        ("CREATE_COMPLETE", Succeed),
        ("UPDATE_IN_PROGRESS", Succeed),  # made, and somebody changes it already
        ("UPDATE_COMPLETE", Succeed),
        ("UPDATE_FAILED", Succeed),
        ("ADOPT_COMPLETE", Succeed),
        ("CREATE_FAILED", Fail),
        ("DELETE_IN_PROGRESS", Fail),
        ("DELETE_COMPLETE", Fail),
        ("DELETE_FAILED", Fail),
        ("ROLLBACK_IN_PROGRESS", Wait),
        ("REPAIRING", Wait),  # a word of a driver we do not know
    ],
)
def test_create_by_status(status: str, expected: type) -> None:
    assert isinstance(verdict(converging(JobKind.CREATE), an_observed(status)), expected)


def test_created_cluster_that_was_never_seen_may_still_appear() -> None:
    # With the conductor down this can last for as long as the outage.
    assert isinstance(verdict(converging(JobKind.CREATE, 3000), None, seen=False), Wait)


def test_created_cluster_that_was_seen_and_is_gone_fails_the_job() -> None:
    decision = verdict(converging(JobKind.CREATE), None, seen=True)
    assert isinstance(decision, Fail)
    assert decision.error.reason == "CLUSTER_GONE"


def test_failed_create_keeps_magnums_words_and_names_the_reason() -> None:
    observed = an_observed(
        "CREATE_FAILED", status_reason="Stack failed", faults={"default-worker": "No valid host was found", "x": "Stack failed"}
    )
    decision = verdict(converging(JobKind.CREATE), observed)
    assert isinstance(decision, Fail)
    assert decision.error.reason == "NO_VALID_HOST"
    assert decision.error.detail == "Stack failed; default-worker: No valid host was found"


@pytest.mark.parametrize(
    "status,nodes,age_s,updated_s_ago,expected",
    [
        # The old status stays for a moment after the 202: COMPLETE alone proves nothing.
        ("CREATE_COMPLETE", 1, 0.1, 600, Wait),
        ("CREATE_COMPLETE", 1, 19.9, 600, Wait),
        # Node groups are written before the status: the new count under the old status is not yet the end.
        ("CREATE_COMPLETE", 3, 1, 600, Wait),
        ("UPDATE_IN_PROGRESS", 3, 3, 1, Wait),
        ("UPDATE_COMPLETE", 3, 8, 1, Succeed),
        # Finished within the second of the baseline's updated_at: believed after a while.
        ("CREATE_COMPLETE", 3, 16, 600, Succeed),
        # Dropped by the conductor: the old count, the old status, for longer than a change takes to begin.
        ("CREATE_COMPLETE", 1, 21, 600, Resubmit),
        # Another change won: COMPLETE, moved, but with another count.
        ("UPDATE_COMPLETE", 2, 21, 1, Resubmit),
        ("UPDATE_FAILED", 3, 8, 1, Fail),
        ("DELETE_IN_PROGRESS", 3, 8, 1, Fail),
        ("DELETE_COMPLETE", 0, 8, 1, Fail),
        ("SOMETHING_NEW", 3, 8, 1, Wait),
    ],
)
def test_resize(status: str, nodes: int, age_s: float, updated_s_ago: float, expected: type) -> None:
    observed = an_observed(status, node_count=nodes, updated_at=ago(updated_s_ago))
    assert isinstance(verdict(converging(JobKind.RESIZE, age_s), observed), expected)


def test_resize_to_the_same_failed_status_as_before_is_no_news() -> None:
    before = an_observed("UPDATE_FAILED", updated_at=ago(600))
    job = converging(JobKind.RESIZE, 5, baseline=baseline_of(before))
    assert isinstance(verdict(job, before), Wait)


def test_resize_counts_all_worker_groups() -> None:
    job = converging(JobKind.RESIZE, 8, params={"node_count": 3, "target_total": 5})
    assert isinstance(verdict(job, an_observed("UPDATE_COMPLETE", node_count=5, updated_at=ago(1))), Succeed)
    assert isinstance(verdict(job, an_observed("UPDATE_COMPLETE", node_count=3, updated_at=ago(1))), Wait)


@pytest.mark.parametrize("resubmits,patience_s", [(0, 20), (1, 40), (2, 80), (3, 160)])
def test_each_further_try_of_a_dropped_call_waits_twice_as_long(resubmits: int, patience_s: float) -> None:
    observed = an_observed("CREATE_COMPLETE", node_count=1, updated_at=ago(600))
    early = verdict(converging(JobKind.RESIZE, patience_s - 1, resubmits=resubmits), observed)
    late = verdict(converging(JobKind.RESIZE, patience_s + 1, resubmits=resubmits), observed)
    assert isinstance(early, Wait)
    if resubmits < LIMITS.max_resubmits:
        assert isinstance(late, Resubmit)
    else:
        assert isinstance(late, Fail)
        assert late.error.reason == "NOT_EXECUTED"
        assert "4 times" in late.error.detail


@pytest.mark.parametrize(
    "status,age_s,updated_s_ago,expected",
    [
        ("CREATE_COMPLETE", 0.1, 600, Wait),
        ("DELETE_IN_PROGRESS", 5, 1, Wait),
        ("DELETE_COMPLETE", 5, 1, Succeed),
        ("DELETE_FAILED", 5, 1, Fail),
        ("CREATE_COMPLETE", 21, 600, Resubmit),
        ("CREATE_IN_PROGRESS", 21, 600, Resubmit),
        ("WEIRD", 21, 600, Wait),
    ],
)
def test_delete(status: str, age_s: float, updated_s_ago: float, expected: type) -> None:
    assert isinstance(verdict(converging(JobKind.DELETE, age_s), an_observed(status, updated_at=ago(updated_s_ago))), expected)


def test_delete_that_failed_before_is_not_failed_again_by_the_old_status() -> None:
    before = an_observed("DELETE_FAILED", updated_at=ago(600))
    assert isinstance(verdict(converging(JobKind.DELETE, 2, baseline=baseline_of(before)), before), Wait)
    assert isinstance(verdict(converging(JobKind.DELETE, 16, baseline=baseline_of(before)), before), Fail)


def test_deleted_cluster_is_gone_when_it_was_seen_before() -> None:
    assert isinstance(verdict(converging(JobKind.DELETE, 1), None, seen=True), Succeed)


@pytest.mark.parametrize("age_s,expected", [(1, Wait), (59, Wait), (61, Succeed)])
def test_deleted_cluster_that_was_never_seen_gets_time_to_appear(age_s: float, expected: type) -> None:
    assert isinstance(verdict(converging(JobKind.DELETE, age_s), None, seen=False), expected)


@pytest.mark.parametrize("still_s,reason", [(1000, "STALLED"), (10, "DRIVER_TIMEOUT")])
def test_deadline_tells_a_stall_from_a_slow_driver(still_s: float, reason: str) -> None:
    job = converging(JobKind.CREATE, 4000, deadline_at=ago(1), progress_at=ago(still_s))
    decision = verdict(job, an_observed("CREATE_IN_PROGRESS", status_reason="Stack CREATE started"))
    assert isinstance(decision, Fail)
    assert decision.error.reason == reason
    assert "CREATE_IN_PROGRESS: Stack CREATE started" in decision.error.detail


def test_arrival_counts_also_after_the_deadline() -> None:
    job = converging(JobKind.CREATE, 4000, deadline_at=ago(1))
    assert isinstance(verdict(job, an_observed("CREATE_COMPLETE")), Succeed)


@pytest.mark.parametrize("age_s,still_s,condition", [(10, 10, "progressing"), (901, 10, "slow"), (901, 901, "stalled")])
def test_waiting_says_how_it_goes(age_s: float, still_s: float, condition: str) -> None:
    job = converging(JobKind.CREATE, age_s, progress_at=ago(still_s))
    decision = verdict(job, an_observed("CREATE_IN_PROGRESS"))
    assert isinstance(decision, Wait)
    assert decision.condition == condition


@pytest.mark.parametrize(
    "change", [{"raw_status": "UPDATE_COMPLETE"}, {"status_reason": "x"}, {"node_count": 2}, {"updated_at": NOW + timedelta(1)}]
)
def test_fingerprint_notices_progress(change: dict[str, Any]) -> None:
    before = an_observed(uuid="u")
    after = an_observed(uuid="u", **change) if "raw_status" not in change else an_observed(change["raw_status"], uuid="u")
    assert fingerprint(before) != fingerprint(after)
    assert fingerprint(before) == fingerprint(an_observed(uuid="u", health_status="UNHEALTHY"))
