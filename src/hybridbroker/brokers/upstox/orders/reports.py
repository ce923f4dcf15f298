"""Past trades, and what a trade would cost by Upstox's own calculation; pure."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import attrs

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.mapping import SIDE, look_up
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Side
from hybridbroker.errors import WireFormatError
from hybridbroker.simulation.charges import ChargeLine, Charges, Part

__all__ = ["PastTrade", "charges_from_wire", "past_trade_from_wire"]

_SIDE_READ = {text: side for side, text in SIDE.items()}


@attrs.frozen(kw_only=True)
class PastTrade:
    """One execution of a past day; Upstox keeps its date, and neither its time nor its order."""

    id: str
    """The exchange's trade id."""
    instrument: Instrument
    """As the registry knows the key today; a stand-in where it does not."""
    side: Side
    quantity: int
    price: Decimal
    """Rupees per unit."""
    amount: Decimal
    """Rupees."""
    traded_on: date
    segment: str
    """``EQ``, ``FO``, ``COM``, ``CD`` or ``MF``."""


def past_trade_from_wire(row: wire.PastTradeRow, *, instrument: Instrument) -> PastTrade:
    """Read one past trade.

    Raises:
        WireFormatError: A side or a date nobody documented.
    """
    what = f"past trade {row.trade_id}"
    try:
        day = date.fromisoformat(row.trade_date)
    except ValueError:
        raise WireFormatError(f"{what}: {row.trade_date[:40]!r} is no date") from None
    return PastTrade(
        id=row.trade_id,
        instrument=instrument,
        side=look_up(_SIDE_READ, row.transaction_type, what=what),
        quantity=row.quantity,
        price=row.price,
        amount=row.amount,
        traded_on=day,
        segment=row.segment,
    )


def charges_from_wire(answer: wire.Brokerage) -> Charges:
    """Read an estimate of charges, line by line; what the depository takes is a line of its own.

    Whether Upstox's total holds the depository's part is documented nowhere; a note says where
    the lines do not add up to it.
    """
    told = answer.charges
    lines = {
        "brokerage": told.brokerage,
        "transaction": told.other.transaction,
        "clearing": told.other.clearing,
        "ipft": told.other.ipft,
        "sebi turnover": told.other.sebi_turnover,
        "gst": told.taxes.gst,
        "stt": told.taxes.stt,
        "stamp duty": told.taxes.stamp_duty,
    }
    found = [ChargeLine(name=name, amount=rupees, exact=rupees, bases=()) for name, rupees in lines.items()]
    if told.dp_plan is not None and told.dp_plan.min_expense:
        least = told.dp_plan.min_expense
        found.append(ChargeLine(name="depository", amount=least, exact=least, bases=(), part=Part.DEPOSITORY))
    trading = sum((line.amount for line in found if line.part is Part.TRADING), Decimal(0))
    notes = () if trading == told.total else (f"Upstox states a total of {told.total}",)
    return Charges(lines=tuple(found), notes=notes)
