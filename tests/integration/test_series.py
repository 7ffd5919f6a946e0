"""Usage, metrics and costs: every second is counted once. The same tests run on TimescaleDB where TEST_TIMESCALE_URL names one."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from shared.bootstrap import SystemClock
from shared.db import migrate
from shared.db.engine import make_engine
from shared.db.samples import Sample
from shared.db.uow import Database
from shared.domain.jobs import JobKind
from shared.domain.metrics import FIELDS
from shared.errors import InvalidRequest
from shared.services.accelerators import AcceleratorService, load_catalogue
from shared.services.catalogs import Catalogs
from shared.services.metering import MeteringService
from tests.builders import PROJECT, REGION, a_cluster, a_flavor, a_job, an_actor, some_settings
from tests.fake_cloud import FakeCloud

RATE = {"flavor": "gpu.a100.large", "watts": 1000.0, "price_per_hour": 36.0}
DEFAULT = {"flavor": "", "watts": 100.0, "price_per_hour": 3.6}


@pytest.fixture(params=["postgres", "timescale"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgres":
        yield request.getfixturevalue("database_url")
        return
    base = make_url(request.getfixturevalue("timescale_url"))
    name = f"kcloud_test_{uuid4().hex[:8]}"
    server = create_engine(base, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    made = base.set(database=name).render_as_string(hide_password=False)
    migrate.upgrade(made)
    yield made
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    engine = make_engine(url)
    yield Database(engine)
    engine.dispose()


def now(database: Database) -> datetime:
    with database.begin() as uow:
        return uow.jobs.now()


def a_live_cluster(database: Database) -> UUID:
    cluster = a_cluster(f"c-{uuid4().hex[:8]}")
    database.acceptor.create(cluster, a_job(cluster_id=cluster.id), None)
    execute(database, "UPDATE clusters SET first_seen_at = now(), status = 'CREATE_COMPLETE' WHERE id = :id", id=cluster.id)
    return cluster.id


def execute(database: Database, statement: str, **values: Any) -> None:
    with database.begin() as uow:
        uow.connection.execute(text(statement), values)


def use(
    database: Database, cluster_id: UUID, nodes: int, at: datetime, *, role: str = "worker", flavor: str | None = "gpu.a100.large"
) -> None:
    row = {"cluster_id": cluster_id, "project_id": PROJECT, "region": REGION, "role": role, "flavor": flavor, "nodes": nodes}
    with database.begin() as uow:
        uow.usage.set([{**row, "node_group": f"default-{role}", "at": at}])


def node_seconds(database: Database, cluster_id: UUID, start: datetime, end: datetime) -> float:
    with database.begin() as uow:
        spans = uow.usage.between([cluster_id], start, end)
    return sum(span.nodes * (span.end - span.start).total_seconds() for span in spans)


# -- usage ------------------------------------------------------------------------------------------------------------------------


def test_usage_follows_the_node_count(database: Database) -> None:
    cluster, start = a_live_cluster(database), now(database) - timedelta(hours=2)
    use(database, cluster, 2, start)
    use(database, cluster, 2, start + timedelta(minutes=10))  # told again: nothing changes
    use(database, cluster, 5, start + timedelta(minutes=30))
    use(database, cluster, 0, start + timedelta(minutes=60))
    use(database, cluster, 1, start + timedelta(minutes=90))
    end = start + timedelta(minutes=100)
    assert node_seconds(database, cluster, start, end) == pytest.approx(60 * (2 * 30 + 5 * 30 + 0 * 30 + 1 * 10))


def test_windows_add_up_wherever_they_are_cut(database: Database) -> None:
    cluster, start = a_live_cluster(database), now(database) - timedelta(hours=3)
    for minute, nodes in ((0, 3), (17, 7), (44, 1), (95, 4)):
        use(database, cluster, nodes, start + timedelta(minutes=minute))
    end = start + timedelta(hours=2)
    cuts = [start + (end - start) * part / 13 for part in range(14)]
    parts = sum(node_seconds(database, cluster, a, b) for a, b in pairwise(cuts))
    assert parts == pytest.approx(node_seconds(database, cluster, start, end), abs=1e-3)


def test_usage_learnt_late_never_counts_a_second_twice(database: Database) -> None:
    cluster, start = a_live_cluster(database), now(database) - timedelta(hours=2)
    use(database, cluster, 2, start + timedelta(minutes=30))
    use(database, cluster, 4, start)  # dated before the interval it ends
    assert node_seconds(database, cluster, start, start + timedelta(minutes=40)) == pytest.approx(60 * 4 * 10)
    with database.begin() as uow:
        uow.usage.close([cluster])
    use(database, cluster, 1, start)  # and before one that was closed
    with database.begin() as uow:
        [opened] = uow.connection.execute(text("SELECT started_at FROM usage_intervals WHERE ended_at IS NULL")).scalars()
        ends = uow.connection.execute(text("SELECT max(ended_at) FROM usage_intervals")).scalar_one()
    assert opened == ends


def test_two_tellers_open_one_interval(database: Database) -> None:
    cluster, start = a_live_cluster(database), now(database) - timedelta(minutes=5)
    barrier = threading.Barrier(6)

    def tell(_: int) -> None:
        barrier.wait(10)
        use(database, cluster, 3, start)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, range(6)))
    with database.begin() as uow:
        assert uow.connection.execute(text("SELECT count(*) FROM usage_intervals")).scalar_one() == 1


def test_closing_ends_usage_once(database: Database) -> None:
    cluster = a_live_cluster(database)
    use(database, cluster, 3, now(database) - timedelta(minutes=5))
    use(database, cluster, 1, now(database) - timedelta(minutes=5), role="master")
    with database.begin() as uow:
        uow.usage.close([cluster])
    first = node_seconds(database, cluster, now(database) - timedelta(hours=1), now(database))
    with database.begin() as uow:
        uow.usage.close([cluster])
    assert node_seconds(database, cluster, now(database) - timedelta(hours=1), now(database)) == first


# -- the cost series ----------------------------------------------------------------------------------------------------------------


def roll(database: Database) -> int:
    with database.begin() as uow:
        return uow.series.roll_costs([RATE], DEFAULT, step_s=60)


def rewind(database: Database, seconds: float) -> None:
    """Put the last roll so far back, as an outage of beat would."""
    execute(database, "UPDATE series_state SET done_until = done_until - make_interval(secs => :s)", s=seconds)


def spans(database: Database) -> list[dict[str, Any]]:
    with database.begin() as uow:
        rows = uow.connection.execute(text("SELECT * FROM cluster_costs ORDER BY time, cluster_id, role")).mappings()
        return [dict(row) for row in rows]


def test_costs_continue_where_they_ended_whatever_the_outage(database: Database) -> None:
    cluster = a_live_cluster(database)
    assert roll(database) == 0  # the first call marks the beginning
    rewind(database, 7200)
    use(database, cluster, 2, now(database) - timedelta(seconds=7200))
    use(database, cluster, 4, now(database) - timedelta(seconds=1800))
    assert roll(database) == 1
    assert roll(database) == 0  # not a minute ago
    [span] = spans(database)
    assert span["node_seconds"] == pytest.approx(2 * 5400 + 4 * 1800, rel=1e-3)
    assert span["energy_kwh"] == pytest.approx(span["node_seconds"] * 1000.0 / 3.6e6)
    assert span["seconds"] == pytest.approx(7200, rel=1e-3)
    execute(database, "UPDATE series_state SET done_until = done_until - interval '90 s'")
    execute(database, "UPDATE cluster_costs SET time = time - interval '90 s'")
    execute(database, "UPDATE usage_intervals SET started_at = started_at - interval '90 s', ended_at = ended_at - interval '90 s'")
    assert roll(database) == 1
    before, after = spans(database)
    assert after["time"] == before["time"] + timedelta(seconds=before["seconds"])  # no gap, no double
    assert after["node_seconds"] == pytest.approx(4 * after["seconds"])


def test_two_beats_roll_each_span_once(database: Database) -> None:
    cluster = a_live_cluster(database)
    roll(database)
    rewind(database, 600)
    use(database, cluster, 1, now(database) - timedelta(seconds=600))
    barrier = threading.Barrier(6)

    def beat(_: int) -> int:
        barrier.wait(10)
        return roll(database)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(beat, range(6))) == [0, 0, 0, 0, 0, 1]
    assert spans(database)[0]["node_seconds"] == pytest.approx(600, rel=1e-2)


def test_roles_and_flavors_are_rated_by_themselves(database: Database) -> None:
    cluster = a_live_cluster(database)
    roll(database)
    rewind(database, 3600)
    start = now(database) - timedelta(seconds=3600)
    use(database, cluster, 3, start)
    use(database, cluster, 1, start, role="master", flavor="unheard-of")
    assert roll(database) == 2
    master, worker = spans(database)
    assert (master["role"], worker["role"]) == ("master", "worker")
    assert worker["energy_kwh"] == pytest.approx(3.0, rel=1e-2)
    assert master["energy_kwh"] == pytest.approx(0.1, rel=1e-2)


# -- the metric series ----------------------------------------------------------------------------------------------------------------


def test_samples_show_what_runs(database: Database) -> None:
    cluster, idle = a_live_cluster(database), a_live_cluster(database)
    use(database, cluster, 3, now(database))
    use(database, cluster, 1, now(database), role="master", flavor="cpu.large")
    with database.begin() as uow:
        assert uow.series.sample_metrics([RATE], DEFAULT) == 2
        assert uow.series.sample_metrics([RATE], DEFAULT) == 0  # the same second
    with database.begin() as uow:
        start, end = uow.jobs.now() - timedelta(minutes=2), uow.jobs.now() + timedelta(minutes=1)
        [point] = uow.metrics.of_cluster(cluster, start, end, 60, tuple(FIELDS))
        [nothing] = uow.metrics.of_cluster(idle, start, end, 60, tuple(FIELDS))
    assert point["power_consumption_watts"] == pytest.approx(3 * 1000 + 100)
    assert point["cost_per_hour"] == pytest.approx(3 * 36 + 3.6)
    assert (point["status"], point["source"], point["samples"]) == ("CREATE_COMPLETE", "modelled", 1)
    assert nothing["power_consumption_watts"] == 0


def test_samples_are_averaged_over_steps(database: Database) -> None:
    cluster = a_live_cluster(database)
    base = datetime(2026, 3, 1, tzinfo=UTC)
    for second, watts, status in ((0, 100, "A"), (10, 300, "B"), (60, 500, "C")):
        execute(
            database,
            "INSERT INTO cluster_metrics (time, cluster_id, project_id, cluster_name, status, power_consumption_watts, source)"
            " VALUES (:at, :id, 'p', 'n', :status, :watts, 'measured')",
            at=base + timedelta(seconds=second),
            id=cluster,
            status=status,
            watts=watts,
        )
    with database.begin() as uow:
        points = uow.metrics.of_cluster(cluster, base, base + timedelta(minutes=5), 60, tuple(FIELDS))
    assert [(point["time"], point["power_consumption_watts"], point["status"], point["samples"]) for point in points] == [
        (base, 200.0, "B", 2),
        (base + timedelta(minutes=1), 500.0, "C", 1),
    ]


def test_a_turn_is_taken_by_one_of_many(database: Database) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> bool:
        barrier.wait(10)
        with database.begin() as uow:
            return uow.series.turn("sample", every_s=30)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [False] * 7 + [True]
    rewind(database, 31)
    with database.begin() as uow:
        assert uow.series.turn("sample", every_s=30)


def test_old_samples_are_dropped(database: Database) -> None:
    cluster = a_live_cluster(database)
    for days in (1, 500):
        execute(
            database,
            "INSERT INTO cluster_metrics (time, cluster_id, project_id, cluster_name, source) VALUES"
            " (now() - make_interval(days => :d), :id, 'p', 'n', 'modelled')",
            d=days,
            id=cluster,
        )
    with database.begin() as uow:
        assert uow.metrics.forget_old(days=400) == 1


# -- how long things take -----------------------------------------------------------------------------------------------------------


def test_expected_durations_come_from_the_last_runs_and_need_three(database: Database) -> None:
    def add(seconds: float) -> None:
        execute(
            database,
            "INSERT INTO durations (region, kind, template_id, seconds, finished_at) VALUES (:r, 'create', 't', :s, now())",
            r=REGION,
            s=seconds,
        )

    add(10)
    add(20)
    with database.begin() as uow:
        assert uow.series.expected_s(REGION, JobKind.CREATE.value, "t") is None
        assert uow.series.expected_any_s(REGION, JobKind.CREATE.value) == 15
        assert uow.series.expected_any_s(REGION, JobKind.DELETE.value) is None
    add(30)
    with database.begin() as uow:
        assert uow.series.expected_s(REGION, JobKind.CREATE.value, "t") == pytest.approx((20.0, 28.0, 3))
        assert uow.series.expected_s(REGION, JobKind.CREATE.value, "other") is None


# -- money asked for ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def metering(url: str, database: Database) -> MeteringService:
    cloud = FakeCloud(SystemClock())
    cloud.flavors = [a_flavor("gpu.a100.large", vcpus=10, ram_mb=10240, accelerator__model="a100", accelerator__count="2")]
    catalogs = Catalogs(cloud, SystemClock(), 60.0)
    accelerators = AcceleratorService(load_catalogue(some_settings(url).placement), catalogs, region=REGION)
    return MeteringService(database, cloud, catalogs, accelerators, SystemClock(), region=REGION)


def test_windows_that_make_no_sense_are_refused(database: Database, metering: MeteringService) -> None:
    cluster, at = a_live_cluster(database), now(database)
    for start, end in ((at, at - timedelta(1)), (at, at)):
        with pytest.raises(InvalidRequest) as caught:
            metering.metrics(an_actor(), str(cluster), start=start, end=end, step_s=60)
        assert caught.value.errors[0].field == "start"
    with pytest.raises(InvalidRequest) as caught:
        metering.metrics(an_actor(), str(cluster), start=at - timedelta(days=300), end=at, step_s=1)
    assert caught.value.errors[0].field == "step"


def test_samples_price_each_node_by_its_own_flavor(database: Database, metering: MeteringService) -> None:
    cluster = a_live_cluster(database)
    row = {"cluster_id": cluster, "project_id": PROJECT, "region": REGION, "role": "worker", "at": now(database)}
    with database.begin() as uow:
        uow.usage.set(
            [
                {**row, "node_group": "default-worker", "flavor": "unheard-of", "nodes": 3},
                {**row, "node_group": "gpu", "flavor": "gpu.a100.large", "nodes": 2},
            ]
        )
    assert metering.sample(every_s=30) == 1
    with database.begin() as uow:
        [point] = uow.connection.execute(text("SELECT power_consumption_watts, cost_per_hour FROM cluster_metrics")).all()
    assert point.cost_per_hour == pytest.approx(3 * 0.36 + 2 * (10 * 0.05 + 10 * 0.01 + 2 * 2.0))
    assert point.power_consumption_watts == pytest.approx(3 * (50 + 30 + 8) + 2 * (50 + 75 + 5 + 2 * (60 + 170)))


def test_a_sample_stands_for_the_time_since_the_last_one_and_roll_ups_hold_its_energy(
    database: Database, metering: MeteringService
) -> None:
    cluster, start = a_live_cluster(database), now(database) - timedelta(days=2)
    use(database, cluster, 1, start)
    assert metering.sample(every_s=30) == 1  # nothing is known of the time before the first
    execute(database, "UPDATE series_state SET done_until = now() - interval '30 s'")
    execute(database, "UPDATE cluster_metrics SET time = time - interval '30 s'")
    assert metering.sample(every_s=30) == 1
    day = timedelta(days=1)
    [told] = metering.by_day(an_actor(), start=now(database) - timedelta(seconds=1), end=now(database) + day)["days"][-1:]
    found = metering.metrics(an_actor(), str(cluster), start=now(database) - day, end=now(database) + day, step_s=86_400)
    points = found["points"]
    watts = points[-1]["power_consumption_watts"]
    assert watts > 0
    assert sum(point["energy_kwh"] or 0 for point in points) == pytest.approx(watts * 30 / 3.6e6, rel=1e-2)
    assert told["energy_kwh"] == pytest.approx(watts * 30 / 3.6e6, rel=1e-2)


def test_beat_works_off_marked_hours_within_its_budget(database: Database, metering: MeteringService) -> None:
    old = now(database) - timedelta(days=3)
    with database.begin() as uow:
        uow.series.add_samples([Sample(old + timedelta(hours=hour), uuid4(), PROJECT, "c") for hour in range(9)])
        timescale = uow.connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first()
    assert metering.roll_metrics(budget_s=0) == 0
    assert metering.roll_metrics(budget_s=15) == (0 if timescale else 9)  # TimescaleDB has jobs of its own for that
    assert metering.roll_metrics(budget_s=15) == 0
    days = metering.by_day(an_actor(), start=None, end=None)["days"]
    assert sum(day["samples"] for day in days) == 9


def test_sampling_by_two_beats_makes_one_sample(database: Database, metering: MeteringService) -> None:
    a_live_cluster(database)
    assert [metering.sample(every_s=30), metering.sample(every_s=30)] == [1, 0]


def test_hypertables_where_timescale_is(url: str, database: Database) -> None:
    with database.begin() as uow:
        has = uow.connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first() is not None
        assert has == ("kcloud_test_" in url)
        if has:
            names = uow.connection.execute(text("SELECT hypertable_name FROM timescaledb_information.hypertables")).scalars()
            assert set(names) == {"cluster_metrics", "cluster_costs"}
            jobs = uow.connection.execute(
                text(
                    "SELECT coalesce(a.view_name, j.hypertable_name), j.proc_name FROM timescaledb_information.jobs j"
                    " LEFT JOIN timescaledb_information.continuous_aggregates a"
                    " ON a.materialization_hypertable_name = j.hypertable_name WHERE j.hypertable_name IS NOT NULL"
                )
            )
            assert {tuple(row) for row in jobs} == {
                ("cluster_metrics", "policy_compression"),
                ("cluster_metrics_hourly", "policy_refresh_continuous_aggregate"),
                ("cluster_metrics_daily", "policy_refresh_continuous_aggregate"),
                ("project_metrics_daily", "policy_refresh_continuous_aggregate"),
            }
    migrate.check(url)
