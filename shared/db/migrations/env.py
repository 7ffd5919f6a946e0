"""Runs migrations: one at a time over all processes, each in its own transaction, giving up rather than blocking writers."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from shared.db.tables import metadata

#: Any number that no other user of this database takes.
ADVISORY_LOCK = 0x6B636C6F7564
_ROLL_UPS = {"metric_changes", "metrics_by_hour", "metrics_by_day", "metrics_by_project_day"}


def _run() -> None:
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SET TimeZone = 'UTC'"))
        # Waits for another run; lock_timeout does not bound it, since that run may take long on a large table.
        connection.execute(text("SET lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.commit()
        try:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                transaction_per_migration=True,
                compare_type=True,
                include_object=lambda _object, name, kind, reflected, _compare: (
                    not (
                        # TimescaleDB makes an index of its own on each hypertable.
                        kind == "index" and reflected and name is not None and name.endswith("_time_idx")
                    )
                    # These stand behind views where TimescaleDB is not; where it is, they do not exist.
                    and not (kind == "table" and reflected and name in _ROLL_UPS)
                ),
            )
            with context.begin_transaction():
                context.run_migrations()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
            connection.commit()
    engine.dispose()


_run()
