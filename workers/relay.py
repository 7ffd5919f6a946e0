"""The relay process: ``python -m workers.relay``. Woken by PostgreSQL's NOTIFY, and by a timer for what NOTIFY missed."""

import signal
import sys
import threading

from shared.errors import KcloudError, Unavailable
from shared.observability.logging import configure, get_logger
from shared.settings import current
from workers.app import container
from workers.tasks import relay

log = get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    settings = current()
    configure(level=settings.log_level, fmt=settings.log_format, process="relay")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listener = container().listener()
    log.info("relay.started")
    while not stop.is_set():
        pause = settings.engine.relay_interval_s
        try:
            sent = relay().dispatch()
            if sent.more:
                stop.wait(0.05)  # the broker holds as much as it should; look again when it has drained a little
                continue
            if sent.next_due_s is not None:
                pause = min(pause, max(sent.next_due_s, 0.02))
        except Unavailable as exc:
            log.warning("relay.unavailable", reason=exc.reason, detail=exc.detail)
            stop.wait(1.0)
        except KcloudError as exc:
            log.exception("relay.failed", reason=exc.reason)
            stop.wait(1.0)
        listener.wait(pause)
    listener.close()
    log.info("relay.stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
