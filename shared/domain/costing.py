"""What node-seconds cost: usage under dated rates, by span of time and by group, split into parts whose sum is the whole, exactly.

Prices are constant between the edges of a price list, and so is what is allocated between a placement's beginning and end. Amounts are
integrals of such steps, in whole microseconds and exact fractions; each is rounded once, to 12 places, and all sums are of rounded
amounts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from shared.domain import rating
from shared.domain.rates import DEFAULT, WIDE, Price

if TYPE_CHECKING:
    from uuid import UUID

    from shared.domain.accelerators import NodeShape
    from shared.domain.rates import Book

PARTS: Final = ("allocated", "idle", "unattributed", "control_plane", "storage", "network", "electricity")
_MICRO: Final = timedelta(microseconds=1)
_HOUR_MICROS: Final = 3_600_000_000
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
    """Nodes of one flavor over a span. ``held`` None: nothing is known of what ran there. ``gb`` and ``addresses``: of each node."""

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


@dataclass
class Line:
    """What one group cost in one span, by currency and part; and the quantities that it comes from."""

    money: dict[str, dict[str, Fraction]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Fraction)))
    node_micros: int = 0
    accelerator_micros: int = 0
    gb_micros: int = 0
    address_micros: int = 0
    watt_micros: Fraction = field(default_factory=Fraction)  #: at the meter: times PUE
    carbon_g: Fraction | None = None
    sources: set[str] = field(default_factory=set)

    @property
    def energy_kwh(self) -> Fraction:
        """The energy, at the data centre's meter."""
        return self.watt_micros / _HOUR_MICROS / 1000

    def settle(self) -> None:
        """Round each amount to 12 places, so that whatever these are added up to agrees to the last place."""
        for parts in self.money.values():
            for part, amount in parts.items():
                parts[part] = Fraction(rounded(amount))

    def shown(self) -> dict[str, dict[str, Decimal]]:
        """Money by currency and part; the sum of these is the whole."""
        return {currency: {part: rounded(parts.get(part, Fraction(0))) for part in PARTS} for currency, parts in self.money.items()}

    def add(self, other: Line) -> None:
        """Take another line's amounts in."""
        for currency, parts in other.money.items():
            for part, amount in parts.items():
                self.money[currency][part] += amount
        self.node_micros += other.node_micros
        self.accelerator_micros += other.accelerator_micros
        self.gb_micros += other.gb_micros
        self.address_micros += other.address_micros
        self.watt_micros += other.watt_micros
        if other.carbon_g is not None:
            self.carbon_g = (self.carbon_g or Fraction(0)) + other.carbon_g
        self.sources |= other.sources


Key = tuple[datetime, Any]


def rounded(amount: Fraction) -> Decimal:
    """To 12 places, half to even."""
    return Decimal(round(amount * 10**12)).scaleb(-12, context=WIDE)


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


class Rater:
    """Applies a price list to usage in a window. ``shapes``: what nodes have, by the flavor's name or id."""

    def __init__(self, book: Book, shapes: Mapping[str, NodeShape], start: datetime, end: datetime) -> None:
        self._book = book
        self._shapes = shapes
        self._edges = [*book.edges(start, end), end]
        self._nodes: dict[str | None, list[list[Price]]] = {}
        self._power = [book.electricity(at) for at in self._edges[:-1]]
        self._tariffs = [
            Fraction(power[0].tariff(at)) * Fraction(power[0].pue) if power else Fraction(0)
            for power, at in zip(self._power, self._edges, strict=False)
        ]

    def rate(
        self,
        uses: Iterable[Use],
        cuts: Sequence[datetime],
        key: Callable[[Use, str | None], Any],
    ) -> dict[Key, Line]:
        """Lines by the beginning of their span and by ``key`` of the use and the workload (None for what none has)."""
        lines: dict[Key, Line] = defaultdict(Line)
        for use in uses:
            first = max(0, bisect_right(cuts, use.start) - 1)
            for since, until in pairwise(cuts[first:]):
                if since >= use.end:
                    break
                self._add(lines, since, use, max(since, use.start), min(until, use.end), key)
        for line in lines.values():
            line.settle()
        return lines

    def _add(
        self,
        lines: dict[Key, Line],
        span: datetime,
        use: Use,
        start: datetime,
        end: datetime,
        key: Callable[[Use, str | None], Any],
    ) -> None:
        shape = self._shapes.get(use.flavor or "")
        line = lines[span, key(use, None)]
        micros = (end - start) // _MICRO * use.nodes
        line.node_micros += micros
        line.accelerator_micros += micros * (shape.devices if shape else 0)
        line.gb_micros += micros * use.gb
        line.address_micros += micros * use.addresses
        for place, since, until in self._pieces(start, end):
            length = (until - since) // _MICRO * use.nodes
            prices = self._node(use.flavor, shape)[place]
            self._power_of(line, place, watts(shape) * length)
            if use.gb:
                _charge(line, "storage", [self._book.storage_gb(self._edges[place])], length * use.gb)
            if use.addresses:
                _charge(line, "network", [self._book.address(self._edges[place])], length * use.addresses)
            if use.role == "master":
                _charge(line, "control_plane", prices, length)
            elif use.held is None:
                _charge(line, "unattributed", prices, length)
            else:
                taken = Fraction(0)
                for workload, amount in allocated(use, shape, since, until).items():
                    taken += amount
                    _charge(lines[span, key(use, workload)], "allocated", prices, amount)
                _charge(line, "idle", prices, length - taken)

    def _node(self, flavor: str | None, shape: NodeShape | None) -> list[list[Price]]:
        if flavor not in self._nodes:
            self._nodes[flavor] = [self._book.node(flavor, shape, at) for at in self._edges[:-1]]
        return self._nodes[flavor]

    def _power_of(self, line: Line, place: int, watt_micros: Fraction) -> None:
        power = self._power[place]
        pue = Fraction(power[0].pue) if power else Fraction(1)
        line.watt_micros += watt_micros * pue
        if power is None:
            return
        tariff, currency, source = power
        line.sources.add(source)
        line.money[currency]["electricity"] += watt_micros / 1000 / _HOUR_MICROS * self._tariffs[place]
        if tariff.carbon is not None:
            grams = watt_micros * pue / 1000 / _HOUR_MICROS * Fraction(tariff.carbon)
            line.carbon_g = (line.carbon_g or Fraction(0)) + grams

    def _pieces(self, start: datetime, end: datetime) -> Iterable[tuple[int, datetime, datetime]]:
        place = max(0, bisect_right(self._edges, start) - 1)
        while place < len(self._edges) - 1 and self._edges[place] < end:
            yield place, max(start, self._edges[place]), min(end, self._edges[place + 1])
            place += 1


def _charge(line: Line, part: str, prices: Iterable[Price], micros: Fraction | int) -> None:
    for price in prices:
        if price.amount:
            line.money[price.currency][part] += Fraction(price.amount) * micros / _HOUR_MICROS
        if price.amount or price.source != DEFAULT:
            line.sources.add(price.source)


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
