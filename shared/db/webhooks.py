"""Webhooks, and what is to be sent to them: an outbox that is written in the transaction of what it tells about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that was claimed, and where it goes."""

    id: UUID
    webhook_id: UUID
    event_id: UUID
    event: str
    body: str
    attempts: int  #: this try included
    url: str
    secret: bytes  #: as stored, encrypted


class WebhookRepository:
    """The tables webhooks and webhook_deliveries."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- receivers ------------------------------------------------------------------------------------------------------

    def add(
        self, webhook_id: UUID, project_id: str, url: str, events: Sequence[str], description: str | None, secret: bytes, by: str
    ) -> None:
        """Write a new one."""
        self._connection.execute(
            text(
                "INSERT INTO webhooks (id, project_id, url, events, description, secret, created_by)"
                " VALUES (:id, :project, :url, CAST(:events AS jsonb), :description, :secret, :by)"
            ),
            {
                "id": webhook_id,
                "project": project_id,
                "url": url,
                "events": as_json(list(events)),
                "description": description,
                "secret": secret,
                "by": by,
            },
        )

    def of(self, project_id: str, webhook_id: UUID | None = None) -> list[dict[str, Any]]:
        """The project's webhooks (or the one), oldest first, without secrets, with what has become of their deliveries."""
        rows = self._connection.execute(
            text(
                "SELECT w.id, w.url, w.events, w.description, w.created_by, w.created_at, d.pending, d.failed, d.last_delivered_at,"
                " l.last_status, l.last_error FROM webhooks w CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE state = 'pending')"
                " AS pending, count(*) FILTER (WHERE state = 'failed') AS failed, max(finished_at) FILTER (WHERE state ="
                " 'delivered') AS last_delivered_at FROM webhook_deliveries WHERE webhook_id = w.id) d LEFT JOIN LATERAL"
                " (SELECT last_status, last_error FROM webhook_deliveries WHERE webhook_id = w.id AND attempts > 0"
                " ORDER BY seq DESC LIMIT 1) l ON true WHERE w.project_id = :project"
                + (" AND w.id = :id" if webhook_id is not None else "")
                + " ORDER BY w.seq"
            ),
            {"project": project_id} | ({"id": webhook_id} if webhook_id is not None else {}),
        ).mappings()
        return [dict(row) for row in rows]

    def count(self, project_id: str) -> int:
        """How many the project has. Until the transaction ends, nobody else counts or adds: two may not both find room for one."""
        self._connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:project, 9))"), {"project": project_id})
        found = self._connection.execute(text("SELECT count(*) FROM webhooks WHERE project_id = :project"), {"project": project_id})
        return int(found.scalar_one())

    def delete(self, project_id: str, webhook_id: UUID) -> bool:
        """Forget one, and what was still to be sent to it; False where the project has no such webhook."""
        found = self._connection.execute(
            text("DELETE FROM webhooks WHERE project_id = :project AND id = :id"), {"project": project_id, "id": webhook_id}
        )
        return found.rowcount > 0

    # -- the outbox -----------------------------------------------------------------------------------------------------

    def enqueue(self, project_id: str, rows: Sequence[tuple[UUID, str, str]]) -> int:
        """Add events (id, name, body) for all of the project's webhooks that want them; how many deliveries that makes.

        A webhook wants an event that it names, by ``cleanup.notified`` or by ``cleanup.*``, or all where it names none.
        """
        if not rows:
            return 0
        values = [{"event_id": event_id, "event": event, "body": body} for event_id, event, body in rows]
        found = self._connection.execute(
            text(
                "INSERT INTO webhook_deliveries (webhook_id, event_id, event, body) SELECT w.id, x.event_id, x.event, x.body"
                " FROM webhooks w CROSS JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(event_id uuid, event text, body text)"
                " WHERE w.project_id = :project AND (w.events = '[]'::jsonb OR jsonb_exists(w.events, x.event)"
                " OR jsonb_exists(w.events, split_part(x.event, '.', 1) || '.*'))"
            ),
            {"project": project_id, "rows": as_json(values)},
        )
        return found.rowcount

    def claim(self, *, tries: int, lease_s: float, skip: Sequence[UUID]) -> Due | None:
        """Take the delivery that is due the longest, but of no webhook in ``skip``. A crash costs a try: it is due again later."""
        row = (
            self._connection.execute(
                text(
                    "WITH next AS (SELECT d.id FROM webhook_deliveries d WHERE d.state = 'pending' AND d.due_at <= now()"
                    " AND d.attempts < :tries AND d.webhook_id <> ALL(CAST(:skip AS uuid[]))"
                    " ORDER BY d.due_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED)"
                    " UPDATE webhook_deliveries d SET attempts = d.attempts + 1, due_at = now() + :lease FROM next, webhooks w"
                    " WHERE d.id = next.id AND w.id = d.webhook_id"
                    " RETURNING d.id, d.webhook_id, d.event_id, d.event, d.body, d.attempts, w.url, w.secret"
                ),
                {"tries": tries, "lease": timedelta(seconds=lease_s), "skip": list(skip)},
            )
            .mappings()
            .first()
        )
        return Due(**{**row, "secret": bytes(row["secret"])}) if row is not None else None

    def delivered(self, due: Due, status: int) -> None:
        """The receiver took it."""
        self._connection.execute(
            text(
                "UPDATE webhook_deliveries SET state = 'delivered', finished_at = now(), last_status = :status, last_error = NULL"
                " WHERE id = :id AND attempts = :attempts AND state = 'pending'"
            ),
            {"id": due.id, "attempts": due.attempts, "status": status},
        )

    def refused(self, due: Due, *, status: int | None, error: str, again_s: float | None) -> None:
        """The receiver did not take it; it is tried again in ``again_s``, or given up (None)."""
        self._connection.execute(
            text(
                "UPDATE webhook_deliveries SET last_status = :status, last_error = :error, state = CASE WHEN :over THEN 'failed'"
                " ELSE 'pending' END, finished_at = CASE WHEN :over THEN now() END, due_at = now() + :again"
                " WHERE id = :id AND attempts = :attempts AND state = 'pending'"
            ),
            {
                "id": due.id,
                "attempts": due.attempts,
                "status": status,
                "error": error,
                "over": again_s is None,
                "again": timedelta(seconds=again_s or 0.0),
            },
        )

    def give_up(self, *, tries: int) -> int:
        """End deliveries whose last try was begun and never told of: its worker died. How many."""
        found = self._connection.execute(
            text(
                "UPDATE webhook_deliveries SET state = 'failed', finished_at = now(),"
                " last_error = coalesce(last_error, 'The sender died during the last try.')"
                " WHERE state = 'pending' AND attempts >= :tries AND due_at <= now()"
            ),
            {"tries": tries},
        )
        return found.rowcount

    def deliveries(self, webhook_id: UUID, *, limit: int = 50) -> list[dict[str, Any]]:
        """A webhook's latest deliveries, newest first."""
        rows = self._connection.execute(
            text(
                "SELECT id, event_id, event, state, attempts, due_at, last_status, last_error, created_at, finished_at"
                " FROM webhook_deliveries WHERE webhook_id = :id ORDER BY seq DESC LIMIT :limit"
            ),
            {"id": webhook_id, "limit": limit},
        ).mappings()
        return [dict(row) for row in rows]

    def forget_old(self, *, days: int) -> int:
        """Drop deliveries that ended so many days ago; how many."""
        found = self._connection.execute(
            text("DELETE FROM webhook_deliveries WHERE finished_at < now() - :age"),
            {"age": timedelta(days=days)},
        )
        return found.rowcount
