"""The tasks. Each is a few lines: what happens stands in the services.

Tasks about jobs carry only the job's id and the cluster's name. All but these are kept out of the event stream, so that Flower
shows jobs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from celery.exceptions import Ignore

from shared.domain.clusters import Scope
from shared.errors import Unavailable
from shared.observability.broker import BrokerProbe
from shared.observability.logging import get_logger
from workers.app import MAINTENANCE, TICKS, app, container
from workers.dispatch import CeleryDispatcher
from workers.schedule import BUDGETS_EVERY_S, CLEANUP_EVERY_S, SCALE_EVERY_S

if TYPE_CHECKING:
    from shared.services.converge import Converger
    from shared.services.inventory import Inventory
    from shared.services.relay import Relay
    from shared.services.runner import Runner

log = get_logger(__name__)


@cache
def _runner() -> Runner:
    return container().runner()


@cache
def _converger() -> Converger:
    return container().converger()


@cache
def _inventory() -> Inventory:
    return container().inventory()


@cache
def relay() -> Relay:
    """The relay of this process."""
    return container().relay(CeleryDispatcher(app, BrokerProbe(container().settings.redis_url)))


def _run_job(job_id: str) -> None:
    _runner().run(UUID(job_id))
    # The job's end is announced when it comes; until then the task stays STARTED.
    raise Ignore


@app.task(name="jobs.create")
def create(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001 - shown in Flower
    """Ask Magnum for a cluster."""
    _run_job(job_id)


@app.task(name="jobs.resize")
def resize(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum for another number of nodes."""
    _run_job(job_id)


@app.task(name="jobs.delete")
def delete(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum to remove a cluster."""
    _run_job(job_id)


@app.task(name="jobs.add_node_group")
def add_node_group(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum for another group of workers."""
    _run_job(job_id)


@app.task(name="jobs.remove_node_group")
def remove_node_group(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum to take a group of workers away."""
    _run_job(job_id)


@app.task(name="jobs.hibernate")
def hibernate(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum to take all workers away, a group at a time."""
    _run_job(job_id)


@app.task(name="jobs.wake")
def wake(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum to bring the workers back, a group at a time."""
    _run_job(job_id)


@app.task(name="jobs.upgrade")
def upgrade(job_id: str, cluster: str | None = None) -> None:  # noqa: ARG001
    """Ask Magnum to bring the cluster to another template's version."""
    _run_job(job_id)


@app.task(name="jobs.create_stack")
def create_stack(job_id: str, stack: str | None = None) -> None:  # noqa: ARG001
    """Ask Heat for a stack."""
    _run_job(job_id)


@app.task(name="jobs.update_stack")
def update_stack(job_id: str, stack: str | None = None) -> None:  # noqa: ARG001
    """Ask Heat to change a stack."""
    _run_job(job_id)


@app.task(name="jobs.delete_stack")
def delete_stack(job_id: str, stack: str | None = None) -> None:  # noqa: ARG001
    """Ask Heat to remove a stack."""
    _run_job(job_id)


@app.task(name="jobs.match")
def match(job_id: str, workload: str | None = None) -> None:  # noqa: ARG001 - shown in Flower
    """Find the best place for a workload."""
    _run_job(job_id)


@app.task(name="jobs.optimize")
def optimize(job_id: str, workload: str | None = None) -> None:  # noqa: ARG001 - shown in Flower
    """Plan which clusters could go."""
    _run_job(job_id)


@app.task(name="ticks.converge", queue=TICKS, send_events=False)
def converge(region: str, project_id: str) -> None:
    """Look at one scope, and move its jobs."""
    _converger().tick(Scope(region, project_id))


@app.task(name="ticks.inventory", queue=TICKS, send_events=False)
def take_inventory(region: str, project_id: str) -> None:
    """Take the next slice of one scope's inventory."""
    _inventory().take(Scope(region, project_id))


@app.task(name="relay.dispatch", queue=MAINTENANCE, send_events=False)
def dispatch() -> None:
    """Stand in for the relay process, should it be away."""
    try:
        relay().dispatch()
    except Unavailable as exc:
        log.warning("relay.unavailable", reason=exc.reason, detail=exc.detail)


@app.task(name="maintenance.sample_metrics", queue=MAINTENANCE, send_events=False)
def sample_metrics() -> None:
    """One sample per cluster."""
    made = container()
    made.metering.sample(every_s=made.settings.engine.metrics_interval_s)


@app.task(name="maintenance.roll_metrics", queue=MAINTENANCE, send_events=False)
def roll_metrics() -> None:
    """Bring the roll-ups of samples up to date."""
    container().metering.roll_metrics(budget_s=10.0)


@app.task(name="maintenance.collect_telemetry", queue=MAINTENANCE, send_events=False)
def collect_telemetry() -> None:
    """Ask the meters of all clusters."""
    made = container()
    made.collection.collect(every_s=made.settings.engine.metrics_interval_s)


@app.task(name="maintenance.sweep_placements", queue=MAINTENANCE, send_events=False)
def sweep_placements() -> None:
    """End the placements whose lease ran out, and those of clusters that are no more."""
    container().placements.sweep()


@app.task(name="maintenance.learn_prices", queue=MAINTENANCE, send_events=False)
def learn_prices() -> None:
    """Price the room on nodes by what was held lately."""
    container().placements.learn()


@app.task(name="maintenance.apply_scale_policies", queue=MAINTENANCE, send_events=False)
def apply_scale_policies() -> None:
    """Do what scale policies that are switched on decide."""
    container().scaling.apply(every_s=SCALE_EVERY_S)


@app.task(name="maintenance.roll_costs", queue=MAINTENANCE, send_events=False)
def roll_costs() -> None:
    """Continue the cost series."""
    container().metering.roll()


@app.task(name="maintenance.retain", queue=MAINTENANCE, send_events=False)
def retain() -> None:
    """Drop what is past its keeping time."""
    container().upkeep.retain()


@app.task(name="maintenance.watch_own_project", queue=MAINTENANCE, send_events=False)
def watch_own_project() -> None:
    """Make sure that the service's own project is inventoried."""
    container().upkeep.watch_own_project()


@app.task(name="maintenance.sweep_idle_clusters", queue=MAINTENANCE, send_events=False)
def sweep_idle_clusters() -> None:
    """Look for idle clusters, and do what the projects' policies say."""
    container().sweeper.sweep_all(every_s=CLEANUP_EVERY_S, budget_s=15.0)


@app.task(name="maintenance.apply_plans", queue=MAINTENANCE, send_events=False)
def apply_plans() -> None:
    """Take plans of consolidation further."""
    container().applier.apply_all(budget_s=15.0)


@app.task(name="maintenance.look_at_budgets", queue=MAINTENANCE, send_events=False)
def look_at_budgets() -> None:
    """See how budgets stand, and do what is called for at their thresholds."""
    container().budgets.look_at_all(every_s=BUDGETS_EVERY_S)


@app.task(name="maintenance.deliver_webhooks", queue=MAINTENANCE, send_events=False)
def deliver_webhooks() -> None:
    """Send what is due to webhooks."""
    container().webhooks.deliver()
