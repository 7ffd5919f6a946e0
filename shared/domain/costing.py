"""What node-seconds cost: usage under dated rates, by span of time and by group, split into parts whose sum is the whole, exactly.

Prices are constant between the edges of a price list, and so is what is allocated between a placement's beginning and end. Amounts are
integrals of such steps, in whole microseconds and exact fractions; each is rounded once, to 12 places, and all sums are of rounded
amounts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shared.domain import rating
from shared.domain.rates import DEFAULT, WIDE, Price

if TYPE_CHECKING:
    from shared.domain.accelerators import NodeShape
    from shared.domain.rates import Book

PARTS: Final = ("allocated", "idle", "unattributed", "control_plane", "storage", "network", "electricity")
_MICRO: Final = timedelta(microseconds=1)
_HOUR_MICROS: Final = 3_600_000_000
#: Stands for several clusters whose use was added up.
_MANY: Final = UUID(int=0)
GRANULARITIES: Final = ("total", "hour", "day", "month")
#: What costs of a project can be told by; the type of a cluster is its template.
GROUPS: Final = ("project", "cluster", "type", "workload")


@dataclass(frozen=True, slots=True)
class Held:
    """A placement: the share of one node's scarcest resource that it takes, while it lasts."""

    workload: str
    node: int
    cpu_milli: int
    memory_mib: int
    devices_milli: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """Nodes of one flavor over a span. ``held`` None: nothing is known of what ran there. ``gb`` and ``addresses``: of each node.

    ``power``: microwatts that all of them together draw, from each moment to the next; None: what the model says.
    """

    cluster_id: UUID
    role: str
    node_group: str
    flavor: str | None
    nodes: int
    start: datetime
    end: datetime
    gb: int = 0
    addresses: int = 0
    held: tuple[Held, ...] | None = None
    power: tuple[tuple[datetime, int], ...] | None = None


