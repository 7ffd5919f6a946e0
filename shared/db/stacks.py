"""Stacks, and the address ranges that they hold."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from shared.db.rows import JOB_COLUMNS, as_json, job_from
from shared.domain.clusters import Phase, Scope
from shared.domain.jobs import Job
from shared.domain.stacks import ObservedStack, Stack

_NAMES = tuple(Stack.__dataclass_fields__)
_COLUMNS = ", ".join(f"s.{name}" for name in _NAMES)
_PREFIXED = ", ".join(f"s.{name} AS s_{name}" for name in _NAMES)
#: A number that all allocations lock, so that two at once see each other's ranges.
_ALLOCATION_LOCK = 0x6B636C6F7564


def stack_from(row: RowMapping, prefix: str = "") -> Stack:
    """A stack out of its row."""
    values = {name: row[prefix + name] for name in _NAMES}
    values["phase"] = Phase(values["phase"])
    return Stack(**values)


class StackRepository:
    """The tables stacks and address_ranges."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- reading ------------------------------------------------------------------------------------------------------

    def by_id(self, stack_id: UUID, *, lock: bool = False) -> Stack | None:
        """One stack, deleted ones too. ``lock``: for writing."""
        row = (
            self._connection.execute(
                text(f"SELECT {_COLUMNS} FROM stacks s WHERE s.id = :id" + (" FOR NO KEY UPDATE OF s" if lock else "")),
                {"id": stack_id},
            )
            .mappings()
            .first()
        )
        return stack_from(row) if row else None

    def get(self, project_id: str, ref: str, *, lock: bool = False) -> Stack | None:
        """The project's stack with our id or Heat's; deleted ones are not found."""
        try:
            as_uuid = UUID(ref)
        except ValueError:
            return None
        row = (
            self._connection.execute(
                text(
                    f"SELECT {_COLUMNS} FROM stacks s WHERE s.project_id = :project AND s.deleted_at IS NULL"
                    " AND (s.id = :id OR s.heat_id = :heat) LIMIT 1" + (" FOR NO KEY UPDATE OF s" if lock else "")
                ),
                {"project": project_id, "id": as_uuid, "heat": str(as_uuid)},
            )
            .mappings()
            .first()
        )
        return stack_from(row) if row else None

    def select(self, project_id: str, *, limit: int, after: UUID | None) -> list[Stack]:
        """The project's stacks in the order of their making, after ``after``."""
        rows = self._connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM stacks s WHERE s.project_id = :project AND s.deleted_at IS NULL"
                " AND (CAST(:after AS uuid) IS NULL OR s.seq > (SELECT seq FROM stacks WHERE id = :after))"
                " ORDER BY s.seq LIMIT :limit"
            ),
            {"project": project_id, "after": after, "limit": limit},
        ).mappings()
        return [stack_from(row) for row in rows]

    def connecting(self, cluster_id: UUID) -> list[Stack]:
        """Live stacks that connect this cluster with others."""
        rows = self._connection.execute(
            text(f"SELECT {_COLUMNS} FROM stacks s WHERE s.live AND s.deleted_at IS NULL AND jsonb_exists(s.members, :cluster)"),
            {"cluster": str(cluster_id)},
        ).mappings()
        return [stack_from(row) for row in rows]

    # -- writing --------------------------------------------------------------------------------------------------------

    def add(self, stack: Stack) -> None:
        """Write a new one."""
        self._connection.execute(
            text(
                "INSERT INTO stacks (id, project_id, region, name, heat_name, template, parameters, cluster_id, members, phase,"
                " created_at, updated_at, created_by) VALUES (:id, :project, :region, :name, :heat_name, :template,"
                " CAST(:parameters AS jsonb), :cluster, CAST(:members AS jsonb), :phase, :at, :at, :by)"
            ),
            {
                "id": stack.id,
                "project": stack.project_id,
                "region": stack.region,
                "name": stack.name,
                "heat_name": stack.heat_name,
                "template": stack.template,
                "parameters": as_json(stack.parameters),
                "cluster": stack.cluster_id,
                "members": as_json(stack.members),
                "phase": stack.phase.value,
                "at": stack.created_at,
                "by": stack.created_by,
            },
        )

    def want(
        self,
        stack_id: UUID,
        *,
        phase: Phase,
        parameters: Mapping[str, Any] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        """A change was accepted: a new generation of what is wanted."""
        self._connection.execute(
            text(
                "UPDATE stacks SET generation = generation + 1, phase = :phase, reason = NULL, reason_detail = NULL,"
                " parameters = coalesce(CAST(:parameters AS jsonb), parameters),"
                " members = coalesce(CAST(:members AS jsonb), members), updated_at = now() WHERE id = :id"
            ),
            {
                "id": stack_id,
                "phase": phase.value,
                "parameters": as_json(parameters) if parameters is not None else None,
                "members": as_json(members) if members is not None else None,
            },
        )

    def bind(self, stack_id: UUID, heat_id: str) -> None:
        """Heat's id is known."""
        self._connection.execute(
            text("UPDATE stacks SET heat_id = :heat, updated_at = now() WHERE id = :id"), {"id": stack_id, "heat": heat_id}
        )

    def set_phase(self, stack_id: UUID, phase: Phase, reason: str | None = None, detail: str | None = None) -> None:
        """Where it is, and why."""
        self._connection.execute(
            text("UPDATE stacks SET phase = :phase, reason = :reason, reason_detail = :detail, updated_at = now() WHERE id = :id"),
            {"id": stack_id, "phase": phase.value, "reason": reason, "detail": detail},
        )

    def observe(
        self, stack: Stack, seen: ObservedStack, at: datetime, verdict: tuple[Phase, str | None, str | None], *, arrived: bool
    ) -> None:
        """What Heat showed. ``arrived``: what was wanted is there."""
        self._connection.execute(
            text(
                "UPDATE stacks SET status = :status, status_reason = :words, outputs = CAST(:outputs AS jsonb), phase = :phase,"
                " reason = :reason, reason_detail = :detail, first_seen_at = coalesce(first_seen_at, :at), observed_at = :at,"
                " observed_generation = CASE WHEN :arrived THEN :generation ELSE observed_generation END, updated_at = now()"
                " WHERE id = :id AND deleted_at IS NULL"
            ),
            {
                "id": stack.id,
                "status": seen.status,
                "words": seen.status_reason,
                "outputs": as_json(seen.outputs),
                "phase": verdict[0].value,
                "reason": verdict[1],
                "detail": verdict[2],
                "at": at,
                "arrived": arrived,
                "generation": stack.generation,
            },
        )

    def mark_deleted(self, stack_id: UUID) -> None:
        """It is gone, and so is its hold on addresses."""
        self._connection.execute(
            text("UPDATE stacks SET live = false, deleted_at = clock_timestamp(), updated_at = now() WHERE id = :id"),
            {"id": stack_id},
        )
        self._connection.execute(text("DELETE FROM address_ranges WHERE stack_id = :id"), {"id": stack_id})

    def never_made(self, stack_id: UUID, reason: str, detail: str) -> None:
        """It never came to be: its name and its addresses are free again."""
        self._connection.execute(
            text(
                "UPDATE stacks SET live = false, phase = 'Failed', reason = :reason, reason_detail = :detail, updated_at = now()"
                " WHERE id = :id"
            ),
            {"id": stack_id, "reason": reason, "detail": detail},
        )
        self._connection.execute(text("DELETE FROM address_ranges WHERE stack_id = :id"), {"id": stack_id})

    # -- jobs -----------------------------------------------------------------------------------------------------------

    def converging_due(self, scope: Scope, *, limit: int) -> list[tuple[Job, Stack]]:
        """Jobs whose stack should be looked at now, longest unseen first."""
        rows = self._connection.execute(
            text(
                f"SELECT {JOB_COLUMNS}, {_PREFIXED} FROM jobs j JOIN stacks s ON s.id = j.stack_id"
                " WHERE j.state = 'converging' AND j.region = :region AND j.project_id = :project"
                " AND (j.look_at <= now() OR j.deadline_at <= now()) ORDER BY coalesce(s.observed_at, j.submitted_at) LIMIT :limit"
            ),
            {"region": scope.region, "project": scope.project_id, "limit": limit},
        ).mappings()
        return [(job_from(row), stack_from(row, "s_")) for row in rows]

    # -- address ranges -------------------------------------------------------------------------------------------------

    def lock_ranges(self) -> None:
        """Until the transaction ends, nobody else takes a range."""
        self._connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ALLOCATION_LOCK})

    def ranges(self) -> list[IPv4Network]:
        """All that are held, by any project."""
        return [
            IPv4Network(row[0])
            for row in self._connection.execute(text("SELECT host(network(cidr)) || '/' || masklen(cidr) FROM address_ranges"))
        ]

    def hold(self, stack: Stack, cidr: IPv4Network) -> None:
        """Take a range. The exclusion constraint refuses one that overlaps another."""
        self._connection.execute(
            text("INSERT INTO address_ranges (cidr, project_id, stack_id) VALUES (CAST(:cidr AS cidr), :project, :stack)"),
            {"cidr": str(cidr), "project": stack.project_id, "stack": stack.id},
        )

    def of_clusters(self, cluster_ids: Sequence[UUID]) -> dict[UUID, Stack]:
        """The live network stack of each cluster that has one."""
        rows = self._connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM stacks s WHERE s.cluster_id = ANY(CAST(:ids AS uuid[])) AND s.live"
                " AND s.deleted_at IS NULL"
            ),
            {"ids": list(cluster_ids)},
        ).mappings()
        return {stack.cluster_id: stack for row in rows if (stack := stack_from(row)).cluster_id is not None}
