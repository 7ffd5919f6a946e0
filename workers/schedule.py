"""The beat table. Every entry may run twice, late or not at all: what is due is decided by rows, not by the message.

Each message expires after its period, so that a worker that was away does not find a pile of them.
"""

from typing import Any, Final

from shared.settings import EngineSettings

#: Seconds between two decisions of a scale policy.
SCALE_EVERY_S: Final = 60.0
#: Seconds between two looks for idle clusters.
CLEANUP_EVERY_S: Final = 60.0
#: Seconds between two looks at budgets.
BUDGETS_EVERY_S: Final = 60.0


def table(engine: EngineSettings) -> dict[str, dict[str, Any]]:
    """The entries for Celery's ``beat_schedule``."""
    entries = {
        # Stands in for the relay process: with it alone, a job waits five seconds instead of a moment.
        "relay": ("relay.dispatch", 5.0),
        # As often as operators want points in their graphs (MONITORING_UPDATE_INTERVAL).
        "sample-metrics": ("maintenance.sample_metrics", engine.metrics_interval_s),
        # Ends at once where no source is named. In a task of its own, so that a slow source delays no sample.
        "collect-telemetry": ("maintenance.collect_telemetry", engine.metrics_interval_s),
        # The present hour is read from its samples, so that roll-ups are never behind; what has ended should not be read so for long.
        "roll-metrics": ("maintenance.roll_metrics", 60.0),
        # Costs are exact from usage intervals whenever asked; the series is for graphs, a minute is fine enough.
        "roll-costs": ("maintenance.roll_costs", 60.0),
        # A lease that has run out holds nothing from that moment on; the sweep only writes it down.
        "sweep-placements": ("maintenance.sweep_placements", 30.0),
        # The mix of work changes over days; new prices need a few milliseconds, and only where something was held.
        "learn-prices": ("maintenance.learn_prices", 300.0),
        # Nodes take minutes to come: deciding more often than once a minute brings nothing.
        "apply-scale-policies": ("maintenance.apply_scale_policies", SCALE_EVERY_S),
        # Idle times are counted in hours; a look a minute also sees short use. Longer than 30 minutes without one, and all begin anew.
        "sweep-idle-clusters": ("maintenance.sweep_idle_clusters", CLEANUP_EVERY_S),
        # A step's job has ended, or a move was reported: the next step need not wait long. Few plans are applied at a time.
        "apply-plans": ("maintenance.apply_plans", 5.0),
        # What is used is a sum over a month; a minute is news enough.
        "look-at-budgets": ("maintenance.look_at_budgets", BUDGETS_EVERY_S),
        # What webhooks are told should be news.
        "deliver-webhooks": ("maintenance.deliver_webhooks", 5.0),
        # The service's own project must be known before its first job; cheap, and again after a database was replaced.
        "watch-own-project": ("maintenance.watch_own_project", 60.0),
        # Retention is counted in days.
        "retain": ("maintenance.retain", 3600.0),
    }
    return {
        name: {"task": task, "schedule": period, "options": {"expires": max(period, 5.0)}}
        for name, (task, period) in entries.items()
    }
