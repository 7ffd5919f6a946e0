"""What the embedded servers share: a process that ends with its owner, its log, and sockets whose paths are short enough."""

import hashlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

CHILD: Final = Path(__file__).with_name("child.py")
#: The kernel's limit for a socket's path, less the closing zero.
SOCKET_PATH_MAX: Final = 107 if sys.platform == "linux" else 103
#: PostgreSQL's socket has a directory of its own, which may belong to another user than the rest.
SOCKETS: Final = "s"
POLL_S: Final = 0.01

# "Ends with its parent" means, to the kernel, with the *thread* that started it. All children are therefore started by one thread
# that lives as long as this process, so that what a short-lived thread starts stays up.
_SPAWNER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class EmbeddedServerError(RuntimeError):
    """A server could not be prepared, started or stopped; the text says which, why, and ends with its log's last lines."""


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a text file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def spawn(command: list[str], *, cwd: Path, output: IO[bytes], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a :func:`wrapped` command, whose end is then bound to this process and not to the calling thread.

    It gets a session of its own: a Ctrl-C in the terminal is for the owner, who then stops it in order.
    """
    return _SPAWNER.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=cwd,
        env=env,
        start_new_session=True,
    ).result()


def wrapped(command: list[str], *, die_with: signal.Signals, become: tuple[str, ...] = ()) -> list[str]:
    """``command`` run through :mod:`deployment.local.child`, so that it ends with the process that starts it."""
    return [sys.executable, "-I", "-S", str(CHILD), "--die-with", die_with.name, *become, "--", *command]


def socket_directory(home: Path, longest_name: str) -> Path:
    """A private directory for sockets: ``home`` itself, or a short one elsewhere where ``home``'s path is too long for the kernel.

    The short one is the same for the same ``home``, so that addresses survive a restart. Raises :class:`EmbeddedServerError`
    where another user has taken its name.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if len(os.fsencode(home / longest_name)) <= SOCKET_PATH_MAX:
        return home
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
    short = base / f"kcloud-{os.getuid()}-{digest}"
    if len(os.fsencode(short / longest_name)) > SOCKET_PATH_MAX:
        # A fixed name in /tmp is safe, because its owner and mode are checked below.
        short = Path("/tmp", short.name)  # noqa: S108
    short.mkdir(exist_ok=True, mode=0o700)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        msg = f"{short} belongs to someone else; set XDG_RUNTIME_DIR to a directory of your own, or use a shorter STATE_DIR."
        raise EmbeddedServerError(msg)
    return short


class EmbeddedServer(ABC):
    """One server process with its files in ``home``. A context manager: started on entry, stopped on exit."""

    name: str
    stop_signal: signal.Signals = signal.SIGTERM
    become: tuple[str, ...] = ()  #: options for :mod:`deployment.local.child`

    def __init__(self, home: Path | str) -> None:
        """Files go to ``home``, made when needed. Nothing starts yet."""
        self.home = Path(home).absolute()
        self.log = self.home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id; None where it does not run as a child of this process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    @abstractmethod
    def socket_path(self) -> Path:
        """Where it listens."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its files, and clear what a killed run left. Safe to repeat; not while it runs."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line, which stays in the foreground and logs to its standard output or error."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it takes connections now."""

    def supervised_command(self) -> list[str]:
        """The command for a process manager: the same, ending with that manager."""
        return wrapped(self.command(), die_with=self.stop_signal, become=self.become)

    def start(self, timeout_s: float = 30.0) -> Self:
        """Start and wait until it takes connections. Raises :class:`EmbeddedServerError` with the log's tail where it does not."""
        if self.pid is not None:
            return self
        self.prepare()
        with self.log.open("ab") as log:
            self._process = spawn(self.supervised_command(), cwd=self.home, output=log)
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = f"ended with {code}" if code is not None else f"was not ready within {timeout_s:g} s"
                self.kill()
                msg = f"{self.name} {what}; {self.log} ends:\n{tail(self.log)}"
                raise EmbeddedServerError(msg)
            time.sleep(POLL_S)
        return self

    def stop(self, timeout_s: float = 20.0) -> None:
        """End it in order, by force after ``timeout_s``. Does nothing where it does not run."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        self._forget_sockets()

    def _forget_sockets(self) -> None:
        """Remove what :func:`socket_directory` made outside ``home``."""
        folder = self.socket_path.parent
        with suppress(OSError):
            if self.home not in (folder, folder.parent):
                folder.rmdir()
                if folder.name == SOCKETS:
                    folder.parent.rmdir()

    def kill(self) -> None:
        """``kill -9``, as in a crash, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop in order, then start with the same files and address."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        self.stop()


def is_command(pid: int, name: str, argument: str) -> bool:
    """Whether process ``pid`` is a program called ``name`` that was given ``argument``."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return False
        listed = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
        return name in listed and argument in listed
    return Path(words[0]).name == name and argument in words


def session_alive(leader: int) -> bool:
    """Whether a process of the session that ``leader`` opened is left. The leader itself may be gone."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[3] == str(leader) and fields[0] != "Z":
            return True
    return False
