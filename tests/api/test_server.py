"""The API as it is run: under gunicorn, with its own settings, against the simulated OpenStack."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.testing import Running, running_simulator
from tests.api.harness import a_body

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "gunicorn", "-c", "api/gunicorn.py", "api.wsgi:app"]


class Server:
    """One gunicorn, its log, and a session that keeps its connection."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{environment['API_PORT']}"
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(COMMAND, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def wait(self, wait_until: Callable[..., Any]) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return requests.get(f"{self.url}/", timeout=2).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(answers, 30, what="the API answers")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(40)


def _environment(simulator: Running, database_url: str, port: int, folder: Path, **more: str) -> dict[str, str]:
    folder.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "OS_AUTH_URL": simulator.auth_url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": "secretpassword",
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "API_PORT": str(port),
        "API_THREADS": "8",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
        **more,
    }


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    simulator: Running,
    module_database_url: str,
    free_port: Callable[[], int],
    wait_until: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    made = Server(_environment(simulator, module_database_url, free_port(), folder / "metrics"), folder / "log")
    try:
        made.wait(wait_until)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def token(simulator: Running) -> str:
    identity = {
        "methods": ["password"],
        "password": {"user": {"name": "operator", "password": "operator-password", "domain": {"name": "Default"}}},
    }
    scope = {"project": {"name": "kcloud", "domain": {"name": "Default"}}}
    answer = requests.post(f"{simulator.auth_url}/auth/tokens", json={"auth": {"identity": identity, "scope": scope}}, timeout=5)
    return answer.headers["X-Subject-Token"]


