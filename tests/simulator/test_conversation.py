"""The simulator against what real services answered to the same requests (``real.json``): every header, field and word.

``DIFFERENT`` are the answers that differ, with the fields in which they do, and why; docs/openstack.md says so too. An answer that
begins to agree must leave the list.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.seed import ACCOUNTS
from simulator.testing import running_simulator
from tests.simulator.conversation import hold
from tests.simulator.recording import RECORDING, compare, read, write
from tests.simulator.talking import Account, Cloud

REAL: dict[str, Any] = read(RECORDING)
#: Ten times as fast as the cloud that was recorded.
SPEED = 10.0

#: Neutron's networks are those of its own plug-ins, and change more often.
_NETWORK = {"body.networks[0].qinq", "body.networks[0].revision_number"}
DIFFERENT: dict[str, set[str]] = {
    "neutron: kcloud-net": {*_NETWORK, "body.networks[0].is_default"},
    # The simulated external network is shared, so that each project finds it by any kind of list.
    "neutron: public": {*_NETWORK, "body.networks[0].shared"},
}


@pytest.fixture(scope="module")
def heard() -> Iterator[dict[str, Any]]:
    with running_simulator("--speed", str(SPEED), "--driver", "timer") as running:
        # While a cluster is half written every list is refused: the tests of the contract have that.
        running.control("POST", "/settings", {"half_written_s": 0})
        accounts = {who: Account(who, *ACCOUNTS[who][:2]) for who in ("admin", "operator", "viewer", "outsider")}
        yield hold(Cloud(running.auth_url, accounts, pace=0.2 / SPEED))


def test_everything_was_asked(heard: dict[str, Any]) -> None:
    assert heard.keys() == REAL.keys()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("label", sorted(REAL))
def test_the_answer_is_the_real_one(heard: dict[str, Any], label: str) -> None:
    differences = list(compare(REAL[label], heard[label]))
    if label in DIFFERENT:
        assert {line.split(": ", maxsplit=1)[0] for line in differences} == DIFFERENT[label]
    else:
        assert not differences, "\n".join(differences)


def test_what_is_written_is_read(heard: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "heard.json", heard)
    assert read(tmp_path / "heard.json") == heard


@pytest.mark.parametrize(
    "pattern",
    [
        r"127\.0\.0\.1|localhost",
        r"https?://(?!<ip>|docs\.openstack\.org)",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-(?!45ed5b2e7eeb|dd65aa2b46a8)[0-9a-f]{12}",
        r"gAAAA",
        r"20\d\d-\d\d-\d\dT",
        r"BEGIN [A-Z ]+-----",
        r"/(?:home|root|work)/",
    ],
)
def test_the_recording_names_no_place_person_or_moment(pattern: str) -> None:
    assert not re.findall(pattern, RECORDING.read_text(encoding="utf-8"))


def test_a_changed_word_is_noticed() -> None:
    one = {"status": 400, "body": {"errors": [{"detail": "Limit must be positive"}]}}
    other = {"status": 400, "body": {"errors": [{"detail": "Limit must be negative"}]}}
    assert len(list(compare(one, other))) == 1
    assert not list(compare(one, one))
