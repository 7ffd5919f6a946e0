"""How many `POST /clusters` a second are authenticated, validated and durably committed, beside an empty Flask route.

Both run under gunicorn with the same configuration, one after the other, several times, in one run. PostgreSQL flushes every
commit to disk. The workers and the relay do not run, so that the figure is the API's; what it accepts stays queued.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import Measured, run
from deployment.local.environment import ROOT
from deployment.local.parts import Parts
from deployment.local.ports import free_port

CLIENTS = 64
SECONDS = 8.0
REPEATS = 3


def measure() -> dict[str, Any]:
    """Run it; figures by name."""
    with tempfile.TemporaryDirectory(prefix="kcloud-accept-") as home:
        settings = {"API_WORKERS": str(os.environ.get("API_WORKERS", "2")), "API_THREADS": os.environ.get("API_THREADS", "16")}
        with Parts(Path(home), ("simulator", "api"), LOG_LEVEL="WARNING", **settings) as parts:
            baseline_port = free_port()
            environment = {**parts.plan.environment, "API_PORT": str(baseline_port)}
            empty = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "api/gunicorn.py", "benchmarks.empty:app"], cwd=ROOT, env=environment
            )
            try:
                parts.until(lambda: _answers(baseline_port), 30, "the empty application answers")
                return _measure(parts, baseline_port) | settings
            finally:
                empty.terminate()
                empty.wait(20)


def _measure(parts: Parts, baseline_port: int) -> dict[str, Any]:
    token = parts.token()
    names = count()
    run("127.0.0.1", parts.plan.api.port, _posts(token, names), clients=CLIENTS, seconds=2.0)  # caches, connections, plans
    run("127.0.0.1", baseline_port, _empties(), clients=CLIENTS, seconds=1.0)
    rounds: list[tuple[Measured, Measured]] = []
    for _ in range(REPEATS):
        empty = run("127.0.0.1", baseline_port, _empties(), clients=CLIENTS, seconds=SECONDS)
        posts = run("127.0.0.1", parts.plan.api.port, _posts(token, names), clients=CLIENTS, seconds=SECONDS)
        rounds.append((empty, posts))
    rows = parts.rows("SELECT count(*) AS n FROM jobs j JOIN clusters c ON c.id = j.cluster_id")[0]["n"]
    accepted = sum(posts.statuses[202] for _, posts in rounds)
    if rows < accepted:
        raise RuntimeError(f"{accepted} were answered 202, but only {rows} are in the database")
    others = {status: n for _, posts in rounds for status, n in posts.statuses.items() if status != 202}
    if others:
        raise RuntimeError(f"other answers than 202: {others}")
    return {
        "empty_per_s": median(empty.per_s for empty, _ in rounds),
        "accept_per_s": median(posts.per_s for _, posts in rounds),
        "share": median(posts.per_s / empty.per_s for empty, posts in rounds),
        "accept_p50_ms": median(posts.quantile_ms(0.5) for _, posts in rounds),
        "accept_p99_ms": median(posts.quantile_ms(0.99) for _, posts in rounds),
        "empty_p50_ms": median(empty.quantile_ms(0.5) for empty, _ in rounds),
        "empty_p99_ms": median(empty.quantile_ms(0.99) for empty, _ in rounds),
        "committed": rows,
    }


def _posts(token: str, names: "count[int]") -> Iterator[bytes]:
    head = (
        "POST /clusters HTTP/1.1\r\nHost: bench\r\nX-Auth-Token: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    )
    for number in names:
        body = json.dumps(
            {
                "name": f"bench-{number}",
                "cluster_template_id": "gpu-intensive-template",
                "node_count": 4,
                "master_count": 1,
                "keypair": "kcloud-keypair",
                "labels": {"workload_type": "training", "gpu_type": "nvidia-a100", "power_optimization": "enabled"},
            }
        )
        yield (head.format(token, len(body)) + body).encode()


def _empties() -> Iterator[bytes]:
    request = b"POST /empty HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    while True:
        yield request


def _answers(port: int) -> bool:
    try:
        return bool(run("127.0.0.1", port, _empties(), clients=1, seconds=0.05).statuses[202])
    except OSError:
        return False


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
