"""Rate cards as they were given."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json


class HeldCard(NamedTuple):
    """A card's row. ``document`` has its prices as they were asked for; ``project_id`` None: of every project."""

    id: UUID
    seq: int
    project_id: str | None
    name: str
    currency: str
    valid_from: datetime
    valid_to: datetime | None
    document: dict[str, Any]
    created_by: str
    created_at: datetime


_COLUMNS = ", ".join(HeldCard._fields)


class RateCardRepository:
    """The table rate_cards."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def select(self, project_id: str) -> list[HeldCard]:
        """The project's cards and the site's, those that became valid last first."""
        rows = self._connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM rate_cards WHERE project_id IS NULL OR project_id = :project ORDER BY valid_from DESC, seq DESC"
            ),
            {"project": project_id},
        )
        return [HeldCard(*row) for row in rows]

    def projects(self) -> list[str]:
        """Those that have cards of their own."""
        rows = self._connection.execute(text("SELECT DISTINCT project_id FROM rate_cards WHERE project_id IS NOT NULL ORDER BY 1"))
        return [row[0] for row in rows]

    def site(self) -> list[HeldCard]:
        """The cards of every project."""
        rows = self._connection.execute(text(f"SELECT {_COLUMNS} FROM rate_cards WHERE project_id IS NULL"))
        return [HeldCard(*row) for row in rows]

    def add(self, card: HeldCard) -> HeldCard:
        """A new one; ``seq`` and ``created_at`` are the database's."""
        values: Mapping[str, Any] = {
            "id": card.id,
            "project": card.project_id,
            "name": card.name,
            "currency": card.currency,
            "from": card.valid_from,
            "to": card.valid_to,
            "document": as_json(card.document),
            "by": card.created_by,
        }
        row = self._connection.execute(
            text(
                "INSERT INTO rate_cards (id, project_id, name, currency, valid_from, valid_to, document, created_by)"
                f" VALUES (:id, :project, :name, :currency, :from, :to, CAST(:document AS jsonb), :by) RETURNING {_COLUMNS}"
            ),
            values,
        ).one()
        return HeldCard(*row)

    def get(self, project_id: str, card_id: UUID) -> HeldCard | None:
        """The project's or the site's card of this id."""
        row = self._connection.execute(
            text(f"SELECT {_COLUMNS} FROM rate_cards WHERE id = :id AND (project_id IS NULL OR project_id = :project) FOR UPDATE"),
            {"id": card_id, "project": project_id},
        ).first()
        return HeldCard(*row) if row else None

    def delete(self, card_id: UUID) -> None:
        """Take it away, with all that it priced."""
        self._connection.execute(text("DELETE FROM rate_cards WHERE id = :id"), {"id": card_id})
