"""JSON for rows."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.db.rows import as_json
from shared.domain.jobs import JobState


def test_as_json_writes_times_ids_and_enums() -> None:
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "id": UUID(int=7), "state": JobState.QUEUED, "n": None, "l": [1.5]}
    assert json.loads(as_json(value)) == {
        "at": "2026-01-02T00:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000007",
        "state": "queued",
        "n": None,
        "l": [1.5],
    }


def test_as_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="object is not JSON"):
        as_json({"x": object()})
