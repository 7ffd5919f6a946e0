"""Settings: frozen dataclasses filled from the environment, all errors at once.

A secret may also come from a file: ``OS_PASSWORD_FILE=/run/secrets/os_password``. The table in docs/configuration.md is
generated from here.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Network, ip_network
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from environs import EnvValidationError, FileAwareEnv, validate
from marshmallow import ValidationError

from shared.errors import ConfigurationError

#: A worker signs in, looks and calls under one lease, each bounded by OS_TIMEOUT.
LEASE_PER_TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """How to reach OpenStack, and as whom."""

    auth_url: str
    username: str
    password: str = field(repr=False)
    project_name: str = "kcloud"
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    region: str = "RegionOne"
    interface: str = "public"
    magnum_api_version: str = "1.10"
    cacert: str | None = None
    timeout_s: float = 10.0  #: connect and each read of one call


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The HTTP server."""

    host: str
    port: int
    workers: int
    threads: int
    max_body_bytes: int
    policy_file: str | None
    catalog_ttl_s: float
    max_wait_s: float  #: the longest `Prefer: wait`


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The job engine's periods and limits, in seconds unless named otherwise."""

    lease_ttl_s: float
    relay_interval_s: float
    redispatch_s: float
    tick_min_s: float
    tick_max_s: float
    tick_idle_s: float
    tick_budget_s: float
    magnum_share: float  #: part of Magnum's time that watching may take, 0..1
    inventory_interval_s: float
    inventory_share: float
    page_size: int
    dispatch_window: int  #: messages that may wait in the broker
    max_attempts: int
    max_crashes: int
    lost_answer_grace_s: float
    create_deadline_s: float
    resize_deadline_s: float
    delete_deadline_s: float
    stall_s: float
    job_retention_days: int
    metrics_interval_s: float
    metrics_retention_days: int
    worker_concurrency: int


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Networks of clusters' own."""

    pool: str = "10.64.0.0/12"  #: where their address ranges come from
    prefix: int = 24  #: of each range
    external: str | None = None  #: the network that their routers lead to; None: the first external one that the project sees


