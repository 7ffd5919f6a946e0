"""The only place where objects are wired: settings in, container out. Nothing here opens a connection."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from shared.db import migrate
from shared.db.engine import make_engine
from shared.db.notify import Listener, Nudger
from shared.db.uow import Database
from shared.domain.jobs import Job, JobKind
from shared.domain.ports import Announcer, Clock, Cloud, Dispatcher
from shared.observability.broker import BrokerProbe
from shared.openstack.cloud import OpenStackCloud
from shared.openstack.retry import backoff_s
from shared.outbound import Outbound
from shared.services.accelerators import AcceleratorService, load_catalogue
from shared.services.access import AccessService
from shared.services.analysis import AnalysisService
from shared.services.applying import Applier
from shared.services.budgets import BudgetService
from shared.services.catalogs import Catalogs
from shared.services.cleanup import CleanupService
from shared.services.clusters import ClusterService
from shared.services.collection import CollectionService
from shared.services.consolidation import ConsolidationService
from shared.services.converge import Converger
from shared.services.costs import CostService
from shared.services.credentials import Credentials, CredentialService, Vault
from shared.services.fleets import Fleets
from shared.services.health import HealthService
from shared.services.hot import HotTemplates
from shared.services.idleness import Watch
from shared.services.inventory import Inventory
from shared.services.jobs import JobService
from shared.services.matching import MatchService
from shared.services.metering import MeteringService
from shared.services.placements import PlacementService
from shared.services.plans import PlanService
from shared.services.power import PowerBudgets
from shared.services.rates import RateService
from shared.services.relay import Relay
from shared.services.runner import Runner
from shared.services.savings import SavingsService
from shared.services.scaling import ScalingService
from shared.services.stacks import StackService
from shared.services.sweeping import Sweeper
from shared.services.templates import ShippedTypes, TemplateService
from shared.services.upkeep import Upkeep
from shared.services.webhooks import WebhookService
from shared.settings import Settings, current
from shared.telemetry.collect import PrometheusTelemetry
from shared.telemetry.config import TelemetryConfig
from shared.telemetry.config import load as load_telemetry


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)


class Silent:
    """An announcer for where nobody watches."""

    def finished(self, job: Job) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class Container:
    """The product, wired. Workers also need :meth:`runner` and the others that take a broker's side."""

    settings: Settings
    clock: Clock
    database: Database
    cloud: Cloud
    clusters: ClusterService
    jobs: JobService
    catalogs: Catalogs
    stacks: StackService
    templates: TemplateService
    accelerators: AcceleratorService
    fleets: Fleets
    matching: MatchService
    placements: PlacementService
    scaling: ScalingService
    analysis: AnalysisService
    consolidation: ConsolidationService
    applier: Applier
    plans: PlanService
    access: AccessService
    health: HealthService
    metering: MeteringService
    collection: CollectionService
    rates: RateService
    costs: CostService
    budgets: BudgetService
    savings: SavingsService
    credentials: CredentialService
    upkeep: Upkeep
    sweeper: Sweeper
    cleanup: CleanupService
    webhooks: WebhookService
    announcer: Announcer

    def announcing(self, announcer: Announcer) -> "Container":
        """The same with somebody who tells of jobs' ends."""
        return replace(self, announcer=announcer)

    def runner(self) -> Runner:
        """Runs jobs' calls."""
        return Runner(
            self.database,
            self.cloud,
            self.clock,
            self.announcer,
            engine=self.settings.engine,
            owner=self.settings.instance,
            backoff_s=backoff_s,
            decisions={JobKind.MATCH: self.matching.run, JobKind.OPTIMIZE: self.consolidation.run},
        )

    def converger(self) -> Converger:
        """Runs ticks."""
        return Converger(self.database, self.cloud, self.clock, self.announcer, engine=self.settings.engine)

    def inventory(self) -> Inventory:
        """Runs inventories."""
        return Inventory(self.database, self.cloud, self.clock, self.clusters, engine=self.settings.engine)

    def relay(self, dispatcher: Dispatcher) -> Relay:
        """Sends hints."""
        return Relay(self.database, dispatcher, self.announcer, engine=self.settings.engine)

    def listener(self) -> Listener:
        """Waits for nudges."""
        return Listener(self.database.engine)