@pytest.fixture
def client(token: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["X-Auth-Token"] = token
        yield session


def test_a_cluster_is_promised(server: Server, client: requests.Session) -> None:
    made = client.post(f"{server.url}/clusters", json=a_body("served"), timeout=10)
    assert made.status_code == 202, made.text
    shown = client.get(server.url + made.headers["Location"], timeout=10)
    assert shown.json()["name"] == "served"
    assert client.get(server.url + made.headers["Operation-Location"], timeout=10).json()["state"] == "queued"


def test_the_clouds_catalog_is_what_requests_are_checked_against(server: Server, client: requests.Session) -> None:
    answer = client.post(f"{server.url}/clusters?validate_only=true", json=a_body("x", cluster_template_id="nope"), timeout=10)
    assert answer.status_code == 422
    assert "gpu-intensive-template" in answer.json()["errors"][0]["detail"]


def test_a_large_body_is_refused_and_the_server_goes_on(server: Server, client: requests.Session) -> None:
    answer = client.post(f"{server.url}/clusters", data=b" " * 10_000_000, headers={"Content-Type": "application/json"}, timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert client.get(f"{server.url}/clusters", timeout=10).status_code == 200


def test_a_body_in_chunks_is_limited_all_the_same(server: Server, client: requests.Session) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"{server.url}/clusters", data=(b" " * 100_000 for _ in range(30)), headers=headers, timeout=10)
    assert answer.status_code == 413
    pieces = iter([json.dumps(a_body("in-chunks")).encode()[i : i + 10] for i in range(0, 300, 10)])
    answer = client.post(f"{server.url}/clusters", data=pieces, headers=headers, timeout=10)
    assert answer.status_code == 202, answer.text


def test_a_request_with_length_and_chunks_is_refused(server: Server, token: str) -> None:
    # Two servers that disagree on where a request ends can be made to see a hidden one (RFC 9112, 6.1).
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        head = f"POST /clusters HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Type: application/json\r\n"
        wire.sendall(f"{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 400")


def test_an_event_stream_arrives_while_the_job_goes_on(server: Server, client: requests.Session) -> None:
    made = client.post(f"{server.url}/clusters", json=a_body("streamed"), timeout=10).json()
    with client.get(
        f"{server.url}/jobs/{made['job_id']}/events", headers={"Accept": "text/event-stream"}, stream=True, timeout=10
    ) as stream:
        lines = stream.iter_lines(chunk_size=1, decode_unicode=True)
        assert next(lines) == "retry: 2000"
        assert next(line for line in lines if line.startswith("event:")) == "event: step"
        # Cancelled from outside, it ends by itself.
        client.delete(f"{server.url}/jobs/{made['job_id']}", timeout=10)
        assert next(line for line in lines if line == "event: end")


def test_keystone_away_is_a_503_for_new_tokens_alone(server: Server, simulator: Running, client: requests.Session) -> None:
    for _ in range(12):  # each worker process learns the token
        client.get(f"{server.url}/clusters", timeout=10)
    simulator.control("POST", "/faults", {"kind": "keystone_down"})
    try:
        answer = requests.get(f"{server.url}/clusters", headers={"X-Auth-Token": "gAAAAABnew"}, timeout=20)
        assert (answer.status_code, answer.json()["reason"]) == (503, "KEYSTONE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
        assert client.get(f"{server.url}/clusters", timeout=10).status_code == 200
    finally:
        simulator.control("DELETE", "/faults")


def test_metrics_of_all_workers_are_counted_together(server: Server, client: requests.Session) -> None:
    for _ in range(20):
        client.get(f"{server.url}/jobs", timeout=10)
    text = client.get(f"{server.url}/metrics", timeout=10).text
    counted = [line for line in text.splitlines() if line.startswith("kcloud_request_seconds_count") and '"/jobs"' in line]
    assert float(counted[0].rsplit(" ", 1)[1]) >= 20
    # Every series is told once, by whichever process is asked, and none stays behind of one that has ended.
    again = client.get(f"{server.url}/metrics", timeout=10).text
    for page in (text, again):
        series = [line.rpartition(" ")[0] for line in page.splitlines() if line and not line.startswith("#")]
        assert len(series) == len(set(series))
        assert "pid=" not in page


def test_no_token_and_no_password_is_in_the_log(server: Server, client: requests.Session, token: str) -> None:
    client.get(f"{server.url}/clusters", timeout=10)
    log = server.log.read_text()
    assert "request.done" in log
    assert token not in log
    assert token[8:40] not in log
    assert "secretpassword" not in log


def test_a_stop_lets_requests_finish(
    simulator: Running,
    token: str,
    database_url: str,
    free_port: Callable[[], int],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    made = Server(_environment(simulator, database_url, free_port(), tmp_path / "metrics", API_WORKERS="1"), tmp_path / "log")
    try:
        made.wait(wait_until)
        answers: list[requests.Response] = []

        def wait_for_a_job() -> None:
            headers = {"X-Auth-Token": token, "Prefer": "wait=3"}
            answers.append(requests.post(f"{made.url}/clusters", json=a_body(), headers=headers, timeout=20))

        waiting = threading.Thread(target=wait_for_a_job)
        waiting.start()
        time.sleep(1.0)
        made.process.send_signal(signal.SIGTERM)
        waiting.join(20)
        assert [answer.status_code for answer in answers] == [202]
        assert made.process.wait(20) == 0
    finally:
        made.process.kill()
        made.process.wait()


def _run(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_that_is_taken_is_named(simulator: Running, database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = _run(_environment(simulator, database_url, port, tmp_path / "metrics"))
    assert ended.returncode != 0
    assert str(port) in ended.stdout + ended.stderr
    assert "in use" in (ended.stdout + ended.stderr).lower()


@pytest.mark.parametrize(
    "wrong,words",
    [
        ({"API_PORT": "eighty"}, "API_PORT"),
        ({"POLICY_FILE": "/nowhere/policy.yaml"}, "POLICY_FILE"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
    ],
)
def test_wrong_settings_end_the_start_and_are_named(
    simulator: Running, free_port: Callable[[], int], tmp_path: Path, wrong: dict[str, str], words: str
) -> None:
    environment = _environment(simulator, "postgresql://nowhere/x", free_port(), tmp_path / "metrics")
    ended = _run({**environment, **wrong})
    assert ended.returncode != 0
    assert words in ended.stdout + ended.stderr
