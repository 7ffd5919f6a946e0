"""Objects for tests: plain functions with valid defaults, so that a test names only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.domain.clusters import Cluster, ClusterSpec, ObservedCluster, Scope, magnum_name
from shared.domain.jobs import Job, JobKind, JobState
from shared.domain.ports import Actor, Catalog, Flavor, Template
from shared.settings import ApiSettings, CloudSettings, EngineSettings, Settings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REGION = "RegionOne"
PROJECT = "c33fb42164fd4835b593c26776e6a6a9"
OTHER_PROJECT = "c3aabf8a2881403bbd8ff3c38dc595d1"
SCOPE = Scope(REGION, PROJECT)
TEMPLATE_ID = "57ac16d1-ebc7-46fc-a84e-45ed5b2e7eeb"
TEMPLATE_NAME = "gpu-intensive-template"
KEYPAIR = "kcloud-keypair"


def ago(seconds: float, now: datetime = NOW) -> datetime:
    """The moment so many seconds before ``now``."""
    return now - timedelta(seconds=seconds)


def an_actor(project_id: str = PROJECT, *roles: str) -> Actor:
    return Actor("user-1", project_id, frozenset(roles or ("member",)), user_name="operator", request_id="req-test")


def a_job(kind: JobKind = JobKind.CREATE, state: JobState = JobState.QUEUED, **changes: Any) -> Job:
    params: dict[str, Any] = {JobKind.CREATE: {"node_count": 1}, JobKind.RESIZE: {"node_count": 3, "from": 1}}.get(kind, {})
    job = Job(
        id=uuid4(),
        project_id=PROJECT,
        region=REGION,
        cluster_id=uuid4(),
        kind=kind,
        state=state,
        params=params,
        created_at=NOW,
        due_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
    )
    return replace(job, **changes)


def a_cluster(name: str = "training", *, job_id: UUID | None = None, **changes: Any) -> Cluster:
    cluster = Cluster(
        id=uuid4(),
        project_id=PROJECT,
        region=REGION,
        name=name,
        magnum_name=magnum_name(name, job_id or uuid4()),
        template_id=TEMPLATE_ID,
        template_name=TEMPLATE_NAME,
        node_count=1,
        master_count=1,
        keypair=KEYPAIR,
        flavor="gpu.a100.large",
        master_flavor="cpu.large",
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(cluster, **changes)


def an_observed(status: str = "CREATE_COMPLETE", **changes: Any) -> ObservedCluster:
    observed = ObservedCluster(
        uuid=str(uuid4()),
        name="training-0a1b2c3d",
        raw_status=status,
        node_count=1,
        master_count=1,
        updated_at=NOW,
        created_at=ago(60),
        template_id=TEMPLATE_ID,
        flavor="gpu.a100.large",
        master_flavor="cpu.large",
    )
    return replace(observed, **changes)


def a_spec(name: str = "training-0a1b2c3d", **changes: Any) -> ClusterSpec:
    spec = ClusterSpec(name=name, template=TEMPLATE_ID, node_count=1, master_count=1, keypair=KEYPAIR, labels={})
    return replace(spec, **changes)


def a_template(**changes: Any) -> Template:
    template = Template(
        uuid=TEMPLATE_ID,
        name=TEMPLATE_NAME,
        coe="kubernetes",
        flavor="gpu.a100.large",
        master_flavor="cpu.large",
        keypair=KEYPAIR,
        labels={"kube_tag": "v1.33.1"},
    )
    return replace(template, **changes)


def a_flavor(name: str = "cpu.large", *, vcpus: int = 16, ram_mb: int = 65536, **extra_specs: str) -> Flavor:
    """A flavor; in the names of ``extra_specs`` a double underscore stands for a colon."""
    specs = {key.replace("__", ":"): value for key, value in extra_specs.items()}
    return Flavor(f"id-of-{name}", name, vcpus, ram_mb, specs)


def a_catalog(*templates: Template, read_at: datetime = NOW) -> Catalog:
    flavors = (a_flavor("cpu.large"), a_flavor("gpu.a100.large", vcpus=32, ram_mb=131072, accelerator__model="a100"))
    return Catalog(templates or (a_template(),), flavors, frozenset({KEYPAIR}), read_at)


def engine_settings(**changes: Any) -> EngineSettings:
    """The production values; the relations between them are part of what is tested."""
    settings = EngineSettings(
        lease_ttl_s=45.0,
        relay_interval_s=1.0,
        redispatch_s=20.0,
        tick_min_s=2.0,
        tick_max_s=10.0,
        tick_idle_s=300.0,
        tick_budget_s=15.0,
        magnum_share=0.5,
        inventory_interval_s=60.0,
        inventory_share=0.05,
        page_size=100,
        dispatch_window=500,
        max_attempts=60,
        max_crashes=10,
        lost_answer_grace_s=15.0,
        create_deadline_s=3600.0,
        resize_deadline_s=3600.0,
        delete_deadline_s=3600.0,
        stall_s=900.0,
        job_retention_days=30,
        metrics_interval_s=30.0,
        metrics_retention_days=400,
        worker_concurrency=4,
    )
    return replace(settings, **changes)


def some_settings(database_url: str, **engine: Any) -> Settings:
    """Settings over a test's database. Nothing listens at the other addresses: a test that needs a broker or a cloud gives it."""
    return Settings(
        cloud=CloudSettings(auth_url="http://127.0.0.1:9/v3", username="admin", password="none", region=REGION),
        api=ApiSettings("127.0.0.1", 8006, 1, 4, 1_048_576, None, 60.0, 60.0),
        engine=engine_settings(**engine),
        database_url=database_url,
        redis_url="redis://127.0.0.1:9/0",
        instance="test:1",
    )
