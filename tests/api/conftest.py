"""The application over real services and a real PostgreSQL; the cloud is the one in memory that passes the gateway's contract."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import text

from api.app import create_app
from shared.bootstrap import Container, SystemClock, build
from tests.api.harness import Caller, Tokens, World
from tests.builders import PROJECT, some_settings
from tests.fake_cloud import FakeCloud


@pytest.fixture(scope="module")
def _wired(module_database_url: str) -> Iterator[tuple[Container, FakeCloud, Flask, Tokens]]:
    clock = SystemClock()
    cloud = FakeCloud(clock)
    settings = replace(some_settings(module_database_url), secret_key=Fernet.generate_key().decode())
    container = build(settings, cloud=lambda _credentials: cloud, clock=clock)
    tokens = Tokens()
    yield container, cloud, create_app(container, validate=tokens), tokens
    container.database.engine.dispose()


@pytest.fixture
def world(_wired: tuple[Container, FakeCloud, Flask, Tokens]) -> World:
    """Everything wired, with empty tables. One cloud and one application serve the tests of a module."""
    container, cloud, app, tokens = _wired
    with container.database.engine.begin() as connection:
        connection.execute(
            text(
                "TRUNCATE clusters, jobs, job_events, idempotency_keys, usage_intervals, scopes, credentials, stacks, address_ranges,"
                " cluster_types, placements, fleet_changes, shape_mixes, durations, cleanup_policies, webhooks, cluster_metrics,"
                " rate_cards, plans, series_state CASCADE"
            )
        )
        connection.execute(text("TRUNCATE audit_events"))
    cloud.reset()
    cloud.lag_s = cloud.writing_s = 0.0
    container.catalogs.forget()
    container.fleets.forget()
    container.health.forget()
    return World(container, cloud, app, tokens)


@pytest.fixture
def member(world: World) -> Caller:
    """A member of PROJECT."""
    return world.caller("member", PROJECT)


@pytest.fixture
def reader(world: World) -> Caller:
    """A reader of PROJECT."""
    return world.caller("reader", PROJECT)


@pytest.fixture
def admin(world: World) -> Caller:
    """An administrator of PROJECT."""
    return world.caller("admin", PROJECT)
