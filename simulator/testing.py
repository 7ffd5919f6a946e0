"""For tests: a simulator as a process of its own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from deployment.local.ports import free_port


@dataclass
class Running:
    """A simulator that answers at ``url``."""

    url: str
    process: "subprocess.Popen[bytes]"

    @property
    def auth_url(self) -> str:
        """Keystone's address."""
        return f"{self.url}/identity/v3"

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """The control endpoint."""
        answer = requests.request(method, f"{self.url}/_control{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def running_simulator(*arguments: str, port: int = 0, state_dir: Path | None = None) -> Iterator[Running]:
    """Start one with command-line ``arguments``, wait until it answers, and end it afterwards."""
    number = port or free_port()
    words = [sys.executable, "-m", "simulator", "--port", str(number), *arguments]
    if state_dir is not None:
        words += ["--state-dir", str(state_dir)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=Path(__file__).resolve().parents[1])
        running = Running(f"http://127.0.0.1:{number}", process)
        try:
            _wait(running)
            yield running
        finally:
            process.terminate()
            process.wait(15)


def _wait(running: Running) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            requests.get(f"{running.url}/_control/", timeout=2).raise_for_status()
        except requests.RequestException:
            if running.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the simulator did not start (exit code {running.process.poll()})") from None
            time.sleep(0.05)
        else:
            return
