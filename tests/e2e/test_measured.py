"""From a real Prometheus to an operator's answers: samples, cleanup, and how the meters are. Prometheus as in test_prometheus."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from api.app import create_app
from shared.bootstrap import SystemClock, build
from tests.api.harness import Caller, Tokens, World, a_body, problem, problemless
from tests.builders import PROJECT, some_settings
from tests.e2e.test_prometheus import binary, prometheus
from tests.fake_cloud import FakeCloud
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("prometheus")]

CARDS = 4


class Page(ThreadingHTTPServer):
    """An exporter whose page is what the test says."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = ("\n".join(outer.lines) + "\n").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prometheus is ended while it scrapes."""


def told(uuid: str, name: str, *, cards: int, use: float, cpu: float, pods: int) -> list[str]:
    """What the exporters of a cluster of one master and one worker tell."""
    here = f'magnum_cluster_uuid="{uuid}"'
    lines = [f'kube_pod_status_phase{{{here},namespace="kube-system",pod="dns",phase="Running"}} 1']
    lines += [f'kube_pod_status_phase{{{here},namespace="team",pod="p{i}",phase="Running"}} 1' for i in range(pods)]
    for node, watts in ((f"{name}-master", 120), (f"{name}-worker", 900)):
        lines.append(f'kepler_node_cpu_usage_ratio{{{here},node_name="{node}"}} {cpu}')
        lines.append(f'ipmi_dcmi_power_consumption_watts{{{here},node="{node}"}} {watts}')
    for i in range(cards):
        card = f'{here},Hostname="{name}-worker",modelName="NVIDIA A100",UUID="GPU-{uuid}-{i}"'
        lines.append(f"DCGM_FI_DEV_POWER_USAGE{{{card}}} 150")
        lines.append(f"DCGM_FI_DEV_FB_USED{{{card}}} {1000 * i}")  # MiB
        lines.append(f"DCGM_FI_DEV_GPU_TEMP{{{card}}} {40 + i}")
        # One card is busy, and the others are not: on average hardly any use, and still not idle.
        lines.append(f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{card}}} {use if i == 0 else 0}")
    return lines


@dataclass
class Site:
    """A project with clusters, and a Prometheus that knows of some of them."""

    world: World
    page: Page
    process: Any = None
    clusters: dict[str, str] = field(default_factory=dict)

    def caller(self, role: str = "member") -> Caller:
        return self.world.caller(role, PROJECT)

    def measure(self) -> None:
        """A collection, and the sample after it, whenever the last ones were."""
        with self.world.container.database.engine.begin() as connection:
            connection.execute(text("UPDATE series_state SET done_until = now() - interval '1 hour' WHERE name <> 'cluster_costs'"))
            connection.execute(text("DELETE FROM cluster_metrics"))
        self.world.container.collection.collect(every_s=30.0)
        assert self.world.container.metering.sample(every_s=30.0)

    def sample(self, name: str) -> dict[str, Any]:
        with self.world.container.database.engine.begin() as connection:
            row = connection.execute(
                text("SELECT * FROM cluster_metrics WHERE cluster_id = :id"), {"id": UUID(self.clusters[name])}
            ).mappings()
            return dict(row.one())

    def read(self) -> int:
        with self.world.container.database.engine.begin() as connection:
            return int(connection.execute(text("SELECT count(*) FROM telemetry_latest WHERE accelerators_read > 0")).scalar_one())


