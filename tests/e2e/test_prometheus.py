"""A real Prometheus scrapes exporters that behave as badly as real ones, and the samples are right.

The program is Debian's package ``prometheus``, found on PATH or by PROMETHEUS_BINARY; without it these tests are skipped.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from deployment.local.ports import free_port
from shared.domain.power import Machine, cluster_power
from shared.domain.telemetry import Basis, Collected, Inventory, Part, Quantity, Sample
from shared.telemetry.collect import PrometheusTelemetry
from shared.telemetry.config import parse
from tests.waiting import wait_until

DEPLOYMENT = Path(__file__).resolve().parents[2] / "deployment" / "prometheus"
BARE = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"  #: a cluster on bare metal: Kepler, DCGM, IPMI
OLD = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"  #: Kepler up to 0.9, Furiosa
VIRTUAL = "cccccccc-cccc-cccc-cccc-cccccccccccc"  #: machines read by their hypervisor, Rebellions inside
NOVA = "dddddddd-0000-0000-0000-000000000001"
WINDOW_S = 4
#: After so many scrapes counters start anew, and a card disappears. Two jobs scrape, each once a second.
RESET_AFTER = 9

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("prometheus")]


def binary() -> str:
    found = os.environ.get("PROMETHEUS_BINARY") or shutil.which("prometheus")
    if not found:
        pytest.skip("no Prometheus: install Debian's package `prometheus`, or set PROMETHEUS_BINARY")
    return found


class Exporter(ThreadingHTTPServer):
    """All exporters of three clusters on one page, as their families in the catalogue would tell it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin = time.monotonic()
        self.scrapes = 0
        self.last = 0.0
        self.base = 0.0  #: what counters lost when they started anew
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = ("\n".join(outer.page()) + "\n").encode()
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

    def page(self) -> list[str]:
        with self.lock:
            now = time.monotonic() - self.begin
            self.scrapes += 1
            if self.scrapes > RESET_AFTER and self.base == 0.0:
                self.base = self.last  # the exporter restarted just after it was last read
            self.last = now
            counted = now - self.base
            return [*self.bare(counted), *self.old(counted), *self.virtual(counted), *self.kubernetes()]

    def since_reset_s(self) -> float:
        with self.lock:
            return time.monotonic() - self.begin - self.base if self.base else 0.0

    def bare(self, s: float) -> list[str]:
        here = f'magnum_cluster_uuid="{BARE}",node_name="a1"'
        gpu = f'magnum_cluster_uuid="{BARE}",Hostname="a1",modelName="NVIDIA A100",UUID="GPU-00000000-0000-0000-0000-00000000000'
        lines = [
            f'kepler_node_cpu_joules_total{{{here},zone="package",path="/rapl:0"}} {1e6 + 40 * s if self.base == 0 else 40 * s}',
            f'kepler_node_cpu_joules_total{{{here},zone="package",path="/rapl:1"}} {40 * s}',
            f'kepler_node_cpu_joules_total{{{here},zone="core",path="/rapl:0:0"}} {60 * s}',
            f'kepler_node_cpu_watts{{{here},zone="package",path="/rapl:0"}} 41',
            f"kepler_node_cpu_usage_ratio{{{here}}} 0.3",
            # A node's containers draw what the node draws.
            *(f'kepler_container_cpu_joules_total{{{here},zone="package",container_id="c{i}"}} {30 * s}' for i in range(2)),
            f'ipmi_dcmi_power_consumption_watts{{magnum_cluster_uuid="{BARE}",node="a1"}} 700',
            # One line per pod that uses the card: the card still draws it once.
            *(f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{gpu}1",pod="p{i}"}} {250_000 * s}' for i in range(2)),
            *(f'DCGM_FI_DEV_POWER_USAGE{{{gpu}1",pod="p{i}"}} 251' for i in range(2)),
            f'DCGM_FI_DEV_GPU_UTIL{{{gpu}1"}} 100',
            f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{gpu}1"}} 0.4',
            f'DCGM_FI_DEV_GPU_TEMP{{{gpu}1"}} 55',
            # The second card tells its energy in joules where millijoules are expected, a blank, and no number.
            f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{gpu}2"}} {200 * s}',
            f'DCGM_FI_DEV_POWER_USAGE{{{gpu}2"}} 200',
            f'DCGM_FI_DEV_GPU_TEMP{{{gpu}2"}} 9223372036854775794',
            f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{gpu}2"}} NaN',
            f'DCGM_FI_DEV_GPU_UTIL{{{gpu}2"}} 50',
            f'DCGM_FI_DEV_FB_USED{{{gpu}2"}} +Inf',
        ]
        if self.scrapes % 4:  # a gap now and then
            lines.append(f'kepler_node_cpu_joules_total{{{here},zone="dram",path="/rapl:0:1"}} {10 * s}')
        return lines

    def old(self, s: float) -> list[str]:
        here = f'magnum_cluster_uuid="{OLD}",node="b1"'
        npu = f'magnum_cluster_uuid="{OLD}",kubernetes_node_name="b1",arch="rngd"'
        lines = [
            f'kepler_node_package_joules_total{{{here},package="0",mode="idle",source="rapl-sysfs"}} {20 * s}',
            f'kepler_node_package_joules_total{{{here},package="0",mode="dynamic",source="rapl-sysfs"}} {15 * s}',
            f'kepler_node_core_joules_total{{{here},package="0",mode="dynamic",source="rapl-sysfs"}} {12 * s}',
            f'kepler_node_dram_joules_total{{{here},package="0",mode="dynamic",source="rapl-sysfs"}} {5 * s}',
            f'kepler_container_joules_total{{{here},mode="dynamic",container_id="c"}} {35 * s}',
            f'furiosa_npu_hw_power{{{npu},device="npu0",uuid="9cb0e9d2-0000-0000-0000-000000000000",label="rms"}} 45',
            f'furiosa_npu_hw_temperature{{{npu},device="npu0",uuid="9cb0e9d2-0000-0000-0000-000000000000",label="ambient"}} 30',
            f'furiosa_npu_hw_temperature{{{npu},device="npu0",uuid="9cb0e9d2-0000-0000-0000-000000000000",label="peak"}} 52',
            *(
                f'furiosa_npu_core_utilization{{{npu},device="npu0",uuid="9cb0e9d2-0000-0000-0000-000000000000",core="{i}"}} {i * 10}'
                for i in range(8)
            ),
            # K-Cloud's own exporter reads the same card under another name.
            f'kcloud_furiosa_power_watts{{{npu},device="furiosa-card-0"}} 46',
        ]
        if not self.base:
            lines.append(f'furiosa_npu_hw_power{{{npu},device="npu1",uuid="9cb0e9d2-0000-0000-0000-000000000001",label="rms"}} 47')
        return lines

    def virtual(self, s: float) -> list[str]:
        card = f'magnum_cluster_uuid="{VIRTUAL}",node="v1",name="RBLN-CA22"'
        machine = f'vm_id="{NOVA}",vm_name="instance-0000000a",node_name="hypervisor-1",hypervisor="kvm",state="running"'
        return [
            f'kepler_vm_cpu_joules_total{{{machine},zone="package"}} {55 * s}',
            f'kepler_vm_cpu_joules_total{{{machine},zone="core"}} {50 * s}',
            f'kepler_node_cpu_joules_total{{node_name="hypervisor-1",zone="package"}} {200 * s}',
            f'RBLN_DEVICE_STATUS:CARD_POWER{{{card},uuid="rbln-card-0000-0001"}} 0.031',
            f'RBLN_DEVICE_STATUS:TEMPERATURE{{{card},uuid="rbln-card-0000-0001"}} 0.041',
            f'rbln_npu_power{{{card},uuid="rbln-card-0000-0002"}} 0.04',
            f'rbln_npu_utilization{{{card},uuid="rbln-card-0000-0002"}} 80',
        ]

    def kubernetes(self) -> list[str]:
        here = f'magnum_cluster_uuid="{VIRTUAL}"'
        request = "kube_pod_container_resource_requests"
        return [
            f'kube_node_info{{{here},node="v1",provider_id="openstack:///{NOVA}"}} 1',
            f'kube_node_status_allocatable{{{here},node="v1",resource="rebellions_ai_npu",unit="integer"}} 2',
            f'kube_node_status_allocatable{{{here},node="v1",resource="cpu",unit="core"}} 8',
            f'{request}{{{here},namespace="n",pod="runs",container="c",node="v1",resource="rebellions_ai_npu"}} 1',
            f'{request}{{{here},namespace="n",pod="ended",container="c",node="v1",resource="rebellions_ai_npu"}} 1',
            f'kube_pod_status_phase{{{here},namespace="n",pod="runs",phase="Running"}} 1',
            f'kube_pod_status_phase{{{here},namespace="n",pod="ended",phase="Running"}} 0',
            f'kube_pod_status_phase{{{here},namespace="n",pod="ended",phase="Succeeded"}} 1',
            f'kube_pod_status_phase{{{here},namespace="n",pod="waits",phase="Pending"}} 1',
            f'kube_pod_status_phase{{{here},namespace="n",pod="agent-1",phase="Running"}} 1',
            f'kube_pod_info{{{here},namespace="n",pod="agent-1",created_by_kind="DaemonSet",created_by_name="agent"}} 1',
            f'kube_pod_info{{{here},namespace="n",pod="runs",created_by_kind="Job",created_by_name="train"}} 1',
            f'kube_pod_status_phase{{{here},namespace="kube-system",pod="dns",phase="Running"}} 1',
            f'kube_pod_status_phase{{magnum_cluster_uuid="{BARE}",namespace="kube-system",pod="dns",phase="Running"}} 1',
        ]


@contextmanager
def prometheus(program: str, folder: Path, exporter: ThreadingHTTPServer) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    address = f"127.0.0.1:{exporter.server_port}"
    # The second job reads the same exporter under another address, as a second replica would.
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        f"  - {{job_name: exporters, static_configs: [{{targets: ['{address}']}}]}}\n"
        f"  - {{job_name: again, static_configs: [{{targets: ['localhost:{exporter.server_port}']}}]}}\n",
        encoding="utf-8",
    )
    with started(program, folder) as found:
        yield found


