"""`make run` as a person uses it: start, first cluster, stop, and the state is still there."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from deployment.local.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: Both cores may be busy with other tests; docs/benchmarks.md has what an idle machine takes.
START_LIMIT_S = 90.0

METRICS_TOKEN = "what-prometheus-knows"

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("make-run")]


class Run:
    """One `make run`, with ports and a STATE_DIR of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.environment = {
            key: value
            for key, value in os.environ.items()
            # Nothing of this test's own surroundings may reach it, least of all a real cloud's address.
            if not key.startswith(("OS_", "MAKE", "MFLAGS", "DATABASE_", "POSTGRES_", "REDIS_", "PYTEST_"))
        } | {
            "STATE_DIR": str(state_dir),
            "API_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "SIMULATOR_PORT": str(free_port()),
            "LOG_FORMAT": "json",
            "METRICS_TOKEN": METRICS_TOKEN,
        }
        self.api = f"http://127.0.0.1:{self.environment['API_PORT']}"
        self.output = state_dir.with_suffix(".out")
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait for its banner."""
        self.started_at = time.monotonic()
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                ["make", "run"], cwd=ROOT, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        self.wait_ready()
        return self.process

    def wait_ready(self) -> None:
        """Wait for the banner; fails at once where it ends instead."""

        def ready() -> bool:
            assert self.process is None or self.process.poll() is None, f"make run ended:\n{self.output.read_text()}"
            return "Ready in" in self.output.read_text()

        wait_until(ready, START_LIMIT_S, what=f"banner of make run in {self.output}")

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Another target for the same STATE_DIR."""
        return subprocess.run(
            ["make", target], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def shell(self, script: str) -> str:
        """What a person types after `source openrc`."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'source "$0"/openrc\n{script}', str(self.state_dir)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.state_dir)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def processes(self) -> list[str]:
        """The command lines of everything that runs with this STATE_DIR."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                mine = process.environ().get("STATE_DIR") == str(self.state_dir) or str(self.state_dir) in line
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {line}")
            except psutil.Error:
                continue
        return found

    def lines(self, process: str, **wanted: str) -> list[dict[str, Any]]:
        """The lines of a program's log with these values."""
        with (self.state_dir / "log" / f"{process}.log").open(encoding="utf-8") as log:
            told = [json.loads(line) for line in log if line.startswith("{")]
        return [line for line in told if wanted.items() <= line.items()]

    def metrics(self) -> str:
        """What Prometheus would read."""
        answer = requests.get(self.api + "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=30)
        answer.raise_for_status()
        return answer.text

    def get(self, path: str, token: str) -> Any:
        """A GET's JSON."""
        answer = requests.get(self.api + path, headers={"X-Auth-Token": token}, timeout=30)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "state")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(90)
    left = made.processes()
    for line in left:
        psutil.Process(int(line.split()[0])).kill()
    assert not left


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    return record_property


def test_from_nothing_to_a_cluster_and_again_after_a_restart(run: Run, record: Callable[[str, object], None]) -> None:
    make = run.start()
    banner = run.output.read_text()

    # What the banner says can be pasted as it stands.
    pasted = re.search(r"^  curl .*?\n.*?'$", banner, re.MULTILINE | re.DOTALL)
    assert pasted is not None
    created = run.shell(f"export TOKEN=$(kcloud_token)\n{pasted[0]}")
    record("seconds_to_first_cluster", round(time.monotonic() - run.started_at, 1))
    assert '"CREATE_COMPLETE"' in created

    # The stock client sees the same cluster in the cloud.
    token = run.shell("openstack token issue -f value -c id")
    clusters = run.get("/clusters", token)
    assert [cluster["status"] for cluster in clusters] == ["CREATE_COMPLETE"]
    listed = run.shell("openstack coe cluster list -f value -c status")
    assert listed.splitlines() == ["CREATE_COMPLETE"]

    # A request's id leads from the API's log to the worker's lines about its job, and the job's to its cluster.
    [job] = run.get("/jobs", token)
    [asked] = run.lines("api", event="request.done", request_id=job["request_id"])
    assert (asked["job_id"], asked["cluster_id"]) == (job["id"], clusters[0]["id"])
    events = {
        line["event"] for line in run.lines("worker", request_id=job["request_id"], job_id=job["id"], cluster_id=clusters[0]["id"])
    }
    assert {"job.claimed", "job.submitted"} <= events

    # Prometheus is let in by its own token, and is told of all that beat does and of what workers count.
    assert requests.get(run.api + "/metrics", timeout=10).status_code == 401
    wait_until(lambda: 'kcloud_periodic_age_seconds{task="sweep_placements"}' in run.metrics(), 60, every_s=1, what="beat's tasks")
    counted = run.metrics()
    assert re.search(r'^kcloud_jobs_finished_total\{kind="create",.*state="succeeded"\} 1\.0$', counted, re.MULTILINE)
    assert 'kcloud_cloud_call_seconds_count{operation="' in counted

    # Flower asks for a login, and the one that the banner shows works.
    flower, login = re.search(r"Flower +(\S+) +login: (\S+)", banner).groups()  # type: ignore[union-attr]
    assert requests.get(flower, timeout=10).status_code == 401
    assert requests.get(flower, timeout=10, auth=tuple(login.split(":"))).status_code == 200

    # Private files are private, and no command line shows a secret.
    for name in ("openrc", "secret-key", "flower-login"):
        assert (run.state_dir / name).stat().st_mode & 0o077 == 0
    shown = "\n".join(run.processes())
    assert login.split(":")[1] not in shown
    assert (run.state_dir / "secret-key").read_text().strip() not in shown

    # A second run of the same state is refused, and so is one that wants the same ports.
    second = run.make("run")
    assert second.returncode == 2  # make's own number for a failed recipe
    assert "already runs with STATE_DIR" in second.stderr
    run.environment["STATE_DIR"] = str(run.state_dir.with_name("other"))
    third = run.make("run")
    assert third.returncode == 2
    assert "Nothing was started" in third.stderr
    assert "API_PORT" in third.stderr
    run.environment["STATE_DIR"] = str(run.state_dir)
    wait_until(lambda: run.make("ps").stdout.count("RUNNING") == 8, 20, what="all programs in the list")

    # SIGTERM to make alone.
    make.send_signal(signal.SIGTERM)
    assert make.wait(90) in (0, -signal.SIGTERM)
    wait_until(lambda: not run.processes(), 10, what="no process left")
    assert "***" not in run.output.read_text()

    # The state survives.
    run.start()
    token = run.shell("kcloud_token")
    assert [cluster["id"] for cluster in run.get("/clusters", token)] == [cluster["id"] for cluster in clusters]
    assert run.shell("openstack coe cluster list -f value -c status").splitlines() == ["CREATE_COMPLETE"]
    assert run.make("stop").returncode == 0
    wait_until(lambda: not run.processes(), 10, what="no process left")


def test_a_crashed_program_is_started_again_and_ctrl_c_stops_everything(run: Run) -> None:
    terminal, inside = pty.openpty()
    # A session of its own, whose terminal this is: only then does the kernel turn ^C into a signal for all of its foreground.
    run.process = make = subprocess.Popen(
        ["setsid", "--ctty", "make", "run"], cwd=ROOT, env=run.environment, stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    seen = b""

    def read_until(words: bytes, limit_s: float) -> None:
        nonlocal seen
        deadline = time.monotonic() + limit_s
        while words not in seen:
            assert time.monotonic() < deadline, seen.decode(errors="replace")
            try:
                seen += os.read(terminal, 65_536)
            except OSError:  # the terminal closes with its last process
                break
        assert words in seen, seen.decode(errors="replace")

    try:
        read_until(b"Stop     Ctrl-C here", START_LIMIT_S)
        wait_until(lambda: re.search(r"beat +RUNNING", run.make("ps").stdout), 20, what="beat runs")
        beat = next(line for line in run.processes() if " beat " in line)
        os.kill(int(beat.split()[0]), signal.SIGKILL)
        read_until(b"[beat] started again", 20)
        os.write(terminal, b"\x03")
        read_until(b"Stopped. State is kept in", 90)
        code = make.wait(30)
    finally:
        os.close(terminal)
    assert code in (0, -signal.SIGINT, 130)
    assert b"Error" not in seen
    wait_until(lambda: not run.processes(), 10, what="no process left")


@pytest.mark.parametrize("victim", ["make", "supervisord", "launcher"])
def test_killing_an_owner_by_force_leaves_nothing(run: Run, victim: str) -> None:
    make = run.start()
    pids = {
        "make": make.pid,
        "supervisord": int((run.state_dir / "run" / "supervisord.pid").read_text()),
        "launcher": int((run.state_dir / "run" / "lock").read_text()),
    }
    os.kill(pids[victim], signal.SIGKILL)
    make.wait(90)
    wait_until(lambda: not run.processes(), 60, every_s=0.2, what="no process left")
