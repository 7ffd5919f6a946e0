"""Whether a cluster is idle: every combination of what the sources may say, and the way from one stage to the next."""

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.domain.cleanup_policy import ALWAYS, MEASURED, CleanupPolicy, Source, Window, looser, policy_from, tightened, windows_of
from shared.domain.clusters import Phase
from shared.domain.idleness import (
    LONGEST_GAP,
    STAGES,
    Facts,
    Hold,
    Placed,
    Progress,
    Reading,
    Sample,
    Stage,
    Status,
    Usage,
    Verdict,
    Work,
    is_asleep,
    judge,
    next_step,
    ready_at,
    waits_for,
)
from tests.builders import NOW, a_cluster, ago

POLICY = CleanupPolicy(dry_run=False)
IDLE_CLUSTER = a_cluster(
    phase=Phase.READY, status="CREATE_COMPLETE", observed_at=NOW, created_at=ago(86_400), observed_node_count=3
)


def facts(**changes: Any) -> Facts:
    """A cluster that every source finds idle."""
    idle = Facts(
        IDLE_CLUSTER,
        usage=Usage(Sample(0.0, NOW), Sample(3.0, NOW), Sample(0.0, NOW)),
        placed=Placed(),
        work=Work(),
        hold_known=True,
    )
    return replace(idle, **changes)


def verdict(*, idle: bool = True, at: datetime = NOW, used_at: datetime | None = None) -> Verdict:
    status = Status.IDLE if idle else Status.ACTIVE
    return Verdict(uuid4(), at, tuple(Reading(source, status, "", used_at=used_at) for source in Source))


def reading(given: Facts, source: Source, policy: CleanupPolicy = POLICY) -> Reading:
    return next(one for one in judge(given, policy, NOW).readings if one.source is source)


# -- every combination ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [MEASURED, (), (Source.CPU_USE,), (Source.ACCELERATOR_USE, Source.RUNNING_PODS)])
def test_idle_only_where_every_required_source_says_so_and_none_says_active(sources: tuple[Source, ...]) -> None:
    required = CleanupPolicy(sources=sources).required
    idle = 0
    for said in itertools.product(Status, repeat=len(Source)):
        readings = tuple(
            Reading(source, status, "", required=source in required) for source, status in zip(Source, said, strict=True)
        )
        expected = all(one.status is Status.IDLE or (one.status is Status.UNKNOWN and not one.required) for one in readings)
        found = Verdict(uuid4(), NOW, readings)
        assert found.idle is expected
        assert bool(found.why_not) is not expected
        idle += found.idle
    assert idle == 2 ** (len(MEASURED) - len(sources))  # only those left out may be unknown


@pytest.mark.parametrize("missing", Source)
def test_a_source_that_was_not_asked_is_not_idle(missing: Source) -> None:
    readings = tuple(Reading(source, Status.IDLE, "") for source in Source if source is not missing)
    assert not Verdict(uuid4(), NOW, readings).idle


#: For each source: facts in which it is idle, active, or unknown for each reason there is.
_LONG_AGO = ago(16 * 60)
_SAID: dict[Source, dict[str, list[dict[str, Any]]]] = {
    Source.ACCELERATOR_USE: {
        "idle": [{"accelerator_percent": Sample(9.9, NOW)}],
        "active": [{"accelerator_percent": Sample(10.0, NOW)}],
        "unknown": [
            {"accelerator_percent": None},
            {"accelerator_percent": Sample(0.0, _LONG_AGO)},
            {"accelerator_percent": Sample(float("nan"), NOW)},
        ],
    },
    Source.CPU_USE: {
        "idle": [{"cpu_percent": Sample(9.9, NOW)}],
        "active": [{"cpu_percent": Sample(99.0, NOW)}],
        "unknown": [{"cpu_percent": None}, {"cpu_percent": Sample(0.0, _LONG_AGO)}, {"cpu_percent": Sample(-1.0, NOW)}],
    },
    Source.RUNNING_PODS: {
        "idle": [{"running_pods": Sample(0.0, NOW)}],
        "active": [{"running_pods": Sample(1.0, NOW)}],
        "unknown": [{"running_pods": None}, {"running_pods": Sample(0.0, NOW + timedelta(hours=1))}],
    },
    Source.PLACEMENTS: {
        "idle": [{"placed": Placed(0, ago(10))}],
        "active": [{"placed": Placed(1, NOW)}],
        "unknown": [{"placed": None}],
    },
    Source.LAST_OPERATION: {
        "idle": [{"work": Work(0, None, ago(10))}],
        "active": [{"work": Work(1, "resize")}, {"cluster": {"status": "UPDATE_IN_PROGRESS"}}],
        "unknown": [{"work": None}, {"cluster": {"observed_at": None}}, {"cluster": {"observed_at": ago(3601)}}],
    },
    Source.HOLD: {
        "idle": [{"hold": Hold(ago(1), "over", "user-1", ago(100))}],
        "active": [{"hold": Hold(NOW + timedelta(seconds=1), "a demo", "user-1", ago(100))}],
        "unknown": [{"hold_known": False}],
    },
    Source.PERSISTENT: {
        "idle": [{"cluster": {"labels": {}}}, {"cluster": {"labels": {"persistent": "False"}}}],
        "active": [{"cluster": {"labels": {"persistent": "true"}}}],
        "unknown": [{"cluster": {"labels": {"persistent": "ture"}}}],
    },
}


