"""Rate cards: what things cost, from when to when, and for whom. Money is decimal, in any currency of ISO 4217; nothing is converted.

A card prices what it names and is silent on the rest. At any moment the project's own cards come before those of the site, and of each
the one that became valid last; what none of them prices has the default (:mod:`shared.domain.rating`), marked so. Prices of nodes and
accelerators are of the hardware: given per hour, or as price / (years x 8760 x duty), to which electricity adds
W / 1000 x PUE x tariff (FACTS.md, D5). Without a card for electricity, nothing is added: the defaults are list prices, which include it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.domain import rating
from shared.domain.accelerators import NodeShape
from shared.domain.scaling import DAYS, Window
from shared.errors import FieldError

HOURS_PER_YEAR: Final = 8760
#: Amounts are kept to so many places: a price to a millionth of a millionth.
QUANTUM: Final = Decimal("1E-12")
#: Python's own 28 digits are few for a year of a large site in won, to 12 places.
WIDE: Final = Context(prec=80)
DEFAULT: Final = "default"
_YEARS: Final = (Decimal("0.01"), Decimal(100))
_DUTY: Final = (Decimal("0.001"), Decimal(1))
#: ISO 4217's active codes of currencies in circulation.
_CODES: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC"
    " CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD"
    " JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD"
    " NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP"
    " SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG"
)
CURRENCIES: Final = frozenset(_CODES.split())


def amortised(price: Decimal, years: Decimal, duty: Decimal) -> Decimal:
    """What an hour of use costs of something bought: price / (years x 8760 x duty); ``duty``: the share of hours in use, above 0 to 1."""
    return WIDE.divide(price, years * HOURS_PER_YEAR * duty).quantize(QUANTUM, context=WIDE)


@dataclass(frozen=True, slots=True)
class Electricity:
    """A tariff per kWh, with parts of the week that have others; the first that holds counts. ``carbon``: grams of CO2 per kWh."""

    price_per_kwh: Decimal
    zone: str = "UTC"
    windows: tuple[tuple[Window, Decimal], ...] = ()
    pue: Decimal = Decimal(1)
    carbon: Decimal | None = None

    def tariff(self, at: datetime) -> Decimal:
        """The price per kWh at a moment."""
        local = at.astimezone(ZoneInfo(self.zone))
        return next((price for window, price in self.windows if window.holds(local)), self.price_per_kwh)

    def edges(self, start: datetime, end: datetime) -> set[datetime]:
        """Every moment in [start, end) at which the tariff may change, the zone's own changes of its offset among them."""
        zone, found = ZoneInfo(self.zone), set[datetime]()
        if not self.windows:
            return found
        times = {at for window, _ in self.windows for at in (window.start, window.end)} | {time(0)}
        day = start.astimezone(zone).date() - timedelta(days=1)
        last = end.astimezone(zone).date() + timedelta(days=1)
        while day <= last:
            for at in times:
                local = datetime.combine(day, at, zone)
                found |= {local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)}
            found |= _offset_changes(datetime.combine(day, time(0), zone).astimezone(UTC), zone)
            day += timedelta(days=1)
        return {at for at in found if start <= at < end}


def _offset_changes(day: datetime, zone: ZoneInfo) -> set[datetime]:
    """The moment within the next 24 hours at which the zone's offset changes, to the second."""
    low, high = day, day + timedelta(days=1)
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return set()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return {high}


@dataclass(frozen=True, slots=True)
class RateCard:
    """Prices per hour, each by what it is of. ``project_id`` None: of every project; ``valid_to`` is not included."""

    id: UUID
    currency: str
    valid_from: datetime
    valid_to: datetime | None = None
    project_id: str | None = None
    flavors: Mapping[str, Decimal] = field(default_factory=dict)
    accelerators: Mapping[str, Decimal] = field(default_factory=dict)
    core: Decimal | None = None
    memory_gb: Decimal | None = None
    storage_gb: Decimal | None = None
    address: Decimal | None = None
    electricity: Electricity | None = None
    seq: int = 0

    def holds(self, at: datetime) -> bool:
        """Whether it is valid at a moment."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True, slots=True)
class Price:
    """An amount per unit and hour, and where it comes from: a card's id, or "default"."""

    currency: str
    amount: Decimal
    source: str


