"""Time that tests move by hand: for pure objects, and for everything that reads PostgreSQL's clock."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from tests.builders import NOW


class ManualClock:
    """Stands still until it is moved (the port ``Clock``)."""

    def __init__(self, start: datetime = NOW) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class DatabaseClock:
    """Runs, and can be moved on; the database goes with it (the port ``Clock``).

    In the database at ``url``, sessions opened from now on resolve ``now()`` and ``clock_timestamp()`` to functions that add
    this clock's offset, because their schema stands before pg_catalog in the search path. The product's own SQL, with its
    leases and due times, is thereby tested as it stands.
    """

    def __init__(self, url: str) -> None:
        self._offset = timedelta()
        self._admin: Engine = create_engine(url, poolclass=NullPool)
        with self._admin.begin() as connection:
            database = connection.execute(text("SELECT current_database()")).scalar_one()
            for statement in (
                "CREATE SCHEMA moved",
                "CREATE TABLE moved.offset_s (by interval NOT NULL)",
                "INSERT INTO moved.offset_s VALUES (interval '0')",
                (
                    "CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE"
                    " AS 'SELECT pg_catalog.now() + by FROM moved.offset_s'"
                ),
                (
                    "CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
                    " AS 'SELECT pg_catalog.clock_timestamp() + by FROM moved.offset_s'"
                ),
                f"ALTER DATABASE {database} SET search_path = moved, pg_catalog, public",
            ):
                connection.execute(text(statement))

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)
        with self._admin.begin() as connection:
            connection.execute(text("UPDATE moved.offset_s SET by = :by"), {"by": self._offset})
