"""Objects that survive a restart: documents written through to SQLite, read back at the start."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class Store:
    """Documents by kind and id. Without a folder nothing is kept.

    ``synchronous=OFF`` gives durability against a killed process, which is what restarts here mean, not against a power cut.
    """

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(folder / "simulator.sqlite", check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS documents (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID"
            )

    @property
    def keeps(self) -> bool:
        """Whether what is put is kept, so that it is worth being written out."""
        return self._connection is not None

    def put(self, kind: str, key: str, body: Any) -> None:
        """Keep or replace one document."""
        self.put_all(kind, [(key, body)])

    def put_all(self, kind: str, items: Iterable[tuple[str, Any]]) -> None:
        """Keep or replace many, in one transaction."""
        if self._connection is None:
            return
        rows = [(kind, key, json.dumps(body)) for key, body in items]
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")

    def drop(self, kind: str, key: str) -> None:
        """Forget one."""
        if self._connection is not None:
            with self._lock:
                self._connection.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, key))

    def all(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Every document of a kind."""
        if self._connection is None:
            return
        with self._lock:
            rows = self._connection.execute("SELECT id, body FROM documents WHERE kind = ?", (kind,)).fetchall()
        for key, body in rows:
            yield key, json.loads(body)

    def clear(self) -> None:
        """Forget everything."""
        if self._connection is not None:
            with self._lock:
                self._connection.execute("DELETE FROM documents")

    def close(self) -> None:
        """Release the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