class Book:
    """The cards of a project and of the site, as one price list over time."""

    def __init__(self, cards: Iterable[RateCard]) -> None:
        self._cards = sorted(cards, key=lambda card: (card.project_id is not None, card.valid_from, card.seq), reverse=True)

    @property
    def currency(self) -> str:
        """What totals are told in first: the currency of the foremost card, else the default's."""
        return self._cards[0].currency if self._cards else rating.CURRENCY

    def edges(self, start: datetime, end: datetime) -> list[datetime]:
        """The moments in [start, end) at which a price may change, ``start`` first."""
        found = {start}
        for card in self._cards:
            found |= {at for at in (card.valid_from, card.valid_to) if at is not None and start < at < end}
            if card.electricity is not None:
                found |= card.electricity.edges(start, end)
        return sorted(found)

    def node(self, flavor: str | None, shape: NodeShape | None, at: datetime) -> list[Price]:
        """An hour of a node: its flavor's price, else the sum of its cores, memory and accelerators. Without a shape: 4 cores, 16 GB."""
        names = {flavor, shape.flavor} if shape else {flavor}
        for card in self._valid(at):
            for name in names:
                if name is not None and name in card.flavors:
                    return [Price(card.currency, card.flavors[name], str(card.id))]
        vcpus, gigabytes = (shape.vcpus, shape.memory_gb) if shape else (rating.DEFAULT_VCPUS, rating.DEFAULT_MEMORY_GB)
        parts = [
            self._times(vcpus, self._first(at, "core", rating.PRICE_PER_CORE_HOUR)),
            self._times(gigabytes, self._first(at, "memory_gb", rating.PRICE_PER_GB_HOUR)),
        ]
        if shape is not None and shape.accelerator is not None:
            parts.append(self._times(shape.devices, self._device(shape, at)))
        return parts

    def storage_gb(self, at: datetime) -> Price:
        """An hour of a gigabyte of volumes; by default nothing."""
        return self._first(at, "storage_gb", 0)

    def address(self, at: datetime) -> Price:
        """An hour of a floating address; by default nothing."""
        return self._first(at, "address", 0)

    def electricity(self, at: datetime) -> tuple[Electricity, str, str] | None:
        """The tariff with its currency and card; None where no card has one, and prices of nodes include it."""
        return next(((card.electricity, card.currency, str(card.id)) for card in self._valid(at) if card.electricity), None)

    def _valid(self, at: datetime) -> Iterable[RateCard]:
        return (card for card in self._cards if card.holds(at))

    def _device(self, shape: NodeShape, at: datetime) -> Price:
        device = shape.accelerator
        if device is None:
            return Price(rating.CURRENCY, Decimal(0), DEFAULT)
        for card in self._valid(at):
            for name in (device.id, *device.aliases):
                if name in card.accelerators:
                    return Price(card.currency, card.accelerators[name], str(card.id))
        return Price(rating.CURRENCY, Decimal(str(device.price_per_hour)), DEFAULT)

    def _first(self, at: datetime, name: str, default: float) -> Price:
        for card in self._valid(at):
            amount = getattr(card, name)
            if amount is not None:
                return Price(card.currency, amount, str(card.id))
        return Price(rating.CURRENCY, Decimal(str(default)), DEFAULT)

    @staticmethod
    def _times(count: float, price: Price) -> Price:
        return Price(price.currency, WIDE.multiply(Decimal(str(count)), price.amount).quantize(QUANTUM, context=WIDE), price.source)


# -- reading a card -----------------------------------------------------------------------------------------------------


