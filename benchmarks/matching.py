"""How long a match takes: in process as the fleet grows, and through the API among 10,000 clusters of 40,000 nodes.

The baseline of the first is a plain loop over all nodes that looks for the one with the least left; of the second, an empty route under
the same server configuration.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import psycopg2
import requests

from benchmarks.load import run
from deployment.local.environment import ROOT
from deployment.local.parts import Parts
from deployment.local.ports import free_port
from shared.domain.capacity import Shape
from shared.domain.fleet import ProjectFleet
from shared.domain.matching import Limits, Matcher, TypeOffer, Wait, Way
from shared.domain.ports import Flavor
from shared.domain.pricing import LearntPrices, Mix, Prices
from shared.domain.workloads import Workload
from shared.services.accelerators import load_catalogue
from shared.settings import PlacementSettings

SIZES: Final = (100, 1_000, 10_000, 40_000, 100_000)
PLOT: Final = ROOT / "docs" / "matching.svg"
_NODES_EACH: Final = 4
_ASKED: Final = 300
_MANY: Final = 1000
_CLUSTERS: Final = 10_000
_FLAVORS: Final = (
    ("gpu", 32, 131_072, "a100:4"),
    ("h100", 64, 524_288, "h100:8"),
    ("cpu", 16, 65_536, ""),
    ("npu", 32, 131_072, "rngd:4"),
)


def measure() -> dict[str, Any]:
    """Figures by name, and the plot."""
    growth = [_in_process(nodes) for nodes in SIZES]
    _plot(growth)
    return {"growth": growth, "api": _through_api()}


def _in_process(nodes: int) -> dict[str, Any]:
    chance = random.Random(1)
    catalogue = load_catalogue(PlacementSettings())
    shapes = {
        name: catalogue.node(Flavor(name, name, vcpus, ram, {"pci_passthrough:alias": alias} if alias else {}))
        for name, vcpus, ram, alias in _FLAVORS
    }
    mix = Mix()
    for cpu, memory, count, share in (
        (8000, 32_768, 1, 1000),
        (4000, 8192, 1, 500),
        (16_000, 65_536, 2, 1000),
        (4000, 8192, 0, 1000),
    ):
        mix.learn(Shape(cpu, memory, count, share), 50)
    fleet = ProjectFleet(LearntPrices(Prices.of(mix)))
    for number in range(nodes // _NODES_EACH):
        fleet.put(_row(number, chance.choice(("gpu", "gpu", "h100", "cpu", "npu"))), [], shapes)
    capacity = fleet.capacity
    for slot in range(capacity.size):  # about a third of everything is taken
        if chance.random() < 0.7:
            count = chance.randint(0, int(capacity.count[slot]))
            cores = chance.randint(0, int(capacity.cpu[slot]) // 1000) * 1000
            capacity.take(slot, Shape(cores, 4096, count), tuple(range(count)))
    waits = {(way, ""): Wait(180, 400) for way in (Way.SCALE, Way.WAKE, Way.CREATE)}
    offers = [TypeOffer(name, shape, shapes["cpu"], 1, "default-worker", {}, Wait(300, 600)) for name, shape in shapes.items()]
    matcher = Matcher(fleet, catalogue, Limits({}, 0.12), now=datetime.now(UTC), waits=waits, offers=offers)
    asked = [_work(chance) for _ in range(_ASKED)]
    alone = _timed(matcher.match, asked)
    loop = _timed(lambda work: _plain_loop(fleet, work), asked[:10])

    def place(work: Workload) -> None:
        found = matcher.match(work, first_only=True)
        if found.best is not None and found.best.way is Way.USE:
            for seat in found.best.seats:
                capacity.take(seat.slot, found.shape, seat.devices)

    began = time.perf_counter()
    for work in [_work(chance) for _ in range(_MANY)]:
        place(work)
    return {
        "nodes": nodes,
        "p50_ms": round(float(np.quantile(alone, 0.5)) * 1000, 2),
        "p99_ms": round(float(np.quantile(alone, 0.99)) * 1000, 2),
        "loop_p50_ms": round(float(np.quantile(loop, 0.5)) * 1000, 2),
        "thousand_s": round(time.perf_counter() - began, 2),
    }


def _row(number: int, flavor: str) -> dict[str, Any]:
    return {
        "id": UUID(int=number + 1),
        "name": f"c{number}",
        "phase": "Ready",
        "live": True,
        "flavor": flavor,
        "master_flavor": "cpu",
        "template_id": "t",
        "template_name": None,
        "node_count": _NODES_EACH,
        "observed_node_count": _NODES_EACH,
        "masters": 1,
        "labels": {},
        "health_status": "HEALTHY",
        "hibernated_sizes": None,
        "groups": [],
    }


def _work(chance: random.Random) -> Workload:
    return Workload(
        "w",
        cpu_milli=chance.choice((1000, 4000, 8000)),
        memory_mib=chance.choice((1024, 16_384)),
        accelerators=chance.choice((0, 1, 1, 2, 4)),
        replicas=chance.choice((1, 1, 1, 4)),
    )


def _timed(function: Any, works: list[Workload]) -> list[float]:
    found = []
    for work in works:
        began = time.perf_counter()
        function(work)
        found.append(time.perf_counter() - began)
    return found


def _plain_loop(fleet: ProjectFleet, work: Workload) -> int | None:
    """The node with the least left that takes one pod: what a loop over Python objects costs."""
    capacity, best, least = fleet.capacity, None, float("inf")
    for slot in range(capacity.size):
        free = capacity.free(slot)
        if free.cpu_milli < work.cpu_milli or free.memory_mib < work.memory_mib:
            continue
        whole = sum(1 for device in free.devices if device == 1000)
        if whole >= work.accelerators and (left := free.cpu_milli + 1000 * whole) < least:
            best, least = slot, left
    return best


def _through_api() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kcloud-matching-") as home:
        settings = {"API_WORKERS": "2", "API_THREADS": "16", "LOG_LEVEL": "WARNING"}
        with Parts(Path(home), ("simulator", "api"), **settings) as parts:
            token = parts.token()
            _fill(parts, token)
            port = free_port()
            empty = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "api/gunicorn.py", "benchmarks.empty:app"],
                cwd=ROOT,
                env={**parts.plan.environment, "API_PORT": str(port)},
            )
            try:
                return _ask(parts, token, port)
            finally:
                empty.terminate()
                empty.wait(20)


def _fill(parts: Parts, token: str) -> None:
    """Clusters of four nodes, as if they had been made: one through the API for the project's id, and copies of its row."""
    made = {"name": "first", "cluster_template_id": "gpu-intensive-template", "node_count": _NODES_EACH}
    requests.post(f"{parts.api}/clusters", json=made, headers={"X-Auth-Token": token}, timeout=30).raise_for_status()
    connection = psycopg2.connect(parts.plan.environment["DATABASE_URL"].replace("postgresql+psycopg2://", "postgresql://"))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO clusters (id, project_id, region, name, template_id, template_name, node_count, master_count, flavor,"
            " master_flavor, phase, status, observed_node_count, observed_master_count, first_seen_at, health_status)"
            " SELECT gen_random_uuid(), project_id, region, 'c' || n, template_id, template_name, %s, 1, flavor, master_flavor, 'Ready',"
            " 'CREATE_COMPLETE', %s, 1, now(), 'HEALTHY' FROM clusters CROSS JOIN generate_series(1, %s) AS n WHERE name = 'first'",
            (_NODES_EACH, _NODES_EACH, _CLUSTERS),
        )
    connection.close()


