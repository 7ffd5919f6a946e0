"""Costs against independent sums: of any window, under any rate cards, whenever the cards were given."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from shared.bootstrap import SystemClock
from shared.db.engine import make_engine
from shared.db.uow import Database
from shared.domain.costing import PARTS
from shared.errors import InvalidRequest, NotFound
from shared.services.accelerators import AcceleratorService, load_catalogue
from shared.services.catalogs import Catalogs
from shared.services.costs import CostService
from shared.services.rates import RateService
from tests.builders import OTHER_PROJECT, PROJECT, REGION, a_cluster, a_flavor, a_job, an_actor, some_settings
from tests.clocks import ManualClock
from tests.fake_cloud import FakeCloud

START = datetime(2026, 2, 27, 18, tzinfo=UTC)  # so that windows cross days and a month's end
SLOT = timedelta(minutes=15)
SLOTS = 400
NODE_HOUR = {"gpu.a100.large": Decimal("4.6"), "cpu.large": Decimal("1.44"), None: Decimal("0.36")}
#: 10 cores, 10 GB and two A100; 16 cores and 64 GB; 4 cores and 16 GB.
WATTS = {"gpu.a100.large": Fraction(590), "cpu.large": Fraction(202), None: Fraction(88)}


@dataclass
class Costs:
    """The services, and what they stand on."""

    database: Database
    clock: ManualClock
    costs: CostService
    rates: RateService

    def cluster(self, **changes: Any) -> UUID:
        cluster = a_cluster(f"c-{uuid4().hex[:8]}", created_at=START, **changes)
        self.database.acceptor.create(cluster, a_job(cluster_id=cluster.id, project_id=cluster.project_id), None)
        return cluster.id

    def use(self, cluster: UUID, group: str, flavor: str | None, slot: int, end: int | None, nodes: int = 1) -> None:
        role = "master" if group == "default-master" else "worker"
        with self.database.begin() as uow:
            uow.connection.execute(
                text(
                    "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, flavor, node_count, started_at,"
                    " ended_at) SELECT id, project_id, region, :role, :group, :flavor, :nodes, :start, :end FROM clusters WHERE id = :id"
                ),
                {
                    "id": cluster,
                    "role": role,
                    "group": group,
                    "flavor": flavor,
                    "nodes": nodes,
                    "start": at(slot),
                    "end": None if end is None else at(end),
                },
            )

    def place(self, cluster: UUID, workload: str, slot: int, end: int | None, *, node: int = 0, **sizes: int) -> None:
        values = {"cpu_milli": 0, "memory_mib": 0, "accelerators": 0, "share_milli": 1000} | sizes
        with self.database.begin() as uow:
            uow.connection.execute(
                text(
                    "INSERT INTO placements (id, request_id, project_id, region, cluster_id, node_group, node, workload, cpu_milli,"
                    " memory_mib, accelerators, share_milli, devices, created_at, ended_at, end_reason) SELECT gen_random_uuid(), gen_random_uuid(),"
                    " project_id, region, id, 'default-worker', :node, :workload, :cpu_milli, :memory_mib, :accelerators,"
                    " :share_milli, (SELECT coalesce(jsonb_agg(n), '[]') FROM generate_series(1, :accelerators) n), :start, :end, :reason FROM clusters WHERE id = :id"
                ),
                values
                | {
                    "id": cluster,
                    "node": node,
                    "workload": workload,
                    "start": at(slot),
                    "end": None if end is None else at(end),
                    "reason": None if end is None else "ENDED",
                },
            )

    def card(self, **fields: Any) -> UUID:
        found = self.rates.add(
            ADMIN, {"name": "card", "currency": "USD", "valid_from": START - timedelta(days=99)} | fields, findings=[]
        )
        assert found is not None
        card_id: UUID = found["id"]
        return card_id

    def of(self, cluster: UUID, start: int = 0, end: int = SLOTS, granularity: str = "total") -> dict[str, Any]:
        return self.costs.of_cluster(ACTOR, str(cluster), start=at(start), end=at(end), granularity=granularity)

    def all(self, *groups: str, start: int = 0, end: int = SLOTS, granularity: str = "total") -> dict[str, Any]:
        return self.costs.of_project(ACTOR, group_by=groups, start=at(start), end=at(end), granularity=granularity)


ACTOR = an_actor()
ADMIN = an_actor(PROJECT, "admin")


def at(slot: int) -> datetime:
    return START + slot * SLOT


@pytest.fixture(scope="module")
def wired(module_database_url: str) -> Iterator[Costs]:
    engine = make_engine(module_database_url)
    database = Database(engine)
    clock = ManualClock(at(SLOTS) + timedelta(days=5))
    cloud = FakeCloud(SystemClock())
    cloud.flavors = [
        a_flavor("gpu.a100.large", vcpus=10, ram_mb=10240, accelerator__model="a100", accelerator__count="2"),
        a_flavor("cpu.large", vcpus=16, ram_mb=65536),
    ]
    catalogs = Catalogs(cloud, SystemClock(), 3600.0)
    catalogue = load_catalogue(
        replace(some_settings(module_database_url).placement, reserved_cpu_milli=0, reserved_memory_percent=0)
    )
    accelerators = AcceleratorService(catalogue, catalogs, region=REGION)
    yield Costs(database, clock, CostService(database, catalogs, accelerators, clock, region=REGION), RateService(database))
    engine.dispose()


@pytest.fixture
def costs(wired: Costs) -> Costs:
    empty(wired)
    return wired


def empty(costs: Costs) -> None:
    with costs.database.begin() as uow:
        uow.connection.execute(text("TRUNCATE clusters, rate_cards, placements, audit_events CASCADE"))


def parts_of(row: dict[str, Any]) -> dict[str, Decimal]:
    return {part: Decimal(row[part]) for part in PARTS if Decimal(row[part])}


# -- any history under any cards ----------------------------------------------------------------------------------------

AMOUNTS = st.decimals(0, 10_000, places=4).map(str)
SPAN = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, SLOTS)).map(lambda pair: (pair[0], min(SLOTS, pair[0] + pair[1])))


@dataclass(frozen=True)
class Card:
    """A card of the history: hours of whole slots, electricity by night in Seoul."""

    begins: int
    ends: int | None
    site: bool
    flavor: str | None
    core: str | None
    device: str | None
    day: str | None
    night: str | None
    pue: str

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"valid_from": at(self.begins), "scope": "site" if self.site else "project", "address_hour": "0"}
        if self.ends is not None:
            fields["valid_to"] = at(self.ends)
        if self.flavor is not None:
            fields["flavors"] = [{"flavor": "cpu.large", "price_per_hour": self.flavor}]
        if self.core is not None:
            fields["core_hour"] = self.core
        if self.device is not None:
            fields["accelerators"] = [{"accelerator": "a100", "price_per_hour": self.device}]
        if self.day is not None:
            windows = [
                {"days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:30", "end": "06:15", "price_per_kwh": self.night or "0"}
            ]
            fields["electricity"] = {"price_per_kwh": self.day, "time_zone": "Asia/Seoul", "pue": self.pue, "windows": windows}
        return fields


CARDS = st.builds(
    Card,
    st.integers(-50, SLOTS),
    st.one_of(st.none(), st.integers(SLOTS + 1, SLOTS + 50)),
    st.booleans(),
    st.one_of(st.none(), AMOUNTS),
    st.one_of(st.none(), AMOUNTS),
    st.one_of(st.none(), AMOUNTS),
    st.one_of(st.none(), AMOUNTS),
    st.one_of(st.none(), AMOUNTS),
    st.decimals(1, 3, places=2).map(str),
)
USES = st.tuples(SPAN, st.sampled_from(["gpu.a100.large", "cpu.large", None]), st.integers(1, 20))


def price_at(slot: int, flavor: str | None, cards: list[Card]) -> tuple[Fraction, Fraction]:
    """What an hour of a node cost in a slot, the hardware and the electricity of it: looked up card by card."""
    held = [(not card.site, card.begins, number, card) for number, card in enumerate(cards) if card.begins <= slot]
    chain = [card for *_, card in sorted(held, key=lambda one: one[:3], reverse=True) if card.ends is None or slot < card.ends]

    def first(name: str, default: str) -> Fraction:
        return Fraction(next((value for card in chain if (value := getattr(card, name)) is not None), default))

    if flavor == "cpu.large" and any(card.flavor is not None for card in chain):
        node = first("flavor", "0")
    elif flavor == "gpu.a100.large":
        node = 10 * first("core", "0.05") + Fraction("0.1") + 2 * first("device", "2")
    else:
        node = {"cpu.large": 16, None: 4}[flavor] * first("core", "0.05") + {"cpu.large": 64, None: 16}[flavor] * Fraction("0.01")
    tariff = next((card for card in chain if card.day is not None), None)
    if tariff is None:
        return node, Fraction(0)
    local = at(slot) + timedelta(hours=9)
    late, early = local.time().isoformat() >= "22:30", local.time().isoformat() < "06:15"
    by_night = (late and local.weekday() < 5) or (early and (local - timedelta(days=1)).weekday() < 5)
    kwh = Fraction((tariff.night or "0") if by_night else str(tariff.day))
    return node, WATTS[flavor] / 1000 * Fraction(tariff.pue) * kwh


@given(
    st.lists(USES, min_size=1, max_size=4),
    st.lists(CARDS, max_size=4),
    st.lists(st.integers(1, SLOTS - 1), max_size=3, unique=True),
    st.sampled_from(["total", "hour", "day", "month"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_window_is_the_integral_whenever_the_cards_were_given(
    wired: Costs, uses: list[Any], cards: list[Card], cuts: list[int], granularity: str
) -> None:
    costs = wired
    empty(costs)
    cluster = costs.cluster()
    for number, ((start, end), flavor, nodes) in enumerate(uses):
        costs.use(cluster, f"group-{number}", flavor, start, end, nodes)
    before = costs.of(cluster)
    for card in cards:
        costs.card(**card.fields())
    bounds = [0, *sorted(cuts), SLOTS]
    answers = [costs.of(cluster, a, b, granularity) for a, b in pairwise(bounds)]
    for (first, last), answer in zip(pairwise(bounds), answers, strict=True):
        node = power = Fraction(0)
        for (start, end), flavor, nodes in uses:
            for slot in range(max(first, start), min(last, end)):
                hardware, electricity = price_at(slot, flavor, cards)
                node += hardware * nodes / 4
                power += electricity * nodes / 4
        [total] = answer["totals"] or [dict.fromkeys((*PARTS, "total"), "0")]
        assert abs(Fraction(total["unattributed"]) - node) <= Fraction(1, 10**9)
        assert abs(Fraction(total["electricity"]) - power) <= Fraction(1, 10**9)
        assert sum(parts_of(total).values()) == Decimal(total["total"]) == Decimal(answer["total_cost"])
        assert sum((Decimal(row["total"]) for row in answer["series"]), Decimal(0)) == Decimal(answer["total_cost"])
        assert sum((Decimal(item["cost"]) for item in answer["items"]), Decimal(0)) == Decimal(answer["total_cost"])
    whole = Decimal(costs.of(cluster)["total_cost"])
    assert abs(sum(Decimal(answer["total_cost"]) for answer in answers) - whole) <= Decimal("1e-9")
    # With the cards gone, the past has the prices that it had before them.
    for shown in costs.rates.cards(ADMIN):
        costs.rates.delete(ADMIN, shown["id"])
    assert costs.of(cluster)["totals"] == before["totals"]


# -- what a cost is made of ---------------------------------------------------------------------------------------------


def test_each_group_has_the_price_of_its_flavor(costs: Costs) -> None:
    cluster = costs.cluster()
    costs.use(cluster, "default-worker", "cpu.large", 0, 4)
    costs.use(cluster, "gpu", "gpu.a100.large", 0, 4, 3)
    costs.use(cluster, "default-master", "unheard-of", 0, 4)
    answer = costs.of(cluster)
    by_group = {item["node_group"]: item for item in answer["items"]}
    assert Decimal(by_group["default-worker"]["cost"]) == NODE_HOUR["cpu.large"]
    assert Decimal(by_group["gpu"]["cost"]) == 3 * NODE_HOUR["gpu.a100.large"]
    assert by_group["gpu"]["accelerator_seconds"] == 3 * 2 * 3600
    assert (by_group["default-master"]["rate"], by_group["gpu"]["rate"]) == ("default", "flavor")
    assert Decimal(by_group["default-master"]["control_plane"]) == NODE_HOUR[None]
    assert by_group["gpu"]["price_sources"] == ["default"]
    assert answer["energy_kwh"] == pytest.approx(float(WATTS["cpu.large"] + 3 * WATTS["gpu.a100.large"] + WATTS[None]) / 1000)
    assert answer["total_cost"] == "15.600000"


def test_workers_are_allocated_by_their_scarcest_resource_and_idle_for_the_rest(costs: Costs) -> None:
    cluster = costs.cluster()
    costs.use(cluster, "default-worker", "cpu.large", 0, 40, 2)
    costs.place(cluster, "train", 8, 16, cpu_milli=4000, memory_mib=32768)  # half of a node, by its memory
    costs.place(cluster, "serve", 12, None, node=1, cpu_milli=16000)
    costs.place(cluster, "stray", 8, None, node=5, cpu_milli=16000)  # on a node that is not there
    node = NODE_HOUR["cpu.large"]
    [total] = costs.of(cluster)["totals"]
    assert parts_of(total) == {"unattributed": 4 * node, "allocated": node * (1 + 7), "idle": node * (16 - 8)}
    rows = {row["workload"]: parts_of(row) for row in costs.all("workload")["rows"]}
    assert rows == {
        "train": {"allocated": node},
        "serve": {"allocated": 7 * node},
        None: {"unattributed": 4 * node, "idle": 8 * node},
    }


def test_workloads_on_one_node_share_what_is_held_of_it(costs: Costs) -> None:
    cluster = costs.cluster()
    costs.use(cluster, "default-worker", "gpu.a100.large", 0, 4)
    costs.place(cluster, "a", 0, 4, accelerators=1, share_milli=500)
    costs.place(cluster, "b", 0, 4, accelerators=1)
    costs.place(cluster, "b", 0, 4, cpu_milli=10_000)
    rows = {row["workload"]: Decimal(row["allocated"]) for row in costs.all("workload")["rows"]}
    assert rows["a"] + rows["b"] == pytest.approx(NODE_HOUR["gpu.a100.large"], abs=Decimal("1e-11"))
    assert rows["b"] / rows["a"] == pytest.approx(Decimal(6), abs=Decimal("1e-9"))


def test_volumes_and_addresses_are_priced_where_they_are_known(costs: Costs) -> None:
    cluster = costs.cluster(labels={"boot_volume_size": "20", "etcd_volume_size": "5"}, options={"floating_ip_enabled": True})
    costs.use(cluster, "default-worker", "cpu.large", 0, 4, 2)
    costs.use(cluster, "default-master", "cpu.large", 0, 4)
    [row] = costs.all("cluster")["rows"]
    assert (row["storage_gb_hours"], row["address_hours"], row["storage"], row["network"]) == (65.0, 3.0, "0.000000", "0.000000")
    costs.card(storage_gb_hour="0.001", address_hour="0.01")
    [row] = costs.all("cluster")["rows"]
    assert (row["storage"], row["network"]) == ("0.065000", "0.030000")


def test_electricity_is_watts_times_pue_times_the_tariff(costs: Costs) -> None:
    cluster = costs.cluster()
    costs.use(cluster, "default-worker", "gpu.a100.large", 0, 8)
    card = costs.card(
        currency="KRW",
        flavors=[{"flavor": "gpu.a100.large", "purchase_price": "35040000", "years": "4", "duty": "0.5"}],
        electricity={"price_per_kwh": "100", "pue": "1.5", "carbon_g_per_kwh": "400"},
    )
    answer = costs.all("project")
    [row] = answer["rows"]
    assert (row["project_id"], row["currency"]) == (PROJECT, "KRW")
    assert parts_of(row) == {"unattributed": Decimal(4000), "electricity": Decimal("0.59") * 2 * Decimal("1.5") * 100}
    assert row["energy_kwh"] == pytest.approx(0.59 * 2 * 1.5)
    assert row["carbon_g"] == pytest.approx(0.59 * 2 * 1.5 * 400)
    assert costs.of(cluster)["items"][0]["price_sources"] == [str(card)]


def test_currencies_are_told_apart_and_quantities_once(costs: Costs) -> None:
    cluster = costs.cluster()
    costs.use(cluster, "default-worker", "cpu.large", 0, 4)
    costs.card(currency="KRW", core_hour="10")
    answer = costs.all("cluster")
    krw, usd = answer["rows"]
    assert [(row["currency"], row["total"], row["node_seconds"]) for row in (krw, usd)] == [
        ("KRW", "160.000000", 3600.0),
        ("USD", "0.640000", None),
    ]
    assert (answer["currency"], answer["total_cost"]) == ("KRW", "160.000000")
    assert {one["currency"]: one["total"] for one in answer["totals"]} == {"KRW": "160.000000", "USD": "0.640000"}
    assert costs.of(cluster)["totals"] == answer["totals"]


def test_groups_and_spans_add_up_and_the_gone_are_counted(costs: Costs) -> None:
    first, second = costs.cluster(template_name="a"), costs.cluster(template_name="b")
    costs.use(first, "default-worker", "cpu.large", 0, 100, 2)
    costs.use(second, "default-worker", "gpu.a100.large", 50, 61)
    costs.use(costs.cluster(project_id=OTHER_PROJECT), "default-worker", "gpu.a100.large", 0, 100)
    with costs.database.begin() as uow:
        uow.clusters.mark_deleted([second])
    whole = Decimal(costs.all("project")["total_cost"])
    assert whole == 2 * 25 * NODE_HOUR["cpu.large"] + Decimal(11) / 4 * NODE_HOUR["gpu.a100.large"]
    for groups in (("cluster",), ("type",), ("workload",), ("type", "cluster", "workload")):
        for granularity in ("total", "hour", "day", "month"):
            answer = costs.all(*groups, granularity=granularity)
            assert sum(Decimal(row["total"]) for row in answer["rows"]) == whole == Decimal(answer["total_cost"])
    days = costs.all("type", granularity="day")["rows"]
    assert {(row["type"], row["start"].day) for row in days} == {("a", 27), ("a", 28), ("b", 28)}
    assert days[0]["start"] == START


def test_the_forecast_runs_what_runs_to_the_months_end(costs: Costs) -> None:
    cluster = costs.cluster()
    now = datetime.now(UTC)
    clock, costs.clock._now = costs.clock.now(), now
    try:
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (month + timedelta(days=32)).replace(day=1)
        costs.use(cluster, "default-worker", "cpu.large", 0, None, 2)
        expected = 2 * NODE_HOUR["cpu.large"] * Decimal((end - month) // timedelta(hours=1))
        for forecast in (costs.all("cluster")["forecast"], costs.of(cluster)["forecast"]):
            assert (forecast["start"], forecast["end"]) == (month, end)
            assert Decimal(forecast["total_cost"]) == pytest.approx(expected, abs=Decimal("0.01"))
        live = costs.costs.of_cluster(ACTOR, str(cluster), start=None, end=None)
        assert live["cost_per_hour"] == pytest.approx(float(2 * NODE_HOUR["cpu.large"]))
        assert live["start"] == START
    finally:
        costs.clock._now = clock


def test_questions_that_make_no_sense_are_refused(costs: Costs) -> None:
    cluster = costs.cluster()
    for start, end in ((5, 4), (5, 5)):
        with pytest.raises(InvalidRequest) as caught:
            costs.of(cluster, start, end)
        assert caught.value.errors[0].field == "start"
    with pytest.raises(InvalidRequest) as caught:
        costs.costs.of_cluster(ACTOR, str(cluster), start=START, end=START + timedelta(days=900), granularity="hour")
    assert caught.value.errors[0].field == "granularity"
    with pytest.raises(NotFound):
        costs.costs.of_cluster(an_actor(OTHER_PROJECT), str(cluster), start=None, end=None)