def _facts_of(changes: list[dict[str, Any]]) -> Facts:
    usage = {"accelerator_percent": Sample(0.0, NOW), "cpu_percent": Sample(0.0, NOW), "running_pods": Sample(0.0, NOW)}
    cluster: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for change in changes:
        for name, value in change.items():
            if name in usage:
                usage[name] = value
            elif name == "cluster":
                cluster |= value
            else:
                others[name] = value
    return facts(cluster=replace(IDLE_CLUSTER, **cluster), usage=Usage(**usage), **others)


@pytest.mark.parametrize("source,status", [(source, status) for source in Source for status in Status])
def test_each_source_reads_its_facts(source: Source, status: Status) -> None:
    for change in _SAID[source][status.value]:
        found = judge(_facts_of([change]), POLICY, NOW)
        said = {one.source: one.status for one in found.readings}
        assert said[source] is status, change
        assert {other for other, one in said.items() if one is not Status.IDLE} <= {source}
        assert found.idle is (status is Status.IDLE)


def test_no_combination_of_facts_cleans_with_one_source_unknown_stale_failing_or_active() -> None:
    choices = [[(status, change) for status in Status for change in _SAID[source][status.value][:1]] for source in Source]
    count = 0
    for chosen in itertools.product(*choices):
        found = judge(_facts_of([change for _, change in chosen]), POLICY, NOW)
        assert found.idle is all(status is Status.IDLE for status, _ in chosen)
        count += 1
    assert count == 3 ** len(Source)


# Not the label: it is part of the cluster itself, and there is nothing that could fail.
@pytest.mark.parametrize("source", [source for source in Source if source is not Source.PERSISTENT])
def test_a_source_that_failed_is_unknown_whatever_it_had(source: Source) -> None:
    found = judge(facts(failures={source: "Prometheus did not answer."}), POLICY, NOW)
    assert not found.idle
    assert found.why_not == [{"code": f"{source.value.upper()}_UNKNOWN", "detail": "Prometheus did not answer."}]


def test_without_measurements_nothing_is_idle_and_the_answer_says_so() -> None:
    found = judge(facts(usage=None), POLICY, NOW)
    assert [reason["code"] for reason in found.why_not] == ["ACCELERATOR_USE_UNKNOWN", "CPU_USE_UNKNOWN", "RUNNING_PODS_UNKNOWN"]
    assert "docs/cleanup.md" in found.why_not[0]["detail"]


def test_a_policy_may_do_without_measurements_but_not_against_them() -> None:
    policy = replace(POLICY, sources=())
    assert judge(facts(usage=None), policy, NOW).idle
    busy = facts(usage=Usage(Sample(80.0, NOW)))
    assert [reason["code"] for reason in judge(busy, policy, NOW).why_not] == ["ACCELERATOR_USE_ACTIVE"]


def test_a_cluster_without_accelerators_needs_no_measurement_of_them() -> None:
    given = facts(no_accelerator=True, usage=Usage(None, Sample(1.0, NOW), Sample(0.0, NOW)))
    assert judge(given, POLICY, NOW).idle
    measured = facts(no_accelerator=True, usage=Usage(Sample(50.0, NOW), Sample(1.0, NOW), Sample(0.0, NOW)))
    assert not judge(measured, POLICY, NOW).idle


