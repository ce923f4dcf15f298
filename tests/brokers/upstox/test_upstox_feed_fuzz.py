"""Any message is decoded as it was encoded; any bytes are survived and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from upstox_kit import CALL, KEYS, NIFTY, RECEIVED_MS, RELIANCE, frame, full, market_info

from hybridbroker.brokers.upstox.data.feed import FeedDecoder
from hybridbroker.brokers.upstox.data.mapping import MAX_EPOCH_MS
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.market import Tick, TickDetails

DETAILS = [field.name for field in attrs.fields(TickDetails)]

prices = st.floats(min_value=0.01, max_value=1e7, allow_nan=False)
maybe_prices = st.one_of(st.just(0.0), prices)
quantities = st.integers(min_value=0, max_value=2**62)
instants = st.integers(min_value=0, max_value=MAX_EPOCH_MS - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)

ltpcs = st.builds(pb.LTPC, ltp=prices, ltt=instants, ltq=quantities, cp=maybe_prices)
quotes = st.builds(pb.Quote, bidQ=quantities, bidP=maybe_prices, askQ=quantities, askP=maybe_prices)
books = st.builds(pb.MarketLevel, bidAskQuote=st.lists(quotes, max_size=6))
greek_letters = st.builds(pb.OptionGreeks, delta=numbers, theta=numbers, gamma=numbers, vega=numbers, rho=numbers)
single_bars = st.builds(
    pb.OHLC,
    interval=st.sampled_from(["1d", "I1", "I30", ""]),
    open=maybe_prices,
    high=maybe_prices,
    low=maybe_prices,
    close=maybe_prices,
    vol=quantities,
    ts=instants,
)
bar_lists = st.builds(pb.MarketOHLC, ohlc=st.lists(single_bars, max_size=4))
markets = st.builds(
    pb.MarketFullFeed,
    ltpc=ltpcs,
    marketLevel=st.none() | books,
    optionGreeks=st.none() | greek_letters,
    marketOHLC=st.none() | bar_lists,
    atp=maybe_prices,
    vtt=quantities,
    oi=st.integers(0, 10**9).map(float),
    iv=maybe_prices,
    tbq=st.integers(0, 10**9).map(float),
    tsq=st.integers(0, 10**9).map(float),
    iep=maybe_prices,
    rp=maybe_prices,
    ieq=quantities,
    iiqTotal=st.integers(-(2**40), 2**40),
    iiqM=st.integers(-(2**40), 2**40),
    casEligible=st.booleans(),
)
indices = st.builds(pb.IndexFullFeed, ltpc=ltpcs, marketOHLC=st.none() | bar_lists)


def new_decoder() -> FeedDecoder:
    decoder = FeedDecoder()
    decoder.add({key: instrument for instrument, key in KEYS.items()})
    return decoder


def read_everything(ticks: Sequence[Any]) -> None:
    for tick in ticks:
        if isinstance(tick, Tick):
            _ = tick.traded_at, tick.received_at, tick.details, repr(tick)
            assert tick.last_price > 0


@given(market=markets, kind=st.sampled_from([pb.initial_feed, pb.live_feed]))
def test_every_full_message_is_read_as_it_was_written(market: pb.MarketFullFeed, kind: pb.Type) -> None:
    (tick,) = new_decoder().feed(frame({CALL: full(market)}, kind=kind), RECEIVED_MS)

    assert isinstance(tick, Tick)
    has_book = market.HasField("marketLevel")
    assert tick.last_price == market.ltpc.ltp
    assert (tick.traded_ms or 0, tick.last_quantity or 0) == (market.ltpc.ltt, market.ltpc.ltq)
    assert (tick.previous_close or 0.0) == market.ltpc.cp
    assert tick.volume == (market.vtt if market.vtt or has_book else None)
    assert (tick.average_price or 0.0) == market.atp
    assert tick.open_interest == (market.oi if market.oi or has_book else None)
    assert tick.total_buy_quantity == (market.tbq if market.tbq or has_book else None)
    assert tick.total_sell_quantity == (market.tsq if market.tsq or has_book else None)
    assert (tick.depth is not None) == has_book
    if tick.depth is not None:
        told = market.marketLevel.bidAskQuote
        assert [(each.price, each.quantity) for each in tick.depth.bids] == [(q.bidP, q.bidQ) for q in told if q.bidP]
        assert [(each.price, each.quantity) for each in tick.depth.asks] == [(q.askP, q.askQ) for q in told if q.askP]
    if tick.greeks is not None:
        letters = ("delta", "theta", "gamma", "vega", "rho")
        assert [getattr(tick.greeks, name) for name in letters] == [
            getattr(market.optionGreeks, name) for name in letters
        ]
    for interval, candle in (("1d", tick.day), ("I1", tick.minute)):
        if candle is not None:
            bar = [each for each in market.marketOHLC.ohlc if each.interval == interval][-1]
            assert (candle.open, candle.high, candle.low, candle.close) == (bar.open, bar.high, bar.low, bar.close)
            assert (candle.volume, to_epoch_ms(candle.start)) == (bar.vol, bar.ts)


@given(part=indices)
def test_every_index_message_is_read_as_it_was_written(part: pb.IndexFullFeed) -> None:
    feed = pb.Feed(fullFeed=pb.FullFeed(indexFF=part))

    (tick,) = new_decoder().feed(frame({NIFTY: feed}), RECEIVED_MS)

    assert isinstance(tick, Tick)
    assert (tick.last_price, tick.volume, tick.depth) == (part.ltpc.ltp, None, None)


@given(updates=st.lists(st.sets(st.sampled_from(["ltpc", "marketLevel", "optionGreeks", "marketOHLC"])), max_size=8))
def test_what_was_told_last_is_what_is_known(updates: list[set[str]]) -> None:
    decoder, known, before = new_decoder(), dict[str, int](), b""

    for number, parts in enumerate(updates, 1):
        price = float(number)
        fields: dict[str, Any] = {
            "ltpc": pb.LTPC(ltp=price, cp=1.0),
            "marketLevel": pb.MarketLevel(bidAskQuote=[pb.Quote(bidP=price, bidQ=1)]),
            "optionGreeks": pb.OptionGreeks(delta=price),
            "marketOHLC": pb.MarketOHLC(
                ohlc=[pb.OHLC(interval="1d", open=price, high=price, low=price, close=price, ts=1)]
            ),
        }
        known |= dict.fromkeys(parts, number)
        told = pb.MarketFullFeed(**{name: fields[name] for name in parts})

        sent = frame({CALL: full(told)})
        events = decoder.feed(sent, RECEIVED_MS)

        assert len(events) == ("ltpc" in known and sent != before)
        before = sent
        for tick in events:
            assert isinstance(tick, Tick)
            assert tick.last_price == known["ltpc"]
            assert (tick.depth.bids[0].price if tick.depth else None) == known.get("marketLevel")
            assert (tick.greeks.delta if tick.greeks else None) == known.get("optionGreeks")
            assert (tick.day.close if tick.day else None) == known.get("marketOHLC")


@given(noise=st.binary(max_size=400))
@example(noise=b"{")
@example(noise=b'{"error": 1}')
@example(noise=b"{\xff")
@example(noise=b"[" * 400)
def test_any_bytes_are_survived_and_counted(noise: bytes) -> None:
    decoder = new_decoder()

    events = decoder.feed(noise, RECEIVED_MS)

    read_everything(events)
    assert events or decoder.skipped


@given(text=st.text(max_size=200))
@example(text="[" * 5000)
@example(text="null")
@example(text='{"status": ["failed"]}')
def test_any_text_is_survived_and_counted(text: str) -> None:
    decoder = new_decoder()

    assert decoder.feed(text, RECEIVED_MS) == []
    assert decoder.skipped["text frame"] == 1


@given(data=st.data())
def test_a_damaged_frame_is_survived(data: st.DataObject) -> None:
    whole = frame({RELIANCE: full(), CALL: full()}) + market_info()
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 30))
    damaged = whole[:at] + data.draw(st.binary(max_size=30)) + whole[at + cut :]
    decoder = new_decoder()
    decoder.feed(frame({RELIANCE: full(), CALL: full()}), RECEIVED_MS)

    read_everything(decoder.feed(damaged, RECEIVED_MS))
    later = RECEIVED_MS + 60_000
    again = decoder.feed(frame({RELIANCE: full(), CALL: full()}), later)
    read_everything(again)
    assert all(each.received_ms == later for each in again if isinstance(each, Tick))