@dataclass
class Line:
    """What one group cost in one span, by currency and part; and the quantities that it comes from.

    Until it is settled, money is in units of 1e-33 per hour and microsecond, in which all products of prices and quantities are whole;
    then in units of 1e-12.
    """

    money: dict[str, dict[str, int | Fraction]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    node_micros: int = 0
    accelerator_micros: int = 0
    gb_micros: int = 0
    address_micros: int = 0
    energy: int = 0  #: at the data centre's meter: microwatts x microseconds x 1e12 PUE
    carbon: int | None = None  #: the same x 1e12 grams per kWh
    sources: set[str] = field(default_factory=set)

    @property
    def energy_kwh(self) -> Fraction:
        """The energy, at the data centre's meter."""
        return Fraction(self.energy, 10**21 * _HOUR_MICROS)

    @property
    def carbon_g(self) -> Fraction | None:
        """Grams of CO2; None where no card has an intensity."""
        return None if self.carbon is None else Fraction(self.carbon, 10**33 * _HOUR_MICROS)

    def settle(self) -> None:
        """Round each amount to 12 places, so that whatever these are added up to agrees to the last place."""
        for parts in self.money.values():
            for part, amount in parts.items():
                parts[part] = _divided(amount, 10**21 * _HOUR_MICROS)

    def shown(self) -> dict[str, dict[str, Decimal]]:
        """Money by currency and part; the sum of these is the whole."""
        return {
            currency: {part: Decimal(int(parts.get(part, 0))).scaleb(-12, context=WIDE) for part in PARTS}
            for currency, parts in self.money.items()
        }

    def add(self, other: Line) -> None:
        """Take another settled line's amounts in."""
        for currency, parts in other.money.items():
            for part, amount in parts.items():
                self.money[currency][part] += amount
        self.node_micros += other.node_micros
        self.accelerator_micros += other.accelerator_micros
        self.gb_micros += other.gb_micros
        self.address_micros += other.address_micros
        self.energy += other.energy
        if other.carbon is not None:
            self.carbon = (self.carbon or 0) + other.carbon
        self.sources |= other.sources


Key = tuple[datetime, Any]


def spans(start: datetime, end: datetime, granularity: str) -> list[datetime]:
    """The edges of the window's hours, days or months of UTC; the first and the last span may be cut by the window."""
    edges = [start]
    while granularity != "total":
        following = _next(edges[-1], granularity)
        if following >= end:
            break
        edges.append(following)
    return [*edges, end]


def _next(at: datetime, granularity: str) -> datetime:
    if granularity == "hour":
        return at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def watts(shape: NodeShape | None) -> Fraction:
    """The modelled draw of a node in use, without PUE: halfway between idle and highest, as utilisation is assumed to be."""
    if shape is None:
        return Fraction(str(rating.DEFAULT_RATE.watts))
    idle, most = Fraction(str(shape.idle_w)), Fraction(str(shape.max_w))
    return idle + (most - idle) * Fraction(str(rating.ASSUMED_UTILISATION))


def metered(uses: Sequence[Use], hours: Mapping[UUID, Mapping[datetime, float]], shapes: Mapping[str, NodeShape]) -> list[Use]:
    """The same uses, with what was measured in place of the model. ``hours``: watts that each cluster drew on average, by the hour's begin.

    All uses of a cluster share what it drew at a moment as the model says that they share; in hours without a measurement the model
    stands. So a cluster's energy does not depend on the window that is asked for, nor on how it is told.
    """
    by_cluster: dict[UUID, list[int]] = defaultdict(list)
    for place, use in enumerate(uses):
        if use.cluster_id in hours:
            by_cluster[use.cluster_id].append(place)
    found = list(uses)
    draws = {flavor: round(watts(shapes.get(flavor or "")) * 10**6) for flavor in {use.flavor for use in uses}}
    for cluster, places in by_cluster.items():
        steps: dict[int, list[tuple[datetime, int]]] = {place: [] for place in places}
        known = hours[cluster]
        edges = {at for place in places for at in (uses[place].start, uses[place].end)}
        edges |= {at for hour in known for at in (hour, hour + timedelta(hours=1))}
        starting: dict[datetime, list[int]] = defaultdict(list)
        for place in places:
            starting[uses[place].start].append(place)
        running: set[int] = set()
        for at in sorted(edges):
            running = {place for place in running if uses[place].end > at} | set(starting[at])
            modelled = {place: draws[uses[place].flavor] * uses[place].nodes for place in running}
            whole = sum(modelled.values())
            drawn = known.get(at.astimezone(UTC).replace(minute=0, second=0, microsecond=0))
            for place, draw in modelled.items():
                steps[place].append((at, draw if drawn is None or not whole else round(Fraction(drawn) * 10**6 * draw / whole)))
        for place, power in steps.items():
            found[place] = replace(uses[place], power=tuple(power))
    return found


class Curve:
    """A whole number for each span between edges, and its integral in microseconds."""

    def __init__(self, edges: Sequence[int], values: Sequence[int]) -> None:
        self._edges = edges
        self._values = values
        self._sums = [0, *accumulate(value * (b - a) for value, (a, b) in zip(values, pairwise(edges), strict=True))]

    def between(self, start: int, end: int) -> int:
        """The integral over [start, end)."""
        return self._until(end) - self._until(start)

    def at(self, at: int) -> int:
        """The value there."""
        return self._values[min(max(0, bisect_right(self._edges, at) - 1), len(self._values) - 1)]

    def _until(self, at: int) -> int:
        place = min(max(0, bisect_right(self._edges, at) - 1), len(self._values) - 1)
        return self._sums[place] + self._values[place] * (at - self._edges[place])


@dataclass(frozen=True)
class _PriceCurves:
    """Prices of one thing over time: by currency, in units of 1e-12; and where they come from, between the same edges."""

    amounts: Mapping[str, Curve]
    sources: Sequence[frozenset[str]]


class Rater:
    """Applies a price list to usage in a window. ``shapes``: what nodes have, by the flavor's name or id."""

    def __init__(self, book: Book, shapes: Mapping[str, NodeShape], start: datetime, end: datetime) -> None:
        self._book = book
        self._shapes = shapes
        self._start = start
        self._moments = book.edges(start, end)
        self._edges = [*(self._micros(at) for at in self._moments), self._micros(end)]
        self._nodes: dict[str | None, _PriceCurves] = {}
        self._draw: dict[str | None, int] = {}
        self._powers: dict[int, tuple[Use, Curve]] = {}
        self._storage = self._curves([[book.storage_gb(at)] for at in self._moments])
        self._address = self._curves([[book.address(at)] for at in self._moments])
        power = [book.electricity(at) for at in self._moments]
        self._powered = any(power)
        tariffs = [
            [Price(one[1], WIDE.multiply(one[0].tariff(at), one[0].pue), one[2])] if one else []
            for one, at in zip(power, self._moments, strict=True)
        ]
        self._electricity = self._curves(tariffs, places=24)
        self._pue = Curve(self._edges, [_whole(one[0].pue, 12) if one else 10**12 for one in power])
        grams = [
            _whole(WIDE.multiply(one[0].pue, one[0].carbon), 24) if one and one[0].carbon is not None else None for one in power
        ]
        self._carbon = None if all(each is None for each in grams) else Curve(self._edges, [each or 0 for each in grams])

    def rate(
        self,
        uses: Iterable[Use],
        cuts: Sequence[datetime],
        key: Callable[[Use, str | None], Any],
    ) -> dict[Key, Line]:
        """Lines by the beginning of their span and by ``key`` of the use and the workload (None for what none has)."""
        lines: dict[Key, Line] = defaultdict(Line)
        for own, use in _merged(uses, lambda use: key(use, None)):
            place = max(0, bisect_right(cuts, use.start) - 1)
            while place < len(cuts) - 1 and cuts[place] < use.end:
                start, end = max(cuts[place], use.start), min(cuts[place + 1], use.end)
                span = cuts[place]
                self._add(lines[span, own], use, start, end, lambda name, at=span, use=use: lines[at, key(use, name)])  # type: ignore[misc]
                place += 1
        for line in lines.values():
            line.settle()
        return lines

    def _add(self, line: Line, use: Use, start: datetime, end: datetime, line_of: Callable[[str], Line]) -> None:
        shape = self._shapes.get(use.flavor or "")
        since, until = self._micros(start), self._micros(end)
        micros = (until - since) * use.nodes
        line.node_micros += micros
        line.accelerator_micros += micros * (shape.devices if shape else 0)
        line.gb_micros += micros * use.gb
        line.address_micros += micros * use.addresses
        self._power(line, use, shape, since, until)
        if use.gb:
            self._charge(line, "storage", self._storage, since, until, use.nodes * use.gb)
        if use.addresses:
            self._charge(line, "network", self._address, since, until, use.nodes * use.addresses)
        prices = self._node(use.flavor, shape)
        if use.role == "master":
            self._charge(line, "control_plane", prices, since, until, use.nodes)
        elif use.held is None:
            self._charge(line, "unattributed", prices, since, until, use.nodes)
        else:
            self._charge(line, "idle", prices, since, until, use.nodes)
            for first, last in self._pieces(start, end):
                length = self._micros(last) - self._micros(first)
                for workload, amount in allocated(use, shape, first, last).items():
                    holder = line_of(workload)
                    self._charge(holder, "allocated", prices, self._micros(first), self._micros(last), amount / length)
                    self._charge(line, "idle", prices, self._micros(first), self._micros(last), -amount / length)

    def _charge(self, line: Line, part: str, prices: _PriceCurves, start: int, end: int, count: int | Fraction) -> None:
        for currency, curve in prices.amounts.items():
            amount = curve.between(start, end)
            if amount:
                line.money[currency][part] += amount * count * 10**21
        self._name_sources(line, prices, start, end)

    def _name_sources(self, line: Line, prices: _PriceCurves, start: int, end: int) -> None:
        first = max(0, bisect_right(self._edges, start) - 1)
        for place in range(first, min(bisect_right(self._edges, end - 1), len(prices.sources))):
            line.sources |= prices.sources[place]

    def _power(self, line: Line, use: Use, shape: NodeShape | None, start: int, end: int) -> None:
        if use.power is not None:
            self._measured(line, self._power_of(use, use.power), start, end)
            return
        if use.flavor not in self._draw:
            self._draw[use.flavor] = round(watts(shape) * 10**6)
        draw = self._draw[use.flavor] * use.nodes
        line.energy += draw * self._pue.between(start, end)
        if self._carbon is not None:
            line.carbon = (line.carbon or 0) + draw * self._carbon.between(start, end)
        if self._powered:
            for currency, curve in self._electricity.amounts.items():
                amount = curve.between(start, end)
                if amount:
                    line.money[currency]["electricity"] += draw * amount
            self._name_sources(line, self._electricity, start, end)

    def _power_of(self, use: Use, power: Sequence[tuple[datetime, int]]) -> Curve:
        # By identity: a use is looked at once for each span, and comparing two by all that they hold takes long.
        known = self._powers.get(id(use))
        if known is None:
            edges = [*(self._micros(at) for at, _ in power), self._micros(use.end)]
            known = self._powers[id(use)] = (use, Curve(edges, [value for _, value in power]))
        return known[1]

    def _measured(self, line: Line, power: Curve, start: int, end: int) -> None:
        edges = [start, *(edge for edge in self._edges if start < edge < end), end]
        for since, until in pairwise(edges):
            drawn = power.between(since, until)
            line.energy += drawn * self._pue.at(since)
            if self._carbon is not None:
                line.carbon = (line.carbon or 0) + drawn * self._carbon.at(since)
            if self._powered:
                for currency, curve in self._electricity.amounts.items():
                    amount = curve.at(since)
                    if amount:
                        line.money[currency]["electricity"] += drawn * amount
        if self._powered:
            self._name_sources(line, self._electricity, start, end)

    def _node(self, flavor: str | None, shape: NodeShape | None) -> _PriceCurves:
        if flavor not in self._nodes:
            self._nodes[flavor] = self._curves([self._book.node(flavor, shape, at) for at in self._moments])
        return self._nodes[flavor]

    def _curves(self, prices: Sequence[Sequence[Price]], *, places: int = 12) -> _PriceCurves:
        currencies = sorted({price.currency for each in prices for price in each})
        amounts = {
            currency: Curve(
                self._edges, [sum(_whole(price.amount, places) for price in each if price.currency == currency) for each in prices]
            )
            for currency in currencies
        }
        sources = [frozenset(price.source for price in each if price.amount or price.source != DEFAULT) for each in prices]
        return _PriceCurves(amounts, sources)

    def _micros(self, at: datetime) -> int:
        return (at - self._start) // _MICRO

    def _pieces(self, start: datetime, end: datetime) -> Iterable[tuple[datetime, datetime]]:
        """The parts of a span in which prices are constant."""
        return pairwise([start, *(at for at in self._moments if start < at < end), end])


def _divided(amount: int | Fraction, by: int) -> int:
    """The nearest whole number, of two the even one."""
    if isinstance(amount, Fraction):
        return round(amount / by)
    whole, rest = divmod(amount, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2 == 1))


