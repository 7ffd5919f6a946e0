"""Scopes: when each project and region is looked at next, and who is looking now. Also the credentials kept for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.clusters import Scope
from shared.errors import LeaseLost


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One scope's state between ticks."""

    scope: Scope
    token: UUID
    watermark: datetime | None  #: Magnum's newest `updated_at` already processed
    interval_s: float
    pacing: dict[str, Any]
    last: dict[str, Any]


class ScopeRepository:
    """The scopes and credentials tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ensure(self, scope: Scope) -> None:
        """The scope is known from now on."""
        self._connection.execute(
            text("INSERT INTO scopes (region, project_id) VALUES (:region, :project) ON CONFLICT DO NOTHING"),
            {"region": scope.region, "project": scope.project_id},
        )

    def wake(self, scope: Scope, *, within_s: float) -> None:
        """Something is about to be in flight: look within ``within_s``. Writes nothing where that is planned already.

        The row is locked until the transaction ends, and so must come before any other lock in it. A tick locks it too before it
        counts what is in flight: otherwise it could count before this commits, find nothing, and put off the next look by minutes.
        """
        self._connection.execute(
            text("SELECT 1 FROM scopes WHERE region = :region AND project_id = :project FOR NO KEY UPDATE"),
            {"region": scope.region, "project": scope.project_id},
        )
        self._connection.execute(
            text(
                "UPDATE scopes SET next_tick_at = now() + make_interval(secs => :within)"
                " WHERE region = :region AND project_id = :project AND next_tick_at > now() + make_interval(secs => :within)"
            ),
            {"region": scope.region, "project": scope.project_id, "within": within_s},
        )

    def take_due(self, *, again_after_s: float) -> list[Scope]:
        """Scopes whose tick is due, marked as sent."""
        return self._take("next_tick_at", "dispatched_at", "lease_expires_at", again_after_s)

    def take_due_inventories(self, *, again_after_s: float) -> list[Scope]:
        """Scopes whose inventory is due, marked as sent."""
        return self._take("next_inventory_at", "inventory_dispatched_at", "inventory_expires_at", again_after_s)

    def _take(self, due: str, sent: str, lease: str, again_after_s: float) -> list[Scope]:
        rows = self._connection.execute(
            text(
                f"UPDATE scopes SET {sent} = now() WHERE (region, project_id) IN (SELECT region, project_id FROM scopes"
                f" WHERE {due} <= now() AND ({sent} IS NULL OR {sent} < now() - make_interval(secs => :again))"
                f" AND ({lease} IS NULL OR {lease} < now()) ORDER BY {due} LIMIT 200 FOR UPDATE SKIP LOCKED)"
                " RETURNING region, project_id"
            ),
            {"again": again_after_s},
        )
        return [Scope(row[0], row[1]) for row in rows]

    def next_due_s(self) -> float | None:
        """Seconds until the next tick that nobody is at; None where there is none."""
        value = self._connection.execute(
            text(
                "SELECT extract(epoch FROM min(next_tick_at) - clock_timestamp()) FROM scopes WHERE next_tick_at > now()"
                " AND lease_token IS NULL"
            )
        ).scalar()
        return float(value) if value is not None else None

    def untake(self, scope: Scope) -> None:
        """The broker did not take the hint: the tick and the inventory are due again at once."""
        self._connection.execute(
            text(
                "UPDATE scopes SET dispatched_at = NULL, inventory_dispatched_at = NULL"
                " WHERE region = :region AND project_id = :project"
            ),
            {"region": scope.region, "project": scope.project_id},
        )

    def claim_tick(self, scope: Scope, token: UUID, *, ttl_s: float) -> ScopeRow | None:
        """Take the scope's tick lease if a tick is due and nobody holds it."""
        row = (
            self._connection.execute(
                text(
                    "UPDATE scopes SET lease_token = :token, lease_expires_at = now() + make_interval(secs => :ttl)"
                    " WHERE region = :region AND project_id = :project AND next_tick_at <= now()"
                    " AND (lease_expires_at IS NULL OR lease_expires_at < now())"
                    " RETURNING watermark, interval_s, pacing, last_tick"
                ),
                {"region": scope.region, "project": scope.project_id, "token": token, "ttl": ttl_s},
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        return ScopeRow(scope, token, row["watermark"], row["interval_s"], row["pacing"], row["last_tick"])

    def hold_tick(self, scope: Scope, token: UUID) -> None:
        """At the head of the transaction that writes a tick's findings: raise LeaseLost unless the lease still stands."""
        row = self._connection.execute(
            text(
                "SELECT 1 FROM scopes WHERE region = :region AND project_id = :project AND lease_token = :token"
                " AND lease_expires_at > clock_timestamp() FOR NO KEY UPDATE"
            ),
            {"region": scope.region, "project": scope.project_id, "token": token},
        ).first()
        if row is None:
            msg = f"The tick of {scope} belongs to another worker now."
            raise LeaseLost(msg)

    def release_tick(
        self,
        scope: Scope,
        token: UUID,
        *,
        after_s: float,
        interval_s: float,
        watermark: datetime | None,
        pacing: Mapping[str, Any],
        last: Mapping[str, Any],
    ) -> None:
        """The tick is done; the next one in ``after_s``, which is ``interval_s`` after this one began."""
        self._connection.execute(
            text(
                "UPDATE scopes SET lease_token = NULL, lease_expires_at = NULL, dispatched_at = NULL, interval_s = :interval,"
                " next_tick_at = now() + make_interval(secs => :after), watermark = coalesce(:watermark, watermark),"
                " pacing = CAST(:pacing AS jsonb), last_tick = CAST(:last AS jsonb)"
                " WHERE region = :region AND project_id = :project AND lease_token = :token"
            ),
            {
                "region": scope.region,
                "project": scope.project_id,
                "token": token,
                "after": after_s,
                "interval": interval_s,
                "watermark": watermark,
                "pacing": as_json(pacing),
                "last": as_json(last),
            },
        )

    def claim_inventory(self, scope: Scope, token: UUID, *, ttl_s: float) -> ScopeRow | None:
        """Take the scope's inventory lease if one is due and nobody holds it."""
        row = (
            self._connection.execute(
                text(
                    "UPDATE scopes SET inventory_token = :token, inventory_expires_at = now() + make_interval(secs => :ttl)"
                    " WHERE region = :region AND project_id = :project AND next_inventory_at <= now()"
                    " AND (inventory_expires_at IS NULL OR inventory_expires_at < now())"
                    " RETURNING inventory_at, pacing, last_inventory"
                ),
                {"region": scope.region, "project": scope.project_id, "token": token, "ttl": ttl_s},
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        return ScopeRow(scope, token, None, 0.0, row["pacing"], row["last_inventory"])

    def release_inventory(self, scope: Scope, token: UUID, *, after_s: float, last: Mapping[str, Any], whole: bool) -> None:
        """A slice of the inventory is done (``whole``: the last one); the next in ``after_s``."""
        self._connection.execute(
            text(
                "UPDATE scopes SET inventory_token = NULL, inventory_expires_at = NULL, inventory_dispatched_at = NULL,"
                " next_inventory_at = now() + make_interval(secs => :after), last_inventory = CAST(:last AS jsonb),"
                " inventory_at = CASE WHEN :whole THEN now() ELSE inventory_at END"
                " WHERE region = :region AND project_id = :project AND inventory_token = :token"
            ),
            {
                "region": scope.region,
                "project": scope.project_id,
                "token": token,
                "after": after_s,
                "last": as_json(last),
                "whole": whole,
            },
        )

    # -- credentials ------------------------------------------------------------------------------------------------

    def credential(self, scope: Scope) -> tuple[str, bytes, str, datetime] | None:
        """Id, encrypted secret, who registered it and when."""
        row = self._connection.execute(
            text(
                "SELECT application_credential_id, secret, registered_by, created_at FROM credentials"
                " WHERE region = :region AND project_id = :project"
            ),
            {"region": scope.region, "project": scope.project_id},
        ).first()
        return (row[0], bytes(row[1]), row[2], row[3]) if row else None

    def put_credential(self, scope: Scope, credential_id: str, secret: bytes, by: str) -> None:
        """Keep or replace the scope's credential."""
        self._connection.execute(
            text(
                "INSERT INTO credentials (region, project_id, application_credential_id, secret, registered_by)"
                " VALUES (:region, :project, :id, :secret, :by) ON CONFLICT (region, project_id) DO UPDATE SET"
                " application_credential_id = excluded.application_credential_id, secret = excluded.secret,"
                " registered_by = excluded.registered_by, created_at = now()"
            ),
            {"region": scope.region, "project": scope.project_id, "id": credential_id, "secret": secret, "by": by},
        )

    def drop_credential(self, scope: Scope) -> bool:
        """Forget it; False where there was none."""
        result = self._connection.execute(
            text("DELETE FROM credentials WHERE region = :region AND project_id = :project"),
            {"region": scope.region, "project": scope.project_id},
        )
        return result.rowcount > 0
