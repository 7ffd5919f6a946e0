"""Ports that are free, and who holds one that is not."""

import contextlib
import socket

import psutil

from deployment.local.environment import LaunchError, Listener


def _holder(port: int) -> str:
    """Who listens there, as far as this user may know; empty where not."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f" by process {connection.pid} ({' '.join(process.cmdline())[:120]})"
    return ""


def _taken(listener: Listener) -> str | None:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a connection of an earlier run that still waits for its end does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except PermissionError:
            return f"port {listener.port} ({listener.program}) needs root: set {listener.variable} to 1024 or more."
        except OSError as exc:
            if exc.errno is None or isinstance(exc, socket.gaierror):
                return f"{listener.host!r} ({listener.program}) is no address of this machine: {exc}."
            return (
                f"port {listener.port} on {listener.host} ({listener.program}) is taken{_holder(listener.port)}. End that,"
                f" or choose another port: make run {listener.variable}={listener.port + 1}"
            )
    return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free(listeners: list[Listener]) -> None:
    """Raises :class:`LaunchError` that names every port that is taken or named twice, and the variable that moves it."""
    wrong = [words for words in map(_taken, listeners) if words]
    by_port: dict[int, Listener] = {}
    for listener in listeners:
        other = by_port.setdefault(listener.port, listener)
        if other is not listener:
            wrong.append(f"{other.variable} and {listener.variable} are both {listener.port}: give each its own.")
    if wrong:
        raise LaunchError("Nothing was started:\n  " + "\n  ".join(wrong))
