"""Migrations: there and back, with nothing left to generate, and two at once."""

import subprocess
import sys

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
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


def test_usage_by_group_becomes_usage_by_role_and_keeps_its_node_seconds(empty_database_url: str) -> None:
    script = ScriptDirectory.from_config(migrate.config(empty_database_url))
    before = script.get_revision("0008").down_revision
    assert isinstance(before, str)
    migrate.upgrade(empty_database_url)
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO clusters (id, project_id, region, name, template_id, node_count, master_count, phase)"
                " VALUES ('6f2f2c9e-3a0e-4c58-9d7e-0e0a4d8f9b11', 'p', 'r', 'c', 't', 1, 1, 'Ready')"
            )
        )
        for group, role, nodes, start, end in (
            ("default-worker", "worker", 3, 0, 10),
            ("default-worker", "worker", 5, 10, None),
            ("gpu", "worker", 2, 4, 16),
            ("npu", "worker", 7, 20, 24),
            ("default-master", "master", 1, 0, None),
        ):
            connection.execute(
                text(
                    "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, flavor, node_count, started_at, ended_at)"
                    " SELECT id, 'p', 'r', :role, :group, :group, :nodes, make_timestamptz(2026, 1, 1, 0, 0, 0) + make_interval(hours => :start),"
                    " make_timestamptz(2026, 1, 1, 0, 0, 0) + make_interval(hours => :end) FROM clusters"
                ),
                {"role": role, "group": group, "nodes": nodes, "start": start, "end": end},
            )
    migrate.downgrade(empty_database_url, before)
    seconds = (
        "SELECT role, sum(node_count * extract(epoch FROM coalesce(ended_at, make_timestamptz(2026, 1, 3, 0, 0, 0)) - started_at))::int"
        " FROM usage_intervals GROUP BY role"
    )
    expected = {"worker": (3 * 10 + 5 * 38 + 2 * 12 + 7 * 4) * 3600, "master": 48 * 3600}
    with engine.begin() as connection:
        assert {row[0]: row[1] for row in connection.execute(text(seconds))} == expected
        assert connection.execute(text("SELECT count(*) FROM usage_intervals WHERE ended_at IS NULL")).scalar_one() == 2
    migrate.upgrade(empty_database_url)
    with engine.begin() as connection:
        assert {row[0]: row[1] for row in connection.execute(text(seconds))} == expected
        groups = connection.execute(text("SELECT DISTINCT node_group FROM usage_intervals ORDER BY 1")).scalars().all()
    assert groups == ["default-master", "default-worker"]