@contextmanager
def started(program: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The program with the folder's prometheus.yml."""
    listen = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={listen}"], stdout=log, stderr=log)
        try:
            yield f"http://{listen}", process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)


def test_the_example_of_a_scrape_works_as_it_stands(tmp_path: Path) -> None:
    """Our prometheus.yml with its rules, but for the addresses, against an API that wants METRICS_TOKEN."""
    program = binary()
    token = "what-prometheus-knows"
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            known = self.path == "/metrics" and asked[-1] == f"Bearer {token}"
            body = b"kcloud_queue_age_seconds 3\n" if known else b""
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as api:
        threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        for name in ("prometheus.yml", "alerts.yml"):
            words = (DEPLOYMENT / name).read_text(encoding="utf-8")
            assert name != "prometheus.yml" or ("127.0.0.1:8006" in words and "30s" in words)
            words = words.replace("127.0.0.1:8006", f"127.0.0.1:{api.server_port}").replace("_interval: 30s", "_interval: 1s")
            (tmp_path / name).write_text(words, encoding="utf-8")
        (tmp_path / "metrics-token").write_text(token + "\n", encoding="utf-8")
        with started(program, tmp_path) as (url, _):

            def answer(path: str) -> Any:
                try:
                    return requests.get(url + path, timeout=2).json()["data"]
                except requests.RequestException:
                    return None

            def scraped() -> bool:
                found = answer("/api/v1/query?query=kcloud_queue_age_seconds")
                return bool(found and found["result"] and found["result"][0]["value"][1] == "3")

            wait_until(scraped, 20, what="a scrape")
            rules = [rule for group in answer("/api/v1/rules")["groups"] for rule in group["rules"]]
            assert {rule["name"] for rule in rules} >= {"KcloudDown", "KcloudNotScraped", "KcloudBeatStopped"}
            assert not [rule["name"] for rule in rules if rule["health"] == "err"]
        api.shutdown()
    assert set(asked) == {f"Bearer {token}"}


