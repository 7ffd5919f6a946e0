"""One shape for all log lines: ours, gunicorn's, Celery's and the SDK's. Console in development, JSON elsewhere.

Event names are constants like ``tick.applied``; what belongs to them are fields. Secrets are cut out by name.
"""

import logging
import logging.config
import re
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final

import structlog
from structlog.contextvars import bound_contextvars

_SECRET = re.compile(r"password|secret|token|authorization|x-auth|x-subject", re.IGNORECASE)
_NOT_SECRET: Final = frozenset({"lease_token"})


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if _SECRET.search(key) and key not in _NOT_SECRET:
            event[key] = "***"
    return event


def configure(*, level: str, fmt: str, process: str) -> None:
    """Set logging up for this process, whose lines carry ``process``."""

    def name_process(_l: Any, _m: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
        _redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else (
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )  # locals may hold secrets
        )
    )
    finish = [structlog.processors.format_exc_info] if fmt == "json" else []
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "all": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder()],
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish, renderer],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "all"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # Chatty below WARNING, and keystoneauth's DEBUG shows headers.
                "keystoneauth": {"level": "WARNING"},
                "keystonemiddleware": {"level": "WARNING"},
                "urllib3": {"level": "WARNING"},
                "openstack": {"level": "WARNING"},
                "stevedore": {"level": "WARNING"},
                "alembic": {"level": "WARNING"},
                "celery.worker.strategy": {"level": "WARNING"},
                "celery.app.trace": {"level": "WARNING"},
                "kombu": {"level": "WARNING"},
            },
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def bound(**values: object) -> AbstractContextManager[None]:
    """Every line that this thread writes inside carries these values, as text; None is left out."""
    return bound_contextvars(**{name: str(value) for name, value in values.items() if value is not None})
