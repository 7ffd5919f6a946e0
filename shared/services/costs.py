"""What clusters cost: usage on record, priced by the rate cards of the moment of asking."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared.domain.clusters import Scope
from shared.domain.costing import PARTS, Held, Key, Line, Rater, Use, metered, spans, watts
from shared.domain.rates import WIDE
from shared.errors import FieldError, InvalidRequest, KcloudError, NotFound
from shared.services.rates import book_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from shared.db.uow import Database, UnitOfWork
    from shared.db.usage import Described, Interval
    from shared.domain.accelerators import NodeShape
    from shared.domain.ports import Actor, Clock
    from shared.domain.rates import Book
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

_SPANS_MAX: Final = 10_000
_LINES_MAX: Final = 200_000
_PLACES: Final = 6
_HOUR: Final = timedelta(hours=1)
#: Of an hour's samples.
_NEARLY_ALL: Final = 0.95
_QUANTITIES: Final = ("node_seconds", "accelerator_seconds", "storage_gb_hours", "address_hours", "energy_kwh", "carbon_g")
_NAMES: Final = {"project": ("project_id",), "cluster": ("cluster_id", "cluster"), "type": ("type",), "workload": ("workload",)}


class CostService:
    """Costs of the actor's project."""

    def __init__(
        self, database: Database, catalogs: Catalogs, accelerators: AcceleratorService, clock: Clock, *, region: str
    ) -> None:
        self._database = database
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._clock = clock
        self._region = region

    def of_cluster(
        self, actor: Actor, ref: str, *, start: datetime | None, end: datetime | None, granularity: str = "total"
    ) -> dict[str, Any]:
        """Cost and energy of one cluster over [start, end), by default since it was made, and by group of nodes and span."""
        with self._database.begin() as uow:
            cluster = uow.clusters.get(actor.project_id, ref)
            if cluster is None:
                msg = f"The project has no cluster {ref!r}."
                raise NotFound(msg, reason="CLUSTER_NOT_FOUND")
            about = uow.usage.cluster(cluster.id)
            begin, finish = self._window(start, end, about.created_at)
            cuts = _cuts(begin, finish, granularity, 1)
            book = book_of(uow, actor.project_id)
            intervals = uow.usage.between([cluster.id], begin, finish)
            uses = _uses(uow, [about], intervals, begin, finish)
            meters = _Meters(uow, [about], min(begin, _month(self._clock.now())), finish)
            future = self._rest_of_month(uow, [about])
        shapes = self._shapes(Scope(cluster.region, cluster.project_id))
        uses = meters.applied(uses, shapes)
        rater = Rater(book, shapes, begin, finish)
        by_group = rater.rate(uses, cuts, lambda use, _: (use.role, use.node_group, use.flavor or ""))
        items = [
            _item(key, line, book, shapes, finish) for key, line in sorted(_over(by_group, lambda key: key[1]).items(), key=str)
        ]
        until = dict(pairwise(cuts))
        series = [
            row
            for key, line in sorted(_over(by_group, lambda key: key[0]).items())
            for row in _rows(line, {"start": key, "end": until[key]}, book.currency)
        ]
        totals = _totals([row for item in items for row in item.pop("by_currency")])
        now = self._clock.now()
        live = [used for used in intervals if used.is_open and finish >= now - timedelta(seconds=1)]
        return {
            "cluster_id": str(cluster.id),
            "start": begin,
            "end": finish,
            "granularity": granularity,
            "currency": book.currency,
            "total_cost": _total(totals, book.currency),
            "totals": totals,
            "cost_per_hour": round(float(sum((_per_hour(used, book, shapes, now) for used in live), Fraction(0))), 6),
            "energy_kwh": round(sum(item["energy_kwh"] for item in items), 9),
            "source": meters.source(uses),
            "items": items,
            "series": series,
            "forecast": self._forecast(book, shapes, future, meters),
        }

    def of_project(
        self, actor: Actor, *, group_by: Sequence[str], start: datetime | None, end: datetime | None, granularity: str = "total"
    ) -> dict[str, Any]:
        """Costs of all clusters of the project over [start, end), by default since the month began, by group and span."""
        now = self._clock.now()
        begin, finish = self._window(start, end, _month(now) if end is None or _month(now) < end else end - timedelta(days=30))
        with self._database.begin() as uow:
            about = uow.usage.clusters(actor.project_id, begin, finish)
            cuts = _cuts(begin, finish, granularity, len(about))
            book = book_of(uow, actor.project_id)
            ids = [one.id for one in about]
            uses = _uses(uow, about, uow.usage.between(ids, begin, finish), begin, finish)
            this_month = uow.usage.clusters(actor.project_id, _month(now), now)
            meters = _Meters(uow, [*about, *this_month], min(begin, _month(now)), max(finish, now))
            future = self._rest_of_month(uow, this_month)
        shapes = self._shapes(Scope(self._region, actor.project_id))
        uses = meters.applied(uses, shapes)
        named = {one.id: one for one in about}

        def key(use: Use, workload: str | None) -> tuple[str, ...]:
            one = named[use.cluster_id]
            words = {
                "project": (actor.project_id,),
                "cluster": (str(one.id), one.name),
                "type": (one.type,),
                "workload": (workload or "",),
            }
            return tuple(word for name in group_by for word in words[name])

        lines = Rater(book, shapes, begin, finish).rate(uses, cuts, key)
        columns = [column for name in group_by for column in _NAMES[name]]
        until = dict(pairwise(cuts))
        rows = []
        for (since, group), line in sorted(lines.items()):
            names = {column: word or None for column, word in zip(columns, group, strict=True)}
            rows += _rows(line, {"start": since, "end": until[since], **names}, book.currency)
        totals = _totals(rows)
        return {
            "start": begin,
            "end": finish,
            "granularity": granularity,
            "group_by": list(group_by),
            "currency": book.currency,
            "total_cost": _total(totals, book.currency),
            "totals": totals,
            "energy_kwh": round(sum(row["energy_kwh"] or 0.0 for row in rows), 9),
            "source": meters.source(uses),
            "rows": rows,
            "forecast": self._forecast(book, shapes, future, meters),
        }

    def spending(self, project_id: str, start: datetime, end: datetime) -> Spending:
        """What the project has used of [start, end) by now, and what it will have by its end if all that runs now runs on."""
        now = _aware(self._clock.now())
        until = min(now, end)
        with self._database.begin() as uow:
            about = uow.usage.clusters(project_id, start, until)
            named = {one.id: one for one in about}
            book = book_of(uow, project_id)
            past = uow.usage.between(list(named), start, until)
            meters = _Meters(uow, about, start, until)
        shapes = self._shapes(Scope(self._region, project_id))
        spent = meters.applied([_use(named[used.cluster_id], used) for used in past], shapes)
        coming = [
            replace(_use(named[used.cluster_id], used), start=until, end=end) for used in past if used.is_open and until < end
        ]
        money, energy = sums(book, shapes, spent, start, end)
        more, further = sums(book, shapes, coming, start, end)
        expected = {code: money.get(code, Decimal(0)) + more.get(code, Decimal(0)) for code in {*money, *more}}
        return Spending(money, energy, expected, energy + further)

    # -- parts ----------------------------------------------------------------------------------------------------------

    def _window(self, start: datetime | None, end: datetime | None, usual: datetime) -> tuple[datetime, datetime]:
        finish = _aware(end or self._clock.now())
        begin = _aware(start or usual)
        if start is None and begin > finish:
            begin = finish
        if begin > finish or (start is not None and begin == finish):
            words = "start must come before end."
            raise InvalidRequest(words, errors=[FieldError("start", "before_end", words)])
        return begin, finish

    def _shapes(self, scope: Scope) -> dict[str, NodeShape]:
        try:
            return self._accelerators.shapes(self._catalogs.get(scope))
        except KcloudError:
            return {}  # nodes of unknown size stand in; `rate` in each item says so

    def _rest_of_month(self, uow: UnitOfWork, about: Sequence[Described]) -> tuple[datetime, datetime, list[Use], list[Use]]:
        """Now, the month's end, what was used of the month, and what will be if all that runs runs on."""
        now = _aware(self._clock.now())
        start = _month(now)
        end = (start + timedelta(days=32)).replace(day=1)
        past = uow.usage.between([one.id for one in about], start, now)
        named = {one.id: one for one in about}
        spent = [_use(named[used.cluster_id], used) for used in past]
        coming = [replace(_use(named[used.cluster_id], used), start=now, end=end) for used in past if used.is_open]
        return now, end, spent, coming

    @staticmethod
    def _forecast(
        book: Book, shapes: Mapping[str, NodeShape], rest: tuple[datetime, datetime, list[Use], list[Use]], meters: _Meters
    ) -> dict[str, Any]:
        now, end, spent, coming = rest
        start = _month(now)
        lines = Rater(book, shapes, start, end).rate(
            [*meters.applied(spent, shapes), *coming], [start, end], lambda _use, _workload: ""
        )
        rows = [row for line in lines.values() for row in _rows(line, {}, book.currency)]
        totals = [{"currency": one["currency"], "total": one["total"]} for one in _totals(rows)]
        return {"start": start, "end": end, "total_cost": _total(totals, book.currency), "totals": totals}


