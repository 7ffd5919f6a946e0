"""Faults with real processes: whatever is killed, lost, repeated or reordered, each accepted job ends, and each create has exactly
one cluster in Magnum.

`make test` runs a small fixed number of rounds, `make chaos ROUNDS=300` many. Each round's seed is printed with a failure.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
from celery import Celery

from deployment.local.parts import NotInTime, Parts

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
STORM_S = 8.0
SETTLE_S = 90.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("chaos")) as running:
        yield running


class Client:
    """A caller that repeats a request under one Idempotency-Key until it has an answer, as callers should."""

    def __init__(self, system: Parts, seed: int) -> None:
        self._system = system
        self._random = random.Random(seed)
        self._prefix = f"c{seed}"
        self._clusters: list[str] = []
        self.accepted: dict[str, str] = {}  #: job id -> kind
        self.unanswered: list[str] = []

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        count = 0
        while time.monotonic() < until:
            count += 1
            self._act(f"{self._prefix}-{count}")
            time.sleep(self._random.uniform(0.0, 0.25))

    def _act(self, name: str) -> None:
        chance = self._random.random()
        if chance < 0.55 or not self._clusters:
            labels = {
                "rig_create_seconds": str(self._random.choice([0.5, 1, 2, 3])),
                "rig_update_seconds": "1",
                "rig_delete_seconds": "1",
            }
            if self._random.random() < 0.1:
                labels |= {"rig_fail": "create", "rig_fail_reason": "No valid host was found."}
            body = {"name": name, "cluster_template_id": "gpu-intensive-template", "node_count": 2, "labels": labels}
            answer = self._send("POST", "/clusters", "create", body)
            if answer:
                self._clusters.append(answer["id"])
            return
        cluster = self._random.choice(self._clusters)
        if chance < 0.75:
            self._send("PUT", f"/clusters/{cluster}/scale", "resize", {"node_count": self._random.randint(1, 5)})
        elif chance < 0.92:
            self._send("DELETE", f"/clusters/{cluster}", "delete")
        elif self.accepted:
            job = self._random.choice(list(self.accepted))
            self._send("DELETE", f"/jobs/{job}", None)

    def _send(self, method: str, path: str, kind: str | None, body: Any = None) -> dict[str, Any] | None:
        headers = {"Idempotency-Key": str(uuid4())}
        for _ in range(60):
            try:
                headers["X-Auth-Token"] = self._system.token()
                answer = requests.request(method, self._system.api + path, json=body, headers=headers, timeout=10)
            except Exception:  # noqa: BLE001 - whatever is away now, the caller tries again
                time.sleep(0.3)
                continue
            if answer.status_code < 300:
                found: dict[str, Any] = answer.json()
                if kind:
                    self.accepted[found["job"]["id"]] = kind
                return found
            if answer.status_code == 401:  # all tokens were expired between the two lines above: the next try has a new one
                continue
            if answer.status_code < 500 and answer.status_code != 429:
                if answer.status_code == 409 and answer.json().get("reason") == "IDEMPOTENCY_KEY_IN_USE":
                    time.sleep(0.3)
                    continue
                assert answer.status_code in {404, 409}, answer.text
                return None
            time.sleep(0.3)
        self.unanswered.append(f"{method} {path}")
        return None


class Monkey:
    """One random fault after another."""

    def __init__(self, system: Parts, seed: int) -> None:
        self._system = system
        self._random = random.Random(seed)
        self.done: list[str] = []

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            fault = self._random.choice(FAULTS)
            self.done.append(fault)
            getattr(self, f"_{fault}")()
            time.sleep(self._random.uniform(0.1, 0.9))

    def heal(self) -> None:
        self._system.control("DELETE", "/faults")
        self._system.postgres.start()
        self._system.valkey.start()
        for name in ("simulator", "api", "worker", "relay", "beat"):
            self._system.start(name)
        self._system.kill("beat2")

    def _bounce(self, name: str) -> None:
        self._system.kill(name)
        if self._random.random() < 0.7:
            time.sleep(self._random.uniform(0.0, 0.5))
            self._system.start(name)

    def _kill_worker(self) -> None:
        self._bounce("worker")
        self._system.start("worker")

    def _kill_relay(self) -> None:
        self._bounce("relay")

    def _kill_beat(self) -> None:
        self._bounce("beat")

    def _kill_api(self) -> None:
        self._system.kill("api")
        self._system.start("api")

    def _second_beat(self) -> None:
        self._system.start("beat2")

    def _flush_broker(self) -> None:
        try:
            self._client().flushall()
        except Exception:  # noqa: BLE001 - it may be down already
            return

    def _restart_broker(self) -> None:
        self._system.valkey.kill()
        time.sleep(self._random.uniform(0.0, 1.0))
        self._system.valkey.start()

    def _restart_database(self) -> None:
        self._system.postgres.restart()

    def _kill_database(self) -> None:
        self._system.postgres.kill()
        time.sleep(self._random.uniform(0.0, 0.5))
        self._system.postgres.start()

    def _repeat_messages(self) -> None:
        """Every unfinished job's message again, several times, in any order."""
        try:
            jobs = self._system.rows("SELECT id, kind FROM jobs WHERE finished_at IS NULL")
            messages = jobs * 3
            self._random.shuffle(messages)
            app = Celery(broker=self._system.plan.environment["REDIS_URL"])
            for job in messages[:60]:
                app.send_task(f"jobs.{job['kind']}", args=[str(job["id"])], task_id=str(job["id"]), queue="jobs", retry=False)
        except Exception:  # noqa: BLE001 - database or broker may be down already
            return

    def _lose_answers(self) -> None:
        self._fault({"kind": "answer_lost", "match": {"service": "magnum", "method": "POST"}, "count": self._random.randint(1, 4)})

    def _drop_requests(self) -> None:
        self._fault({"kind": "drop", "match": {"service": "magnum"}, "count": self._random.randint(1, 6)})

    def _errors(self) -> None:
        status = self._random.choice([500, 502, 503, 504, 429])
        self._fault({"kind": "status", "status": status, "match": {"service": "magnum"}, "count": self._random.randint(1, 10)})

    def _slow(self) -> None:
        self._fault({"kind": "latency", "seconds": 3.0, "match": {"service": "magnum"}, "count": self._random.randint(1, 3)})

    def _expire_tokens(self) -> None:
        self._fault({"kind": "expire_tokens"})

    def _fault(self, body: dict[str, Any]) -> None:
        self._system.control("POST", "/faults", body)

    def _client(self) -> Any:
        import redis

        return redis.Redis.from_url(self._system.valkey.client_url(), socket_timeout=2)