def test_a_hibernated_cluster_has_no_workers_to_measure() -> None:
    asleep = replace(IDLE_CLUSTER, phase=Phase.HIBERNATED, observed_node_count=0)
    assert is_asleep(asleep)
    assert judge(facts(cluster=asleep, usage=None), POLICY, NOW).idle
    assert not judge(facts(cluster=replace(asleep, observed_at=ago(7200)), usage=None), POLICY, NOW).idle
    one_left = replace(asleep, observed_node_count=1)
    assert not judge(facts(cluster=one_left, usage=None), POLICY, NOW).idle


@pytest.mark.parametrize(
    "changes,code",
    [
        ({"managed": False}, "NOT_MANAGED"),
        ({"gone": True}, "GONE"),
        ({"live": False}, "GONE"),
        *(({"phase": phase}, "PHASE") for phase in Phase if phase not in {Phase.READY, Phase.HIBERNATED}),
    ],
)
def test_what_is_out_of_reach_is_never_idle(changes: dict[str, Any], code: str) -> None:
    found = judge(facts(cluster=replace(IDLE_CLUSTER, **changes)), POLICY, NOW)
    assert not found.idle
    assert [reason["code"] for reason in found.why_not] == [code]


def test_a_connected_cluster_is_out_of_reach() -> None:
    found = judge(facts(connected_by=("link-ab",)), POLICY, NOW)
    assert found.why_not == [{"code": "CLUSTER_CONNECTED", "detail": "It is connected with others by link-ab."}]


@pytest.mark.parametrize(
    "given,used_at",
    [
        (facts(usage=Usage(Sample(50.0, ago(60)), Sample(0.0, NOW), Sample(0.0, NOW))), ago(60)),
        (facts(placed=Placed(0, ago(120))), ago(120)),
        (facts(work=Work(0, None, ago(180))), ago(180)),
        (facts(), IDLE_CLUSTER.created_at),
    ],
)
def test_the_last_use_is_the_latest_that_any_source_saw(given: Facts, used_at: datetime) -> None:
    assert judge(given, POLICY, NOW).used_at == used_at


def test_evidence_has_value_age_and_limit_of_each_source() -> None:
    shown = judge(facts(usage=Usage(Sample(42.5, ago(30)), Sample(0.0, NOW), Sample(0.0, NOW))), POLICY, NOW).as_dict()
    first = shown["sources"][0]
    assert (first["source"], first["status"], first["value"], first["age_seconds"]) == ("accelerator_use", "active", 42.5, 30.0)
    assert "less than 10 %" in first["detail"]
    assert shown["idle"] is False


def test_two_verdicts_that_say_the_same_have_one_key() -> None:
    one = judge(facts(), POLICY, NOW)
    other = judge(facts(usage=Usage(Sample(1.0, NOW), Sample(1.0, NOW), Sample(0.0, NOW))), POLICY, NOW)
    assert one.key == other.key != judge(facts(usage=None), POLICY, NOW).key


# -- stages ------------------------------------------------------------------------------------------------------------------


def test_the_way_of_an_idle_cluster() -> None:
    progress = Progress()
    way = []
    now = NOW
    for _ in range(400):
        step = next_step(progress, verdict(at=now), POLICY, asleep=False)
        if step:
            way.append((step.stage, now - NOW))
            since = now if progress.stage is Stage.ACTIVE else progress.idle_since
            progress = replace(progress, stage=step.stage, since=now, idle_since=since)
        progress = replace(progress, looked_at=now)
        now += timedelta(minutes=1)
    minutes = timedelta(minutes=1)
    assert way == [
        (Stage.CANDIDATE, 0 * minutes),
        (Stage.NOTIFIED, 120 * minutes),
        (Stage.MARKED, 121 * minutes),
        (Stage.CONFIRMED, 181 * minutes),
    ]


def at_stage(stage: Stage, **changes: Any) -> Progress:
    progress = Progress(stage, since=ago(90_000), idle_since=ago(90_000), looked_at=ago(60))
    return replace(progress, **changes)


_WAITING = [Stage.CANDIDATE, Stage.NOTIFIED, Stage.MARKED, Stage.CONFIRMED]


