"""How gunicorn serves the API: `gunicorn -c api/gunicorn.py api.wsgi:app`."""

import gc
import logging
import os
from typing import Any, Final

from gunicorn import glogging
from prometheus_client import multiprocess

from shared.observability.logging import configure
from shared.settings import current

_settings: Final = current()
configure(level=_settings.log_level, fmt=_settings.log_format, process="api")


class Logger(glogging.Logger):
    """Lets gunicorn's lines through to the one shape that all lines have."""

    def setup(self, cfg: Any) -> None:
        """Keep the handlers of the root logger; take over the level alone."""
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.access_log.handlers = []
        self.access_log.disabled = True  # /metrics counts requests; their lines are written at DEBUG


_host = f"[{_settings.api.host}]" if ":" in _settings.api.host else _settings.api.host
bind = f"{_host}:{_settings.api.port}"
worker_class = "gthread"
workers = _settings.api.workers
threads = _settings.api.threads
worker_connections = 1000
# Longer than the 60 s that proxies keep theirs, so that none sends a request into a closing connection.
keepalive = 75
graceful_timeout = 30
timeout = 60  # a worker whose main loop stands still; requests may take longer
backlog = 2048
# The container opens nothing before its first use, so it may be shared: half the memory, and settings that are wrong
# end the start at once.
preload_app = True
logger_class = Logger
loglevel = _settings.log_level.lower()
accesslog = None
proc_name = "kcloud-api"
# Its default place is one a user, where a second installation would find the first one's.
control_socket_disable = True
# X-Forwarded-* are trusted from nobody: addresses in answers are relative.
forwarded_allow_ips = ""


def when_ready(server: Any) -> None:
    """Before the workers are forked: what is loaded by now stays, so the collector need not look through it again and again.

    It did for 40 ms every fifty long answers. The workers also share the memory for longer that way.
    """
    del server
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """A worker is gone: its gauges no longer count."""
    del server
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
