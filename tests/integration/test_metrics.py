"""Samples and their roll-ups: the same numbers whichever way they are read, wherever samples come from and however late.

The same tests run on TimescaleDB where TEST_TIMESCALE_URL names one.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from math import isclose
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from shared.db import migrate
from shared.db.engine import make_engine
from shared.db.samples import Sample
from shared.db.uow import Database
from shared.domain.metrics import FIELDS

BASE = datetime(2026, 3, 1, tzinfo=UTC)
CLUSTERS = [UUID(int=number) for number in (1, 2, 3)]
ALL = tuple(FIELDS)


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgres":
        yield request.getfixturevalue("module_database_url")
        return
    base = make_url(request.getfixturevalue("timescale_url"))
    name = f"kcloud_test_{uuid4().hex[:8]}"
    server = create_engine(base, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    made = base.set(database=name).render_as_string(hide_password=False)
    migrate.upgrade(made)
    engine = create_engine(made, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # the tests refresh when they want to, and two refreshes at once refuse each other
        connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
    yield made
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def engine_database(url: str) -> Iterator[Database]:
    engine = make_engine(url)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def database(engine_database: Database) -> Database:
    wipe(engine_database)
    return engine_database


def on_timescale(database: Database) -> bool:
    with database.begin() as uow:
        return uow.connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first() is not None


def wipe(database: Database) -> None:
    tables = (
        "cluster_metrics"
        if on_timescale(database)
        else "cluster_metrics, metrics_by_hour, metrics_by_day, metrics_by_project_day, metric_changes"
    )
    with database.begin() as uow:
        uow.connection.execute(text(f"TRUNCATE {tables}"))
    if on_timescale(database):
        roll(database)


def roll(database: Database) -> None:
    """What beat does, or TimescaleDB's job."""
    if on_timescale(database):
        with database.single() as uow:
            for name in ("cluster_metrics_hourly", "cluster_metrics_daily", "project_metrics_daily"):
                uow.connection.execute(text(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)"))
        return
    while True:
        with database.begin() as uow:
            if not uow.metrics.roll():
                return


def add(database: Database, samples: Sequence[Sample]) -> int:
    with database.begin() as uow:
        return uow.series.add_samples(samples)


def a_sample(minute: float, cluster: UUID = CLUSTERS[0], **values: Any) -> Sample:
    usual = {"project_id": "p", "cluster_name": "c", "seconds": 60.0}
    return Sample(time=BASE + timedelta(minutes=minute), cluster_id=cluster, **{**usual, **values})


def points(
    database: Database, start: datetime, end: datetime, step_s: float, fields: Sequence[str] = ALL, cluster: UUID = CLUSTERS[0]
) -> list[dict[str, Any]]:
    with database.single() as uow:
        return uow.metrics.of_cluster(cluster, start, end, step_s, fields)


def expected(samples: Sequence[Sample], cluster: UUID, start: datetime, end: datetime, step_s: int) -> list[dict[str, Any]]:
    """The same from the samples themselves, in Python."""
    steps: dict[int, list[Sample]] = {}
    for one in samples:
        if one.cluster_id == cluster and start <= one.time < end:
            steps.setdefault(int(one.time.timestamp() // step_s * step_s), []).append(one)

    def mean(values: list[Any]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    found = []
    for at, rows in sorted(steps.items()):
        watts = [one.power_consumption_watts for one in rows if one.power_consumption_watts is not None]
        energy = [
            one.power_consumption_watts * one.seconds
            for one in rows
            if one.power_consumption_watts is not None and one.seconds is not None
        ]
        found.append(
            {
                "time": datetime.fromtimestamp(at, UTC),
                "status": max(rows, key=lambda one: one.time).status,
                "node_count": mean([one.node_count for one in rows]),
                "power_consumption_watts": mean(watts),
                "power_watts_min": min(watts, default=None),
                "power_watts_max": max(watts, default=None),
                "energy_kwh": sum(energy) / 3.6e6 if energy else None,
                "source": min(one.source for one in rows),
                "samples": len(rows),
            }
        )
    return found


def days_of_projects(database: Database) -> list[dict[str, Any]]:
    with database.single() as uow:
        rows = uow.metrics.by_project(["p", "q"], BASE, BASE + timedelta(days=4))
    names = ("project_id", "clusters", "samples", "power_consumption_watts", "power_watts_max", "energy_kwh")
    return [{"time": row["day"], **{name: row[name] for name in names}} for row in rows]


def expected_days(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """The same from the samples themselves."""
    days: dict[tuple[str, datetime], list[Sample]] = {}
    for one in samples:
        days.setdefault((one.project_id, one.time.replace(hour=0, minute=0)), []).append(one)
    found = []
    for (project, day), rows in sorted(days.items()):
        watts = [one.power_consumption_watts for one in rows if one.power_consumption_watts is not None]
        joules = [
            one.power_consumption_watts * one.seconds
            for one in rows
            if one.power_consumption_watts is not None and one.seconds is not None
        ]
        found.append(
            {
                "time": day,
                "project_id": project,
                "clusters": len({one.cluster_id for one in rows}),
                "samples": len(rows),
                "power_consumption_watts": sum(watts) / len(watts) if watts else None,
                "power_watts_max": max(watts, default=None),
                "energy_kwh": sum(joules) / 3.6e6 if joules else None,
            }
        )
    return found


def assert_same(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> None:
    assert [row["time"] for row in found] == [row["time"] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert isclose(one[name], value, rel_tol=1e-12), (name, one[name], value)
            else:
                assert one[name] == value, (name, one, other)


_SAMPLES = st.lists(
    st.builds(
        a_sample,
        minute=st.integers(0, 4 * 24 * 60 - 1),
        cluster=st.sampled_from(CLUSTERS),
        project_id=st.sampled_from(["p", "q"]),
        node_count=st.none() | st.integers(0, 1000),
        power_consumption_watts=st.none() | st.floats(0, 1e6, allow_subnormal=False),
        seconds=st.none() | st.floats(1, 120),
        status=st.none() | st.sampled_from(["CREATE_COMPLETE", "UPDATE_IN_PROGRESS", 'odd, "quoted"\ntext']),
        source=st.sampled_from(["measured", "mixed", "modelled"]),
    ),
    max_size=40,
    unique_by=lambda one: (one.time, one.cluster_id),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(_SAMPLES, min_size=1, max_size=3),
    rolls=st.lists(st.integers(0, 2), min_size=3, max_size=3),
    edges=st.tuples(st.integers(0, 4 * 24 * 60), st.integers(0, 4 * 24 * 60)).map(sorted),
    step=st.sampled_from([60, 900, 3600, 7200, 5400, 86_400, 2 * 86_400]),
)
def test_any_history_late_repeated_or_rolled_at_any_time_reads_as_its_samples(
    database: Database, batches: list[list[Sample]], rolls: list[int], edges: list[int], step: int
) -> None:
    wipe(database)
    known: dict[tuple[datetime, UUID], Sample] = {}
    for batch, times in zip(batches, rolls, strict=False):
        fresh = [one for one in batch if (one.time, one.cluster_id) not in known]
        assert add(database, batch) == len(fresh)
        assert add(database, batch) == 0  # told again
        known |= {(one.time, one.cluster_id): one for one in fresh}
        for _ in range(times):
            roll(database)
    if on_timescale(database):
        roll(database)  # late samples are seen after its next refresh; on a plain PostgreSQL at once
    start, end = (BASE + timedelta(minutes=edge) for edge in edges)
    for cluster in CLUSTERS:
        wanted = expected(list(known.values()), cluster, start, end, step)
        assert_same(points(database, start, end, step, cluster=cluster), wanted)
    assert_same(days_of_projects(database), expected_days(known.values()))
    roll(database)
    for cluster in CLUSTERS:
        wanted = expected(list(known.values()), cluster, start, end, step)
        assert_same(points(database, start, end, step, cluster=cluster), wanted)
    assert_same(days_of_projects(database), expected_days(known.values()))


def test_roll_ups_hold_each_figure_as_the_samples_do(database: Database) -> None:
    figures: dict[str, Any] = {
        "health_status": "HEALTHY",
        "master_count": 3,
        "cost_per_hour": 7.5,
        "cpu_usage": 40.0,
        "cpu_usage_peak": 90.0,
        "gpu_usage": 60.0,
        "gpu_usage_peak": 99.0,
        "gpu_memory_used_gb": 31.5,
        "gpu_temperature_celsius": 71.0,
        "running_pods": 12,
    }
    add(database, [a_sample(minute, **figures) for minute in range(0, 2 * 24 * 60, 7)])
    roll(database)
    for step in (3600, 86_400):
        assert step == 3600 or len(points(database, BASE, BASE + timedelta(days=2), step)) == 2
        for point in points(database, BASE, BASE + timedelta(days=2), step):
            assert {name: point[name] for name in figures} == figures


def test_fields_are_those_that_were_asked_for(database: Database) -> None:
    add(database, [a_sample(0, power_consumption_watts=100.0)])
    [point] = points(database, BASE, BASE + timedelta(hours=1), 60, ("energy_kwh", "samples"))
    assert point == {"time": BASE, "energy_kwh": pytest.approx(100 * 60 / 3.6e6), "samples": 1}


def test_days_of_projects_are_told_apart(database: Database) -> None:
    rows = [a_sample(minute, CLUSTERS[0], power_consumption_watts=100.0) for minute in range(2 * 24 * 60)]
    rows += [a_sample(minute, CLUSTERS[1], power_consumption_watts=300.0) for minute in range(24 * 60)]
    rows += [a_sample(minute, CLUSTERS[2], project_id="q", power_consumption_watts=5.0) for minute in range(60)]
    add(database, rows)
    for rolled in (False, True):
        if rolled or on_timescale(database):
            roll(database)
        with database.single() as uow:
            first, second, other = uow.metrics.by_project(["p", "q", "none"], BASE, BASE + timedelta(days=9))
            assert uow.metrics.by_project(["q"], BASE, BASE + timedelta(days=9)) == [other]
        assert (first["day"], first["clusters"], first["samples"]) == (BASE, 2, 2 * 24 * 60)
        assert first["energy_kwh"] == pytest.approx(24 * 0.4)
        assert (first["power_consumption_watts"], first["power_watts_max"]) == (200.0, 300.0)
        assert (second["project_id"], second["clusters"], second["energy_kwh"]) == ("p", 1, pytest.approx(24 * 0.1))
        assert (other["project_id"], other["samples"], other["energy_kwh"]) == ("q", 60, pytest.approx(0.005))


def test_writers_and_rollers_at_once_lose_nothing(database: Database) -> None:
    if on_timescale(database):
        pytest.skip("TimescaleDB refreshes its aggregates itself.")
    barrier = threading.Barrier(6)

    def write(number: int) -> None:
        barrier.wait(10)
        for minute in range(20):
            add(database, [a_sample(minute * 6 + number, power_consumption_watts=1.0)])

    def keep(_: int) -> None:
        barrier.wait(10)
        for _turn in range(20):
            with database.begin() as uow:
                uow.metrics.roll()

    with ThreadPoolExecutor(6) as pool:
        for done in [*(pool.submit(write, number) for number in range(3)), *(pool.submit(keep, number) for number in range(3))]:
            done.result(60)
    roll(database)
    found = points(database, BASE, BASE + timedelta(hours=2), 3600)
    assert sum(point["samples"] for point in found) == 60
    with database.single() as uow:
        assert uow.connection.execute(text("SELECT sum(samples) FROM metrics_by_day")).scalar_one() == 60
        assert uow.connection.execute(text("SELECT count(*) FROM metric_changes")).scalar_one() == 0


def test_the_present_hour_is_read_from_its_samples(database: Database) -> None:
    if on_timescale(database):
        pytest.skip("TimescaleDB keeps its own account of what is not refreshed.")
    add(database, [a_sample(0), a_sample(59)])
    with database.begin() as uow:
        assert uow.metrics.roll(now=BASE + timedelta(minutes=59)) == 0
        assert uow.metrics.roll(now=BASE + timedelta(minutes=60)) == 1
        assert uow.metrics.roll(now=BASE + timedelta(minutes=60)) == 0


def test_a_sample_without_a_project_is_refused_and_none_of_its_batch_stays(database: Database) -> None:
    with pytest.raises(Exception, match="project_id"):
        add(database, [a_sample(0), a_sample(1, project_id=None)])
    assert add(database, [a_sample(0)]) == 1


def test_old_days_go_from_samples_and_roll_ups(database: Database) -> None:
    with database.begin() as uow:
        now = uow.jobs.now()
    old, young = now - timedelta(days=30), now - timedelta(days=2)
    add(database, [a_sample(0)._replace(time=old), a_sample(0)._replace(time=young)])
    roll(database)
    with database.begin() as uow:
        assert uow.metrics.forget_old(days=10) >= 1
    begin = now - timedelta(days=40)
    for step in (60, 3600, 86_400):
        assert len(points(database, begin, now, step)) == 1
    with database.single() as uow:
        assert len(uow.metrics.by_project(["p"], begin, now)) == 1


def test_the_migration_goes_down_and_up_with_samples_inside(url: str, database: Database) -> None:
    rows = [
        a_sample(minute, cluster, power_consumption_watts=float(minute)) for minute in range(0, 3000, 10) for cluster in CLUSTERS
    ]
    add(database, rows)
    roll(database)
    if on_timescale(database):
        with database.single() as uow:
            uow.connection.execute(text("SELECT compress_chunk(c) FROM show_chunks('cluster_metrics') c"))
    end = BASE + timedelta(days=3)
    before = [points(database, BASE, end, step, cluster=cluster) for step in (60, 3600, 86_400) for cluster in CLUSTERS]
    days = days_of_projects(database)
    migrate.downgrade(url, "0014")
    migrate.upgrade(url)
    if on_timescale(database):
        with database.single() as uow:
            uow.connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
    for _ in range(2):
        assert_same(days_of_projects(database), days)
        roll(database)
    migrate.downgrade(url, "0012")
    with database.single() as uow:
        assert uow.connection.execute(text("SELECT count(*) FROM cluster_metrics")).scalar_one() == len(rows)
    migrate.upgrade(url)
    if on_timescale(database):
        with database.single() as uow:
            uow.connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
    with database.single() as uow:
        # The column came with the step that was taken back, so that energy is no longer known.
        assert uow.connection.execute(text("SELECT count(seconds) FROM cluster_metrics")).scalar_one() == 0
    for _ in range(2):  # before old hours are rolled, and after
        after = [points(database, BASE, end, step, cluster=cluster) for step in (60, 3600, 86_400) for cluster in CLUSTERS]
        for one, other in zip(before, after, strict=True):
            assert_same(other, [{**row, "energy_kwh": None} for row in one])
        roll(database)


def test_old_samples_stay_compressed_and_late_ones_still_come(database: Database) -> None:
    if not on_timescale(database):
        pytest.skip("Only TimescaleDB compresses.")
    add(database, [a_sample(minute, power_consumption_watts=10.0) for minute in range(100)])
    with database.single() as uow:
        assert uow.connection.execute(text("SELECT compress_chunk(c) FROM show_chunks('cluster_metrics') c")).all()
    assert add(database, [a_sample(5), a_sample(200, power_consumption_watts=10.0)]) == 1
    roll(database)
    found = points(database, BASE, BASE + timedelta(days=1), 86_400)
    assert [(point["samples"], point["power_consumption_watts"]) for point in found] == [(101, 10.0)]
