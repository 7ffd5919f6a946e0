"""Webhooks: who is told of what, and the telling, at least once, in any order.

:func:`enqueue` is called in the transaction of what it tells about, so that neither happens without the other. A beat task delivers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from shared.errors import Conflict, FieldError, InvalidRequest, NotFound, as_sentence
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.db.webhooks import Due
    from shared.domain.ports import Actor, Clock, WebhookSender
    from shared.services.credentials import Vault

log = get_logger(__name__)

#: What there is to be told of.
EVENTS: Final[dict[str, str]] = {
    "cleanup.notified": "A cluster has been idle for as long as the policy asks; its grace follows.",
    "cleanup.marked": "Its grace runs.",
    "cleanup.confirmed": "Its grace is over; it goes in the next window.",
    "cleanup.deleting": "A job hibernates or deletes it.",
    "cleanup.active": "It is in use again, or its cleanup was cancelled, or is done by hibernating it.",
    "budget.threshold": "A part of a budget is used, or expected to be.",
    "plan.moves.offered": "A plan needs these placements moved: whoever can does so, and reports each.",
    "plan.applied": "A plan is done.",
    "plan.stopped": "A plan ended before its last step: it is stale, failed or cancelled.",
}
TRIES: Final = 10
MOST_PER_PROJECT: Final = 20
_FIRST_S, _LONGEST_S = 10.0, 3600.0
#: Longer than any post takes, so that a delivery is not sent twice while its sender lives.
_LEASE_S: Final = 60.0
_BUDGET_S: Final = 20.0


def families() -> list[str]:
    """``cleanup.*`` and the like: all events of a kind."""
    return sorted({f"{event.partition('.')[0]}.*" for event in EVENTS})


def enqueue(uow: UnitOfWork, project_id: str, event: str, payload: Mapping[str, Any], *, at: datetime | None = None) -> UUID:
    """Tell the project's webhooks of an event, once this transaction commits; the event's id, which each of them is told."""
    return enqueue_all(uow, project_id, [(event, payload)], at=at or uow.jobs.now())[0]


def enqueue_all(uow: UnitOfWork, project_id: str, events: Sequence[tuple[str, Mapping[str, Any]]], *, at: datetime) -> list[UUID]:
    """The same for many events, in one statement."""
    rows = []
    for event, payload in events:
        event_id = uuid4()
        told = {"id": str(event_id), "event": event, "project_id": project_id, "at": at.isoformat(), "data": payload}
        rows.append((event_id, event, json.dumps(told, separators=(",", ":"))))
    uow.webhooks.enqueue(project_id, rows)
    return [row[0] for row in rows]


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a dot and the body, in hex. The timestamp is part of it so that an old post can't be replayed."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def pause_s(attempts: int) -> float:
    """Seconds until the next try after so many: 10, 20, 40 and so on up to an hour, each up to a fifth longer."""
    return float(min(_FIRST_S * 2.0 ** (attempts - 1), _LONGEST_S) * (1 + random.random() / 5))  # noqa: S311 - spreads load


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round came to."""

    delivered: int = 0
    refused: int = 0
    given_up: int = 0


