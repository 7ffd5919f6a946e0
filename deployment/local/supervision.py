"""The process manager: supervisord, which restarts what crashes and stops all of it in order.

Why supervisor and not honcho: honcho ends every program when one of them ends, and here losing one is a case to survive.
"""

import contextlib
import http.client
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from deployment.local.environment import ROOT, LaunchError, Plan
from deployment.local.processes import is_command, socket_directory, wrapped

GROUP: Final = "kcloud"
_STOP_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the manager."""

    name: str
    command: list[str]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_wait_s: int = 15
    server: bool = False  #: started at once and stopped last, since the others lean on it
    late: bool = False  #: started when the others are ready, since nobody waits for it
    directory: Path = ROOT


def programs(plan: Plan) -> list[Program]:
    """Everything that runs."""
    python, env = sys.executable, plan.environment
    celery = [python, "-m", "celery", "-A", "workers.app"]
    listed = [
        Program(server.name, server.supervised_command(), server.stop_signal, 30, server=True, directory=server.home)
        for server in (plan.postgres, plan.valkey)
        if server is not None
    ]
    if plan.simulator is not None:
        words = [
            "--host",
            plan.simulator.host,
            "--port",
            str(plan.simulator.port),
            "--state-dir",
            str(plan.state_dir / "simulator"),
        ]
        listed.append(_own("simulator", [python, "-m", "simulator", *words]))
    pool = ["--pool", "threads", "--concurrency", env["WORKER_CONCURRENCY"]]
    listed += [
        _own("api", [python, "-m", "gunicorn", "-c", "api/gunicorn.py", "api.wsgi:app"]),
        # The events of -E are what Flower shows; gossip and mingle are for workers that watch each other.
        _own("worker", [*celery, "worker", *pool, "-Q", "jobs,ticks,maintenance", "--without-gossip", "--without-mingle", "-E"]),
        _own("relay", [python, "-m", "workers.relay"]),
        _own("beat", [*celery, "beat", "-s", str(plan.state_dir / "beat-schedule"), "--pidfile="], late=True),
        _own("flower", [*celery, "flower", f"--address={plan.flower.host}", f"--port={plan.flower.port}"]),
    ]
    return listed


def _own(name: str, command: list[str], *, late: bool = False) -> Program:
    return Program(name, wrapped(command, die_with=signal.SIGTERM), late=late)


def _escaped(text: object) -> str:
    # supervisor expands %(names)s in its file, and cuts a line at " ;".
    return str(text).replace("%", "%%")


def _socket(plan: Plan) -> Path:
    # supervisor binds a temporary name beside it, eleven characters longer, and moves that into place.
    return socket_directory(plan.state_dir / "run", "supervisor.sock.0123456789") / "supervisor.sock"


def write_config(plan: Plan) -> Path:
    """STATE_DIR/run/supervisord.conf. It holds no secret: programs inherit the environment."""
    run, sock = plan.state_dir / "run", _socket(plan)
    lines = [
        "[supervisord]",
        "nodaemon=true",
        "silent=true",
        f"logfile={_escaped(plan.log_dir / 'supervisord.log')}",
        f"pidfile={_escaped(run / 'supervisord.pid')}",
        f"childlogdir={_escaped(plan.log_dir)}",
        f"directory={_escaped(ROOT)}",
        "[unix_http_server]",
        f"file={_escaped(sock)}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisorctl]",
        f"serverurl=unix://{_escaped(sock)}",
    ]
    listed = programs(plan)
    for program in listed:
        lines += [
            f"[program:{program.name}]",
            f"command={_escaped(shlex.join(program.command))}",
            f"directory={_escaped(program.directory)}",
            f"autostart={'true' if program.server else 'false'}",
            "autorestart=true",
            "startsecs=1",
            # It waits one second more after each failure, so this is about twenty minutes before it gives up.
            "startretries=50",
            f"stopsignal={program.stop_signal.name.removeprefix('SIG')}",
            f"stopwaitsecs={program.stop_wait_s}",
            "redirect_stderr=true",
            f"stdout_logfile={_escaped(plan.log_dir / program.name)}.log",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=3",
            # Stopped from the highest number to the lowest, one group after the other.
            f"priority={10 if program.server else 100}",
        ]
    own = ",".join(program.name for program in listed if not program.server)
    lines += [f"[group:{GROUP}]", f"programs={own}", "priority=100"]
    path = run / "supervisord.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


class Supervisor:
    """A running supervisord, owned by this process."""

    def __init__(self, plan: Plan) -> None:
        """Nothing starts yet."""
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it with the embedded servers; the other programs wait for :meth:`start_programs`."""
        config = write_config(self._plan)
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)]
        with (self._plan.log_dir / "supervisord.out").open("wb") as out:
            self._process = subprocess.Popen(
                wrapped(command, die_with=signal.SIGTERM),
                env=self._plan.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the launcher, which then stops all in order
            )
        # It looks at its programs once a second or when something happens: a question makes it start them now.
        self.states()

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def start_programs(self, *, late: bool = False) -> None:
        """Start the programs that are neither servers nor ``late``, or just the late ones, without waiting for them."""
        for program in programs(self._plan):
            if not program.server and program.late == late:
                self._call("startProcess", f"{GROUP}:{program.name}", False)

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisord knows of each program (``statename``, ``pid``, ``start``, ...), by name."""
        return {info["name"]: info for info in self._call("getAllProcessInfo")}

    def _call(self, method: str, *arguments: object) -> Any:
        """Ask, again while its socket does not listen yet."""
        deadline = time.monotonic() + 10
        while True:
            # A new one each time: supervisor's transport does not recover from a refused connection.
            transport = SupervisorTransport(None, None, f"unix://{_socket(self._plan)}")
            try:
                with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                    return getattr(proxy.supervisor, method)(*arguments)
            except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as exc:
                if not self.running or time.monotonic() > deadline:
                    raise LaunchError(f"supervisord does not answer ({exc}); see {self._plan.log_dir}/supervisord.out") from exc
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop all programs, then the servers, then itself; by force after a minute."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once. The programs then get their own stop signals from the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def end_leftover(plan: Plan) -> None:
    """Wait for the supervisord of a launcher that was killed: it is stopping, and holds the ports until then."""
    config = str(plan.state_dir / "run" / "supervisord.conf")
    try:
        pid = int((plan.state_dir / "run" / "supervisord.pid").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return
    if not _is_supervisor(pid, config):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_LIMIT_S
    while _is_supervisor(pid, config):
        if time.monotonic() > deadline:
            raise LaunchError(f"An earlier run is still stopping (supervisord, process {pid}). End it, then try again.")
        time.sleep(0.05)


def _is_supervisor(pid: int, config: str) -> bool:
    return is_command(pid, Path(sys.executable).name, config)