def build(
    settings: Settings | None = None,
    *,
    cloud: Callable[[Credentials], Cloud] | None = None,
    clock: Clock | None = None,
    pool_size: int | None = None,
) -> Container:
    """Wire everything. ``cloud`` and ``clock`` stand in for the real ones in tests."""
    settings = settings or current()
    clock = clock or SystemClock()
    engine = make_engine(settings.database_url, pool_size=pool_size or max(settings.api.threads, 4))
    database = Database(engine)
    vault = Vault(settings.secret_key)
    found = Credentials(database, vault)
    the_cloud = cloud(found) if cloud else OpenStackCloud(settings.cloud, found.find)
    region = settings.cloud.region
    catalogs = Catalogs(the_cloud, clock, settings.api.catalog_ttl_s)
    nudge = Nudger(engine)
    clusters = ClusterService(database, the_cloud, catalogs, clock, region=region, engine=settings.engine, nudge=nudge)
    stacks = StackService(
        database, the_cloud, clusters, HotTemplates(), clock, region=region, settings=settings.network, nudge=nudge
    )
    templates = TemplateService(database, catalogs, ShippedTypes(), region=region)
    accelerators = AcceleratorService(load_catalogue(settings.placement), catalogs, region=region)
    power = PowerBudgets(database, catalogs, accelerators, settings.placement)
    clusters.give(stacks.prepare_network, templates.find_type, power)
    fleets = Fleets(catalogs, accelerators, watt_weight=settings.placement.watt_weight)
    matching = MatchService(
        database,
        fleets,
        catalogs,
        templates,
        accelerators,
        clusters,
        clock,
        region=region,
        settings=settings.placement,
        nudge=nudge,
    )
    scaling = ScalingService(database, fleets, clusters, clock)
    jobs = JobService(database, clusters, nudge=nudge)
    costs = CostService(database, catalogs, accelerators, clock, region=region)
    meters = load_telemetry(settings.telemetry_file) if settings.telemetry_file else TelemetryConfig()
    watch = Watch(accelerators, catalogs, clock, region=region)
    sweeper = Sweeper(database, clusters, watch, clock, region=region)
    applier = Applier(database, clusters, matching, clock, region=region, settings=settings.plans)
    return Container(
        settings=settings,
        clock=clock,
        database=database,
        cloud=the_cloud,
        clusters=clusters,
        jobs=jobs,
        catalogs=catalogs,
        stacks=stacks,
        templates=templates,
        accelerators=accelerators,
        fleets=fleets,
        matching=matching,
        placements=PlacementService(database, fleets, region=region, settings=settings.placement),
        scaling=scaling,
        consolidation=ConsolidationService(
            database,
            fleets,
            matching,
            clusters,
            clock,
            region=region,
            settings=settings.placement,
            nudge=nudge,
            deadline=timedelta(minutes=15),
            valid=timedelta(seconds=settings.plans.valid_s),
        ),
        applier=applier,
        plans=PlanService(database, fleets, catalogs, applier, clock, settings=settings.plans),
        analysis=AnalysisService(database, fleets, matching, scaling, clusters, accelerators, clock, region=region),
        access=AccessService(database, the_cloud, clusters),
        health=HealthService(
            database,
            the_cloud,
            clock,
            broker_ping=BrokerProbe(settings.redis_url),
            is_migrated=lambda: migrate.current(engine) == migrate.head(),
            power_budgets={
                scope: watts
                for scope, watts in (("site", settings.placement.site_power_w), ("project", settings.placement.project_power_w))
                if watts is not None
            },
        ),
        rates=RateService(database),
        costs=costs,
        savings=SavingsService(database, catalogs, accelerators, clock, region=region),
        budgets=BudgetService(database, costs, power, clusters, clock, region=region),
        metering=MeteringService(database, the_cloud, catalogs, accelerators, clock, region=region),
        collection=CollectionService(
            database,
            PrometheusTelemetry(meters),
            the_cloud,
            catalogs,
            accelerators,
            clock,
            region=region,
            sources=[source.name for source in meters.sources],
        ),
        credentials=CredentialService(database, vault, the_cloud, region=region),
        upkeep=Upkeep(database, the_cloud, engine=settings.engine),
        sweeper=sweeper,
        cleanup=CleanupService(database, clusters, jobs, watch, sweeper, clock, region=region),
        webhooks=WebhookService(database, vault, Outbound(settings.webhook_networks), clock),
        announcer=Silent(),
    )
