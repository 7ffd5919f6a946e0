"""The metric series: rows a second into it through our code and by psql's COPY, a sweep over 10,000 clusters, and questions to it as it grows.

On a plain PostgreSQL of the wheels, and on TimescaleDB where TEST_TIMESCALE_URL names one. Growth ends where the disk would be short,
or at SERIES_DAYS days (a day of 1,000 clusters is 1.44 million rows).
"""

import csv
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from deployment.local.embedded import EmbeddedPostgres
from deployment.local.environment import ROOT
from shared.db import migrate
from shared.db.engine import make_engine
from shared.db.samples import COLUMNS, Sample
from shared.db.uow import Database
from shared.domain.metrics import FIELDS

PLOT: Final = ROOT / "docs" / "series.svg"
#: Days of 1,000 clusters at one-minute steps.
SIZES: Final = (1, 7, 30, 70)
ROWS_A_DAY: Final = 1_440_000
_BYTES_A_ROW: Final = 260  # with its two indexes, on a plain PostgreSQL
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PROJECTS: Final = [f"project-{number}" for number in range(50)]
#: A server of its own is usually given a quarter of the memory; the default is a laptop's.
_BUFFERS: Final = "2GB"
_INGEST: Final = 500_000
_BATCH: Final = 50_000
_SWEPT: Final = 10_000
_ASKED: Final = 100
_RATE: Final = {"flavor": "gpu", "watts": 900.0, "price_per_hour": 3.0}

_DAY: Final = f"""
INSERT INTO cluster_metrics ({", ".join(Sample._fields[:11])}, seconds)
SELECT CAST(:day AS timestamptz) + m * interval '1 minute', CAST(lpad(to_hex(c), 32, '0') AS uuid), 'project-' || c % 50,
    'cluster-' || c, 'CREATE_COMPLETE', 'HEALTHY', 3 + c % 5, 1, 300 + (c * 7919 + m * 104729) % 700, 2.5, 'modelled', 60
FROM generate_series(0, 1439) m, generate_series(1, 1000) c ORDER BY m, c
"""  # noqa: S608  # names of columns
_FROM_SAMPLES = (
    "SELECT project_id, date_trunc('day', time, 'UTC'), count(*), avg(power_consumption_watts), sum(power_consumption_watts * seconds)"
    " FROM cluster_metrics WHERE time >= :first GROUP BY 1, 2"
)


def measure() -> dict[str, Any]:
    """Figures by name, and the plot."""
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="kcloud-series-") as home,
        EmbeddedPostgres(Path(home) / "postgres", shared_buffers=_BUFFERS) as server,
    ):
        found["PostgreSQL"] = _on(server.url("postgres"))
    other = os.environ.get("TEST_TIMESCALE_URL")
    if other:
        found["TimescaleDB"] = _on(other)
    else:
        sys.stderr.write("TimescaleDB is left out: TEST_TIMESCALE_URL is not set.\n")
    _plot(found)
    return {"servers": found}


def _on(server: str) -> dict[str, Any]:
    with _database(server) as (url, database):
        ingest = _ingest(url, database)
        sweep = _sweep(database)
    with _database(server) as (_, database):
        with database.single() as uow:
            buffers = uow.connection.execute(text("SHOW shared_buffers")).scalar_one()
        return {"ingest": ingest, "sweep": sweep, "shared_buffers": buffers, "growth": list(_growth(database))}


