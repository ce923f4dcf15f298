"""What an Indian share trade costs: dated rows of rates, and the contract note they add up to.

The statutory rows are in `statutory`, each broker's own in its slice. A `ChargeSchedule` holds
both and turns trades into `Charges`, line by line, each line both exact and rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum, StrEnum
from functools import cached_property
from typing import Final

import attrs

from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.errors import ConfigurationError, Unsupported
from hybridbroker.simulation.executions import Execution, squared_off

__all__ = [
    "ChargeLine",
    "ChargeRow",
    "ChargeSchedule",
    "Charges",
    "Part",
    "Per",
    "Rounding",
]

_ZERO: Final = Decimal(0)
_PAISA: Final = Decimal("0.01")
_SQUARED_OFF: Final = "delivery bought and sold on one day moves no shares: it is billed as intraday"


class Per(Enum):
    """What one charge is counted on."""

    VALUE = "value"
    """A fraction of the value traded."""
    ORDER = "order"
    """Once per executed order: ``flat`` rupees, or ``rate`` of its value where that is less."""
    SALE = "sale"
    """``flat`` rupees per ISIN and day of delivery sales."""
    TAX = "tax"
    """A fraction of the other charges that are ``taxed``."""


class Part(StrEnum):
    """Which pocket a line belongs to."""

    TRADING = "trading"
    """Everything that comes with the trade itself."""
    DEPOSITORY = "depository"
    """What the depository and the broker take for moving shares out of the demat account, with its tax."""


class Rounding(Enum):
    """How the lines of one day's contract note are rounded; halves go up."""

    CONTRACT_NOTE = "contract-note"
    """As billed: each row by its own unit (securities transaction tax and stamp duty to the rupee)."""
    PAISA = "paisa"
    """Every line to the paisa: the share of one trade in a note that holds others."""
    NONE = "none"
    """Not at all: the parts exactly as the rates give them."""


_ALL_SIDES: Final = frozenset(Side)
_SHARES: Final = frozenset({Product.DELIVERY, Product.INTRADAY, Product.MTF})
_EXCHANGES: Final = frozenset({Exchange.NSE, Exchange.BSE})


@attrs.frozen(kw_only=True)
class ChargeRow:
    """One rate of one charge from one day on.

    Among the rows of one name that fit a trade, the newest that is not after its day counts,
    so a change is a new row, and an end is a row of rate 0.
    """

    name: str
    per: Per = Per.VALUE
    rate: Decimal | None = None
    """A fraction: 0.001 is 0.1 %."""
    flat: Decimal | None = None
    """Rupees."""
    valid_from: date
    source: str
    sides: frozenset[Side] = _ALL_SIDES
    products: frozenset[Product] = _SHARES
    exchanges: frozenset[Exchange] = _EXCHANGES
    series: frozenset[str] | None = None
    """NSE series or BSE groups it is for; None is every one without a row of its own."""
    part: Part = Part.TRADING
    taxed: bool = False
    """Whether goods and services tax is due on it."""
    unit: Decimal = _PAISA
    """What a contract note rounds it to, rupees."""

    def __attrs_post_init__(self) -> None:
        needed = self.rate if self.per in {Per.VALUE, Per.TAX} else self.flat
        if needed is None:
            raise ConfigurationError(f"charge {self.name!r} counted per {self.per.value} lacks its rate or flat amount")

    @cached_property
    def terms(self) -> str:
        """Say the rate in words, to stand before what it was counted on."""
        rate = "" if self.rate is None else f"{(self.rate * 100).normalize():f} %"
        match self.per:
            case Per.VALUE | Per.TAX:
                return f"{rate} of"
            case Per.ORDER:
                return f"{self.flat} per order x" if not rate else f"{self.flat} or {rate} per order, the lower, x"
            case Per.SALE:
                return f"{self.flat} per share and day sold x"

    def fits(self, execution: Execution) -> bool:
        """Say whether it concerns ``execution`` at all, whatever the day."""
        return (
            execution.side in self.sides
            and execution.product in self.products
            and execution.exchange in self.exchanges
            and (self.series is None or execution.series in self.series)
        )


@attrs.frozen(kw_only=True)
class ChargeLine:
    """One line of a note."""

    name: str
    amount: Decimal
    """Rupees, rounded as asked for."""
    exact: Decimal
    """Rupees before rounding."""
    bases: tuple[tuple[str, Decimal], ...]
    """How it came about: terms, and the rupees or the count they applied to."""
    part: Part = Part.TRADING

    @property
    def basis(self) -> str:
        """Say how it came about: ``0.1 % of 10000``."""
        return " + ".join(f"{terms} {base.normalize():f}" for terms, base in self.bases)

    def __add__(self, other: ChargeLine) -> ChargeLine:
        bases = dict(self.bases)
        for terms, base in other.bases:
            bases[terms] = bases.get(terms, _ZERO) + base
        return ChargeLine(
            name=self.name,
            amount=self.amount + other.amount,
            exact=self.exact + other.exact,
            bases=tuple(bases.items()),
            part=self.part,
        )