@pytest.mark.parametrize("stage", _WAITING)
def test_one_source_that_is_not_idle_leads_back(stage: Stage) -> None:
    step = next_step(at_stage(stage), judge(facts(usage=None), POLICY, NOW), POLICY, asleep=False)
    assert step is not None
    assert (step.stage, step.reason) == (Stage.ACTIVE, "NOT_IDLE")
    assert "Nothing measured it" in step.detail


@pytest.mark.parametrize("stage", _WAITING)
def test_use_between_two_looks_leads_back(stage: Stage) -> None:
    step = next_step(at_stage(stage, idle_since=ago(7200)), verdict(used_at=ago(30)), POLICY, asleep=False)
    assert step is not None
    assert (step.stage, step.reason) == (Stage.ACTIVE, "USED")


@pytest.mark.parametrize("stage", _WAITING)
@pytest.mark.parametrize("looked_at", [None, NOW - LONGEST_GAP - timedelta(seconds=1)])
def test_a_gap_in_the_looks_leads_back(stage: Stage, looked_at: datetime | None) -> None:
    step = next_step(at_stage(stage, looked_at=looked_at), verdict(), POLICY, asleep=False)
    assert step is not None
    assert (step.stage, step.reason) == (Stage.ACTIVE, "UNWATCHED")


def test_the_grace_begins_when_no_notice_is_on_its_way_any_more() -> None:
    assert next_step(at_stage(Stage.NOTIFIED, notice_pending=True), verdict(), POLICY, asleep=False) is None
    step = next_step(at_stage(Stage.NOTIFIED), verdict(), POLICY, asleep=False)
    assert step is not None
    assert step.stage is Stage.MARKED


def test_a_hibernated_cluster_sleeps_longer_before_it_goes() -> None:
    a_day = at_stage(Stage.CANDIDATE, idle_since=ago(86_400))
    assert next_step(a_day, verdict(), POLICY, asleep=False) is not None
    assert next_step(a_day, verdict(), POLICY, asleep=True) is None
    assert ready_at(a_day, POLICY, asleep=True) == ago(86_400) + timedelta(hours=168)


@pytest.mark.parametrize("state", ["queued", "running", "converging"])
def test_a_job_under_way_is_waited_for(state: str) -> None:
    busy = at_stage(Stage.DELETING, action="delete", job_state=state)
    assert next_step(busy, verdict(idle=False), POLICY, asleep=False) is None


@pytest.mark.parametrize(
    "action,state,reason",
    [
        ("hibernate", "succeeded", "HIBERNATED"),
        ("hibernate", "failed", "JOB_ENDED"),
        ("delete", "cancelled", "JOB_ENDED"),
        ("delete", None, "JOB_ENDED"),
        ("delete", "succeeded", None),
    ],
)
def test_when_its_job_has_ended_a_cluster_begins_anew(action: str, state: str | None, reason: str | None) -> None:
    step = next_step(at_stage(Stage.DELETING, action=action, job_state=state), verdict(), POLICY, asleep=False)
    assert (step.reason if step else None) == reason
    assert step is None or step.stage is Stage.ACTIVE


def test_every_step_is_one_that_the_table_has() -> None:
    for stage, idle, asleep, pending in itertools.product(Stage, [True, False], [True, False], [True, False]):
        step = next_step(at_stage(stage, notice_pending=pending), verdict(idle=idle), POLICY, asleep=asleep)
        assert step is None or step.stage in STAGES[stage]
        assert step is None or step.stage is not Stage.DELETING  # only with a job


@pytest.mark.parametrize(
    "stage,policy,windows,code",
    [
        (Stage.ACTIVE, POLICY, [True], "LOOK"),
        (Stage.CANDIDATE, POLICY, [True], "IDLE_TIME"),
        (Stage.NOTIFIED, POLICY, [True], "NOTICE"),
        (Stage.MARKED, POLICY, [True], "GRACE"),
        (Stage.CONFIRMED, CleanupPolicy(), [True], "DRY_RUN"),
        (Stage.CONFIRMED, POLICY, [True, False], "WINDOW"),
        (Stage.CONFIRMED, POLICY, [True, True], "TURN"),
        (Stage.DELETING, POLICY, [True], "JOB"),
    ],
)
def test_what_a_cluster_waits_for(stage: Stage, policy: CleanupPolicy, windows: list[bool], code: str) -> None:
    assert waits_for(at_stage(stage), verdict(), policy, windows, asleep=False)[0] == code


