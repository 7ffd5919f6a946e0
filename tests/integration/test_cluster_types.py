"""Cluster types in a real PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from sqlalchemy import text

from shared.db.engine import make_engine
from shared.db.uow import Database
from shared.domain.cluster_types import parse
from shared.services.templates import ShippedTypes
from tests.builders import OTHER_PROJECT, PROJECT

CONTENT = {"name": "mine", "image": "i", "flavor": "f", "master_flavor": "m", "labels": {"a": "ü"}, "node_count": 0}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = make_engine(database_url, pool_size=8)
    yield Database(engine)
    engine.dispose()


def add(database: Database, project: str = PROJECT, name: str = "mine") -> bool:
    with database.begin() as uow:
        return uow.types.add(project, name, CONTENT, "user-1")


def times(database: Database) -> tuple[datetime, datetime]:
    with database.single() as uow:
        row = uow.connection.execute(text("SELECT created_at, updated_at FROM cluster_types")).one()
    return row[0], row[1]


def test_types_are_kept_as_written_by_project_and_in_the_order_of_names(database: Database) -> None:
    assert all(add(database, name=name) for name in ("b", "a"))
    assert add(database, OTHER_PROJECT, "a")
    with database.single() as uow:
        assert list(uow.types.all(PROJECT)) == ["a", "b"]
        assert uow.types.all(PROJECT)["a"] == CONTENT
        assert list(uow.types.all(OTHER_PROJECT)) == ["a"]
        assert uow.types.all("0" * 32) == {}


def test_every_shipped_type_survives_the_table(database: Database) -> None:
    with database.begin() as uow:
        for name, kind in ShippedTypes().all.items():
            assert uow.types.add(PROJECT, name, kind.content(), "user-1")
    with database.single() as uow:
        assert {name: parse(content)[0] for name, content in uow.types.all(PROJECT).items()} == ShippedTypes().all


def test_of_many_at_once_one_is_written(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: add(database), range(8)))
    assert sorted(written) == [False] * 7 + [True]


def test_a_replaced_type_keeps_when_it_was_made(database: Database) -> None:
    assert add(database)
    made, _ = times(database)
    with database.begin() as uow:
        assert uow.types.replace(PROJECT, "mine", CONTENT | {"flavor": "g"})
        assert uow.types.all(PROJECT)["mine"]["flavor"] == "g"
    assert times(database)[0] == made
    assert times(database)[1] > made


def test_what_is_not_there_is_neither_replaced_nor_deleted(database: Database) -> None:
    assert add(database)
    with database.begin() as uow:
        assert not uow.types.replace(OTHER_PROJECT, "mine", {})
        assert not uow.types.delete(OTHER_PROJECT, "mine")
        assert uow.types.all(PROJECT) == {"mine": CONTENT}
        assert uow.types.delete(PROJECT, "mine")
        assert not uow.types.delete(PROJECT, "mine")
        assert uow.types.all(PROJECT) == {}