@contextmanager
def _database(server: str) -> Iterator[tuple[str, Database]]:
    name = f"kcloud_bench_{os.getpid()}"
    base = create_engine(make_url(server), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with base.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    migrate.upgrade(url)
    engine = make_engine(url)
    try:
        yield url, Database(engine)
    finally:
        engine.dispose()
        with base.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


# -- in -----------------------------------------------------------------------------------------------------------------------------


def _ingest(url: str, database: Database) -> dict[str, Any]:
    samples = [
        Sample(
            _BEGIN + timedelta(minutes=minute),
            UUID(int=cluster + 1),
            f"project-{cluster % 50}",
            f"cluster-{cluster}",
            "CREATE_COMPLETE",
            "HEALTHY",
            3,
            1,
            300.5 + (cluster * 7919 + minute * 104729) % 700,
            2.5,
            seconds=60.0,
        )
        for minute in range(_INGEST // 1000)
        for cluster in range(1000)
    ]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="kcloud-copy-") as folder:
        file = Path(folder) / "samples.csv"
        with file.open("w", encoding="utf-8", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerows(samples)
        for _ in range(3):
            _empty(database)
            theirs.append(_INGEST / _timed(lambda: _psql(url, file)))
            _empty(database)
            ours.append(_INGEST / _timed(lambda: _add(database, samples)))
    late = _BATCH / _timed(lambda: _add(database, [*samples[: _BATCH - 1], samples[0]._replace(time=_BEGIN - timedelta(days=1))]))
    _empty(database)
    return {
        "rows": _INGEST,
        "batch": _BATCH,
        "ours_per_s": round(median(ours)),
        "copy_per_s": round(median(theirs)),
        "share": round(median(one / other for one, other in zip(ours, theirs, strict=True)), 3),
        "repeated_per_s": round(late),
    }


def _add(database: Database, samples: list[Sample]) -> None:
    for begin in range(0, len(samples), _BATCH):
        with database.begin() as uow:
            uow.series.add_samples(samples[begin : begin + _BATCH])


def _psql(url: str, file: Path) -> None:
    program = shutil.which("psql")
    if program is None:
        msg = "psql is not installed."
        raise RuntimeError(msg)
    address = url.replace("+psycopg2", "", 1)
    copy = f"\\copy cluster_metrics ({COLUMNS}) FROM '{file}' WITH (FORMAT csv)"
    subprocess.run([program, "-q", "-v", "ON_ERROR_STOP=1", "-d", address, "-c", copy], check=True)


def _empty(database: Database) -> None:
    with database.begin() as uow:
        uow.connection.execute(text("TRUNCATE cluster_metrics"))


def _sweep(database: Database) -> dict[str, Any]:
    with database.begin() as uow:
        uow.connection.execute(
            text(
                "INSERT INTO clusters (id, project_id, region, name, template_id, node_count, master_count, phase, status,"
                " observed_node_count, observed_master_count, first_seen_at)"
                " SELECT CAST(lpad(to_hex(c), 32, '0') AS uuid), 'project-' || c % 50, 'r', 'cluster-' || c, 't', 3, 1, 'Ready',"
                " 'CREATE_COMPLETE', 3, 1, now() FROM generate_series(1, :many) c"
            ),
            {"many": _SWEPT},
        )
        for role in ("worker", "master"):
            uow.connection.execute(
                text(
                    "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, flavor, node_count, started_at)"
                    " SELECT id, project_id, region, :role, 'default-' || :role, 'gpu', 3, now() FROM clusters"
                ),
                {"role": role},
            )
        uow.connection.execute(
            text("INSERT INTO telemetry_latest (cluster_id, at, watts, measured_watts) SELECT id, now(), 900, 900 FROM clusters")
        )
    seconds = []
    for _ in range(5):
        with database.begin() as uow:
            began = time.perf_counter()
            made = uow.series.sample_metrics([_RATE], _RATE, lasts_s=30.0)
        seconds.append(time.perf_counter() - began)
        if made != _SWEPT:
            msg = f"A sweep made {made} samples of {_SWEPT} clusters."
            raise RuntimeError(msg)
        time.sleep(1.1)  # samples are a second apart at the least
    return {"clusters": _SWEPT, "p50_s": round(median(seconds), 2), "worst_s": round(max(seconds), 2)}


# -- out ----------------------------------------------------------------------------------------------------------------------------


def _growth(database: Database) -> Iterator[dict[str, Any]]:
    days = 0
    gc.collect()
    gc.freeze()  # as api/gunicorn.py does
    chance = np.random.default_rng(1)
    for size in SIZES:
        if size > int(os.environ.get("SERIES_DAYS", str(SIZES[-1]))):
            sys.stderr.write(f"{size} days are left out: SERIES_DAYS.\n")
            return
        needed = (size - days) * ROWS_A_DAY * _BYTES_A_ROW * 1.5
        if shutil.disk_usage(tempfile.gettempdir()).free < needed:
            sys.stderr.write(f"{size} days are left out: {needed / 1e9:.0f} GB are needed for them.\n")
            return
        _fill(database, range(days, size))
        rolling = _timed(lambda: _roll(database))
        days = size
        end = _BEGIN + timedelta(days=size)
        first = max(_BEGIN, end - timedelta(days=30))
        by_day = [_timed(partial(_by_project, database, first, end)) for _ in range(_ASKED)]
        asked = [UUID(int=int(number)) for number in chance.integers(1, 1001, 2 * _ASKED)]
        last_day = [_timed(partial(_last_day, database, cluster, end)) for cluster in asked]
        plain = _timed(partial(_from_samples, database, first))
        yield {
            "rows": size * ROWS_A_DAY,
            "by_day_p50_ms": _ms(by_day, 0.5),
            "by_day_p99_ms": _ms(by_day, 0.99),
            "from_samples_ms": round(plain * 1000),
            "last_day_p50_ms": _ms(last_day[_ASKED:], 0.5),  # the first hundred fill the caches
            "last_day_p99_ms": _ms(last_day[_ASKED:], 0.99),
            "last_day_cold_p99_ms": _ms(last_day[:_ASKED], 0.99),
            "rolled_s": round(rolling, 1),
        }


def _fill(database: Database, days: range) -> None:
    plain = not _on_timescale(database)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        if plain:  # a month is written ten times faster without them
            connection.execute(text("ALTER TABLE cluster_metrics DROP CONSTRAINT pk_cluster_metrics"))
            connection.execute(text("DROP INDEX ix_cluster_metrics_cluster_time"))
        for day in days:
            connection.execute(text(_DAY), {"day": _BEGIN + timedelta(days=day)})
        if plain:
            connection.execute(text("SET maintenance_work_mem = '512MB'"))
            connection.execute(text("ALTER TABLE cluster_metrics ADD CONSTRAINT pk_cluster_metrics PRIMARY KEY (time, cluster_id)"))
            connection.execute(text("CREATE INDEX ix_cluster_metrics_cluster_time ON cluster_metrics (cluster_id, time)"))


def _roll(database: Database) -> None:
    """What beat does hour by hour, or TimescaleDB's jobs."""
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        if _on_timescale(database):
            connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
            for name in ("cluster_metrics_hourly", "cluster_metrics_daily", "project_metrics_daily"):
                connection.execute(text(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)"))
            newest = connection.execute(text("SELECT max(time) FROM cluster_metrics")).scalar_one()
            connection.execute(
                text(
                    "SELECT compress_chunk(c, if_not_compressed => true) FROM"
                    " show_chunks('cluster_metrics', older_than => CAST(:limit AS timestamptz)) c"
                ),
                {"limit": newest - timedelta(days=7)},
            )
        else:
            more = 1
            while more:
                with database.begin() as uow:
                    more = uow.metrics.roll(now=_BEGIN + timedelta(days=1000))
        connection.execute(text("VACUUM ANALYZE"))


def _by_project(database: Database, first: datetime, end: datetime) -> None:
    with database.single() as uow:
        rows = uow.metrics.by_project(_PROJECTS, first, end)
    if len(rows) != len(_PROJECTS) * (end - first).days:
        msg = f"{len(rows)} rows of projects and days."
        raise RuntimeError(msg)


def _from_samples(database: Database, first: datetime) -> None:
    with database.engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(_FROM_SAMPLES), {"first": first}).all()


def _last_day(database: Database, cluster: UUID, end: datetime) -> None:
    with database.single() as uow:
        rows = uow.metrics.of_cluster(cluster, end - timedelta(days=1), end, 60, tuple(FIELDS))
    if len(rows) != 1440:
        msg = f"{len(rows)} steps of a day."
        raise RuntimeError(msg)


def _on_timescale(database: Database) -> bool:
    with database.single() as uow:
        return uow.connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first() is not None


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ms(seconds: list[float], part: float) -> float:
    return round(float(np.quantile(seconds, part)) * 1000, 1)


def _plot(found: dict[str, Any]) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for server, style in zip(found, ("o-", "s--"), strict=False):
        growth = found[server]["growth"]
        for key, label in (
            ("by_day_p99_ms", "a month by project and day, p99"),
            ("last_day_p99_ms", "a cluster's last day by minutes, p99"),
            ("from_samples_ms", "the month from its samples"),
        ):
            axes.loglog([row["rows"] for row in growth], [row[key] for row in growth], style, label=f"{server}: {label}")
    axes.set_xlabel("samples in the series")
    axes.set_ylabel("milliseconds")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "kcloud"
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
    plt.close(figure)
