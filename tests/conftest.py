"""Real servers for tests, started by the first test that asks for one.

Each xdist worker has servers of its own: they start in about a second, and a test that restarts or kills one disturbs nobody.
They end with the worker, also when it is killed.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import redis
from hypothesis import HealthCheck, settings

from deployment.local import ports
from deployment.local.embedded import EmbeddedPostgres, EmbeddedValkey
from tests import waiting

# No deadlines: a slow example on a busy machine is no failure. The same examples each time, so that a red run can be repeated;
# `make test-all` looks for new ones.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_TEMPLATE = "migrated"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server, shared by the tests of this worker. A test that stops or kills it starts it again."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), fsync=False) as server:
        yield server


def _execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = psycopg2.connect(server.dsn("postgres"))
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def _template(postgres: EmbeddedPostgres) -> str:
    # Here, not above: half a second that unit tests need not pay.
    from shared.db import migrate

    _execute(postgres, f"CREATE DATABASE {_TEMPLATE}")
    migrate.upgrade(postgres.url(_TEMPLATE))
    return _TEMPLATE


def _clone(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield server.url(name)
    server.start()  # for the test that left it down
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, _template: str) -> Iterator[str]:
    """A migrated, empty database for one test, as SQLAlchemy's address."""
    yield from _clone(postgres, _template)


@pytest.fixture(scope="module")
def module_database_url(postgres: EmbeddedPostgres, _template: str) -> Iterator[str]:
    """A migrated, empty database shared by the tests of one module."""
    yield from _clone(postgres, _template)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without any table, for tests of the migrations."""
    yield from _clone(postgres, "template0")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey server, shared by the tests of this worker. A test that stops or kills it starts it again."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_client(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A client of an empty numbered database, the one that ``redis_url`` names."""
    valkey.start()  # for the test that left it down
    client = redis.Redis.from_url(valkey.client_url(next(_NUMBERS) % 64))
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def redis_url(valkey: EmbeddedValkey, redis_client: redis.Redis) -> str:
    """An empty numbered database for one test, as Celery's address; ``valkey.client_url`` spells it redis-py's way."""
    return valkey.url(redis_client.connection_pool.connection_kwargs["db"])


@pytest.fixture(scope="session")
def timescale_url() -> str:
    """A PostgreSQL with TimescaleDB, given by TEST_TIMESCALE_URL. The wheels hold none."""
    url = os.environ.get("TEST_TIMESCALE_URL")
    if not url:
        pytest.skip("TEST_TIMESCALE_URL is not set: it names an empty database of a server with TimescaleDB")
    return url


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a free TCP port of 127.0.0.1, each time it is called."""
    return ports.free_port


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """See :func:`tests.waiting.wait_until`."""
    return waiting.wait_until
