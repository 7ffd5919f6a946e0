"""Migrations: there and back, with nothing left to generate, and two at once."""

import subprocess
import sys

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from shared.db import migrate


def tables(url: str) -> set[str]:
    return set(inspect(create_engine(url, poolclass=NullPool)).get_table_names()) - {"alembic_version"}


def test_up_check_down_up(empty_database_url: str) -> None:
    assert not migrate.is_current(empty_database_url)
    migrate.upgrade(empty_database_url)
    made = tables(empty_database_url)
    assert {"clusters", "jobs", "job_events", "scopes", "usage_intervals", "cluster_metrics", "cluster_costs"} <= made
    assert migrate.is_current(empty_database_url)
    migrate.check(empty_database_url)  # raises where the code's tables differ
    migrate.downgrade(empty_database_url)
    assert not tables(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert tables(empty_database_url) == made


def test_several_at_once_apply_each_step_once(empty_database_url: str) -> None:
    # Alembic keeps its context in the module, so threads would share it; each migration is a process, as in life.
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "shared.db.migrate"], env={"DATABASE_URL": empty_database_url, "PATH": "/usr/bin:/bin"}
        )
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert migrate.is_current(empty_database_url)


@pytest.mark.parametrize(
    "arguments,code", [([], 0), (["upgrade"], 0), (["check"], 0), (["downgrade", "base"], 0), (["sideways"], 2)]
)
def test_command_line(database_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert migrate.main(arguments) == code
