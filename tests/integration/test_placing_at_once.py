"""Many who want the same accelerators at the same moment, on a real PostgreSQL, each with a fleet of its own in memory."""

import random
import threading
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from shared.bootstrap import Container, SystemClock, build
from shared.domain.clusters import Scope
from shared.domain.ports import Actor
from shared.domain.pricing import Prices
from shared.services.matching import AcceptedMatch
from tests.builders import PROJECT, REGION, some_settings
from tests.fake_cloud import FakeCloud

ACTOR = Actor("someone", PROJECT, frozenset({"member"}))
NODES, GPUS, CORES, MEMORY = 6, 4, 32_000, 131_072


def a_container(url: str) -> Container:
    """A process of its own, as far as memory goes."""
    clock = SystemClock()
    cloud = FakeCloud(clock)
    return build(some_settings(url), cloud=lambda _credentials: cloud, clock=clock, pool_size=4)


@pytest.fixture
def processes(database_url: str) -> Any:
    made = [a_container(database_url) for _ in range(3)]
    yield made
    for one in made:
        one.database.engine.dispose()


def add_clusters(container: Container, count: int) -> None:
    with container.database.engine.begin() as connection:
        for number in range(count):
            connection.execute(
                text(
                    "INSERT INTO clusters (id, project_id, region, name, template_id, node_count, master_count, flavor, master_flavor,"
                    " phase, status, observed_node_count, observed_master_count, first_seen_at, health_status) VALUES (:id, :project,"
                    " :region, :name, 't', :nodes, 1, 'gpu.a100.large', 'cpu.large', 'Ready', 'CREATE_COMPLETE', :nodes, 1, now(),"
                    " 'HEALTHY')"
                ),
                {"id": uuid4(), "project": PROJECT, "region": REGION, "name": f"c{number}", "nodes": NODES // count},
            )


def account(container: Container) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """What is held now, by node: thousandths of each device, of cores, and memory."""
    devices: Counter[Any] = Counter()
    cores: Counter[Any] = Counter()
    memory: Counter[Any] = Counter()
    with container.database.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT cluster_id, node, devices, share_milli, cpu_milli, memory_mib FROM placements WHERE ended_at IS NULL"
                " AND (expires_at IS NULL OR expires_at > now())"
            )
        )
        for cluster, node, numbers, share, cpu, mem in rows:
            for number in numbers:
                devices[cluster, node, number] += share
            cores[cluster, node] += cpu
            memory[cluster, node] += mem
    return devices, cores, memory


def place(container: Container, fields: dict[str, Any]) -> AcceptedMatch | None:
    return container.matching.request(ACTOR, [fields], many=False, place=True, lease_s=600, at_once=True)


def test_nothing_is_ever_held_twice(processes: list[Container]) -> None:
    add_clusters(processes[0], 2)
    stop = threading.Event()
    wrong: list[str] = []
    done: Counter[str] = Counter()

    def worker(number: int) -> None:
        chance = random.Random(number)
        container = processes[number % len(processes)]
        mine: list[str] = []
        for _ in range(40):
            if stop.is_set():
                return
            if mine and chance.random() < 0.45:
                container.placements.end(ACTOR, mine.pop(chance.randrange(len(mine))))
                done["ended"] += 1
                continue
            share = chance.choice([None, 0.25, 0.5])
            wish: dict[str, Any] = {"count": 1, "share": share} if share else {"count": chance.choice([1, 1, 2, 4])}
            fields = {"cpu_cores": chance.choice([1.0, 4.0, 8.0]), "memory_gb": chance.choice([1.0, 16.0]), "accelerator": wish}
            found = place(container, fields)
            if found is None or found.job.result is None:
                done["promised"] += 1  # no room: a worker would grow a cluster
                continue
            mine += [one["id"] for one in found.job.result["placements"]]
            done["held"] += 1

    def watch() -> None:
        while not stop.is_set():
            devices, cores, memory = account(processes[0])
            wrong.extend(f"device {key}: {used}" for key, used in devices.items() if used > 1000)
            wrong.extend(f"cores {key}: {used}" for key, used in cores.items() if used > CORES)
            wrong.extend(f"memory {key}: {used}" for key, used in memory.items() if used > MEMORY)
            stop.wait(0.02)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(6)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    watcher.join(10)
    assert not wrong
    assert done["held"] > 30
    assert done["ended"] > 10
    assert done["promised"] > 0  # it was tight: otherwise the test shows nothing
    devices, _, _ = account(processes[0])
    assert devices


def test_every_process_sees_what_the_others_hold(processes: list[Container]) -> None:
    add_clusters(processes[0], 1)
    for turn in range(NODES):
        found = place(processes[turn % 3], {"accelerator": {"count": 4}, "cpu_cores": 1.0})
        assert found is not None
        assert found.job.result is not None
        assert found.job.result["action"] == "use_existing"
    for container in processes:
        assert container.placements.available(ACTOR)[0]["available_gpu"] == 0
        more = place(container, {"accelerator": {"count": 1}, "cpu_cores": 1.0})
        assert more is not None
        assert more.job.result is None  # promised: nodes must come first


def test_every_process_goes_by_the_same_learnt_prices(processes: list[Container]) -> None:
    add_clusters(processes[0], 2)
    assert processes[0].placements.learn() == 0, "nothing was held yet"
    half = {"cpu_cores": 1, "accelerator": {"share": 0.6}}
    for _ in range(4):
        assert place(processes[0], half) is not None
    assert processes[1].placements.learn() == 1
    assert processes[1].placements.learn() == 0, "nothing new since"
    with processes[2].database.begin() as uow:
        kept = uow.placements.prices(Scope(REGION, PROJECT))
    assert kept is not None
    room = Prices.from_dict(kept[0]).room
    assert room[590] == 0
    assert room[600] > 0, "only parts of 60 % are asked for, so nothing smaller is worth anything"
    said = [one.matching.request(ACTOR, [half], many=False, place=False, lease_s=None, at_once=True) for one in processes]
    assert all(answer is not None for answer in said)
    assert len({answer.job.result["candidates"][0]["reasons"][-1] for answer in said if answer and answer.job.result}) == 1
