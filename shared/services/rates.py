"""Rate cards: given, listed and taken away. Prices are applied when somebody asks, so each change re-rates the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from shared.db.rates import HeldCard
from shared.domain.rates import Book, RateCard, read_prices
from shared.errors import FieldError, InvalidRequest, NotFound, as_sentence

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.ports import Actor

PROJECT: Final = "project"
SITE: Final = "site"
_HEAD: Final = ("name", "currency", "valid_from", "valid_to", "scope")


class RateService:
    """Rate cards of the actor's project, and of the site."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cards(self, actor: Actor) -> list[dict[str, Any]]:
        """Those that price the project's clusters, the latest first."""
        with self._database.single() as uow:
            return [_shown(held) for held in uow.rates.select(actor.project_id)]

    def add(
        self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError], validate_only: bool = False
    ) -> dict[str, Any] | None:
        """A new card, valid at once for the times that it names. None: it was only validated. Raises InvalidRequest with all findings."""
        wrong = list(findings) or read_prices(fields)[1]
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        if validate_only:
            return None
        card = HeldCard(
            uuid4(),
            0,
            actor.project_id if fields.get("scope", PROJECT) == PROJECT else None,
            fields["name"],
            fields["currency"],
            fields["valid_from"],
            fields.get("valid_to"),
            {name: value for name, value in fields.items() if name not in _HEAD},
            actor.user_id,
            fields["valid_from"],
        )
        with self._database.begin() as uow:
            held = uow.rates.add(card)
            uow.audit.record(actor, "rates:add", None, _for_audit(held))
        return _shown(held)

    def scope_of(self, actor: Actor, card_id: UUID) -> str:
        """Whether a card is the project's or the site's. NotFound where there is none."""
        with self._database.begin() as uow:
            return _scope(self._get(uow, actor, card_id))

    def delete(self, actor: Actor, card_id: UUID) -> None:
        """Take a card away: what it priced has other prices from the next question on, the past too."""
        with self._database.begin() as uow:
            held = self._get(uow, actor, card_id)
            uow.rates.delete(card_id)
            uow.audit.record(actor, "rates:delete", None, _for_audit(held))

    @staticmethod
    def _get(uow: UnitOfWork, actor: Actor, card_id: UUID) -> HeldCard:
        held = uow.rates.get(actor.project_id, card_id)
        if held is None:
            msg = f"The project has no rate card {str(card_id)!r}."
            raise NotFound(msg, reason="RATE_CARD_NOT_FOUND")
        return held


def book_of(uow: UnitOfWork, project_id: str) -> Book:
    """The price list that holds for a project."""
    return Book(card_of(held) for held in uow.rates.select(project_id))


def card_of(held: HeldCard) -> RateCard:
    """A card out of its row. Its prices were found right when it was given."""
    prices, _ = read_prices(held.document)
    return RateCard(held.id, held.currency, held.valid_from, held.valid_to, held.project_id, **prices, seq=held.seq)


def _scope(held: HeldCard) -> str:
    return SITE if held.project_id is None else PROJECT


def _for_audit(held: HeldCard) -> dict[str, Any]:
    return {"id": held.id, "scope": _scope(held), "valid_from": held.valid_from, "valid_to": held.valid_to, **held.document}


def _shown(held: HeldCard) -> dict[str, Any]:
    document = held.document
    card = card_of(held)
    return {
        "id": held.id,
        "name": held.name,
        "scope": _scope(held),
        "currency": held.currency,
        "valid_from": held.valid_from,
        "valid_to": held.valid_to,
        "flavors": [
            {**item, "per_node_hour": format(card.flavors[item["flavor"]].normalize(), "f")} for item in document.get("flavors", [])
        ],
        "accelerators": [
            {**item, "per_device_hour": format(card.accelerators[item["accelerator"]].normalize(), "f")}
            for item in document.get("accelerators", [])
        ],
        **{f"{name}_hour": document.get(f"{name}_hour") for name in ("core", "memory_gb", "storage_gb", "address")},
        "electricity": document.get("electricity"),
        "created_by": held.created_by,
        "created_at": held.created_at,
    }
