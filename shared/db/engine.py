"""The engine: one pool a process, and connections that answer in bounded time."""

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

#: Long enough for any statement of ours, short enough that a task stays under its 30 s.
STATEMENT_TIMEOUT_MS = 20_000
LOCK_TIMEOUT_MS = 10_000


def make_engine(url: str, *, pool_size: int = 16, application: str = "kcloud") -> Engine:
    """An engine over psycopg2 whose sessions speak UTC and give up on a statement after 20 s."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=15,
        pool_pre_ping=False,
        pool_recycle=1800,
        pool_use_lifo=True,
        connect_args={"application_name": application, "connect_timeout": 5},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: object, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]  # psycopg2's, which SQLAlchemy types as object
        cursor.execute(
            "SELECT set_config('TimeZone', 'UTC', false), set_config('statement_timeout', %s, false),"
            " set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)",
            (str(STATEMENT_TIMEOUT_MS), str(LOCK_TIMEOUT_MS), str(STATEMENT_TIMEOUT_MS)),
        )
        cursor.close()
        connection.commit()  # type: ignore[attr-defined]

    return engine
