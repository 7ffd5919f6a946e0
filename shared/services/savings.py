"""The ledger of savings: written with every change that takes nodes away, told in the prices of the moment of asking."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from shared.domain.clusters import DEFAULT_GROUP, Scope
from shared.domain.jobs import Job, JobKind
from shared.domain.savings import HORIZON, Entry, predicted, realised
from shared.errors import FieldError, InvalidRequest, KcloudError
from shared.services.costs import money_text, sums
from shared.services.rates import book_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.db.uow import Database, UnitOfWork
    from shared.domain.accelerators import NodeShape
    from shared.domain.clusters import Cluster
    from shared.domain.ports import Actor, Clock
    from shared.domain.rates import Book
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

#: Entries that are told, the latest.
MOST_ENTRIES: Final = 1000
GROUPS: Final = ("cause", "kind", "cluster")
_NAMES: Final = {"cause": ("cause",), "kind": ("kind",), "cluster": ("cluster_id", "cluster")}
_KINDS: Final = {
    JobKind.RESIZE: "scale_in",
    JobKind.HIBERNATE: "hibernate",
    JobKind.REMOVE_NODE_GROUP: "remove_node_group",
    JobKind.DELETE: "delete",
}


def enter(uow: UnitOfWork, cluster: Cluster, job: Job) -> None:
    """Note what a change takes away, in the transaction that promises it. One that takes nothing away leaves no entry."""
    kind = _KINDS.get(job.kind)
    if kind is None:
        return
    groups = {}
    for name, one in uow.savings.running(cluster.id).items():
        after = _after(job, name, one.role)
        if after is not None and after < one.before:
            groups[name] = replace(one, after=after)
    if groups:
        uow.savings.add(job.id, job.project_id, (cluster.id, cluster.name), kind, _cause(job), job.requested_by, groups)


def _after(job: Job, group: str, role: str) -> int | None:
    """How many nodes of a group the change leaves; None where it does not touch it."""
    if job.kind is JobKind.DELETE:
        return 0
    if role == "master":
        return None
    if job.kind is JobKind.HIBERNATE:
        return int(job.params.get("floor", 0))
    if group != job.params.get("node_group", DEFAULT_GROUP):
        return None
    return 0 if job.kind is JobKind.REMOVE_NODE_GROUP else int(job.params["node_count"])


def _cause(job: Job) -> str:
    if job.params.get("plan_id"):
        return "plan"
    return {"policy:cleanup": "cleanup", "policy:scale": "policy", "kcloud:budgets": "budget"}.get(job.requested_by or "", "user")


class SavingsService:
    """Savings of the actor's project."""

    def __init__(
        self, database: Database, catalogs: Catalogs, accelerators: AcceleratorService, clock: Clock, *, region: str
    ) -> None:
        self._database = database
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._clock = clock
        self._region = region

    def ledger(self, actor: Actor, *, group_by: Sequence[str], start: datetime | None, end: datetime | None) -> dict[str, Any]:
        """What changes were to save and did save in [start, end), by default the last 30 days; each by itself, or by group."""
        begin, finish = self._window(start, end)
        with self._database.begin() as uow:
            entries = uow.savings.select(actor.project_id, begin, finish, limit=MOST_ENTRIES)
            ran = uow.savings.ran(list({one.cluster_id for one in entries}), begin - HORIZON, finish) if entries else {}
            book = book_of(uow, actor.project_id)
        shapes = self._shapes(actor.project_id)
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for entry in entries:
            figures = _figures(entry, *ran[entry.cluster_id], book, shapes, begin, finish)
            for currency, (was_to, did) in figures["money"].items():
                names = _named(entry, group_by)
                row = rows.setdefault((*names.values(), currency), {**names, "currency": currency, **_nothing()})
                row["predicted"] += was_to
                row["realised"] += did
                if currency == book.currency:  # quantities stand in the main currency's row only
                    row["predicted_kwh"] += figures["kwh"][0]
                    row["realised_kwh"] += figures["kwh"][1]
        told = list(rows.values())
        return {
            "start": begin,
            "end": finish,
            "group_by": list(group_by),
            "currency": book.currency,
            "totals": _totals(told, book.currency),
            "rows": [_shown(row) for row in told],
        }

    def _window(self, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
        now = self._clock.now()
        finish = min(end.astimezone(UTC) if end and end.tzinfo else end.replace(tzinfo=UTC) if end else now, now)
        begin = (
            start.astimezone(UTC) if start and start.tzinfo else start.replace(tzinfo=UTC) if start else finish - timedelta(days=30)
        )
        if begin >= finish:
            words = "start must come before end, and not in the future."
            raise InvalidRequest(words, errors=[FieldError("start", "before_end", words)])
        return begin, finish

    def _shapes(self, project_id: str) -> Mapping[str, NodeShape]:
        try:
            return self._accelerators.shapes(self._catalogs.get(Scope(self._region, project_id)))
        except KcloudError:
            return {}


def _figures(
    entry: Entry,
    ran: Sequence[Any],
    gone: datetime | None,
    book: Book,
    shapes: Mapping[str, NodeShape],
    start: datetime,
    end: datetime,
) -> dict[str, Any]:
    was_to, energy = sums(book, shapes, predicted(entry, start, end), start, end)
    did, drawn = sums(book, shapes, realised(entry, ran, gone, start, end), start, end)
    money = {code: (was_to.get(code, Decimal(0)), did.get(code, Decimal(0))) for code in {book.currency, *was_to, *did}}
    return {"money": money, "kwh": (energy, drawn)}


def _named(entry: Entry, group_by: Sequence[str]) -> dict[str, Any]:
    words: dict[str, Any] = {
        "job_id": str(entry.job_id),
        "at": entry.at,
        "cluster_id": str(entry.cluster_id),
        "cluster": entry.cluster_name,
        "kind": entry.kind,
        "cause": entry.cause,
    }
    return words if not group_by else {column: words[column] for name in group_by for column in _NAMES[name]}


def _nothing() -> dict[str, Decimal]:
    return dict.fromkeys(("predicted", "realised", "predicted_kwh", "realised_kwh"), Decimal(0))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "predicted": money_text(row["predicted"]),
        "realised": money_text(row["realised"]),
        "predicted_kwh": float(row["predicted_kwh"]),
        "realised_kwh": float(row["realised_kwh"]),
    }


def _totals(rows: Sequence[Mapping[str, Any]], main: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Decimal]] = defaultdict(_nothing)
    for row in rows:
        for name in _nothing():
            found[row["currency"]][name] += row[name]
    return [_shown({"currency": code, **found[code]}) for code in sorted(found, key=lambda code: (code != main, code))]