@attrs.frozen(kw_only=True)
class Charges:
    """What a set of trades costs, line by line."""

    lines: tuple[ChargeLine, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know before believing the figure."""

    @property
    def total(self) -> Decimal:
        """Return rupees: the sum of the lines."""
        return sum((line.amount for line in self.lines), _ZERO)

    @property
    def exact(self) -> Decimal:
        """Return rupees before any rounding."""
        return sum((line.exact for line in self.lines), _ZERO)

    @property
    def percentage(self) -> Decimal:
        """Return rupees of the trading part: all but the depository's."""
        return self._of(Part.TRADING)

    @property
    def depository(self) -> Decimal:
        """Return rupees of the depository part, its tax included."""
        return self._of(Part.DEPOSITORY)

    def _of(self, part: Part) -> Decimal:
        return sum((line.amount for line in self.lines if line.part is part), _ZERO)

    def __add__(self, other: Charges) -> Charges:
        """Add line by line, by name."""
        if not (other.lines or other.notes):
            return self
        lines = {line.name: line for line in self.lines}
        for line in other.lines:
            known = lines.get(line.name)
            lines[line.name] = line if known is None else known + line
        return Charges(lines=tuple(lines.values()), notes=tuple(dict.fromkeys((*self.notes, *other.notes))))


class ChargeSchedule:
    """Rows of rates: everything needed to price share trades at one broker.

    A day before the first row of a charge is priced by that row, and `Charges.notes` says so.
    """

    def __init__(self, rows: Iterable[ChargeRow], *, name: str = "statutory") -> None:
        self.name = name
        """Whose brokerage and depository rows it holds."""
        self.rows = tuple(sorted(rows, key=lambda row: (row.part is Part.DEPOSITORY, row.per is Per.TAX)))
        self._ceiling: tuple[Decimal, Decimal, Decimal] | None = None
        units: dict[str, Decimal] = {}
        for row in self.rows:
            if units.setdefault(row.name, row.unit) != row.unit:
                raise ConfigurationError(f"charge {row.name!r} is rounded in two ways; one name takes one unit")

    def estimate(
        self,
        side: Side,
        *,
        value: Decimal,
        on: date,
        product: Product = Product.DELIVERY,
        exchange: Exchange = Exchange.NSE,
        series: str | None = None,
        orders: int = 1,
        rounding: Rounding = Rounding.PAISA,
    ) -> Charges:
        """Price ``value`` rupees of one share traded on one day in ``orders`` executed orders of equal size.

        Rounded to the paisa, because whole rupees are rounded once per contract note, and
        nobody knows yet what else will stand on it.

        Raises:
            Unsupported: As `charges_for`.
        """
        part = Execution(
            side=side, value=value / orders, product=product, on=on, exchange=exchange, series=series, share="one"
        )
        return self.charges_for([part] * orders, rounding=rounding)

    def charges_for(
        self, trades: Iterable[Trade | Execution], *, rounding: Rounding = Rounding.CONTRACT_NOTE
    ) -> Charges:
        """Price trades of any number of days: one contract note a day, added up by line.

        Trades are priced as they settle: delivery bought and sold on one day is intraday (see
        `squared_off`), and the notes say so. An `Execution` is priced as the product it names.

        Raises:
            Unsupported: A trade is no cash-segment trade of NSE or BSE, or its product is not priced here.
        """
        given = list(trades)
        booked = [each for each in given if isinstance(each, Trade)]
        settled = squared_off(booked)
        total = Charges(notes=() if settled == booked else (_SQUARED_OFF,))
        days: dict[date, list[Execution]] = defaultdict(list)
        for execution in (*Execution.of(settled), *(each for each in given if isinstance(each, Execution))):
            days[execution.on].append(execution)
        for day in sorted(days):
            total += self._note(day, days[day], rounding)
        return total

    def at_most(self, turnover: Decimal, *, orders: int) -> Decimal:
        """Return rupees that one day's contract note cannot exceed, whatever was traded; quick, and never too low."""
        if self._ceiling is None:
            by_name: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
            tax = _ZERO
            for row in self.rows:
                rate, flat = row.rate or _ZERO, row.flat or _ZERO
                if row.per is Per.TAX:
                    tax = max(tax, rate)
                    continue
                known = by_name.get(row.name, (_ZERO, _ZERO, _ZERO))
                by_value = rate if row.per is Per.VALUE else _ZERO
                by_name[row.name] = (max(known[0], by_value), max(known[1], flat), row.unit)
            sums = [sum(column, _ZERO) for column in zip(*by_name.values(), strict=True)] or [_ZERO] * 3
            self._ceiling = (sums[0] * (1 + tax), sums[1] * (1 + tax), sums[2] + 1)
        of_value, of_order, rounding = self._ceiling
        return turnover * of_value + orders * of_order + rounding

    def _note(self, day: date, executions: Sequence[Execution], rounding: Rounding) -> Charges:
        note = _Note()
        alike: dict[tuple[object, ...], list[Execution]] = defaultdict(list)
        for execution in executions:
            alike[execution.traits].append(execution)
        for group in alike.values():
            value = sum((each.value for each in group), _ZERO)
            for row in self._in_force(group[0], day, note):
                if row.per is Per.VALUE and row.rate is not None:
                    note.add(row, value, value * row.rate)
                else:
                    for execution in group:
                        note.charge(row, execution)
        for row in _newest([row for row in self.rows if row.per is Per.TAX], day, note):
            note.tax(row)
        order = {row.name: index for index, row in enumerate(self.rows)}
        return note.total(rounding, order=order)

    def _in_force(self, execution: Execution, day: date, note: _Note) -> list[ChargeRow]:
        """Return the rows that ``execution``, and every other of its traits, is charged by on ``day``."""
        if execution.product not in _SHARES or execution.exchange not in _EXCHANGES:
            raise Unsupported(
                f"charges of {execution.product} trades on {execution.exchange} are not tabulated; "
                "those of delivery, intraday and MTF on NSE and BSE are"
            )
        note.remark(*_remarks(execution))
        fitting = [row for row in self.rows if row.per is not Per.TAX and row.fits(execution)]
        special = {row.name for row in fitting if row.series is not None}
        rows = [row for row in fitting if row.series is not None or row.name not in special]
        return list(_newest(rows, day, note))


@attrs.define
class _Sum:
    """One line of a note while it is being added up."""

    row: ChargeRow
    exact: Decimal = _ZERO
    bases: dict[str, Decimal] = attrs.field(factory=dict)

    def line(self, rounding: Rounding) -> ChargeLine:
        amount = _rounded(self.exact, unit=self.row.unit, rounding=rounding)
        return ChargeLine(
            name=self.row.name, amount=amount, exact=self.exact, bases=tuple(self.bases.items()), part=self.row.part
        )


class _Note:
    """One day's contract note while it is being added up."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._taxable: dict[Part, Decimal] = defaultdict(lambda: _ZERO)
        self._remarks: dict[str, None] = {}
        self._sold: set[tuple[str, str]] = set()

    def remark(self, *remarks: str) -> None:
        self._remarks.update(dict.fromkeys(remarks))

    def charge(self, row: ChargeRow, execution: Execution) -> None:
        if row.per is Per.SALE:
            if (row.name, execution.share) in self._sold:
                return
            self._sold.add((row.name, execution.share))
        by_value = None if row.rate is None else execution.value * row.rate
        self.add(row, Decimal(1), min(each for each in (row.flat, by_value) if each is not None))

    def tax(self, row: ChargeRow) -> None:
        base = self._taxable[row.part]
        assert row.rate is not None  # noqa: S101 - a tax row has a rate, by construction
        self.add(row, base, base * row.rate)

    def total(self, rounding: Rounding, *, order: Mapping[str, int]) -> Charges:
        lines = sorted((each.line(rounding) for each in self._sums.values()), key=lambda line: order[line.name])
        return Charges(lines=tuple(lines), notes=tuple(self._remarks))

    def add(self, row: ChargeRow, base: Decimal, exact: Decimal) -> None:
        if not exact:
            return
        known = self._sums.get(row.name)
        if known is None:
            known = self._sums[row.name] = _Sum(row)
        known.exact += exact
        known.bases[row.terms] = known.bases.get(row.terms, _ZERO) + base
        if row.taxed:
            self._taxable[row.part] += exact


def _newest(rows: Sequence[ChargeRow], day: date, note: _Note) -> Iterator[ChargeRow]:
    """Yield, of the rows of each name, the one in force on ``day``."""
    by_name: dict[str, list[ChargeRow]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)
    for name, versions in by_name.items():
        versions.sort(key=lambda row: row.valid_from)
        known = [row for row in versions if row.valid_from <= day]
        if not known:
            note.remark(f"{name}: no rate before {versions[0].valid_from} is tabulated, so that day's is used")
        yield (known or versions[:1])[-1]


def _remarks(execution: Execution) -> Iterator[str]:
    if execution.kind is not InstrumentKind.EQUITY:
        yield f"{execution.kind} units are charged as shares; some pay less, or no securities transaction tax"
    if execution.product is Product.MTF:
        yield "MTF interest and pledge charges are not included"


def _rounded(exact: Decimal, *, unit: Decimal, rounding: Rounding) -> Decimal:
    match rounding:
        case Rounding.NONE:
            return exact
        case Rounding.PAISA:
            return exact.quantize(_PAISA, ROUND_HALF_UP)
        case Rounding.CONTRACT_NOTE:
            return exact.quantize(unit, ROUND_HALF_UP).quantize(_PAISA)
