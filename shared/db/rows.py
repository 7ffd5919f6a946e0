"""From rows to domain objects and back."""

import json
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from shared.domain.clusters import Cluster, Phase
from shared.domain.jobs import Job, JobEvent, JobKind, JobState

_CLUSTER = [f.name for f in fields(Cluster)]
_JOB = [f.name for f in fields(Job) if f.name not in {"blocked_by", "cluster_name"}]

#: Column lists for SELECTs, prefixed with the table's alias.
CLUSTER_COLUMNS = ", ".join(f"c.{name}" for name in _CLUSTER)
JOB_COLUMNS = ", ".join(f"j.{name}" for name in _JOB)
#: The earliest unfinished job on the same cluster or stack that came before, else the one it comes after; and the name.
JOB_EXTRAS = """,
  CASE WHEN j.state = 'queued' THEN coalesce((SELECT b.id FROM jobs b WHERE b.lane = j.lane AND b.seq < j.seq
     AND b.state IN ('queued', 'running', 'converging') ORDER BY b.seq LIMIT 1),
     (SELECT a.id FROM jobs a WHERE a.id = j.after_id AND a.state IN ('queued', 'running', 'converging'))) END AS blocked_by,
  coalesce((SELECT c.name FROM clusters c WHERE c.id = j.cluster_id), (SELECT s.name FROM stacks s WHERE s.id = j.stack_id),
     j.params ->> 'name') AS cluster_name"""


def cluster_from(row: RowMapping, prefix: str = "") -> Cluster:
    """A cluster from a row that has CLUSTER_COLUMNS."""
    values = {name: row[prefix + name] for name in _CLUSTER}
    values["phase"] = Phase(values["phase"])
    return Cluster(**values)


def job_from(row: RowMapping) -> Job:
    """A job from a row that has JOB_COLUMNS, with JOB_EXTRAS or without."""
    values = {name: row[name] for name in _JOB}
    values["kind"] = JobKind(values["kind"])
    values["state"] = JobState(values["state"])
    return Job(blocked_by=row.get("blocked_by"), cluster_name=row.get("cluster_name"), **values)


def event_from(row: RowMapping) -> JobEvent:
    """A step of a job's history."""
    return JobEvent(
        job_id=row["job_id"],
        at=row["at"],
        step=row["step"],
        state=JobState(row["state"]),
        detail=row["detail"],
        seq=row["seq"],
    )


def as_json(value: Any) -> str:
    """JSON for a jsonb parameter; times as ISO 8601, ids and enums as text."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    msg = f"{type(value).__name__} is not JSON"
    raise TypeError(msg)
