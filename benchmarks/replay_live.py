"""A day of the trace through the whole system, as processes: API, worker and relay against the simulator over HTTP, its work hastened.

Every second of the clock stands for ``PACE`` of the trace: tasks come and end so much faster, the simulated cloud makes nodes so much
faster, and the times of policies are so much shorter. The system's own delays are not: a tick of a second counts as ``PACE``, so waits are longer
here than in life. What beat does each minute is called here, as often as the pace asks for.

Tasks are sent to ``POST /match/workload`` with ``place``, and their placements ended when they have run. Only tasks that fit the
simulated cloud's nodes are used, and every GPU of the trace is taken for an A100. Beside it, on the same tasks, the replay on a
clock of its own (``benchmarks/replay.py``), a fleet that never shrinks, a threshold, and the bound.
"""

import heapq
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests

from benchmarks import replay
from deployment.local.parts import Parts
from shared.bootstrap import Container, build
from shared.settings import load

PACE: Final = 144.0
#: The first of the trace's busy days: the fleet grows, and shrinks again.
_DAY: Final = 140
_HOURS: Final = 24.0
_DAY_S: Final = 86_400.0
#: As in ``benchmarks/replay.py``: seconds of the trace.
_GROW_S, _CREATE_S, _COOL_DOWN_S, _LOOK_S = 180.0, 300.0, 600.0, 300.0
_IDLE_H, _GRACE_H = 2.0, 1.0
#: The simulated cloud's cluster types: flavor, cores, MiB, PCI alias of their workers.
_FLAVORS: Final = (("gpu.a100.large", 32, 131_072, "a100:4"), ("cpu.large", 16, 65_536, ""))
_MODEL: Final = "nvidia-a100"
_SETTINGS: Final = {
    "LEASE_TTL": "45",
    "OS_TIMEOUT": "10",
    "RELAY_INTERVAL": "0.2",
    "TICK_MIN": "0.3",
    "TICK_MAX": "0.6",
    "MAGNUM_SHARE": "1",
    "LOST_ANSWER_GRACE": "1",
    "INVENTORY_INTERVAL": "1",
    "INVENTORY_SHARE": "0.5",
    "API_THREADS": "8",
    "WORKER_CONCURRENCY": "8",
    "LOG_LEVEL": "WARNING",
}


def measure(folder: str) -> dict[str, Any]:
    """A day's tasks, live and on a clock of its own."""
    tasks, begin = _day(replay.pods(Path(folder)))
    end = begin + _HOURS * 3600
    figures: dict[str, Any] = {"tasks": len(tasks), "hours": _HOURS, "pace": PACE}
    with tempfile.TemporaryDirectory(prefix="kcloud-replay-") as home:
        figures["live"] = _live(Path(home), tasks, begin, end)
    for shrink in ("ours", "never", "threshold"):
        figures[shrink] = replay.run(tasks, shrink, begin, end, _FLAVORS)
    figures["bound"] = replay.bound(tasks, begin, end, _FLAVORS)
    return figures


def _day(found: list[replay.Pod]) -> tuple[list[replay.Pod], float]:
    """The tasks of a day that fit, with those that run when it begins."""
    fits = [
        replace(pod, work=replace(pod.work, models=(_MODEL,) if pod.work.accelerators else ()))
        for pod in found
        if pod.work.accelerators <= 4 and pod.work.cpu_milli <= 32_000 and pod.work.memory_mib <= 131_072
    ]
    fits = [pod for pod in fits if pod.work.accelerators or (pod.work.cpu_milli <= 16_000 and pod.work.memory_mib <= 65_536)]
    begin = _DAY * _DAY_S
    end = begin + _HOURS * 3600
    there = [
        replace(pod, at=max(pod.at, begin), runs_s=pod.runs_s - max(0.0, begin - pod.at))
        for pod in fits
        if pod.at < end and pod.at + pod.runs_s > begin
    ]
    return sorted((pod for pod in there if pod.runs_s > 0), key=lambda pod: pod.at), begin