def read_prices(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    """The prices of a document whose types are right (amounts are decimal texts), as fields of RateCard; and all that is wrong."""
    wrong: list[FieldError] = []
    if document.get("currency", rating.CURRENCY) not in CURRENCIES:
        wrong.append(FieldError("currency", "iso_4217", "Must be a currency's code of ISO 4217, like KRW."))
    start, end = document.get("valid_from"), document.get("valid_to")
    if start is not None and end is not None and end <= start:
        wrong.append(FieldError("valid_to", "after_from", "Must come after valid_from."))
    found: dict[str, Any] = {}
    for name, key in (("flavors", "flavor"), ("accelerators", "accelerator")):
        prices, bad = _named_prices(name, key, document.get(name) or [])
        found[name] = prices
        wrong += bad
    for name in ("core", "memory_gb", "storage_gb", "address"):
        amount = document.get(f"{name}_hour")
        found[name] = None if amount is None else Decimal(amount)
    electricity = document.get("electricity")
    if electricity is not None:
        found["electricity"], bad = _electricity(electricity)
        wrong += bad
    if (
        not wrong
        and not any(found.values())
        and all(found.get(name) is None for name in ("core", "memory_gb", "storage_gb", "address"))
    ):
        wrong.append(FieldError("flavors", "some_price", "A card needs at least one price."))
    return found, wrong


def _named_prices(where: str, key: str, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Decimal], list[FieldError]]:
    found: dict[str, Decimal] = {}
    wrong: list[FieldError] = []
    for index, item in enumerate(items):
        path = f"{where}.{index}"
        name = item.get(key, "")
        if name in found:
            wrong.append(FieldError(f"{path}.{key}", "unique", f"{name!r} is priced twice."))
        bought = {part for part in ("purchase_price", "years", "duty") if part in item}
        if ("price_per_hour" in item) == bool(bought):
            words = "Either price_per_hour, or purchase_price with years and perhaps duty."
            wrong.append(FieldError(f"{path}.price_per_hour", "one_way", words))
            continue
        if not bought:
            found[name] = Decimal(item["price_per_hour"])
            continue
        years, duty = Decimal(item.get("years", 0)), Decimal(item.get("duty", 1))
        wrong += [
            FieldError(f"{path}.{part}", "required", "An amortised price needs it.")
            for part in ("purchase_price", "years")
            if part not in item
        ]
        years_right, duty_right = _YEARS[0] <= years <= _YEARS[1], _DUTY[0] <= duty <= _DUTY[1]
        if "years" in item and not years_right:
            wrong.append(FieldError(f"{path}.years", "range", f"Must be from {_YEARS[0]} to {_YEARS[1]}."))
        if not duty_right:
            wrong.append(FieldError(f"{path}.duty", "range", f"Must be from {_DUTY[0]} to {_DUTY[1]}."))
        if years_right and duty_right and "purchase_price" in item:
            found[name] = amortised(Decimal(item["purchase_price"]), years, duty)
    return found, wrong


def _electricity(item: Mapping[str, Any]) -> tuple[Electricity | None, list[FieldError]]:
    wrong: list[FieldError] = []
    zone = item.get("time_zone", "UTC")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        wrong.append(FieldError("electricity.time_zone", "exists", "Must be a zone's name like Asia/Seoul."))
    pue = Decimal(item.get("pue", 1))
    if not 1 <= pue <= 10:  # noqa: PLR2004 - no data centre needs ten times what its computers do
        wrong.append(FieldError("electricity.pue", "range", "Must be from 1 to 10."))
    windows = []
    for index, each in enumerate(item.get("windows") or []):
        start, end = time.fromisoformat(each["start"]), time.fromisoformat(each["end"])
        if start == end:
            wrong.append(FieldError(f"electricity.windows.{index}.end", "after_start", "Must differ from start."))
        days = frozenset(DAYS.index(day) for day in each["days"])
        windows.append((Window(days, start, end), Decimal(each["price_per_kwh"])))
    if wrong:
        return None, wrong
    carbon = item.get("carbon_g_per_kwh")
    return Electricity(Decimal(item["price_per_kwh"]), zone, tuple(windows), pue, None if carbon is None else Decimal(carbon)), []
