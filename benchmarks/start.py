"""From `make run` on a warm machine to the first cluster that is CREATE_COMPLETE. The simulated creation itself takes 4 s."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from deployment.local.environment import ROOT
from deployment.local.parts import NotInTime
from deployment.local.ports import free_port

REPEATS = 3
LIMIT_S = 90.0


def measure() -> dict[str, Any]:
    """Start, stop, and start again ``REPEATS`` times; medians in seconds. The first start makes the database and is not counted."""
    with tempfile.TemporaryDirectory(prefix="kcloud-start-") as home:
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("OS_", "DATABASE", "REDIS", "POSTGRES", "MAKE"))
        }
        ports = {name: str(free_port()) for name in ("API_PORT", "FLOWER_PORT", "SIMULATOR_PORT")}
        environment = {**clean, **ports, "STATE_DIR": str(Path(home) / "state")}
        _once(environment, "cold")
        runs = [_once(environment, f"warm-{number}") for number in range(REPEATS)]
    return {
        "ready_s": median(ready for ready, _ in runs),
        "first_cluster_s": median(complete for _, complete in runs),
        "first_cluster_worst_s": max(complete for _, complete in runs),
    }


def _once(environment: dict[str, str], name: str) -> tuple[float, float]:
    api = f"http://127.0.0.1:{environment['API_PORT']}"
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", "run"],  # noqa: S607 - as a user types it
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _until(lambda: requests.get(f"{api}/ready", timeout=2).ok, began, process)
        ready = time.monotonic() - began
        token = _token(environment)
        body = {"name": f"first-{name}", "cluster_template_id": "gpu-intensive-template", "node_count": 2}
        answer = requests.post(f"{api}/clusters", json=body, headers={"X-Auth-Token": token}, timeout=10)
        answer.raise_for_status()
        cluster = f"{api}/clusters/{answer.json()['id']}"
        _until(
            lambda: requests.get(cluster, headers={"X-Auth-Token": token}, timeout=5).json()["status"] == "CREATE_COMPLETE",
            began,
            process,
        )
        return ready, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _token(environment: dict[str, str]) -> str:
    auth = v3.Password(
        f"http://127.0.0.1:{environment['SIMULATOR_PORT']}/identity/v3",
        username="admin",
        password="secretpassword",  # noqa: S106 - the simulator's public account
        project_name="kcloud",
        user_domain_name="Default",
        project_domain_name="Default",
    )
    return str(Session(auth=auth, timeout=5).get_token())


def _until(predicate: Any, began: float, process: "subprocess.Popen[bytes]") -> None:
    while True:
        try:
            if predicate():
                return
        except (requests.RequestException, ksa.ClientException, KeyError):
            pass
        if time.monotonic() - began > LIMIT_S or process.poll() is not None:
            raise NotInTime(f"make run did not come up (exit code {process.poll()})")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
