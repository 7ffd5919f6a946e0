"""What watching costs, and how soon a job knows that its cluster is there.

The simulator charges the time that real Magnum takes (2 ms per cluster listed, 12 ms per GET, one call after the other). Clusters
are put in flight on both sides, as they stand after creates that Magnum accepted one after the other (175 ms each) while ticks
were running; then they complete one after the other.
The baseline, in the same run and on the same simulator, asks for each cluster by a GET every 10 s, as fast as Magnum lets it.
"""

import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import uuid4

import psutil
import psycopg2
import requests
from psycopg2.extras import execute_values

from deployment.local.parts import Parts

MANY = 10_000
FEW = 20
FIRST_S, LAST_S = 15.0, 215.0
#: How long Magnum takes to accept one create.
ACCEPT_S = 0.175
BASELINE_S = 60.0
BASELINE_PERIOD_S = 10.0
BASELINE_THREADS = 16

#: The product's own periods, not the fast ones of the fault tests.
SETTINGS = {
    "LEASE_TTL": "45",
    "OS_TIMEOUT": "10",
    "RELAY_INTERVAL": "1",
    "REDISPATCH_AFTER": "20",
    "TICK_MIN": "1",
    "TICK_MAX": "10",
    "LOST_ANSWER_GRACE": "15",
    "INVENTORY_INTERVAL": "60",
    "INVENTORY_SHARE": "0.05",
    "MONITORING_UPDATE_INTERVAL": "30",
    "WORKER_CONCURRENCY": "16",
    "LOG_LEVEL": "WARNING",
}


def measure() -> dict[str, Any]:
    """Both situations and the baseline."""
    with tempfile.TemporaryDirectory(prefix="kcloud-converge-") as home, Parts(Path(home), **SETTINGS) as parts:
        parts.control("POST", "/settings", {"cost_model": True})
        many = _situation(parts, in_flight=MANY, idle=0, first=FIRST_S, last=LAST_S)
        # The same 10,000, complete now, and 20 new ones among them.
        few = _situation(parts, in_flight=FEW, idle=MANY, first=10.0, last=60.0)
        baseline = _baseline(parts)
    return {"many": many, "few": few, "baseline": baseline}


def _situation(parts: Parts, *, in_flight: int, idle: int, first: float, last: float) -> dict[str, Any]:
    worker = psutil.Process(parts.pid("worker"))
    made = parts.control(
        "POST",
        "/clusters",
        {"count": in_flight, "from_s": first, "to_s": last, "prefix": f"b{in_flight}", "spread_s": in_flight * ACCEPT_S},
    )
    began = time.time()
    _put_in_flight(parts, made)
    parts.control("DELETE", "/statistics")
    calls_before = _ticks(parts)
    peak, periods = 0, Periods(parts)
    while parts.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1"):
        peak = max(peak, worker.memory_info().rss)
        if time.time() - began > last + 120:
            raise RuntimeError("jobs did not end")
        periods.sample()
        time.sleep(0.25)
    statistics = parts.control("GET", "/statistics")
    ticks = _ticks(parts) - calls_before
    delays = _delays(parts, made)
    seconds = statistics["seconds"]
    reads = {name: count for name, count in statistics["calls"].items() if name.startswith("magnum GET")}
    return {
        "in_flight": in_flight,
        "among": idle + in_flight,
        "seconds": round(seconds, 1),
        "ticks": ticks,
        "magnum_reads": sum(reads.values()),
        "reads_by_route": reads,
        "reads_per_tick": round(sum(reads.values()) / max(ticks, 1), 2),
        "clusters_listed": statistics["listed"],
        "magnum_seconds": statistics["magnum_seconds"],
        "magnum_seconds_per_tick": round(statistics["magnum_seconds"] / max(ticks, 1), 3),
        "magnum_share": round(statistics["magnum_seconds"] / seconds, 3),
        "delay_p50_s": _quantile(delays, 0.5),
        "delay_p99_s": _quantile(delays, 0.99),
        "delay_max_s": max(delays),
        "tick_period_p99_s": _quantile(sorted(periods.seen.values()), 0.99),
        "tick_interval_s": round(seconds / max(ticks, 1), 2),
        "worker_peak_mb": round(peak / 2**20, 1),
    }