class _Day:
    """One day live. Moments are seconds of the trace."""

    def __init__(self, parts: Parts, container: Container, begin: float) -> None:
        self._parts = parts
        self._container = container
        self._begin = begin
        self._session = requests.Session()
        self._session.headers["X-Auth-Token"] = parts.token()
        self._started = time.monotonic()
        self._order = count()
        self._waiting: dict[str, tuple[replay.Pod, str, int]] = {}
        self._ends: list[tuple[float, int, str]] = []
        self._ruled: set[str] = set()
        self._looked = begin
        self.waits: list[float] = []
        self.unplaced = 0

    def now(self) -> float:
        return self._begin + (time.monotonic() - self._started) * PACE

    def call(self, method: str, path: str, body: Any = None, *, wait: bool = False) -> Any:
        headers = {"Prefer": "wait=20"} if wait else {}
        answer = self._session.request(method, f"{self._parts.api}{path}", json=body, headers=headers, timeout=60)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def run(self, tasks: list[replay.Pod], end: float) -> None:
        place = 0
        while self.now() < end:
            now = self.now()
            while place < len(tasks) and tasks[place].at <= now:
                self._arrive(tasks[place])
                place += 1
            while self._ends and self._ends[0][0] <= now:
                self.call("DELETE", f"/placements/{heapq.heappop(self._ends)[2]}")
            self._notice()
            if now - self._looked >= _LOOK_S:
                self._looked = now
                self._container.scaling.apply(every_s=_COOL_DOWN_S / PACE / 2)
                self._container.sweeper.sweep_all(every_s=0.0, budget_s=10.0)
            time.sleep(0.05)
        self.unplaced += len(self._waiting)

    def _arrive(self, pod: replay.Pod) -> None:
        work = pod.work
        body: dict[str, Any] = {
            "name": work.name[:100],
            "cpu_cores": work.cpu_milli / 1000,
            "memory_gb": work.memory_mib / 1024,
            "place": True,
            "lease_seconds": 7200,
        }
        if work.accelerators:
            body["accelerator"] = {"count": work.accelerators, "models": list(work.models)}
            if work.share_milli < 1000:
                body["accelerator"]["share"] = work.share_milli / 1000
        told = self.call("POST", "/match/workload", body, wait=True)
        if not told.get("placements"):
            self.unplaced += 1
            return
        held = told["placements"][0]
        self._waiting[held["id"]] = (pod, held["cluster_id"], held["node"])

    def _notice(self) -> None:
        """Start what has its node, and give new clusters their policy."""
        rows = self._container_rows()
        for key, row in rows.items():
            if key not in self._ruled:
                policy = {"enabled": True, "trust_placements": True, "scale_out_above": 1, "cool_down_seconds": _COOL_DOWN_S / PACE}
                self.call("PUT", f"/clusters/{key}/scale-policy", policy)
                self._ruled.add(key)
            for placement, (pod, cluster, node) in list(self._waiting.items()):
                if cluster == key and row["phase"] in {"Ready", "Updating"} and (row["observed_node_count"] or 0) > node:
                    del self._waiting[placement]
                    self.waits.append(max(0.0, self.now() - pod.at))
                    heapq.heappush(self._ends, (self.now() + pod.runs_s, next(self._order), placement))

    def _container_rows(self) -> dict[str, dict[str, Any]]:
        rows = self._parts.rows("SELECT id::text, phase, observed_node_count FROM clusters WHERE live")
        return {row["id"]: row for row in rows}


def _live(home: Path, tasks: list[replay.Pod], begin: float, end: float) -> dict[str, Any]:
    with Parts(home, ("simulator", "api", "worker", "relay"), **_SETTINGS) as parts:
        parts.control("POST", "/settings", {"create_s": _CREATE_S / PACE, "update_s": _GROW_S / PACE, "delete_s": 60.0 / PACE})
        os.environ.update({key: value for key, value in parts.plan.environment.items() if key.isupper()})
        container = build(load())
        day = _Day(parts, container, begin)
        hours = {"min_idle_hours": _IDLE_H / PACE, "grace_hours": _GRACE_H / PACE}
        window = {"start": "00:00", "end": "23:59", "time_zone": "UTC"}
        day.call("PUT", "/cleanup/policy", {"dry_run": False, "sources": [], "max_per_sweep": 100, "window": window, **hours})
        day.run(tasks, end)
        stop = datetime.now(UTC)
        found = _totals(parts, container, stop)
        container.database.engine.dispose()
    waits = np.array(day.waits)
    return found | {
        "waited": round(float((waits > PACE).mean()), 4),
        "wait_mean_s": round(float(waits.mean()), 1),
        "wait_p95_s": round(float(np.quantile(waits, 0.95)), 1),
        "unplaced": day.unplaced,
    }


def _totals(parts: Parts, container: Container, stop: datetime) -> dict[str, Any]:
    """From usage on record and placements, with the replay's formulas, in time of the trace."""
    shapes = container.accelerators.shapes(container.catalogs.get(container.cloud.own_scope()))
    node_s = device_s = money = joules = 0.0
    for row in parts.rows(
        "SELECT role, flavor, sum(node_count * extract(epoch FROM coalesce(ended_at, %s) - started_at))::float8 AS seconds"
        " FROM usage_intervals GROUP BY role, flavor",
        stop,
    ):
        shape, seconds = shapes[row["flavor"]], row["seconds"] * PACE
        money += seconds / 3600 * shape.price_per_hour
        joules += seconds * shape.idle_w
        if row["role"] == "master":
            joules += seconds * shape.draw_w(shape.vcpus * 1000, 0)
        else:
            node_s += seconds
            device_s += seconds * shape.devices
    gpu, cpu = (shapes[name] for name, *_ in _FLAVORS)
    for row in parts.rows(
        "SELECT cpu_milli, accelerators * share_milli / 1000.0 AS devices, extract(epoch FROM coalesce(ended_at, %s) - created_at)::float8"
        " AS seconds FROM placements",
        stop,
    ):
        joules += row["seconds"] * PACE * (gpu if row["devices"] else cpu).draw_w(row["cpu_milli"], float(row["devices"]))
    jobs = {
        row["kind"]: row["count"] for row in parts.rows("SELECT kind, count(*) FROM jobs WHERE state = 'succeeded' GROUP BY kind")
    }
    failed = parts.rows("SELECT kind, error->>'reason' AS reason, count(*) FROM jobs WHERE state = 'failed' GROUP BY 1, 2")
    return {
        "node_hours": round(node_s / 3600),
        "device_hours": round(device_s / 3600),
        "kwh": round(joules / 3.6e6),
        "cost": round(money),
        "clusters_made": jobs.get("create", 0),
        "resizes": jobs.get("resize", 0),
        "hibernated": jobs.get("hibernate", 0),
        "woken": jobs.get("wake", 0),
        "deleted": jobs.get("delete", 0),
        "failed": [dict(row) for row in failed],
    }
