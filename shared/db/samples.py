"""Writes many samples at once."""

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import StringIO
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg2 import errors, extensions
from sqlalchemy import Connection

_BATCH: Final = 2000
#: More than a batch, so that each is sent as one message.
_MESSAGE: Final = 1 << 20


class Sample(NamedTuple):
    """One cluster at one moment, in the order of the columns; ``None`` is not known, and so is an empty text.

    Shares are percent; ``seconds``: for how long the sample stands.
    """

    time: datetime
    cluster_id: UUID
    project_id: str
    cluster_name: str
    status: str | None = None
    health_status: str | None = None
    node_count: int | None = None
    master_count: int | None = None
    power_consumption_watts: float | None = None
    cost_per_hour: float | None = None
    source: str = "modelled"
    cpu_usage: float | None = None
    cpu_usage_peak: float | None = None
    gpu_usage: float | None = None
    gpu_usage_peak: float | None = None
    gpu_memory_used_gb: float | None = None
    gpu_temperature_celsius: float | None = None
    running_pods: int | None = None
    seconds: float | None = None


COLUMNS: Final = ", ".join(Sample._fields)


def add(connection: Connection, samples: Sequence[Sample]) -> int:
    """Add them; how many are new. A sample of a moment that the cluster has one of already is left out.

    They go straight into the table. Where one of them is there already, PostgreSQL takes back the whole COPY, and they go
    by a table of their own, which takes about twice as long; late samples are few.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute("SAVEPOINT samples")
        try:
            _copy(cursor, "cluster_metrics", samples)
        except errors.UniqueViolation:
            cursor.execute("ROLLBACK TO SAVEPOINT samples")
            cursor.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS new_samples (LIKE cluster_metrics INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
            )
            cursor.execute("TRUNCATE new_samples")
            _copy(cursor, "new_samples", samples)
            cursor.execute(
                f"INSERT INTO cluster_metrics ({COLUMNS}) SELECT {COLUMNS} FROM new_samples ORDER BY time, cluster_id"
                " ON CONFLICT DO NOTHING"
            )
        added = cursor.rowcount
        cursor.execute("RELEASE SAVEPOINT samples")
        return int(added)
    finally:
        cursor.close()


def _copy(cursor: extensions.cursor, table: str, samples: Sequence[Sample]) -> None:
    cursor.copy_expert(f"COPY {table} ({COLUMNS}) FROM STDIN WITH (FORMAT csv)", _Lines(samples), size=_MESSAGE)


class _Lines:
    """The samples as a file that is read while PostgreSQL takes in what was read before."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._batches = _batches(samples)

    def read(self, size: int) -> str:
        """A batch of lines; they are short enough for every ``size`` asked for here. Empty at the end."""
        del size
        return next(self._batches, "")


def _batches(samples: Sequence[Sample]) -> Iterator[str]:
    # To spell a moment or an id takes as long as the rest of a row, and both come again and again.
    moments: dict[datetime, str] = {}
    ids: dict[UUID, str] = {}
    rest: Iterator[Any] = iter(samples)
    while batch := list(islice(rest, _BATCH)):
        lines = StringIO()
        csv.writer(lines, lineterminator="\n").writerows(
            (
                moments.get(one[0]) or moments.setdefault(one[0], str(one[0])),
                ids.get(one[1]) or ids.setdefault(one[1], str(one[1])),
                *one[2:],
            )
            for one in batch
        )
        yield lines.getvalue()