def test_a_cluster_in_use_waits_for_idleness() -> None:
    assert waits_for(Progress(), verdict(idle=False), POLICY, [True], asleep=False)[0] == "NOT_IDLE"


# -- policies ------------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_rule() -> None:
    policy = CleanupPolicy()
    assert (policy.max_accelerator_percent, policy.max_running_pods) == (10.0, 0)
    assert (policy.min_idle_hours, policy.grace_hours) == (2.0, 1.0)
    assert (policy.window.start, policy.window.end) == ("08:00", "18:00")
    assert policy.dry_run
    assert policy.required == set(Source)
    assert policy_from(policy.as_dict()) == policy


@pytest.mark.parametrize("sources", [(), (Source.CPU_USE,)])
def test_what_this_service_knows_itself_is_always_required(sources: tuple[Source, ...]) -> None:
    assert CleanupPolicy(sources=sources).required >= ALWAYS


@pytest.mark.parametrize(
    "hour,zone,days,inside",
    [
        ("2026-03-02T08:00:00+00:00", "UTC", None, True),
        ("2026-03-02T18:00:00+00:00", "UTC", None, False),
        ("2026-03-01T23:30:00+00:00", "Asia/Seoul", None, True),  # 08:30 there
        ("2026-03-02T10:00:00+00:00", "Asia/Seoul", None, False),  # 19:00 there
        ("2026-03-01T12:00:00+00:00", "UTC", ("mon", "fri"), False),  # a Sunday
        ("2026-07-01T06:30:00+00:00", "Europe/Berlin", None, True),  # 08:30 in summer
        ("2026-01-05T06:30:00+00:00", "Europe/Berlin", None, False),  # 07:30 in winter
    ],
)
def test_windows(hour: str, zone: str, days: tuple[str, ...] | None, inside: bool) -> None:
    window = Window(time_zone=zone) if days is None else Window(time_zone=zone, days=days)
    assert window.holds(datetime.fromisoformat(hour)) is inside


@pytest.mark.parametrize(
    "hour,inside",
    [
        ("2026-03-02T22:30:00+00:00", True),
        ("2026-03-03T05:59:00+00:00", True),  # Tuesday morning, of Monday's window
        ("2026-03-03T06:00:00+00:00", False),
        ("2026-03-02T05:00:00+00:00", False),  # Monday morning is of Sunday's window
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_began(hour: str, inside: bool) -> None:
    assert Window("22:00", "06:00", days=("mon",)).holds(datetime.fromisoformat(hour)) is inside


def test_a_floor_makes_a_policy_stricter_and_never_looser() -> None:
    floor = {
        "dry_run": False,
        "min_idle_hours": 6,
        "grace_hours": 0.5,
        "max_cpu_percent": 5,
        "sources": ["cpu_use"],
        "hibernate_first": True,
        "window": {"start": "12:00"},
    }
    policy = CleanupPolicy(dry_run=True, grace_hours=1, max_cpu_percent=10, sources=(), hibernate_first=False)
    found = tightened(policy, floor)
    assert (found.dry_run, found.min_idle_hours, found.grace_hours, found.max_cpu_percent) == (True, 6, 1, 5)
    assert found.sources == (Source.CPU_USE,)
    assert found.hibernate_first
    assert windows_of(policy, floor) == (Window(), Window(start="12:00"))
    assert tightened(policy, {}) == policy


def test_each_field_below_the_floor_is_named() -> None:
    floor = {"dry_run": True, "min_idle_hours": 6, "max_cpu_percent": 5, "sources": ["cpu_use", "running_pods"]}
    content = {"dry_run": False, "min_idle_hours": 2, "max_cpu_percent": 50, "sources": ["cpu_use"], "grace_hours": 0}
    found = looser(content, floor)
    assert {one.field: one.rule for one in found} == dict.fromkeys(
        ("dry_run", "min_idle_hours", "max_cpu_percent", "sources"), "floor"
    )
    assert "running_pods" in next(one.detail for one in found if one.field == "sources")
    assert looser({"dry_run": True, "min_idle_hours": 6, "max_cpu_percent": 5}, floor) == []
