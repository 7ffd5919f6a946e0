"""Settings come from the environment alone, and all that is wrong is said at once."""

import os
from pathlib import Path

import pytest

from shared import settings
from shared.errors import ConfigurationError

NEEDED = {
    "DATABASE_URL": "postgresql://kcloud:pw@db:5432/kcloud_opt",
    "REDIS_URL": "redis://cache:6379/0",
    "OS_AUTH_URL": "http://keystone:5000/v3",
    "OS_PASSWORD": "very secret",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name not in {"PATH", "HOME", "TMPDIR"}:
            monkeypatch.delenv(name)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("given")
def test_defaults_are_complete() -> None:
    made = settings.load()
    assert made.database_url == "postgresql+psycopg2://kcloud:pw@db:5432/kcloud_opt"
    assert (made.api.port, made.cloud.region, made.cloud.username) == (8006, "RegionOne", "admin")
    # Relations that the engine leans on: a tick and a call end well within a lease, a task within 30 s.
    assert made.engine.tick_budget_s + made.cloud.timeout_s < 30 < made.engine.lease_ttl_s
    assert made.secret_key is None


@pytest.mark.usefixtures("given")
def test_secrets_do_not_show() -> None:
    made = settings.load()
    assert "very secret" not in repr(made)
    assert "pw@db" not in repr(made)


@pytest.mark.parametrize("name", ["OS_PASSWORD", "DATABASE_URL", "REDIS_URL", "KCLOUD_SECRET_KEY"])
def test_secrets_may_come_from_files(given: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text("postgresql://from/file" if name == "DATABASE_URL" else "from-file", encoding="utf-8")
    given.delenv(name, raising=False)
    given.setenv(f"{name}_FILE", str(file))
    made = settings.load()
    found = {
        "OS_PASSWORD": made.cloud.password,
        "DATABASE_URL": made.database_url,
        "REDIS_URL": made.redis_url,
        "KCLOUD_SECRET_KEY": made.secret_key,
    }
    assert "file" in str(found[name])


def test_everything_wrong_is_said_at_once(given: pytest.MonkeyPatch) -> None:
    given.delenv("OS_AUTH_URL")
    given.setenv("API_PORT", "70000")
    given.setenv("MAGNUM_API_VERSION", "newest")
    given.setenv("TICK_MIN", "soon")
    given.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    for name in ("OS_AUTH_URL", "API_PORT", "MAGNUM_API_VERSION", "TICK_MIN", "LOG_LEVEL"):
        assert name in str(caught.value)


def test_missing_servers_are_said_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "0")
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    for name in ("DATABASE_URL", "REDIS_URL", "OS_AUTH_URL", "OS_PASSWORD", "API_PORT"):
        assert name in str(caught.value)


def test_parts_of_addresses_are_put_together_and_quoted(given: pytest.MonkeyPatch) -> None:
    given.delenv("DATABASE_URL")
    given.delenv("REDIS_URL")
    for name, value in {
        "POSTGRES_HOST": "db",
        "POSTGRES_USER": "k/c",
        "POSTGRES_PASSWORD": "p@ss:word",
        "POSTGRES_PORT": "6543",
        "POSTGRES_DB": "metrics",
        "REDIS_HOST": "cache",
        "REDIS_PASSWORD": "p/w",
        "REDIS_PORT": "6380",
    }.items():
        given.setenv(name, value)
    made = settings.load()
    assert made.database_url == "postgresql+psycopg2://k%2Fc:p%40ss%3Aword@db:6543/metrics"
    assert made.redis_url == "redis://:p%2Fw@cache:6380/0"
    given.delenv("POSTGRES_PASSWORD")
    given.delenv("REDIS_PASSWORD")
    assert settings.load().database_url == "postgresql+psycopg2://k%2Fc@db:6543/metrics"
    assert settings.load().redis_url == "redis://cache:6380/0"


def test_a_wrong_port_of_the_database_is_said_too(given: pytest.MonkeyPatch) -> None:
    given.delenv("DATABASE_URL")
    given.setenv("POSTGRES_HOST", "db")
    given.setenv("POSTGRES_PORT", "many")
    with pytest.raises(ConfigurationError, match="POSTGRES_PORT"):
        settings.load()


@pytest.mark.parametrize(
    "url,expected",
    [
        ("postgres://db/x", "postgresql+psycopg2://db/x"),
        ("postgresql://db/x", "postgresql+psycopg2://db/x"),
        ("postgresql+psycopg2://db/x", "postgresql+psycopg2://db/x"),
    ],
)
def test_database_address_alone(monkeypatch: pytest.MonkeyPatch, url: str, expected: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert settings.database_url() == expected


def test_database_address_alone_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        settings.database_url()


def test_redis_on_a_socket(given: pytest.MonkeyPatch) -> None:
    given.setenv("REDIS_URL", "unix:///run/v.sock")
    assert settings.load().redis_url == "redis+socket:///run/v.sock"


@pytest.mark.parametrize(
    "words,windows",
    [
        ("", ()),
        ("mon-fri 08:00-18:00 Asia/Seoul", [(("mon", "tue", "wed", "thu", "fri"), "08:00", "18:00", "Asia/Seoul")]),
        (
            "sat-mon 22:00-04:00; wed,fri 00:00-24:00 UTC;",
            [(("mon", "sat", "sun"), "22:00", "04:00", "UTC"), (("wed", "fri"), "00:00", "00:00", "UTC")],
        ),
    ],
)
def test_deny_windows_of_plans(given: pytest.MonkeyPatch, words: str, windows: list[tuple[tuple[str, ...], str, str, str]]) -> None:
    given.setenv("PLAN_DENY_WINDOWS", words)
    assert settings.load().plans.deny == tuple(settings.DenyWindow(*one) for one in windows)


@pytest.mark.parametrize(
    "words,why",
    [
        ("always", "'always' is not like mon-fri 08:00-18:00 Asia/Seoul"),
        ("mon 08:00-18:00; x", "'x' is not like"),
        ("mon-fry 08:00-18:00", "'mon-fry' is no day"),
        ("mon 08:00-25:00", "hours go from 00:00 to 24:00"),
        ("mon 24:00-08:00", "hours go from 00:00 to 24:00"),
        ("mon 08:00-18:00 Asia/Soul", "there is no time zone 'Asia/Soul'"),
    ],
)
def test_what_is_wrong_with_a_deny_window_is_said_beside_the_rest(given: pytest.MonkeyPatch, words: str, why: str) -> None:
    given.setenv("PLAN_DENY_WINDOWS", words)
    given.setenv("PLAN_MAX_CLUSTERS", "0")
    given.setenv("PLAN_APPROVAL", "nobody")
    with pytest.raises(ConfigurationError) as wrong:
        settings.load()
    assert why in wrong.value.detail
    for name in ("PLAN_DENY_WINDOWS", "PLAN_MAX_CLUSTERS", "PLAN_APPROVAL"):
        assert name in wrong.value.detail
