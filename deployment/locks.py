"""The two lock files: ``python -m deployment.locks`` renews them, with ``--check`` says whether they fit pyproject.toml.

The check needs no network: each lock carries a digest of what pyproject.toml asked for when it was made.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
#: Each lock, and the optional dependencies it holds beside the ordinary ones.
LOCKS: Final = {"requirements.lock": ("local",), "requirements-dev.lock": ("local", "dev")}
_LABEL: Final = "# For the dependencies in pyproject.toml with digest "


def digest(extras: tuple[str, ...]) -> str:
    """A digest of everything in pyproject.toml that decides a lock's content."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [project["requires-python"], project["dependencies"], [project["optional-dependencies"][extra] for extra in extras]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def stale() -> list[str]:
    """The locks that were made for other dependencies."""
    found = []
    for name, extras in LOCKS.items():
        with (_ROOT / name).open(encoding="utf-8") as file:
            if file.readline().strip() != _LABEL + digest(extras):
                found.append(name)
    return found


def renew() -> None:
    """Resolve anew, keeping the versions that still fit. Needs the package index."""
    for name, extras in LOCKS.items():
        path = _ROOT / name
        options = ["--universal", "--generate-hashes", "--no-header", "--quiet", "--output-file", name]
        chosen = [word for extra in extras for word in ("--extra", extra)]
        if name != "requirements.lock":
            chosen += ["--constraint", "requirements.lock"]  # what runs in development is what runs elsewhere
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *options, *chosen]
        subprocess.run(command, check=True, cwd=_ROOT, stdout=subprocess.DEVNULL)
        content = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(_LABEL))
        path.write_text(f"{_LABEL}{digest(extras)}\n{content}\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Command line; 1 where a lock is stale."""
    if arguments == ["--check"]:
        names = stale()
        if names:
            sys.stderr.write(f"{' and '.join(names)}: made for other dependencies than pyproject.toml asks; run `make lock`.\n")
        return 1 if names else 0
    if arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    renew()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
