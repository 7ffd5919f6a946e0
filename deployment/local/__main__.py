"""``python -m deployment.local [run|stop|ps]``: the whole system on this machine, until Ctrl-C."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from deployment.local import environment
from deployment.local.embedded import EmbeddedServerError
from deployment.local.environment import ROOT, LaunchError, Plan
from deployment.local.logs import LogWatcher
from deployment.local.ports import require_free
from deployment.local.processes import tail
from deployment.local.readiness import Check, program_checks, server_checks, wait_for
from deployment.local.supervision import Supervisor, end_leftover
from shared.errors import ConfigurationError

_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 70.0


def _say(text: str) -> None:
    print(text, flush=True)


class Stop:
    """Notes Ctrl-C and SIGTERM; a third one ends everything by force."""

    def __init__(self) -> None:
        """From now on."""
        self.count = 0
        self.manager: Supervisor | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        # Under nohup it is ignored, and should stay so.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._note)

    def __call__(self) -> bool:
        """Whether to leave."""
        return self.count > 0

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 3 and self.manager is not None:  # noqa: PLR2004
            self.manager.kill()


@contextmanager
def _only_one(state_dir: Path) -> Iterator[TextIO]:
    """Hold STATE_DIR's lock, which the kernel releases even after a kill -9."""
    with (state_dir / "run" / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise LaunchError(
                f"Process {holder} already runs with STATE_DIR={state_dir}. End it with `make stop`, or choose another: make run"
                " STATE_DIR=... API_PORT=... FLOWER_PORT=... SIMULATOR_PORT=..."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def _settings_redis_url(plan: Plan) -> str:
    """Check the configuration before anything starts; gives the broker's address."""
    from shared import settings

    os.environ.update(plan.environment)
    return settings.load().redis_url


def _migrate(plan: Plan) -> None:
    """Bring the database up to date, without starting a Python for it where an earlier start did with the same migrations."""
    versions = ROOT / "shared" / "db" / "migrations" / "versions"
    known = "\n".join(sorted(path.name for path in versions.glob("*.py")))
    # In the data directory, so that it goes when the database goes. A database given by the user is always asked.
    stamp = plan.postgres.data / "kcloud-migrations" if plan.postgres is not None else None
    if stamp is not None and stamp.exists() and stamp.read_text(encoding="utf-8") == known:
        return
    log = plan.log_dir / "migrate.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "shared.db.migrate"]
        code = subprocess.run(command, check=False, cwd=ROOT, env=plan.environment, stdout=out, stderr=out).returncode
    if code != 0:
        raise LaunchError(f"The database could not be migrated. {log} ends:\n{tail(log, 30)}")
    if stamp is not None:
        stamp.write_text(known, encoding="utf-8")


def _banner(plan: Plan, openrc: Path, checks: list[Check], seconds: float) -> str:
    try:
        shown = openrc.relative_to(Path.cwd())
    except ValueError:
        shown = openrc
    login = plan.environment.get("FLOWER_BASIC_AUTH", "")
    times = ", ".join(f"{check.program} {check.after_s:.1f}" for check in checks if check.after_s is not None)
    cloud = plan.environment.get("OS_AUTH_URL", "")
    stop = "Ctrl-C here, or `make stop`"
    return f"""
Ready in {seconds:.1f} s ({times}).

  API      {plan.api.url}        documentation: {plan.api.url}/docs
  Flower   {plan.flower.url}        login: {login}
  Cloud    {cloud}{" (simulated)" if plan.simulator else ""}
  Logs     {plan.log_dir}/      State: {plan.state_dir}
  Stop     {stop}

In another terminal, a token:
  source {shown}
  export TOKEN=$(openstack token issue -f value -c id)      # or, with curl alone: export TOKEN=$(kcloud_token)

and a first cluster, waiting up to 30 s for it:
  curl -sS -X POST {plan.api.url}/clusters -H "X-Auth-Token: $TOKEN" -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\
    -d '{{"name": "first", "cluster_template_id": "gpu-intensive-template", "node_count": 2, "keypair": "kcloud-keypair"}}'
"""


def _follow(manager: Supervisor, logs: LogWatcher, stop: Stop) -> None:
    """Show what is worth showing until it is time to leave."""
    while not stop():
        for line in logs.news():
            _say(line)
        if not manager.running:
            raise LaunchError("supervisord ended, so everything did.")
        time.sleep(0.2)


def run() -> int:
    """Start, show, follow, stop."""
    began = time.monotonic()
    os.umask(0o077)  # logs and state are for their owner
    stop = Stop()
    plan = environment.plan(os.environ)
    with _only_one(plan.state_dir):
        end_leftover(plan)
        redis_url = _settings_redis_url(plan)
        require_free(plan.listeners)
        for server in (plan.postgres, plan.valkey):
            if server is not None:
                server.prepare()
        # Counters of processes that are gone; a restart of everything is a restart of the counters.
        for file in (plan.state_dir / "run" / "metrics").glob("*.db"):
            file.unlink()
        logs = LogWatcher(plan.log_dir)
        manager = stop.manager = Supervisor(plan)
        try:
            manager.start()

            def wait(checks: list[Check], limit_s: float) -> None:
                wait_for(checks, manager=manager, logs=logs, plan=plan, started=began, limit_s=limit_s, stopped=stop)

            servers, others = server_checks(plan), program_checks(plan, redis_url)
            wait(servers, 60)
            if not stop():
                _migrate(plan)
            if not stop():
                manager.start_programs()
                wait(others, _START_LIMIT_S)
            if not stop():
                manager.start_programs(late=True)
                openrc = environment.write_openrc(plan)
                _say(_banner(plan, openrc, servers + others, time.monotonic() - began))
                _follow(manager, logs, stop)
        finally:
            if manager.running:
                _say("\nStopping ...")
                manager.stop()
                _say("Stopped. State is kept in " + str(plan.state_dir))
    return 0


def stop() -> int:
    """End the run of this STATE_DIR and wait for it."""
    state_dir = environment.state_dir(os.environ)
    lock_file = state_dir / "run" / "lock"
    deadline = time.monotonic() + _STOP_LIMIT_S
    told = False
    while lock_file.exists():
        with lock_file.open("r+", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = lock.read().strip()
        if not told and holder.isdecimal():
            os.kill(int(holder), signal.SIGTERM)
            told = True
        if time.monotonic() > deadline:
            raise LaunchError(f"Process {holder} does not end.")
        time.sleep(0.05)
    _say("Stopped." if told else f"Nothing runs with STATE_DIR={state_dir}.")
    return 0


def ps() -> int:
    """What runs, as supervisord tells it."""
    config = environment.state_dir(os.environ) / "run" / "supervisord.conf"
    if not config.exists():
        raise LaunchError(f"Nothing runs with STATE_DIR={config.parents[1]}.")
    return subprocess.run([sys.executable, "-m", "supervisor.supervisorctl", "-c", str(config), "status"], check=False).returncode


def main(arguments: list[str]) -> int:
    """Command line; 1 where it cannot run, with the reason on standard error."""
    commands = {"run": run, "stop": stop, "ps": ps}
    command = commands.get(arguments[0] if arguments else "run")
    if command is None or len(arguments) > 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        return command()
    except (LaunchError, EmbeddedServerError, ConfigurationError) as exc:
        sys.stderr.write(f"\n{exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