def _put_in_flight(parts: Parts, made: dict[str, Any]) -> None:
    """Rows as a worker leaves them after Magnum accepted the creates."""
    project = made["project_id"]
    template = "gpu-intensive-template"
    clusters, jobs = [], []
    count = len(made["clusters"])
    for number, item in enumerate(made["clusters"]):
        ago = count * ACCEPT_S * (1 - number / count)
        cluster, job = str(uuid4()), str(uuid4())
        clusters.append(
            (cluster, project, "RegionOne", item["name"], item["name"], item["uuid"], template, template, 1, 1, "Provisioning")
        )
        jobs.append((job, project, "RegionOne", cluster, "create", "converging", '{"node_count": 1}', "submitted", ago))
    connection = psycopg2.connect(parts.postgres.dsn())
    with connection, connection.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO clusters (id, project_id, region, name, magnum_name, magnum_uuid, template_id, template_name, node_count,"
            " master_count, phase) VALUES %s",
            clusters,
            page_size=1000,
        )
        execute_values(
            cursor,
            "INSERT INTO jobs (id, project_id, region, cluster_id, kind, state, params, step, submitted_at, progress_at, look_at,"
            " deadline_at, condition, attempts, started_at) VALUES %s",
            jobs,
            template="(%s, %s, %s, %s, %s, %s, %s, %s, now() - make_interval(secs => %s), now(),"
            " now() + interval '45 s', now() + interval '1 h', 'progressing', 1, now())",
            page_size=1000,
        )
        cursor.execute(
            "INSERT INTO scopes (region, project_id, watermark) VALUES ('RegionOne', %s, now()) ON CONFLICT (region, project_id)"
            " DO UPDATE SET next_tick_at = least(scopes.next_tick_at, now() + interval '2 s'), watermark = now()",
            (project,),
        )
        cursor.execute("ANALYZE clusters, jobs")
    connection.close()


def _delays(parts: Parts, made: dict[str, Any]) -> list[float]:
    """From Magnum's CREATE_COMPLETE, exactly, to the job's end."""
    ends = parts.control("GET", "/completions")["clusters"]
    wanted = {item["uuid"] for item in made["clusters"]}
    rows = parts.rows(
        "SELECT c.magnum_uuid, extract(epoch FROM j.finished_at)::float8 AS at, j.state FROM jobs j"
        " JOIN clusters c ON c.id = j.cluster_id WHERE j.kind = 'create'"
    )
    found = [row for row in rows if row["magnum_uuid"] in wanted]
    failed = [row for row in found if row["state"] != "succeeded"]
    if failed or len(found) != len(wanted):
        raise RuntimeError(f"{len(failed)} jobs failed, {len(found)} of {len(wanted)} were found")
    return sorted(row["at"] - ends[row["magnum_uuid"]][1] for row in found)


#: A pause as long as this follows the tick that found the last one done.
IDLE_S = 60.0


class Periods:
    """How long ticks took, each with the pause after it, as their scope's row tells."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.seen: dict[str, float] = {}

    def sample(self) -> None:
        """Look at the latest."""
        for row in self._parts.rows("SELECT next_tick_at::text AS at, last_tick FROM scopes WHERE last_tick ? 'took_s'"):
            if row["last_tick"].get("in_flight") and row["last_tick"]["next_in_s"] < IDLE_S:
                self.seen[row["at"]] = row["last_tick"]["took_s"] + row["last_tick"]["next_in_s"]


def _ticks(parts: Parts) -> int:
    text = requests.get(f"{parts.api}/metrics", headers={"X-Auth-Token": parts.token()}, timeout=30).text
    lines = [line for line in text.splitlines() if line.startswith("kcloud_tick_seconds_count") and 'look="nothing"' not in line]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)


def _baseline(parts: Parts) -> dict[str, Any]:
    """One GET per cluster every 10 s."""
    parts.kill("beat")
    parts.kill("relay")
    parts.kill("worker")
    made = parts.control("POST", "/clusters", {"count": MANY, "from_s": 5.0, "to_s": BASELINE_S, "prefix": "base"})
    token = parts.token()
    parts.control("DELETE", "/statistics")
    seen: dict[str, float] = {}
    stop = time.time() + BASELINE_S
    queue = iter([item["uuid"] for item in made["clusters"]] * 1000)
    guard = threading.Lock()

    def poll() -> None:
        session = requests.Session()
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "container-infra 1.10"}
        while time.time() < stop:
            with guard:
                uuid = next(queue)
            with contextlib.suppress(requests.RequestException):
                answer = session.get(f"{parts.simulator}/container-infra/v1/clusters/{uuid}", headers=headers, timeout=30)
                if answer.ok and answer.json()["status"] == "CREATE_COMPLETE":
                    seen.setdefault(uuid, time.time())

    threads = [threading.Thread(target=poll) for _ in range(BASELINE_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = parts.control("GET", "/statistics")
    ends = parts.control("GET", "/completions")["clusters"]
    delays = sorted(at - ends[uuid][1] for uuid, at in seen.items() if ends.get(uuid, [None, None])[1])
    gets = statistics["calls"].get("magnum GET /v1/clusters/{id}", 0)
    return {
        "in_flight": MANY,
        "seconds": round(statistics["seconds"], 1),
        "gets": gets,
        "gets_wanted": int(MANY * statistics["seconds"] / BASELINE_PERIOD_S),
        "magnum_share": round(statistics["magnum_seconds"] / statistics["seconds"], 3),
        "round_s": round(MANY / max(gets / statistics["seconds"], 0.001), 1),
        "completions_seen": len(seen),
        "delay_mean_s": round(mean(delays), 2) if delays else None,
        "delay_p99_s": _quantile(delays, 0.99) if delays else None,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
