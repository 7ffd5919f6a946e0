"""Power budgets hold for every way to draw more: creating, growing, waking, matching, alone and many at once."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from shared.bootstrap import Container, SystemClock, build
from shared.domain.ports import Actor
from shared.errors import Conflict
from shared.settings import PlacementSettings
from tests.builders import KEYPAIR, OTHER_PROJECT, PROJECT, TEMPLATE_NAME, some_settings
from tests.fake_cloud import FakeCloud

ACTOR = Actor("someone", PROJECT, frozenset({"member"}))
OTHER = Actor("another", OTHER_PROJECT, frozenset({"member"}))
Make = Callable[..., Container]


@pytest.fixture
def make(database_url: str) -> Iterator[Make]:
    made: list[Container] = []

    def one(*, project_power_w: float | None = None, site_power_w: float | None = None) -> Container:
        clock = SystemClock()
        cloud = FakeCloud(clock)
        settings = replace(
            some_settings(database_url), placement=PlacementSettings(project_power_w=project_power_w, site_power_w=site_power_w)
        )
        made.append(build(settings, cloud=lambda _credentials: cloud, clock=clock, pool_size=8))
        return made[-1]

    yield one
    for container in made:
        container.database.engine.dispose()


def body(name: str, nodes: int = 1) -> dict[str, Any]:
    return {"name": name, "cluster_template_id": TEMPLATE_NAME, "keypair": KEYPAIR, "node_count": nodes}


def watts(container: Container, nodes: int, masters: int = 1) -> float:
    """Of a cluster of the template's flavors."""
    shapes = {flavor["id"]: flavor["max_w"] for flavor in container.accelerators.flavors(ACTOR)}
    names = {flavor["flavor"]: flavor["max_w"] for flavor in container.accelerators.flavors(ACTOR)}
    with container.database.engine.connect() as connection:
        row = connection.execute(text("SELECT flavor, master_flavor FROM clusters ORDER BY seq LIMIT 1")).one()
    each = [names.get(flavor) or shapes[flavor] for flavor in row]
    return float(each[0] * nodes + each[1] * masters)


def drawn(container: Container) -> list[tuple[str, str, int]]:
    with container.database.begin() as uow:
        return sorted(uow.placements.nodes("RegionOne"))


def test_what_exceeds_the_projects_budget_is_refused_with_figures(make: Make) -> None:
    probe = make()
    probe.clusters.request_create(ACTOR, body("first", 2))
    budget = watts(probe, 4)
    tight = make(project_power_w=budget)
    cluster_id = str(probe.database.engine.connect().execute(text("SELECT id FROM clusters")).scalar())
    before = drawn(tight)
    with pytest.raises(Conflict, match="power budget") as refused:
        tight.clusters.request_resize(ACTOR, cluster_id, {"node_count": 5})
    assert refused.value.reason == "POWER_BUDGET"
    assert f"{budget:.0f} W" in refused.value.detail
    assert f"{watts(probe, 2):.0f} W by now" in refused.value.detail
    assert f"with this {watts(probe, 5):.0f} W" in refused.value.detail
    with pytest.raises(Conflict, match="power budget"):
        tight.clusters.request_create(ACTOR, body("second", 2))
    with pytest.raises(Conflict, match="power budget"):
        tight.clusters.request_create(ACTOR, body("second", 2), validate_only=True)
    with pytest.raises(Conflict, match="power budget"):
        tight.clusters.request_node_group(ACTOR, cluster_id, {"name": "more", "node_count": 3})
    assert drawn(tight) == before, "a refusal leaves nothing behind"
    # What fits is taken, to the last watt; less is always allowed, also where a lower budget is exceeded already.
    assert tight.clusters.request_resize(ACTOR, cluster_id, {"node_count": 4}, validate_only=True) is None
    assert tight.clusters.request_resize(ACTOR, cluster_id, {"node_count": 4}) is not None
    tiny = make(project_power_w=1.0)
    assert tiny.clusters.request_resize(ACTOR, cluster_id, {"node_count": 1}) is not None
    # Another project has a budget of its own.
    assert tight.clusters.request_create(OTHER, body("theirs", 3)) is not None


def test_the_sites_budget_is_of_all_projects_together(make: Make) -> None:
    probe = make()
    probe.clusters.request_create(ACTOR, body("first", 1))
    site = make(site_power_w=watts(probe, 1) * 2)
    assert site.clusters.request_create(OTHER, body("theirs", 1)) is not None
    with pytest.raises(Conflict, match="The site's power budget"):
        site.clusters.request_create(ACTOR, body("second", 1))


def test_waking_counts_the_nodes_that_come_back(make: Make) -> None:
    probe = make()
    probe.clusters.request_create(ACTOR, body("sleeper", 3))
    with probe.database.engine.begin() as connection:
        cluster_id = str(connection.execute(text("SELECT id FROM clusters")).scalar())
        connection.execute(text("UPDATE jobs SET state = 'succeeded', step = 'succeeded', finished_at = now()"))
        connection.execute(
            text(
                "UPDATE clusters SET phase = 'Hibernated', status = 'UPDATE_COMPLETE', magnum_uuid = 'x', node_count = 0,"
                " observed_node_count = 0, observed_master_count = 1, hibernated_sizes = '{\"default-worker\": 3}'"
            )
        )
    with pytest.raises(Conflict, match=f"with this {watts(probe, 3):.0f} W"):
        make(project_power_w=watts(probe, 2)).clusters.request_wake(ACTOR, cluster_id)
    assert make(project_power_w=watts(probe, 3)).clusters.request_wake(ACTOR, cluster_id) is not None


def test_many_at_once_never_exceed_it(make: Make) -> None:
    probe = make()
    probe.clusters.request_create(ACTOR, body("first", 1))
    budget = watts(probe, 1) * 5
    processes = [make(project_power_w=budget, site_power_w=budget * 2) for _ in range(3)]
    refused: list[str] = []

    def ask(number: int) -> None:
        try:
            processes[number % 3].clusters.request_create(ACTOR, body(f"c{number}", 1))
        except Conflict as exc:
            refused.append(exc.reason)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused == ["POWER_BUDGET"] * 8
    with probe.database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM clusters")).scalar() == 5


def test_a_match_offers_nothing_that_exceeds_it(make: Make) -> None:
    probe = make()
    probe.clusters.request_create(ACTOR, body("first", 1))
    work = {"type": "ml_training", "gpu_required": True, "gpu_count": 1, "cpu_cores": 4, "memory_gb": 16}
    free = probe.matching.request(ACTOR, [work], many=False, place=False, lease_s=None, at_once=True)
    assert free is not None
    assert free.job.result is not None
    assert free.job.result["candidates"]
    tight = make(project_power_w=watts(probe, 1) + 1)
    answer = tight.matching.request(ACTOR, [work], many=False, place=False, lease_s=None, at_once=True)
    assert answer is not None
    assert answer.job.result is not None
    # What is on its way already draws nothing more.
    assert [(one["way"], one["added_watts"]) for one in answer.job.result["candidates"]] == [("use_existing", 0)]
    assert any(one["code"] == "POWER_BUDGET" for one in answer.job.result["rejected"])