@dataclass(frozen=True)
class Running:
    """A Prometheus, and what was collected from it while the counters' restart lay within the window."""

    url: str
    process: subprocess.Popen[bytes]
    meanwhile: Collected


def telemetry(url: str, **over: Any) -> PrometheusTelemetry:
    source = {"name": "prom", "url": url, "window_s": WINDOW_S, "selector": 'job=~"exporters|again"'} | over
    return PrometheusTelemetry(parse({"sources": [source]}))


def collect(url: str) -> Collected:
    return telemetry(url).collect(Inventory(), datetime.now(UTC))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """It runs for as long that the restart, and the last of the lost card, are out of the window."""
    program = binary()
    folder = tmp_path_factory.mktemp("prometheus")
    with Exporter() as exporter:
        thread = threading.Thread(target=exporter.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        with prometheus(program, folder, exporter) as (url, process):

            def restarted() -> bool:
                assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
                return exporter.since_reset_s() > WINDOW_S / 2

            wait_until(restarted, 30, what="the counters started anew")
            meanwhile = collect(url)
            wait_until(lambda: exporter.since_reset_s() > WINDOW_S + 2, 15, what="the restart is out of the window")
            yield Running(url, process, meanwhile)
        exporter.shutdown()


@pytest.fixture(scope="module")
def collected(running: Running) -> Collected:
    return collect(running.url)


def of(collected: Collected, cluster: str, quantity: Quantity = Quantity.POWER) -> dict[tuple[Part, str], Sample]:
    return {(s.part, s.accelerator): s for s in collected.samples if s.cluster == cluster and s.quantity is quantity}


def about(value: float) -> Any:
    """Scrapes are a second apart, and a busy machine is late by some of it."""
    return pytest.approx(value, rel=0.2)


def test_every_query_is_accepted_and_their_number_is_fixed(collected: Collected) -> None:
    assert collected.failures == ()
    assert collected.queries == 7


def test_power_of_bare_metal_is_told_apart(collected: Collected) -> None:
    power = of(collected, BARE)
    first, second = (f"GPU-00000000-0000-0000-0000-00000000000{i}" for i in (1, 2))
    assert power[Part.CPU, ""].value == about(90)  # two packages and dram; core is in package, containers in the node
    assert power[Part.ACCELERATOR, first].value == about(250)  # from the counter, not the gauge
    assert power[Part.ACCELERATOR, second].value == 200  # the counter's unit is wrong, so the gauge
    parts = sum(sample.value for (part, _), sample in power.items() if part is not Part.REST)
    assert power[Part.REST, ""].value == pytest.approx(700 - parts)
    assert {sample.basis for sample in power.values()} == {Basis.MEASURED}
    assert {sample.node for sample in power.values()} == {"a1"}
    assert len(power) == 4


def test_use_and_temperature_leave_out_what_stands_for_no_value(collected: Collected) -> None:
    use = of(collected, BARE, Quantity.UTILISATION)
    assert {key: sample.value for key, sample in use.items()} == {
        (Part.CPU, ""): 0.3,
        (Part.ACCELERATOR, "GPU-00000000-0000-0000-0000-000000000001"): 0.4,  # not the 100 % of "some kernel ran"
        (Part.ACCELERATOR, "GPU-00000000-0000-0000-0000-000000000002"): 0.5,  # the better family is no number
    }
    temperature = of(collected, BARE, Quantity.TEMPERATURE)
    assert {key[1][-1]: sample.value for key, sample in temperature.items()} == {"1": 55.0}
    assert of(collected, BARE, Quantity.MEMORY_USED) == {}


def test_counters_that_started_anew_are_neither_negative_nor_huge(running: Running) -> None:
    assert running.meanwhile.failures == ()
    assert of(running.meanwhile, BARE)[Part.CPU, ""].value == about(90)
    assert of(running.meanwhile, VIRTUAL)[Part.CPU, ""].value == about(55)
    assert of(running.meanwhile, BARE)[Part.ACCELERATOR, "GPU-00000000-0000-0000-0000-000000000001"].value == about(250)


def test_former_names_and_furiosa(collected: Collected) -> None:
    power = of(collected, OLD)
    assert power[Part.CPU, ""].value == about(40)
    assert power[Part.CPU, ""].basis is Basis.MEASURED
    card = "9cb0e9d2-0000-0000-0000-000000000000"
    # Neither the card that another exporter calls otherwise, nor the one that is gone.
    assert {key: s.value for key, s in power.items() if key[0] is Part.ACCELERATOR} == {(Part.ACCELERATOR, card): 45.0}
    assert of(collected, OLD, Quantity.UTILISATION)[Part.ACCELERATOR, card].value == pytest.approx(0.35)
    assert of(collected, OLD, Quantity.TEMPERATURE)[Part.ACCELERATOR, card].value == 52.0


def test_a_virtual_machine_and_rebellions(collected: Collected) -> None:
    power = of(collected, VIRTUAL)
    assert power[Part.CPU, ""].value == about(55)
    assert power[Part.CPU, ""].basis is Basis.MODELLED  # the hypervisor's draw, split by processor time
    assert power[Part.ACCELERATOR, "rbln-card-0000-0001"].value == pytest.approx(31)
    assert of(collected, VIRTUAL, Quantity.TEMPERATURE)[Part.ACCELERATOR, "rbln-card-0000-0001"].value == pytest.approx(41)
    assert {(s.node, s.instance) for s in power.values()} == {("v1", NOVA)}  # linked by kube_node_info
    assert len(power) == 2  # the second card's power is a thousandth of what can be


def test_kubernetes_counts_what_runs(collected: Collected) -> None:
    counts = {(s.quantity, s.model): s.value for s in collected.samples if s.part is Part.NODE}
    assert counts == {(Quantity.ALLOCATABLE, "rebellions_ai_npu"): 2.0, (Quantity.REQUESTED, "rebellions_ai_npu"): 1.0}


def test_pods_of_the_system_and_of_daemons_are_no_sign_of_use_and_none_is_not_unknown(collected: Collected) -> None:
    pods = {s.cluster: s.value for s in collected.samples if s.quantity is Quantity.PODS}
    assert pods == {VIRTUAL: 2.0, BARE: 0.0}  # one runs and one waits; nothing but the system; nobody tells of the third


def test_what_was_left_out_is_told(collected: Collected) -> None:
    told = {(finding.family, finding.rule): finding for finding in collected.findings}
    assert set(told) == {
        ("dcgm_energy", "implausible"),
        ("dcgm_active", "not_a_number"),
        ("dcgm_temperature", "sentinel"),
        ("dcgm_memory_used", "not_a_number"),
        ("rebellions_power", "implausible"),
        ("kepler_node", "no_cluster"),
    }
    assert "With 1000 times the scale" in told["rebellions_power", "implausible"].detail
    assert "hypervisor-1" in told["kepler_node", "no_cluster"].detail


def test_the_model_fills_what_nobody_measures(collected: Collected) -> None:
    node = Machine(8, 32, 2, 12.75, 85.0)
    power = cluster_power([s for s in collected.samples if s.cluster == VIRTUAL], [(node, 2)])
    assert power.measured_w == pytest.approx(31)
    # 55 W of the hypervisor, the second card at its measured use of 80 % (0.15 x 85 W idle), and the node nobody reads.
    unread = 50 + 8 * 15 * 0.5 + 32 * 0.5 + 2 * 85 * (0.15 + 0.85 * 0.5)
    assert power.modelled_w == about(55 + 85 * (0.15 + 0.85 * 0.8) + unread)
    assert (power.nodes, power.nodes_modelled) == (1, 1)


def test_a_units_setting_repairs_what_a_finding_told(running: Running) -> None:
    made = telemetry(running.url, metrics={"rebellions_power": {"scale": 1000}}, readers=["rebellions"])
    power = of(made.collect(Inventory(clusters=frozenset({VIRTUAL})), datetime.now(UTC)), VIRTUAL)
    assert {key[1]: sample.value for key, sample in power.items()} == pytest.approx(
        {"rbln-card-0000-0001": 31.0, "rbln-card-0000-0002": 40.0}
    )


def test_a_prometheus_that_stands_still_and_one_that_died_are_failures(tmp_path: Path) -> None:
    program = binary()
    with Exporter() as exporter, prometheus(program, tmp_path, exporter) as (url, process):
        made = telemetry(url, timeout_s=0.5, budget_s=1)
        wait_until(lambda: not made.collect(Inventory(), datetime.now(UTC)).failures, 20, what="Prometheus answers")
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        still = made.collect(Inventory(), datetime.now(UTC))
        assert time.monotonic() - begin < 3
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)
        dead = made.collect(Inventory(), datetime.now(UTC))
    assert [[f.reason for f in c.failures] for c in (still, dead)] == [["TIMEOUT"], ["UNREACHABLE"]]
    assert still.samples == dead.samples == ()
