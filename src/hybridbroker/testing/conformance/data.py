"""What `QuoteSource` and `CandleSource` promise."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from hybridbroker.clock import IST
from hybridbroker.domain.market import Interval
from hybridbroker.errors import ConfigurationError
from hybridbroker.protocols import Capability
from hybridbroker.testing.conformance.kit import Check, DataSubject, Skipped, expect, raises

__all__ = ["DATA_CHECKS"]

_SPAN: Final = timedelta(days=10)


async def quotes_are_keyed_by_instrument(subject: DataSubject) -> None:
    """`quotes` answers with one quote per instrument, keyed by the very instruments that were asked."""
    found = await subject.data.quotes(subject.instruments)

    expect(set(found) <= set(subject.instruments), f"it also answers for {set(found) - set(subject.instruments)}")
    missing = set(subject.instruments) - set(found)
    expect(not missing, f"there is no quote of {', '.join(map(str, missing))}")
    for instrument, quote in found.items():
        expect(quote.instrument == instrument, f"the quote under {instrument} is of {quote.instrument}")
        expect(quote.last_price > 0, f"the last price of {instrument} is {quote.last_price}")


async def no_instruments_no_quotes(subject: DataSubject) -> None:
    """`quotes` of nothing is empty."""
    expect(not await subject.data.quotes([]), "there are quotes of nothing")


async def bars_are_in_order(subject: DataSubject) -> None:
    """Bars come oldest first, each once, within the span that was asked, high and low around open and close."""
    now = subject.clock.now().astimezone(IST)
    instrument = subject.instruments[0]

    bars = list(await subject.data.candles(instrument, Interval.MINUTE_1, start=now - _SPAN, end=now))

    expect(bars, f"there are no minute bars of {instrument} in ten days")
    starts = [each.start for each in bars]
    expect(starts == sorted(set(starts)), "bars are out of order, or come twice")
    expect(starts[0] >= now - _SPAN, f"the first bar is of {starts[0]}, before the span")
    expect(starts[-1] <= now, f"the last bar is of {starts[-1]}, after the span")
    for each in bars:
        expect(each.instrument == instrument, f"a bar is of {each.instrument}")
        expect(
            each.low <= min(each.open, each.close) and each.high >= max(each.open, each.close),
            f"the bar of {each.start} contradicts itself",
        )


async def long_spans_have_no_seams(subject: DataSubject) -> None:
    """A span of a year is answered whole: no day twice, none out of order."""
    end = subject.clock.now().astimezone(IST).date()

    bars = list(
        await subject.data.candles(subject.instruments[0], Interval.DAY_1, start=end - timedelta(days=365), end=end)
    )

    days = [each.start.astimezone(IST).date() for each in bars]
    expect(days, "there are no daily bars in a year")
    expect(days == sorted(set(days)), "days are out of order, or come twice")


async def spans_that_cannot_be_are_refused(subject: DataSubject) -> None:
    """A span that ends before it starts, or has no time zone, is a `ConfigurationError`."""
    now = subject.clock.now().astimezone(IST)
    instrument = subject.instruments[0]

    await raises(
        ConfigurationError,
        subject.data.candles(instrument, Interval.MINUTE_1, start=now, end=now - timedelta(days=1)),
    )
    naive = datetime(2026, 10, 1, 10, 0)  # noqa: DTZ001 - that is what is refused
    await raises(ConfigurationError, subject.data.candles(instrument, Interval.MINUTE_1, start=naive))


async def what_is_not_listed_has_no_quote(subject: DataSubject) -> None:
    """An instrument the source does not list is missing from the quotes of others, or an error; never a guess."""
    if subject.unmapped is None:
        raise Skipped("no instrument is known that this source lacks")
    from hybridbroker.errors import InstrumentError

    try:
        found = await subject.data.quotes([subject.instruments[0], subject.unmapped])
    except InstrumentError:
        return
    expect(subject.unmapped not in found, "it answers for what it does not list")


DATA_CHECKS: Final[tuple[Check[DataSubject], ...]] = (
    Check(id="DAT-010", needs=Capability.QUOTES, body=quotes_are_keyed_by_instrument),
    Check(id="DAT-020", needs=Capability.QUOTES, body=no_instruments_no_quotes),
    Check(id="DAT-030", needs=Capability.CANDLES, body=bars_are_in_order),
    Check(id="DAT-040", needs=Capability.CANDLES, body=long_spans_have_no_seams),
    Check(id="DAT-050", needs=Capability.CANDLES, body=spans_that_cannot_be_are_refused),
    Check(id="DAT-060", needs=Capability.QUOTES, body=what_is_not_listed_has_no_quote),
)