def _merged(uses: Iterable[Use], key: Callable[[Use], Any]) -> Iterable[tuple[Any, Use]]:
    """Each use with its key; those of one key that differ in their times and numbers only are added up to steps that follow one another.

    A thousand clusters that are told as one cost one look at each span instead of a thousand.
    """
    steps: dict[tuple[Any, ...], dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    for use in uses:
        own = key(use)
        if use.held is not None or use.power is not None:
            yield own, use
            continue
        changes = steps[own, use.role, use.flavor, use.gb, use.addresses]
        changes[use.start] += use.nodes
        changes[use.end] -= use.nodes
    for (own, role, flavor, gb, addresses), changes in steps.items():
        nodes = 0
        for start, end in pairwise(sorted(changes)):
            nodes += changes[start]
            if nodes:
                yield own, Use(_MANY, role, "", flavor, nodes, start, end, gb, addresses)


def _whole(amount: Decimal, places: int) -> int:
    """An amount in units of its last place."""
    return int(amount.scaleb(places, context=WIDE))


def allocated(use: Use, shape: NodeShape | None, start: datetime, end: datetime) -> dict[str, Fraction]:
    """Node-microseconds of a span that each workload holds: of each node, the share of its scarcest resource.

    Where several share a node, they share what is held of it as their own scarcest shares are to one another. No node is held more than
    whole; a placement on a node that is not there (any more) holds nothing of it.
    """
    held = [one for one in use.held or () if one.node < use.nodes and one.start < end and one.end > start]
    edges = sorted({start, end, *(at for one in held for at in (one.start, one.end) if start < at < end)})
    found: dict[str, Fraction] = defaultdict(Fraction)
    for since, until in pairwise(edges):
        length = (until - since) // _MICRO
        by_node: dict[int, list[Held]] = defaultdict(list)
        for one in held:
            if one.start <= since and one.end >= until:
                by_node[one.node].append(one)
        for on_node in by_node.values():
            total = _scarcest(on_node, shape)
            single = [_scarcest([one], shape) for one in on_node]
            whole = sum(single, Fraction(0))
            for one, share in zip(on_node, single, strict=True):
                found[one.workload] += total * share / whole * length if whole else Fraction(0)
    return found


def _scarcest(held: Sequence[Held], shape: NodeShape | None) -> Fraction:
    """The largest share of a resource that these take of their node, at most the whole. Of a node of unknown size, the whole."""
    if shape is None:
        return Fraction(1)
    shares = [
        Fraction(sum(taken), capacity)
        for taken, capacity in (
            ([one.cpu_milli for one in held], shape.cpu_milli),
            ([one.memory_mib for one in held], shape.memory_mib),
            ([one.devices_milli for one in held], shape.devices * 1000),
        )
        if capacity > 0
    ]
    return min(Fraction(1), max(shares, default=Fraction(1)))
