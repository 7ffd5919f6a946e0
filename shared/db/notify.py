"""Waking the relay: NOTIFY after commits, at most once in 20 ms a process, and LISTEN with a timer.

NOTIFY inside the accepting transaction would make PostgreSQL commit one transaction at a time (it takes a lock on the whole
database until the commit is durable), which ends group commit. So it is sent beside it; the timer covers what is lost.
"""

import select
import threading
import time

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

CHANNEL = "kcloud_due"
_PAUSE_S = 0.02


class Nudger:
    """Tells the relay that something is due, from a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Returns at once; many calls become one NOTIFY."""
        if self._wanted.is_set():
            return
        self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                with self._engine.connect() as conn:
                    conn.exec_driver_sql(f"NOTIFY {CHANNEL}")
            except (SQLAlchemyError, psycopg2.Error):  # setting the isolation level of a lost connection raises the driver's own
                time.sleep(1.0)  # the relay's timer finds the work meanwhile
            time.sleep(_PAUSE_S)


class Listener:
    """Waits for a nudge. Reconnects by itself; while it can't, waiting ends by the timer alone."""

    def __init__(self, engine: Engine) -> None:
        self._dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: connection | None = None

    def wait(self, seconds: float) -> bool:
        """Block up to ``seconds``; True where somebody nudged."""
        try:
            conn = self._connected()
            if conn.notifies:
                conn.notifies.clear()
                return True
            ready, _, _ = select.select([conn], [], [], seconds)
            if not ready:
                return False
            conn.poll()
            woken = bool(conn.notifies)
            conn.notifies.clear()
        except (psycopg2.Error, OSError, ValueError):
            self.close()
            time.sleep(seconds)
            return False
        return woken

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            try:
                self._connection.close()
            except psycopg2.Error:
                self._connection = None
            self._connection = None

    def _connected(self) -> connection:
        if self._connection is None or self._connection.closed:
            conn = psycopg2.connect(self._dsn, application_name="kcloud-relay-listen", connect_timeout=5)
            conn.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with conn.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            self._connection = conn
        return self._connection
