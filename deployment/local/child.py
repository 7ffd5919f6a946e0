"""Runs a command so that it ends with its parent, and as an ordinary user where it refuses to be root.

``python -I -S child.py [--die-with SIGNAL] [--not-root | --user NAME] -- COMMAND...``

It execs, so the process seen by the caller *is* the command. It uses the standard library alone and is started by its path,
which keeps its cost at about 30 ms.

* ``--die-with``: the kernel sends this signal when the parent is gone, also after a ``kill -9`` (Linux only; elsewhere ignored).
* ``--not-root``: root becomes an ordinary user inside a new user namespace. Files stay root's own, so no account is made, nothing
  is chowned, and a data directory in root's own home works. Does nothing for an ordinary user.
* ``--user``: the classic change of user, for machines where namespaces are forbidden.
"""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
#: Who root is inside the namespace; must have a name, since initdb looks it up.
_INNER_USER = "nobody"


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    inner = pwd.getpwnam(_INNER_USER)
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER), "unshare")
    # The kernel demands this before an unprivileged gid_map; root may skip it, but then keeps its other groups.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{inner.pw_uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{inner.pw_gid} {gid} 1", encoding="ascii")


def _become(name: str) -> None:
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _die_with_parent(number: int) -> None:
    parent = os.getppid()
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
    # The parent may have died before the line above; then no signal would ever come.
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Prepare this process as the options say, then become the command."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    death: int | None = None
    while options:
        match options.pop(0):
            case "--die-with":
                death = signal.Signals[options.pop(0)].value
            case "--not-root":
                if os.geteuid() == 0:
                    _enter_user_namespace()
            case "--user":
                _become(options.pop(0))
            case unknown:
                sys.exit(f"unknown option {unknown}")
    # Last, because the kernel clears the setting whenever a process changes its identity.
    if death is not None and sys.platform == "linux":
        _die_with_parent(death)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