def _ask(parts: Parts, token: str, empty_port: int) -> dict[str, Any]:
    port = parts.plan.api.port
    run("127.0.0.1", port, _matches(token), clients=4, seconds=8.0)  # every process has read its fleet
    answers = run("127.0.0.1", port, _matches(token), clients=2, seconds=10.0)
    baseline = run("127.0.0.1", empty_port, _empties(), clients=2, seconds=3.0)
    works = [{"cpu_cores": 1 + number % 4, "memory_gb": 2, "accelerator": {"count": 1 + number % 2}} for number in range(_MANY)]
    many = _post("/match/workloads", token, json.dumps({"workloads": works}))
    thousand = run("127.0.0.1", port, iter([many] * 64), clients=1, seconds=10.0)
    for found in (answers, thousand):
        if set(found.statuses) != {200}:
            raise RuntimeError(f"other answers than 200: {dict(found.statuses)}")
    return {
        "clusters": _CLUSTERS,
        "nodes": _CLUSTERS * _NODES_EACH,
        "p50_ms": round(answers.quantile_ms(0.5), 1),
        "p99_ms": round(answers.quantile_ms(0.99), 1),
        "per_s": round(answers.per_s),
        "empty_p50_ms": round(baseline.quantile_ms(0.5), 1),
        "empty_p99_ms": round(baseline.quantile_ms(0.99), 1),
        "thousand_s": round(thousand.quantile_ms(0.5) / 1000, 2),
    }


def _post(path: str, token: str, body: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-Auth-Token: {token}\r\nPrefer: wait=30\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _matches(token: str) -> Iterator[bytes]:
    chance = random.Random(2)
    while True:
        body = {
            "type": "ml_training",
            "cpu_cores": chance.choice((1, 4, 8)),
            "memory_gb": chance.choice((1, 16)),
            "accelerator": {"count": chance.choice((1, 1, 2, 4))},
        }
        yield _post("/match/workload", token, json.dumps(body))


def _empties() -> Iterator[bytes]:
    while True:
        yield b"POST /empty HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def _plot(growth: list[dict[str, Any]]) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot as plt

    nodes = [row["nodes"] for row in growth]
    figure, axes = plt.subplots(figsize=(7, 4))
    for key, label, style in (
        ("p99_ms", "match, p99", "o-"),
        ("p50_ms", "match, p50", "o-"),
        ("loop_p50_ms", "a plain loop over nodes, p50", "s--"),
    ):
        axes.loglog(nodes, [row[key] for row in growth], style, label=label)
    axes.set_xlabel("nodes in the project's fleet")
    axes.set_ylabel("milliseconds")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "kcloud"
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
    plt.close(figure)