FAULTS = (
    "kill_worker",
    "kill_worker",
    "kill_relay",
    "kill_beat",
    "kill_api",
    "second_beat",
    "flush_broker",
    "restart_broker",
    "restart_database",
    "kill_database",
    "repeat_messages",
    "lose_answers",
    "lose_answers",
    "drop_requests",
    "errors",
    "slow",
    "expire_tokens",
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_every_accepted_job_ends_with_exactly_one_cluster(system: Parts, round_number: int) -> None:
    seed = SEED + round_number
    system.control("POST", "/settings", {"quota": 1_000_000})  # many rounds leave many clusters
    clients = [Client(system, seed * 10 + index) for index in range(3)]
    monkey = Monkey(system, seed)
    threads = [threading.Thread(target=client.run, args=(STORM_S,)) for client in clients]
    threads.append(threading.Thread(target=monkey.run, args=(STORM_S,)))
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join(STORM_S + 60)
    threads[-1].join(STORM_S + 60)
    monkey.heal()
    story = f"seed {seed}, faults: {monkey.done}"

    accepted = {job: kind for client in clients for job, kind in client.accepted.items()}
    assert accepted, story
    _all_end(system, accepted, story)
    _one_cluster_each(system, story)
    _nothing_left_behind(system, story)


def _all_end(system: Parts, accepted: dict[str, str], story: str) -> None:
    def unfinished() -> bool:
        system.revive()
        return not system.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL")

    try:
        system.until(unfinished, SETTLE_S, "every job has ended")
    except NotInTime:
        stuck = system.rows(
            "SELECT j.id, j.kind, j.state, j.step, j.attempts, j.resubmits, j.look_at, j.baseline, j.params, c.status, c.status_reason,"
            " c.observed_node_count, (SELECT jsonb_agg(jsonb_build_array(e.at, e.step) ORDER BY e.seq) FROM job_events e"
            " WHERE e.job_id = j.id) AS history FROM jobs j LEFT JOIN clusters c ON c.id = j.cluster_id"
            " WHERE j.finished_at IS NULL ORDER BY j.seq LIMIT 5"
        )
        scopes = system.rows("SELECT *, now() AS now FROM scopes")
        pytest.fail(f"jobs did not end: {stuck}; scopes: {scopes}; {story}")
    known = {str(row["id"]) for row in system.rows("SELECT id FROM jobs")}
    lost = set(accepted) - known
    assert not lost, f"accepted and lost: {lost}; {story}"


def _one_cluster_each(system: Parts, story: str) -> None:
    """By the simulator's own list of all clusters ever made."""
    made: dict[str, list[str]] = {}
    for cluster in system.control("GET", "/audit")["clusters"]:
        made.setdefault(cluster["labels"].get("kcloud_job_id", ""), []).append(cluster["uuid"])
    twins = {job: uuids for job, uuids in made.items() if job and len(uuids) > 1}
    assert not twins, f"more than one cluster for a job: {twins}; {story}"
    succeeded = system.rows("SELECT id FROM jobs WHERE kind = 'create' AND state = 'succeeded'")
    without = [row for row in succeeded if str(row["id"]) not in made]
    assert not without, f"succeeded without a cluster: {without}; {story}"


def _nothing_left_behind(system: Parts, story: str) -> None:
    def difference() -> set[str]:
        rows = {
            row["magnum_uuid"] for row in system.rows("SELECT magnum_uuid FROM clusters WHERE live AND magnum_uuid IS NOT NULL")
        }
        there = {cluster["uuid"] for cluster in system.control("GET", "/audit")["clusters"] if cluster["deleted_at"] is None}
        return rows ^ there

    try:
        system.until(lambda: not difference(), 30, "rows and Magnum agree")
    except NotInTime:
        pytest.fail(f"rows and Magnum differ: {difference()}; {story}")