@dataclass(frozen=True, slots=True)
class PlacementSettings:
    """How workloads are matched with clusters."""

    accelerators_file: str | None = None  #: in place of shared/data/accelerators.yaml
    reserved_cpu_milli: int = 0  #: of each node, for its own services
    reserved_memory_percent: float = 0.0
    site_power_w: float | None = None  #: what all clusters of a region together may draw at their highest; None: no limit
    project_power_w: float | None = None  #: what one project's clusters may, each project by itself
    electricity_per_kwh: float = 0.12  #: in the price currency; weighs watts against money in a match
    watt_weight: float = 0.1  #: of a watt against room, in thousandths of an accelerator, while much is free
    lease_s: float = 3600.0  #: of a placement whose request names none
    lease_max_s: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class DenyWindow:
    """Hours in which no plan begins anything. ``end`` is not included; one not after ``start`` is on the next day."""

    days: tuple[str, ...]
    start: str
    end: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How plans of consolidation are carried out."""

    valid_s: float = 3600.0  #: from when a plan was made to when it must be applied
    approval: str = "member"  #: who may approve: any member, another than who asked for it ("other"), or an admin
    max_clusters: int = 10  #: that may be disturbed within window_s
    window_s: float = 3600.0
    deny: tuple[DenyWindow, ...] = ()
    move_deadline_s: float = 3600.0  #: from when moves are offered to when they must be reported


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """What Prometheus is told, and how it may ask."""

    token: str | None = field(repr=False, default=None)  #: opens the API's /metrics as a bearer token
    host: str = "127.0.0.1"
    port: int | None = None  #: where a worker tells what it counts by itself; None: nowhere


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything."""

    cloud: CloudSettings
    api: ApiSettings
    engine: EngineSettings
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secret_key: str | None = field(repr=False, default=None)  #: Fernet key for credentials at rest
    log_level: str = "INFO"
    log_format: str = "console"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    placement: PlacementSettings = field(default_factory=PlacementSettings)
    plans: PlanSettings = field(default_factory=PlanSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    telemetry_file: str | None = None  #: names the Prometheus servers to read; None: power is modelled, and use is not known
    webhook_networks: tuple[str, ...] = ()  #: address ranges that webhooks may reach besides the public internet
    instance: str = ""  #: names this process in leases and logs


def _database_url(env: FileAwareEnv) -> str:
    url = env.str("DATABASE_URL", None)
    if url:
        return str(url).replace("postgres://", "postgresql+psycopg2://", 1).replace("postgresql://", "postgresql+psycopg2://", 1)
    host = env.str("POSTGRES_HOST", None)
    if not host:
        msg = "Set DATABASE_URL (or POSTGRES_HOST and its companions). `make run` starts a database of its own."
        raise ConfigurationError(msg)
    user = quote(env.str("POSTGRES_USER", "kcloud"), safe="")
    password = quote(env.str("POSTGRES_PASSWORD", ""), safe="")
    credentials = f"{user}:{password}" if password else user
    return f"postgresql+psycopg2://{credentials}@{host}:{env.int('POSTGRES_PORT', 5432)}/{env.str('POSTGRES_DB', 'kcloud_opt')}"


def _redis_url(env: FileAwareEnv) -> str:
    url = env.str("REDIS_URL", None)
    if url:
        text = str(url)
        return text.replace("unix://", "redis+socket://", 1) if text.startswith("unix://") else text
    host = env.str("REDIS_HOST", None)
    if not host:
        msg = "Set REDIS_URL (or REDIS_HOST and its companions). `make run` starts a broker of its own."
        raise ConfigurationError(msg)
    password = env.str("REDIS_PASSWORD", "")
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{host}:{env.int('REDIS_PORT', 6379)}/0"


def database_url() -> str:
    """The database's address alone, for commands that need nothing else."""
    return _database_url(FileAwareEnv())


def _cloud(env: FileAwareEnv) -> CloudSettings:
    return CloudSettings(
        auth_url=env.str("OS_AUTH_URL"),
        username=env.str("OS_USERNAME", "admin"),
        password=env.str("OS_PASSWORD"),
        project_name=env.str("OS_PROJECT_NAME", "kcloud"),
        user_domain_name=env.str("OS_USER_DOMAIN_NAME", "Default"),
        project_domain_name=env.str("OS_PROJECT_DOMAIN_NAME", "Default"),
        region=env.str("OS_REGION_NAME", "RegionOne"),
        interface=env.str("MAGNUM_ENDPOINT_TYPE", "public"),
        magnum_api_version=env.str("MAGNUM_API_VERSION", "1.10", validate=validate.Regexp(r"^(latest|1\.\d+)$")),
        cacert=env.str("OS_CACERT", None),
        timeout_s=env.float("OS_TIMEOUT", 10.0, validate=validate.Range(min=0.1, max=12)),
    )


def cloud_settings() -> CloudSettings:
    """How to reach OpenStack alone, for commands that need neither database nor broker."""
    env = FileAwareEnv(eager=False)
    cloud = _cloud(env)
    try:
        env.seal()
    except EnvValidationError as exc:
        raise ConfigurationError("; ".join(_messages(exc))) from exc
    return cloud


def accelerators_file() -> str | None:
    """The file of the accelerators' catalogue; None for the one that comes with the service."""
    found: str | None = FileAwareEnv().str("ACCELERATORS_FILE", None)
    return found


def _is_pool(words: str) -> None:
    try:
        pool = IPv4Network(words)
    except ValueError as exc:
        msg = f"must be an IPv4 range such as 10.64.0.0/12: {exc}"
        raise ValidationError(msg) from exc
    if not pool.is_private:
        msg = "must be a private range"
        raise ValidationError(msg)


def _are_networks(words: str) -> None:
    try:
        for one in words.split(","):
            ip_network(one.strip() or "10.0.0.0/8")
    except ValueError as exc:
        msg = f"must be address ranges such as 10.0.0.0/8, with commas between them: {exc}"
        raise ValidationError(msg) from exc


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DENY = re.compile(r"([a-z,-]+) +([0-2][0-9]:[0-5][0-9])-([0-2][0-9]:[0-5][0-9])(?: +([A-Za-z0-9_+/-]+))?")


def deny_windows(words: str) -> tuple[DenyWindow, ...]:
    """Windows such as ``mon-fri 08:00-18:00 Asia/Seoul; sun 00:00-24:00``. Raises ValidationError that names the wrong one."""
    return tuple(_deny_window(one.strip()) for one in words.split(";") if one.strip())


def _deny_window(words: str) -> DenyWindow:
    found = _DENY.fullmatch(words)
    if found is None:
        msg = f"{words!r} is not like mon-fri 08:00-18:00 Asia/Seoul (several with semicolons between them)"
        raise ValidationError(msg)
    start, end, zone = found[2], found[3].replace("24:00", "00:00"), found[4] or "UTC"
    if max(start, end) > "23:59":
        msg = f"{words!r}: hours go from 00:00 to 24:00"
        raise ValidationError(msg)
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        msg = f"{words!r}: there is no time zone {zone!r}; they are named like Asia/Seoul"
        raise ValidationError(msg) from exc
    days: set[str] = set()
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            msg = f"{words!r}: {part!r} is no day, nor days like mon-fri; there are: {', '.join(_DAYS)}"
            raise ValidationError(msg)
        begin, count = _DAYS.index(first), (_DAYS.index(last or first) - _DAYS.index(first)) % 7 + 1
        days |= {_DAYS[(begin + number) % 7] for number in range(count)}
    return DenyWindow(tuple(day for day in _DAYS if day in days), start, end, zone)


def _are_deny_windows(words: str) -> None:
    deny_windows(words)


def _messages(exc: EnvValidationError) -> list[str]:
    messages = exc.error_messages
    by_name = messages.items() if isinstance(messages, Mapping) else {"": messages}.items()
    return [f"{name}: {', '.join(words)}" for name, words in by_name]


def _noted(address: Callable[[FileAwareEnv], str], env: FileAwareEnv, problems: list[str]) -> str:
    try:
        return address(env)
    except ConfigurationError as exc:
        problems.append(exc.detail)
        return ""


def load() -> Settings:
    """The settings of this process. Raises :class:`ConfigurationError` that names every wrong variable."""
    env = FileAwareEnv(eager=False)
    problems: list[str] = []
    positive = validate.Range(min=0, min_inclusive=False)
    share = validate.Range(min=0.001, max=1.0)
    port = validate.Range(min=1, max=65535)
    try:
        cloud = _cloud(env)
        api = ApiSettings(
            host=env.str("API_HOST", "127.0.0.1"),
            port=env.int("API_PORT", 8006, validate=port),
            workers=env.int("API_WORKERS", 2, validate=positive),
            threads=env.int("API_THREADS", 16, validate=positive),
            max_body_bytes=env.int("API_MAX_BODY_BYTES", 1_048_576, validate=positive),
            policy_file=env.str("POLICY_FILE", None),
            catalog_ttl_s=env.float("CATALOG_TTL", 60.0, validate=positive),
            max_wait_s=env.float("API_MAX_WAIT", 60.0, validate=positive),
        )
        engine = EngineSettings(
            lease_ttl_s=env.float("LEASE_TTL", 45.0, validate=validate.Range(min=2)),
            relay_interval_s=env.float("RELAY_INTERVAL", 1.0, validate=positive),
            redispatch_s=env.float("REDISPATCH_AFTER", 20.0, validate=positive),
            tick_min_s=env.float("TICK_MIN", 1.0, validate=positive),
            tick_max_s=env.float("TICK_MAX", 10.0, validate=positive),
            tick_idle_s=env.float("TICK_IDLE", 300.0, validate=positive),
            tick_budget_s=env.float("TICK_BUDGET", 15.0, validate=validate.Range(min=0.1, max=25)),
            magnum_share=env.float("MAGNUM_SHARE", 0.5, validate=share),
            inventory_interval_s=env.float("INVENTORY_INTERVAL", 60.0, validate=positive),
            inventory_share=env.float("INVENTORY_SHARE", 0.05, validate=share),
            page_size=env.int("MAGNUM_PAGE_SIZE", 100, validate=validate.Range(min=1, max=1000)),
            dispatch_window=env.int("DISPATCH_WINDOW", 500, validate=positive),
            max_crashes=env.int("JOB_MAX_CRASHES", 10, validate=positive),
            max_attempts=env.int("JOB_MAX_ATTEMPTS", 60, validate=positive),
            lost_answer_grace_s=env.float("LOST_ANSWER_GRACE", 15.0, validate=positive),
            create_deadline_s=env.float("CREATE_DEADLINE", 3600.0, validate=positive),
            resize_deadline_s=env.float("RESIZE_DEADLINE", 3600.0, validate=positive),
            delete_deadline_s=env.float("DELETE_DEADLINE", 3600.0, validate=positive),
            stall_s=env.float("STALL_AFTER", 900.0, validate=positive),
            job_retention_days=env.int("JOB_RETENTION_DAYS", 30, validate=positive),
            metrics_interval_s=env.float("MONITORING_UPDATE_INTERVAL", 30.0, validate=positive),
            metrics_retention_days=env.int("METRICS_RETENTION_DAYS", 400, validate=positive),
            worker_concurrency=env.int("WORKER_CONCURRENCY", 16, validate=positive),
        )
        network = NetworkSettings(
            pool=env.str("NETWORK_POOL", "10.64.0.0/12", validate=_is_pool),
            prefix=env.int("NETWORK_PREFIX", 24, validate=validate.Range(min=16, max=28)),
            external=env.str("EXTERNAL_NETWORK", None),
        )
        placement = PlacementSettings(
            accelerators_file=env.str("ACCELERATORS_FILE", None),
            reserved_cpu_milli=env.int("NODE_RESERVED_CPU_MILLI", 0, validate=validate.Range(min=0, max=64_000)),
            reserved_memory_percent=env.float("NODE_RESERVED_MEMORY_PERCENT", 0.0, validate=validate.Range(min=0, max=90)),
            site_power_w=env.float("SITE_POWER_BUDGET", None, validate=positive),
            project_power_w=env.float("PROJECT_POWER_BUDGET", None, validate=positive),
            electricity_per_kwh=env.float("ELECTRICITY_RATE", 0.12, validate=validate.Range(min=0)),
            watt_weight=env.float("PLACEMENT_WATT_WEIGHT", 0.1, validate=validate.Range(min=0, max=100)),
            lease_s=env.float("PLACEMENT_LEASE", 3600.0, validate=positive),
            lease_max_s=env.float("PLACEMENT_LEASE_MAX", 2_592_000.0, validate=positive),
        )
        plans = PlanSettings(
            valid_s=env.float("PLAN_VALID", 3600.0, validate=positive),
            approval=env.str("PLAN_APPROVAL", "member", validate=validate.OneOf(["member", "other", "admin"])),
            max_clusters=env.int("PLAN_MAX_CLUSTERS", 10, validate=positive),
            window_s=env.float("PLAN_WINDOW", 3600.0, validate=positive),
            move_deadline_s=env.float("PLAN_MOVE_DEADLINE", 3600.0, validate=positive),
        )
        denied = env.str("PLAN_DENY_WINDOWS", "", validate=_are_deny_windows)
        database_url = _noted(_database_url, env, problems)
        redis_url = _noted(_redis_url, env, problems)
        secret_key = env.str("KCLOUD_SECRET_KEY", None)
        metrics = MetricsSettings(
            token=env.str("METRICS_TOKEN", None, validate=validate.Length(min=16)),
            host=env.str("METRICS_HOST", "127.0.0.1"),
            port=env.int("METRICS_PORT", None, validate=port),
        )
        telemetry_file = env.str("TELEMETRY_FILE", None)
        webhook_networks = env.str("WEBHOOK_NETWORKS", "", validate=_are_networks)
        log_level = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
        log_format = env.str("LOG_FORMAT", "console", validate=validate.OneOf(["console", "json"]))
        env.seal()
    except EnvValidationError as exc:
        problems += _messages(exc)
        raise ConfigurationError("; ".join(problems)) from exc
    if engine.lease_ttl_s < LEASE_PER_TIMEOUT * cloud.timeout_s:
        # A lease that ends while its worker still waits for an answer would let a second worker make the same call.
        problems.append(f"LEASE_TTL: Must be at least {LEASE_PER_TIMEOUT} times OS_TIMEOUT ({cloud.timeout_s:g} s).")
    if problems:
        raise ConfigurationError("; ".join(problems))
    return Settings(
        cloud=cloud,
        api=api,
        engine=engine,
        database_url=database_url,
        redis_url=redis_url,
        secret_key=secret_key,
        log_level=log_level,
        log_format=log_format,
        network=network,
        placement=placement,
        metrics=metrics,
        plans=replace(plans, deny=deny_windows(denied)),
        telemetry_file=telemetry_file,
        webhook_networks=tuple(words.strip() for words in webhook_networks.split(",") if words.strip()),
        instance=f"{socket.gethostname()}:{os.getpid()}",
    )


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings of this process, read once."""
    return load()
