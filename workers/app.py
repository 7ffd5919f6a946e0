"""The Celery application.

Celery carries hints, PostgreSQL the truth; the settings below follow from that. A message lost with a killed worker is sent
again by the relay, so nothing here leans on redelivery, and no task has an ETA.
"""

from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, task_failure, task_success, worker_ready, worker_shutdown
from kombu import Queue

from shared.errors import KcloudError
from shared.observability.logging import configure, get_logger
from shared.settings import current
from workers.events import FlowerAnnouncer
from workers.schedule import table

if TYPE_CHECKING:
    from shared.bootstrap import Container

log = get_logger(__name__)

JOBS, TICKS, MAINTENANCE = "jobs", "ticks", "maintenance"
#: Seconds after which Redis gives an unacknowledged message to another worker: far beyond any task (30 s), so never in life.
VISIBILITY_TIMEOUT_S = 600

app = Celery("kcloud", include=["workers.tasks"])
_state: dict[str, Any] = {}


def configure_app() -> None:
    """Fill the application from the settings."""
    settings = current()
    app.conf.update(
        broker_url=settings.redis_url,
        broker_connection_timeout=3,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=MAINTENANCE,
        task_queues=(Queue(JOBS), Queue(TICKS), Queue(MAINTENANCE)),
        task_serializer="json",
        accept_content=["json"],
        task_send_sent_event=False,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=True,
        worker_concurrency=settings.engine.worker_concurrency,
        task_publish_retry=False,
        event_queue_expires=60,
        event_queue_ttl=30,
        beat_schedule=table(settings.engine),
        beat_max_loop_interval=5,
        timezone="UTC",
        enable_utc=True,
    )


configure_app()


def container() -> "Container":
    """This process's container, made at first use."""
    held = _state.get("container")
    if held is None:
        from shared.bootstrap import build  # beat and Flower import this module and need none of the product

        settings = current()
        announcer = FlowerAnnouncer(app, lambda: str(_state.get("hostname") or f"worker@{settings.instance}"))
        held = build(settings, pool_size=settings.engine.worker_concurrency + 2).announcing(announcer)
        _state["container"] = held
    made: Container = held
    return made


@setup_logging.connect
def _set_up_logging(**_kwargs: Any) -> None:
    settings = current()
    configure(level=settings.log_level, fmt=settings.log_format, process="worker")


@celeryd_after_setup.connect
def _remember_name(sender: str, **_kwargs: Any) -> None:
    _state["hostname"] = sender


@worker_ready.connect
def _serve_metrics(**_kwargs: Any) -> None:
    from shared.observability.metrics import serve

    told = current().metrics
    if told.port is None:
        return
    try:
        serve(told.host, told.port)
    except OSError as exc:  # jobs matter more; the target is down, which Prometheus tells
        log.error("metrics.not_served", address=f"{told.host}:{told.port}", detail=str(exc))  # noqa: TRY400 - it says all


@task_success.connect
def _note_task(sender: Any = None, **_kwargs: Any) -> None:
    """Beat's tasks are written down: that one of them does not come any more is told at /metrics."""
    family, _, name = str(getattr(sender, "name", "")).partition(".")
    if family not in {"maintenance", "relay"}:
        return
    try:
        container().upkeep.note_task(name)
    except KcloudError as exc:
        log.warning("tasks.not_noted", task=name, reason=exc.reason)


@task_failure.connect
def _count_failure(sender: Any = None, **_kwargs: Any) -> None:
    from shared.observability.metrics import TASKS_FAILED

    TASKS_FAILED.labels(str(getattr(sender, "name", ""))).inc()


@worker_shutdown.connect
def _say_last_words(**_kwargs: Any) -> None:
    held = _state.get("container")
    if held is not None:
        held.announcer.flush(2.0)