class WebhookService:
    """The actor's project's webhooks, and the delivery of everybody's."""

    def __init__(self, database: Database, vault: Vault, sender: WebhookSender, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._sender = sender
        self._clock = clock

    # -- receivers ----------------------------------------------------------------------------------------------------

    def create(self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError] = ()) -> dict[str, Any]:
        """Add a webhook. The answer has its secret, which is never shown again; where none was given, one is made."""
        wrong = [*findings, *self._examine(fields)]
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        secret = fields.get("secret") or secrets.token_urlsafe(32)
        sealed = self._vault.seal(secret)
        webhook_id = uuid4()
        with self._database.begin() as uow:
            if uow.webhooks.count(actor.project_id) >= MOST_PER_PROJECT:
                msg = f"The project has {MOST_PER_PROJECT} webhooks already."
                raise Conflict(msg, reason="TOO_MANY_WEBHOOKS", hint="Delete one with DELETE /webhooks/{id}.")
            events = list(fields.get("events") or ())
            uow.webhooks.add(webhook_id, actor.project_id, fields["url"], events, fields.get("description"), sealed, actor.user_id)
            uow.audit.record(
                actor, "webhooks:create", None, {"webhook_id": str(webhook_id), "host": urlsplit(fields["url"]).hostname}
            )
            made = uow.webhooks.of(actor.project_id, webhook_id)[0]
        return made | {"secret": secret}

    def all(self, actor: Actor) -> list[dict[str, Any]]:
        """All of the project's, without secrets."""
        with self._database.single() as uow:
            return uow.webhooks.of(actor.project_id)

    def deliveries(self, actor: Actor, webhook_id: UUID) -> list[dict[str, Any]]:
        """The latest deliveries of one, newest first. Raises NotFound."""
        with self._database.begin() as uow:
            if not uow.webhooks.of(actor.project_id, webhook_id):
                raise no_webhook(str(webhook_id))
            return uow.webhooks.deliveries(webhook_id)

    def delete(self, actor: Actor, webhook_id: UUID) -> None:
        """Forget one, and what was still to be sent to it. Raises NotFound."""
        with self._database.begin() as uow:
            if not uow.webhooks.delete(actor.project_id, webhook_id):
                raise no_webhook(str(webhook_id))
            uow.audit.record(actor, "webhooks:delete", None, {"webhook_id": str(webhook_id)})

    def _examine(self, fields: Mapping[str, Any]) -> list[FieldError]:
        wrong = []
        url = fields.get("url")
        if url is not None and (why := _bad_url(url) or self._sender.forbids(url)):
            wrong.append(FieldError("url", "address", why))
        known = [*EVENTS, *families()]
        unknown = [event for event in fields.get("events") or () if event not in known]
        if unknown:
            words = f"There is no event {unknown[0][:100]!r}. There are: {', '.join(known)}."
            wrong.append(FieldError("events", "choice", words))
        return wrong

    # -- delivering ---------------------------------------------------------------------------------------------------

    def deliver(self, *, budget_s: float = _BUDGET_S) -> Delivered:
        """Send what is due, for up to ``budget_s``. A receiver that fails is left alone for the rest of this round."""
        until = time.monotonic() + budget_s
        failing: list[UUID] = []
        sent = refused = 0
        with self._database.begin() as uow:
            given_up = uow.webhooks.give_up(tries=TRIES)
        while time.monotonic() < until:
            with self._database.begin() as uow:
                due = uow.webhooks.claim(tries=TRIES, lease_s=_LEASE_S, skip=failing)
            if due is None:
                break
            if self._send(due):
                sent += 1
                continue
            failing.append(due.webhook_id)
            refused += 1
            given_up += due.attempts >= TRIES
        if refused or given_up:
            log.warning("webhooks.refused", refused=refused, given_up=given_up, delivered=sent)
        return Delivered(sent, refused, given_up)

    def _send(self, due: Due) -> bool:
        secret = self._vault.open(due.secret)
        status, error = None, "The secret can't be read: KCLOUD_SECRET_KEY was changed. Delete the webhook and add it again."
        if secret is not None:
            timestamp = int(self._clock.now().timestamp())
            body = due.body.encode()
            headers = {
                "Content-Type": "application/json",
                "Kcloud-Event": due.event,
                "Kcloud-Delivery": str(due.id),
                "Kcloud-Signature": f"t={timestamp},v1={signature(secret, timestamp, body)}",
            }
            received = self._sender.post(due.url, body, headers)
            status, error = received.status, received.error or ""
            if received.error is None and status is not None:
                with self._database.begin() as uow:
                    uow.webhooks.delivered(due, status)
                return True
        with self._database.begin() as uow:
            again = None if due.attempts >= TRIES else pause_s(due.attempts)
            uow.webhooks.refused(due, status=status, error=error, again_s=again)
        return False


def _bad_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        return f"Must be an address: {exc}."
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "Must be an address that begins with https:// or http:// and names a host."
    if parts.username is not None or parts.fragment or port == 0:
        return "Must have no user, no password, no fragment and no port 0."
    return None


def no_webhook(ref: str) -> NotFound:
    """There is none of this id."""
    return NotFound(f"The project has no webhook {ref[:100]!r}.", reason="WEBHOOK_NOT_FOUND")