class Spending(NamedTuple):
    """Money by currency, and kWh: so far, and expected by the end."""

    money: dict[str, Decimal]
    kwh: Decimal
    expected_money: dict[str, Decimal]
    expected_kwh: Decimal


def sums(
    book: Book, shapes: Mapping[str, NodeShape], uses: Sequence[Use], start: datetime, end: datetime
) -> tuple[dict[str, Decimal], Decimal]:
    """What these uses of [start, end) cost by currency, and their kWh."""
    lines = Rater(book, shapes, start, end).rate(uses, [start, end], lambda _use, _workload: "")
    rows = [row for line in lines.values() for row in _rows(line, {}, book.currency)]
    energy = sum((line.energy_kwh for line in lines.values()), Fraction(0))
    return {one["currency"]: Decimal(one["total"]) for one in _totals(rows)}, Decimal(f"{float(energy):.9f}")


class _Meters:
    """What was measured of clusters' energy in a window."""

    def __init__(self, uow: UnitOfWork, about: Sequence[Described], start: datetime, end: datetime) -> None:
        self._hours: dict[UUID, dict[datetime, float]] = defaultdict(dict)
        self._measured: dict[tuple[UUID, datetime], float] = {}
        for one in uow.usage.energy(list({each.id for each in about}), start, end):
            self._hours[one.cluster_id][one.hour.astimezone(UTC)] = one.watts
            self._measured[one.cluster_id, one.hour.astimezone(UTC)] = one.measured

    def applied(self, uses: Sequence[Use], shapes: Mapping[str, NodeShape]) -> list[Use]:
        """The uses with what was measured of them."""
        return metered(uses, self._hours, shapes) if self._hours else list(uses)

    def source(self, uses: Sequence[Use]) -> str:
        """Where the energy of these uses comes from: ``measured`` where nearly all the time of all their hours was."""
        lives: dict[UUID, tuple[datetime, datetime]] = {}
        for use in uses:
            first, last = lives.get(use.cluster_id, (use.start, use.end))
            lives[use.cluster_id] = min(first, use.start), max(last, use.end)
        shares = [self._share(cluster, *life) for cluster, life in lives.items()]
        if not any(shares):
            return "modelled"
        return "measured" if all(share >= _NEARLY_ALL for share in shares) else "mixed"

    def _share(self, cluster: UUID, first: datetime, last: datetime) -> float:
        """The part of the hours from ``first`` to ``last`` that was measured."""
        begin = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        measured = sum(self._measured[cluster, hour] for hour in self._hours.get(cluster, ()) if begin <= hour < last)
        return min(1.0, measured / max(1, -((begin - last) // _HOUR)))


def as_csv(
    rows: Sequence[Mapping[str, Any]],
    text_of: Callable[[datetime], str | None],
    empty: Sequence[str] = ("start", "end", "currency", *PARTS, "total", *_QUANTITIES),
) -> str:
    """Rows as CSV (RFC 4180), the first line naming the columns (``empty``: those of no rows); what is not known is empty."""
    out = io.StringIO()
    columns = list(rows[0]) if rows else list(empty)
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        values = [row[column] for column in columns]
        writer.writerow(
            ["" if value is None else text_of(value) if isinstance(value, datetime) else _safe(value) for value in values]
        )
    return out.getvalue()


def _safe(value: Any) -> Any:
    """A spreadsheet takes a text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _aware(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _month(now: datetime) -> datetime:
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _cuts(start: datetime, end: datetime, granularity: str, clusters: int) -> list[datetime]:
    width = {"hour": 3600, "day": 86_400, "month": 2_400_000}.get(granularity)
    expected = (end - start).total_seconds() / width if width else 1
    if expected > _SPANS_MAX or expected * clusters > _LINES_MAX:
        words = (
            f"The window has more than {_SPANS_MAX} spans, or more than {_LINES_MAX} of all clusters together;"
            " ask for a coarser granularity or a shorter window."
        )
        raise InvalidRequest(words, errors=[FieldError("granularity", "max_spans", words)])
    return spans(start, end, granularity)


def _uses(uow: UnitOfWork, about: Sequence[Described], intervals: Sequence[Interval], start: datetime, end: datetime) -> list[Use]:
    """Usage with what was placed on it. Before a cluster's first placement it is not known what ran there."""
    named = {one.id: one for one in about}
    held: dict[tuple[UUID, str], list[Held]] = defaultdict(list)
    known = [one.id for one in about if one.first_placed_at is not None]
    for placed in uow.usage.placed(known, start, end) if known else ():
        one = Held(
            placed.workload, placed.node, placed.cpu_milli, placed.memory_mib, placed.devices_milli, placed.start, placed.end
        )
        held[placed.cluster_id, placed.node_group].append(one)
    found = []
    for used in intervals:
        cluster = named[used.cluster_id]
        use, since = _use(cluster, used), cluster.first_placed_at
        if use.role == "master" or since is None or since >= use.end:
            found.append(use)
            continue
        on_group = tuple(one for one in held[use.cluster_id, use.node_group] if one.start < use.end and one.end > use.start)
        if since > use.start:
            found.append(replace(use, end=since))
        found.append(replace(use, start=max(since, use.start), held=on_group))
    return found


def _use(cluster: Described, used: Interval) -> Use:
    """Volumes are known by the labels that Magnum's drivers read, addresses by what was asked for; both are of each node."""
    sizes = ["boot_volume_size", "docker_volume_size", *(["etcd_volume_size"] if used.role == "master" else [])]
    words = {name: cluster.labels.get(name) or str(cluster.options.get(name) or "") for name in sizes}
    gb = sum(int(word) for word in words.values() if word.isdecimal())
    addresses = int(cluster.options.get("floating_ip_enabled") is True)
    return Use(used.cluster_id, used.role, used.node_group, used.flavor, used.nodes, used.start, used.end, gb, addresses)


def _over(lines: Mapping[Key, Line], key: Callable[[Key], Any]) -> dict[Any, Line]:
    found: dict[Any, Line] = defaultdict(Line)
    for each, line in lines.items():
        found[key(each)].add(line)
    return found


def _rows(line: Line, names: Mapping[str, Any], main: str) -> list[dict[str, Any]]:
    """One row for each currency, the main one first. Quantities stand in the first only, so that they can be summed."""
    shown = line.shown()
    found: list[dict[str, Any]] = []
    for currency in sorted(shown, key=lambda code: (code != main, code)) or [main]:
        parts = shown.get(currency, dict.fromkeys(PARTS, Decimal(0)))
        quantities: dict[str, Any] = dict.fromkeys(_QUANTITIES)
        if not found:
            quantities = {
                "node_seconds": line.node_micros / 1e6,
                "accelerator_seconds": line.accelerator_micros / 1e6,
                "storage_gb_hours": line.gb_micros / 3.6e9,
                "address_hours": line.address_micros / 3.6e9,
                "energy_kwh": round(float(line.energy_kwh), 9),
                "carbon_g": None if line.carbon_g is None else round(float(line.carbon_g), 6),
            }
        total = _sum(parts.values())
        money = {part: money_text(parts[part]) for part in PARTS}
        found.append({**names, "currency": currency, **money, "total": money_text(total), **quantities})
    return found


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = WIDE.add(total, amount)
    return total


def _totals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The sums of the rows by currency and part: of what is shown, so that they agree to the last place."""
    sums: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        into = sums.setdefault(row["currency"], dict.fromkeys((*PARTS, "total"), Decimal(0)))
        for part in into:
            into[part] = WIDE.add(into[part], Decimal(row[part]))
    return [
        {"currency": currency, **{part: money_text(amount) for part, amount in parts.items()}} for currency, parts in sums.items()
    ]


def _total(totals: Sequence[Mapping[str, str]], currency: str) -> str:
    return next((one["total"] for one in totals if one["currency"] == currency), money_text(Decimal(0)))


def money_text(amount: Decimal) -> str:
    """A plain decimal number, with six places at the least and as many as it has."""
    text = format(amount, "f")
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0'):0<{_PLACES}}"


def _item(key: tuple[str, str, str], line: Line, book: Book, shapes: Mapping[str, NodeShape], at: datetime) -> dict[str, Any]:
    role, group, flavor = key
    rows = _rows(line, {}, book.currency)
    shape = shapes.get(flavor)
    prices = [price for price in book.node(flavor or None, shape, at) if price.currency == rows[0]["currency"]]
    return {
        "role": role,
        "node_group": group,
        "flavor": flavor or None,
        "node_seconds": round(line.node_micros / 1e6, 6),
        "accelerator_seconds": round(line.accelerator_micros / 1e6, 6),
        "cost": rows[0]["total"],
        "currency": rows[0]["currency"],
        **{part: rows[0][part] for part in PARTS},
        "energy_kwh": rows[0]["energy_kwh"],
        "price_per_node_hour": float(sum(price.amount for price in prices)),
        "watts_per_node": float(watts(shape)),
        "rate": "flavor" if shape is not None else "default",
        "price_sources": sorted(line.sources),
        "by_currency": rows,
    }


def _per_hour(used: Interval, book: Book, shapes: Mapping[str, NodeShape], at: datetime) -> Fraction:
    """What a group's nodes cost per hour at a moment, electricity included, in the list's main currency."""
    return node_per_hour(book, used.flavor, shapes.get(used.flavor or ""), at) * used.nodes


def node_per_hour(book: Book, flavor: str | None, shape: NodeShape | None, at: datetime) -> Fraction:
    """An hour of one node at a moment, its modelled electricity included, in the list's main currency."""
    price = sum((Fraction(each.amount) for each in book.node(flavor, shape, at) if each.currency == book.currency), Fraction(0))
    power = book.electricity(at)
    if power is not None and power[1] == book.currency:
        price += watts(shape) / 1000 * Fraction(power[0].tariff(at)) * Fraction(power[0].pue)
    return price
