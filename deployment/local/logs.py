"""What the terminal shows after the banner: crashes, restarts, and lines of WARNING and above."""

import re
from collections import Counter
from pathlib import Path
from typing import Final

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")
_LOUD: Final = re.compile(
    r"(?<![\w%])(WARN|WARNING|ERROR|CRITICAL|FATAL|PANIC)\b|\[(warning|error|critical) *\]|\"level\": ?\"(warning|error|critical)\""
)
_EXITED: Final = re.compile(r"exited: (\S+) \((.*)\)")
_GAVE_UP: Final = re.compile(r"gave up: (\S+)")
_SPAWNED: Final = re.compile(r"spawned: '(\S+)' with pid (\d+)")
#: Lines of one file in one look; more would bury the rest, and the file has them.
_MOST: Final = 10


class LogWatcher:
    """Reads what programs append to their logs from now on."""

    def __init__(self, directory: Path) -> None:
        """Starts at the present end of each file."""
        self._directory = directory
        self._offsets = {path: path.stat().st_size for path in directory.glob("*.log")}
        self.exits: Counter[str] = Counter()  #: how often each program ended by itself

    def news(self) -> list[str]:
        """The lines worth showing since the last call."""
        shown = []
        for path in sorted(self._directory.glob("*.log")):
            lines = self._appended(path)
            if path.stem == "supervisord":
                shown += self._restarts(lines)
                continue
            loud = [line for line in lines if _LOUD.search(line)]
            shown += [f"[{path.stem}] {line[:400]}" for line in loud[:_MOST]]
            if len(loud) > _MOST:
                shown.append(f"[{path.stem}] and {len(loud) - _MOST} more: {path}")
        return shown

    def _appended(self, path: Path) -> list[str]:
        size = path.stat().st_size
        start = self._offsets.get(path, 0)
        if size < start:  # rotated
            start = 0
        with path.open("rb") as file:
            file.seek(start)
            text = file.read(1_000_000)
        # Half a line stays for the next look.
        whole = text[: text.rfind(b"\n") + 1]
        self._offsets[path] = start + len(whole)
        return _ANSI.sub("", whole.decode(errors="replace")).splitlines()

    def _restarts(self, lines: list[str]) -> list[str]:
        shown = []
        for line in lines:
            if found := _EXITED.search(line):
                self.exits[found[1]] += 1
                shown.append(f"[{found[1]}] ended by itself ({found[2].split(';')[0]}); it is started again")
            elif found := _GAVE_UP.search(line):
                shown.append(f"[{found[1]}] does not start; given up. See {self._directory}/{found[1]}.log")
            elif (found := _SPAWNED.search(line)) and self.exits[found[1]]:
                shown.append(f"[{found[1]}] started again as process {found[2]}")
        return shown