@pytest.fixture(scope="module")
def site(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    program = binary()
    folder = tmp_path_factory.mktemp("measured")
    with Page() as page, prometheus(program, folder, page) as (url, process):
        threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        listed = folder / "telemetry.yaml"
        listed.write_text(
            "budget_s: 5\nsources:\n"
            f"  - {{name: central, url: '{url}', window_s: 4, timeout_s: 1, budget_s: 2}}\n"
            "  - {name: gone, url: 'http://127.0.0.1:9', readers: [ipmi]}\n",
            encoding="utf-8",
        )
        clock = SystemClock()
        cloud = FakeCloud(clock)
        cloud.lag_s = cloud.writing_s = 0.0
        settings = replace(
            some_settings(module_database_url), secret_key=Fernet.generate_key().decode(), telemetry_file=str(listed)
        )
        container = build(settings, cloud=lambda _credentials: cloud, clock=clock)
        tokens = Tokens()
        made = Site(World(container, cloud, create_app(container, validate=tokens), tokens), page, process)
        lines = []
        for name, use in (("busy", 0.3), ("idle", 0.0), ("part", 0.0), ("dark", 0.0)):
            body = a_body(name, node_count=1, flavor_id="gpu.a100.large", master_flavor_id="cpu.large", labels={})
            job = problemless(made.caller()("POST", "/clusters", body))
            made.world.complete(job["job_id"], PROJECT)
            made.clusters[name] = job["id"]
            uuid = problemless(made.caller()("GET", f"/clusters/{job['id']}"))["magnum_uuid"]
            if name != "dark":
                lines += told(
                    uuid,
                    name,
                    cards=CARDS - (name == "part"),
                    use=use,
                    cpu=0.6 if name == "busy" else 0.01,
                    pods=2 * (name == "busy"),
                )
        page.lines = [*lines, *told("99999999-9999-9999-9999-999999999999", "stranger", cards=1, use=1.0, cpu=1.0, pods=1)]
        try:

            def read() -> bool:
                assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
                made.measure()
                return made.read() == 3

            wait_until(read, 30, what="Prometheus tells of three clusters")
            yield made
        finally:
            page.shutdown()
            container.database.engine.dispose()


def test_a_measured_cluster_draws_what_its_meters_say(site: Site) -> None:
    site.measure()
    busy, dark = site.sample("busy"), site.sample("dark")
    assert (busy["power_consumption_watts"], busy["source"]) == (1020.0, "measured")
    assert (busy["cpu_usage"], busy["cpu_usage_peak"], busy["running_pods"]) == (60.0, 60.0, 2)
    assert (busy["gpu_usage"], busy["gpu_usage_peak"]) == (pytest.approx(7.5), pytest.approx(30.0))
    # Four cards with 0, 1000, 2000 and 3000 MiB in use.
    assert (busy["gpu_memory_used_gb"], busy["gpu_temperature_celsius"]) == (pytest.approx(1500 * 2**20 / 1e9), 43.0)
    assert (dark["gpu_memory_used_gb"], dark["gpu_temperature_celsius"]) == (None, None)
    assert (dark["source"], dark["cpu_usage"], dark["gpu_usage"], dark["running_pods"]) == ("modelled", None, None, None)
    assert dark["power_consumption_watts"] > 0


def test_a_card_that_nobody_read_may_be_in_use(site: Site) -> None:
    site.measure()
    part = site.sample("part")
    assert (part["gpu_usage"], part["gpu_usage_peak"]) == (0.0, None)
    # The worker's meter holds the fourth card too, so nothing is modelled.
    assert (part["power_consumption_watts"], part["source"]) == (1020.0, "measured")


def test_cleanup_knows_what_was_measured(site: Site) -> None:
    site.measure()
    found = {
        name: {
            one["source"]: one["status"]
            for one in problemless(site.caller()("GET", f"/cleanup/candidates/{key}"))["sources"]
            if one["source"] in {"accelerator_use", "cpu_use", "running_pods"}
        }
        for name, key in site.clusters.items()
    }
    assert found == {
        "busy": {"accelerator_use": "active", "cpu_use": "active", "running_pods": "active"},
        "idle": {"accelerator_use": "idle", "cpu_use": "idle", "running_pods": "idle"},
        "part": {"accelerator_use": "unknown", "cpu_use": "idle", "running_pods": "idle"},
        "dark": {"accelerator_use": "unknown", "cpu_use": "unknown", "running_pods": "unknown"},
    }


def test_energy_is_what_meters_say_and_so_is_its_price(site: Site) -> None:
    site.measure()
    with site.world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE series_state SET done_until = now() - interval '30 s' WHERE name = 'cluster_metrics'"))
        connection.execute(text("DELETE FROM cluster_metrics"))
    assert site.world.container.metering.sample(every_s=30.0)
    with site.world.container.database.engine.begin() as connection:
        kept = connection.execute(text("SELECT cluster_id, seconds, measured_seconds, joules FROM cluster_energy")).all()
    assert {str(row.cluster_id) for row in kept} == {site.clusters[name] for name in ("busy", "idle", "part")}
    for row in kept:
        assert row.seconds == row.measured_seconds == pytest.approx(30, abs=5)
        assert row.joules / row.seconds == pytest.approx(1020)
    told = problemless(site.caller()("GET", f"/clusters/{site.clusters['busy']}/costs"))["costs"]
    lived = sorted(item["node_seconds"] for item in told["items"])
    assert 0.95 * 1020 * lived[0] / 3.6e6 <= told["energy_kwh"] <= 1.05 * 1020 * lived[-1] / 3.6e6
    assert told["source"] in {"measured", "mixed"}  # mixed where an hour began meanwhile
    dark = problemless(site.caller()("GET", f"/clusters/{site.clusters['dark']}/costs"))["costs"]
    assert dark["source"] == "modelled"


def test_two_workers_collect_once(site: Site) -> None:
    site.measure()
    assert site.world.container.collection.collect(every_s=30.0) == 0


def test_an_administrator_sees_how_the_meters_are(site: Site) -> None:
    site.measure()
    listed: list[dict[str, Any]] = site.caller("admin")("GET", "/telemetry").get_json()
    central, gone = listed
    assert (central["name"], central["failures"], gone["name"]) == ("central", [], "gone")
    assert central["answered_at"] == central["looked_at"]
    assert central["samples"] > 0
    assert [failure["reason"] for failure in gone["failures"]] == ["UNREACHABLE"]
    assert (gone["answered_at"], gone["samples"]) == (None, 0)
    problem(site.caller("reader")("GET", "/telemetry"), 403)


def test_what_meters_said_long_ago_counts_no_more_and_a_dead_prometheus_leaves_the_model(site: Site) -> None:
    site.measure()
    site.process.kill()
    site.process.wait(10)
    before = datetime.now(UTC)
    site.measure()
    assert datetime.now(UTC) - before < timedelta(seconds=10)
    # Its last word is fresh enough for a minute or two.
    assert site.sample("busy")["source"] == "measured"
    with site.world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE telemetry_latest SET at = at - interval '10 minutes'"))
    site.measure()
    busy = site.sample("busy")
    assert (busy["source"], busy["gpu_usage"], busy["running_pods"]) == ("modelled", None, None)
    assert busy["power_consumption_watts"] == pytest.approx(site.sample("dark")["power_consumption_watts"])
