"""States, phases, reasons, names, usage and rates."""

from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.clusters import MAGNUM_NAME_MAX, NAME_MAX, MagnumStatus, Phase, magnum_name
from shared.domain.jobs import ACTIVE, TERMINAL, TRANSITIONS, JobError, JobKind, JobState, check_transition
from shared.domain.lifecycle import phase_of
from shared.domain.reasons import classify
from shared.errors import InvalidTransition
from tests.builders import a_catalog, a_template, an_observed

# -- states -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old,new", list(product(JobState, JobState)))
def test_check_transition_follows_the_table(old: JobState, new: JobState) -> None:
    if new in TRANSITIONS[old]:
        check_transition(old, new)
    else:
        with pytest.raises(InvalidTransition) as caught:
            check_transition(old, new)
        assert caught.value.context == {"old": str(old), "new": str(new)}


def test_every_state_is_active_or_terminal_and_terminal_ones_have_no_way_out() -> None:
    assert set(JobState) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert all(not TRANSITIONS[state] for state in TERMINAL)


def test_every_active_state_can_reach_every_end() -> None:
    for start in ACTIVE:
        reached, frontier = {start}, [start]
        while frontier:
            for following in TRANSITIONS[frontier.pop()]:
                if following not in reached:
                    reached.add(following)
                    frontier.append(following)
        assert reached >= TERMINAL


def test_error_of_a_job_leaves_out_what_is_not_known() -> None:
    assert JobError("X", "y").as_dict() == {"reason": "X", "detail": "y"}
    assert JobError("X", "y", "z", "req-1", 403).as_dict()["upstream_status"] == 403


# -- phases ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status,active,phase,reason",
    [
        ("CREATE_IN_PROGRESS", JobKind.CREATE, Phase.PROVISIONING, None),
        ("CREATE_IN_PROGRESS", None, Phase.PROVISIONING, None),
        ("CREATE_IN_PROGRESS", JobKind.DELETE, Phase.DELETING, None),
        ("CREATE_COMPLETE", None, Phase.READY, None),
        ("CREATE_COMPLETE", JobKind.CREATE, Phase.READY, None),
        ("CREATE_COMPLETE", JobKind.RESIZE, Phase.UPDATING, None),
        ("CREATE_COMPLETE", JobKind.DELETE, Phase.DELETING, None),
        ("CREATE_FAILED", None, Phase.FAILED, "CREATE_FAILED"),
        ("CREATE_FAILED", JobKind.CREATE, Phase.FAILED, "CREATE_FAILED"),
        ("CREATE_FAILED", JobKind.DELETE, Phase.DELETING, None),
        ("UPDATE_IN_PROGRESS", None, Phase.UPDATING, None),
        ("UPDATE_FAILED", None, Phase.FAILED, "UPDATE_FAILED"),
        ("UPDATE_FAILED", JobKind.RESIZE, Phase.FAILED, "UPDATE_FAILED"),
        ("UPDATE_FAILED", JobKind.DELETE, Phase.DELETING, None),
        ("DELETE_IN_PROGRESS", None, Phase.DELETING, None),
        ("DELETE_COMPLETE", None, Phase.DELETING, None),
        ("DELETE_FAILED", None, Phase.FAILED, "DELETE_FAILED"),
        ("DELETE_FAILED", JobKind.DELETE, Phase.FAILED, "DELETE_FAILED"),
        ("ROLLBACK_IN_PROGRESS", None, Phase.UPDATING, None),
        ("NEVER_HEARD_OF", None, Phase.UPDATING, "UNKNOWN_STATUS"),
    ],
)
def test_phase_of(status: str, active: JobKind | None, phase: Phase, reason: str | None) -> None:
    assert phase_of(an_observed(status), active)[:2] == (phase, reason)


def test_unknown_status_is_unknown_not_guessed() -> None:
    assert MagnumStatus.parse("DELETE_SOMEHOW") is MagnumStatus.UNKNOWN
    assert MagnumStatus.parse(None) is MagnumStatus.UNKNOWN
    assert not MagnumStatus.UNKNOWN.in_progress
    assert not MagnumStatus.UNKNOWN.failed


def test_deleted_is_not_complete() -> None:
    assert not MagnumStatus.DELETE_COMPLETE.complete
    assert MagnumStatus.UPDATE_COMPLETE.complete


# -- reasons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words,reason",
    [
        ("Resource CREATE failed: ResourceInError: Message: No valid host was found. There are not enough hosts", "NO_VALID_HOST"),
        ("Quota exceeded for instances: Requested 5, but the limit is 3 instances (HTTP 403)", "QUOTA_EXCEEDED"),
        ("Resource limit exceeded: You have reached the maximum clusters per project, 2.", "QUOTA_EXCEEDED"),
        ("Image fedora lacks property os_distro: image property missing", "IMAGE_PROPERTY_MISSING"),
        ("Octavia: load balancer went to ERROR", "LB_ERROR"),
        ("Unable to complete operation on network: There are one or more ports still in use on the network.", "PORT_IN_USE"),
        ("Create timed out", "DRIVER_TIMEOUT"),
        ("Stack CREATE failed: trust could not be validated, unauthorized", "AUTH_EXPIRED"),
        ("The frobnicator jammed", "CREATE_FAILED"),
    ],
)
def test_classify_by_words(words: str, reason: str) -> None:
    error = classify(JobKind.CREATE, words)
    assert error.reason == reason
    assert error.detail == words
    assert error.hint


@pytest.mark.parametrize(
    "kind,reason", [(JobKind.CREATE, "CREATE_FAILED"), (JobKind.RESIZE, "UPDATE_FAILED"), (JobKind.DELETE, "DELETE_FAILED")]
)
@pytest.mark.parametrize("words", [None, "", "  "])
def test_classify_without_words(kind: JobKind, reason: str, words: str | None) -> None:
    error = classify(kind, words)
    assert (error.reason, error.detail) == (reason, "Magnum gave no reason.")


# -- names ----------------------------------------------------------------------------------------------------------------


@given(job_id=st.uuids(version=4), length=st.integers(1, NAME_MAX))
def test_magnum_name_fits_and_carries_the_jobs_mark(job_id: UUID, length: int) -> None:
    made = magnum_name("n" * length, job_id)
    assert len(made) <= MAGNUM_NAME_MAX
    assert made.endswith("-" + str(job_id)[-8:])


# -- catalog --------------------------------------------------------------------------------------------------------------


def test_catalog_finds_templates_by_id_and_by_a_name_that_one_has() -> None:
    one, two, three = a_template(uuid="1", name="gpu"), a_template(uuid="2", name="twin"), a_template(uuid="3", name="twin")
    catalog = a_catalog(one, two, three)
    assert catalog.template("gpu") is one
    assert catalog.template("3") is three
    assert catalog.template("twin") is None
    assert catalog.template("none") is None


def test_an_id_wins_over_a_name_that_looks_like_it() -> None:
    named, meant = a_template(uuid="1", name="2"), a_template(uuid="2", name="x")
    assert a_catalog(named, meant).template("2") is meant
