"""Frames to ticks: every field, what is absent, what is malformed."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime
from typing import Any

import attrs
import pytest
from upstox_kit import (
    CALL,
    KEYS,
    NIFTY,
    RECEIVED_MS,
    RELIANCE,
    TCS,
    TRADED_MS,
    bars,
    book,
    frame,
    full,
    greeks,
    greeks_feed,
    index_feed,
    ltp_feed,
    market_info,
    trade,
)

from hybridbroker.brokers.upstox.data.feed import FeedDecoder
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import IST, from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Auction, Candle, Depth, DepthLevel, Greeks, MarketPhase, MarketStatus, Tick


@pytest.fixture
def decoder() -> FeedDecoder:
    decoder = FeedDecoder()
    decoder.add({key: instrument for instrument, key in KEYS.items()})
    return decoder


def tick_of(decoder: FeedDecoder, instrument: Instrument, feed: pb.Feed, **options: Any) -> Tick:
    (tick,) = decoder.feed(frame({instrument: feed}, **options), RECEIVED_MS)
    assert isinstance(tick, Tick)
    return tick


def test_the_headline_of_a_full_message(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, RELIANCE, full())

    assert tick.instrument is RELIANCE
    assert tick.last_price == 1404.9
    assert tick.last_quantity == 12
    assert tick.traded_ms == TRADED_MS
    assert tick.received_ms == RECEIVED_MS
    assert tick.previous_close == 1398.1
    assert tick.volume == 6841203
    assert tick.is_snapshot is False


def test_the_details_of_a_full_message(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, CALL, full())

    assert tick.average_price == 1402.3
    assert tick.open_interest == 4387500.0
    assert tick.total_buy_quantity == 412300.0
    assert tick.total_sell_quantity == 389100.0
    assert tick.depth == Depth(
        bids=tuple(DepthLevel(1404.9 - n, 10 * n) for n in range(1, 6)),
        asks=tuple(DepthLevel(1404.9 + n, 20 * n) for n in range(1, 6)),
    )
    assert tick.greeks == Greeks(delta=0.52, theta=-9.8, gamma=0.0006, vega=11.2, rho=2.1, implied_volatility=0.118)
    assert tick.day == Candle(
        instrument=CALL,
        start=datetime(2026, 10, 1, tzinfo=IST),
        open=1399.0,
        high=1409.4,
        low=1394.2,
        close=1404.9,
        volume=6841203,
    )
    assert tick.minute is not None
    assert tick.minute.start == from_epoch_ms(1_790_829_840_000)
    assert tick.auction is None


def test_an_index_has_a_price_and_bars_and_nothing_else(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, NIFTY, index_feed())

    assert (tick.last_price, tick.last_quantity, tick.volume) == (1404.9, None, None)
    assert tick.day is not None
    assert tick.minute is not None
    assert tick.details == attrs.evolve(tick.details, depth=None, greeks=None, open_interest=None, average_price=None)


def test_the_lightest_mode_has_the_headline_alone(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, RELIANCE, ltp_feed())

    assert (tick.last_price, tick.traded_ms, tick.previous_close, tick.volume) == (1404.9, TRADED_MS, 1398.1, None)
    assert all(value is None for value in attrs.astuple(tick.details))


def test_option_greeks_mode_has_the_best_level(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, CALL, greeks_feed())

    assert tick.depth == Depth(bids=(DepthLevel(118.35, 750),), asks=(DepthLevel(118.45, 300),))
    assert tick.greeks is not None
    assert tick.greeks.implied_volatility == 0.118
    assert tick.open_interest == 4387500.0
    assert tick.volume == 9120000
    assert tick.total_buy_quantity is None


def test_thirty_levels_are_thirty_levels(decoder: FeedDecoder) -> None:
    depth = tick_of(decoder, RELIANCE, full(marketLevel=book(30))).depth

    assert depth is not None
    assert len(depth.bids) == len(depth.asks) == 30


@pytest.mark.parametrize("kind", [pb.initial_feed, pb.live_feed])
def test_a_message_without_a_type_is_a_snapshot(decoder: FeedDecoder, kind: pb.Type) -> None:
    assert tick_of(decoder, RELIANCE, full(), kind=kind).is_snapshot is (kind == pb.initial_feed)


@pytest.mark.parametrize(
    ("instrument", "changes", "name", "expected"),
    [
        pytest.param(RELIANCE, {"atp": 0}, "average_price", None, id="no average yet"),
        pytest.param(RELIANCE, {"oi": 0}, "open_interest", None, id="cash has no open interest"),
        pytest.param(CALL, {"oi": 0}, "open_interest", 0.0, id="a contract nobody holds"),
        pytest.param(CALL, {"oi": 0, "marketLevel": None}, "open_interest", None, id="not told"),
        pytest.param(RELIANCE, {"tbq": 0}, "total_buy_quantity", 0.0, id="no buyers"),
        pytest.param(RELIANCE, {"tsq": 0}, "total_sell_quantity", 0.0, id="no sellers"),
        pytest.param(RELIANCE, {"tbq": 0, "marketLevel": None}, "total_buy_quantity", None, id="buyers not told"),
        pytest.param(RELIANCE, {"vtt": 0}, "volume", 0, id="nothing traded today"),
        pytest.param(RELIANCE, {"vtt": 0, "marketLevel": None}, "volume", None, id="volume not told"),
        pytest.param(RELIANCE, {"vtt": -1}, "volume", None, id="an impossible volume"),
        pytest.param(RELIANCE, {"ltpc": trade(cp=0)}, "previous_close", None, id="listed today"),
        pytest.param(RELIANCE, {"ltpc": trade(ltt=0)}, "traded_at", None, id="time not told"),
        pytest.param(RELIANCE, {"marketLevel": None}, "depth", None, id="no book told"),
        pytest.param(RELIANCE, {"marketLevel": pb.MarketLevel()}, "depth", Depth((), ()), id="an empty book"),
        pytest.param(RELIANCE, {"optionGreeks": pb.OptionGreeks()}, "greeks", None, id="cash sends empty greeks"),
        pytest.param(RELIANCE, {"optionGreeks": None}, "greeks", None, id="no greeks told"),
        pytest.param(RELIANCE, {"marketOHLC": None}, "day", None, id="no bars told"),
        pytest.param(
            RELIANCE, {"marketOHLC": pb.MarketOHLC(ohlc=[pb.OHLC(interval="1d")])}, "day", None, id="no prices"
        ),
        pytest.param(CALL, {"iv": 0}, "greeks.implied_volatility", None, id="no volatility"),
    ],
)
def test_absent_is_none_and_zero_is_zero(
    decoder: FeedDecoder, instrument: Instrument, changes: dict[str, Any], name: str, expected: object
) -> None:
    value: Any = tick_of(decoder, instrument, full(**changes))
    for part in name.split("."):
        value = getattr(value, part)

    assert value == expected
    assert type(value) is type(expected)


def test_a_book_skips_its_empty_places(decoder: FeedDecoder) -> None:
    quotes = [pb.Quote(bidQ=1, bidP=9.9, askQ=2, askP=10.1), pb.Quote(), pb.Quote(askQ=3, askP=10.3)]

    tick = tick_of(decoder, RELIANCE, full(marketLevel=pb.MarketLevel(bidAskQuote=quotes)))

    assert tick.depth == Depth(bids=(DepthLevel(9.9, 1),), asks=(DepthLevel(10.1, 2), DepthLevel(10.3, 3)))


def test_of_several_minute_bars_the_last_is_the_minute(decoder: FeedDecoder) -> None:
    told = bars()
    told.ohlc.add(interval="I1", open=1.0, high=1.0, low=1.0, close=1.0, ts=1_790_829_900_000)

    tick = tick_of(decoder, RELIANCE, full(marketOHLC=told))

    assert tick.minute is not None
    assert tick.minute.start == from_epoch_ms(1_790_829_900_000)


def test_a_running_auction_is_read(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, RELIANCE, full(iep=1405.0, rp=1400.0, ieq=5000, iiqTotal=-120, iiqM=-20, casEligible=True))

    assert tick.auction == Auction(
        price=1405.0, quantity=5000, reference_price=1400.0, imbalance=-120, market_imbalance=-20, eligible=True
    )


def test_a_reference_price_alone_is_no_auction(decoder: FeedDecoder) -> None:
    assert tick_of(decoder, RELIANCE, full(rp=1400.0, casEligible=True)).auction is None


def test_the_lightest_mode_tells_an_auction_by_its_price(decoder: FeedDecoder) -> None:
    ltpc = trade()
    ltpc.iep.value = 1405.5

    assert tick_of(decoder, RELIANCE, pb.Feed(ltpc=ltpc)).auction == Auction(price=1405.5)


def test_market_status_comes_first_and_keeps_the_brokers_words(decoder: FeedDecoder) -> None:
    segments = {
        "NSE_EQ": pb.NORMAL_OPEN,
        "NSE_FO": pb.CLOSING_START,
        "NSE_INDEX": pb.PRE_OPEN_START,
        "GLOBAL_INDEX": pb.NORMAL_CLOSE,
    }
    info = pb.MarketInfo(
        segmentStatus=segments,
        casMarketStatus={"NSE_EQ": pb.StatusInfo(status="CTS_CLOSE", updatedTime=RECEIVED_MS)},
        preOpenSessionStatus={"NSE_EQ": pb.StatusInfo(status="PRE_OPEN_END")},
    )

    (status,) = decoder.feed(frame(kind=pb.market_info, marketInfo=info), RECEIVED_MS)

    assert isinstance(status, MarketStatus)
    assert status.phases == {
        "NSE:cash": MarketPhase.OPEN,
        "NSE:derivatives": MarketPhase.CLOSING,
        "NSE:index": MarketPhase.PRE_OPEN,
    }
    assert status.raw == {
        "NSE_EQ": "NORMAL_OPEN",
        "NSE_FO": "CLOSING_START",
        "NSE_INDEX": "PRE_OPEN_START",
        "GLOBAL_INDEX": "NORMAL_CLOSE",
        "casMarketStatus.NSE_EQ": "CTS_CLOSE",
        "preOpenSessionStatus.NSE_EQ": "PRE_OPEN_END",
    }
    assert status.at == from_epoch_ms(RECEIVED_MS)


def test_a_phase_nobody_documented_is_unknown(decoder: FeedDecoder) -> None:
    (status,) = decoder.feed(market_info(NSE_EQ=77), RECEIVED_MS)

    assert isinstance(status, MarketStatus)
    assert status.phases == {"NSE:cash": MarketPhase.UNKNOWN}
    assert status.raw == {"NSE_EQ": "77"}


def test_one_malformed_entry_leaves_the_others_of_its_frame(decoder: FeedDecoder) -> None:
    good = full().SerializeToString()
    cut = pb.FeedFrame(type=1, feeds={KEYS[RELIANCE]: good[:-7], KEYS[TCS]: good})

    (tick,) = decoder.feed(cut.SerializeToString(), RECEIVED_MS)

    assert isinstance(tick, Tick)
    assert tick.instrument is TCS
    assert decoder.skipped == {"malformed entry": 1}


@pytest.mark.parametrize(
    "ltpc",
    [
        pytest.param(trade(ltp=float("nan")), id="price is no number"),
        pytest.param(trade(ltp=float("inf")), id="price is endless"),
        pytest.param(trade(ltp=-1.0), id="price below zero"),
        pytest.param(trade(cp=float("nan")), id="close is no number"),
        pytest.param(trade(ltt=2**62), id="time beyond the calendar"),
        pytest.param(trade(ltt=-1), id="time before the epoch"),
        pytest.param(trade(ltq=-1), id="quantity below zero"),
    ],
)
def test_an_impossible_trade_is_malformed_before_and_after_a_good_one(decoder: FeedDecoder, ltpc: pb.LTPC) -> None:
    for price, kind in ((1404.9, pb.live_feed), (1405.0, pb.initial_feed)):
        assert not decoder.feed(frame({RELIANCE: full(ltpc=ltpc)}, kind=kind), RECEIVED_MS)
        assert tick_of(decoder, RELIANCE, full(ltpc=trade(ltp=price))).last_price == price

    assert decoder.skipped == {"malformed entry": 2}


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"\xff\xff\xff", "unreadable frame", id="noise"),
        pytest.param(full().SerializeToString() + b"\x01", "unreadable frame", id="another message"),
        pytest.param(b"", "empty frame", id="nothing"),
        pytest.param(frame({RELIANCE: pb.Feed(requestMode=pb.full_d5)}), "empty entry", id="an entry of nothing"),
        pytest.param(frame({RELIANCE: pb.Feed(fullFeed=pb.FullFeed())}), "empty entry", id="an entry half empty"),
        pytest.param(frame({RELIANCE: full(ltpc=None)}), "no last price", id="a book without a price"),
        pytest.param(frame({RELIANCE: full(ltpc=trade(ltp=0))}), "no last price", id="a price of zero"),
        pytest.param(pb.FeedFrame(feeds={"NSE_EQ|X": b"\x01"}).SerializeToString(), "unknown key", id="a stranger"),
        pytest.param("hello", "text frame", id="text"),
    ],
)
def test_what_cannot_be_delivered_is_counted(decoder: FeedDecoder, sent: bytes | str, reason: str) -> None:
    assert decoder.feed(sent, RECEIVED_MS) == []

    assert decoder.skipped == {reason: 1}


@pytest.mark.parametrize("as_binary", [False, True])
def test_a_refused_request_is_counted_and_told(
    decoder: FeedDecoder, caplog: pytest.LogCaptureFixture, as_binary: bool
) -> None:
    text = '{"status":"failed","method":"sub","error":"too many keys"}'

    decoder.feed(text.encode() if as_binary else text, RECEIVED_MS)

    assert decoder.skipped == {"text frame": 1, "refused request": 1}
    assert "too many keys" in caplog.text


def test_the_book_is_read_once(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, RELIANCE, full())

    assert tick.depth is tick.depth


def _pickled(tick: Tick) -> Any:
    return pickle.loads(pickle.dumps(tick))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("copied", [_pickled, copy.copy, copy.deepcopy])
def test_a_copied_tick_has_all_that_the_original_has(decoder: FeedDecoder, copied: Any) -> None:
    tick = tick_of(decoder, CALL, full())

    twin = copied(tick)

    assert attrs.astuple(twin, recurse=False) == attrs.astuple(tick, recurse=False)
    assert twin.details == tick.details


def test_an_evolved_tick_keeps_its_details(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, CALL, full())

    moved = attrs.evolve(tick, last_price=1.0)
    changed = attrs.evolve(tick, details=attrs.evolve(tick.details, average_price=2.0))

    assert (moved.last_price, moved.depth, moved.greeks) == (1.0, tick.depth, tick.greeks)
    assert changed.average_price == 2.0
    assert changed.day == tick.day


def test_instruments_that_were_removed_are_strangers(decoder: FeedDecoder) -> None:
    decoder.remove([KEYS[RELIANCE], "NSE_EQ|NEVER"])

    assert not decoder.feed(frame({RELIANCE: full()}), RECEIVED_MS)
    assert decoder.skipped == {"unknown key": 1}


def test_greeks_of_zero_delta_are_greeks(decoder: FeedDecoder) -> None:
    tick = tick_of(decoder, CALL, full(optionGreeks=greeks(delta=0)))

    assert tick.greeks is not None
    assert tick.greeks.delta == 0.0


def test_an_update_that_repeats_the_one_before_is_counted_and_not_delivered(decoder: FeedDecoder) -> None:
    first = frame({RELIANCE: full(), TCS: full()})
    decoder.feed(first, RECEIVED_MS)

    again = decoder.feed(frame({RELIANCE: full(), TCS: full(vtt=6841300)}), RECEIVED_MS)

    assert [tick.instrument for tick in again if isinstance(tick, Tick)] == [TCS]
    assert decoder.unchanged == [RELIANCE]
    assert decoder.skipped == {"duplicate": 1}


@pytest.mark.parametrize(
    ("changed", "is_delivered"),
    [
        pytest.param({"ltt": -200, "vtt": -50}, False, id="an older trade"),
        pytest.param({"vtt": -50}, False, id="less volume at the same time"),
        pytest.param({"ltt": -200}, False, id="an older time at the same volume"),
        pytest.param({"ltt": -200, "vtt": 50}, True, id="more volume with an older time"),
        pytest.param({"ltt": 86_400_000, "vtt": -6_000_000}, True, id="a new day"),
        pytest.param({"ltt": 5}, True, id="a later time at the same volume"),
    ],
)
def test_what_is_late_goes_by_volume_then_by_time(
    decoder: FeedDecoder, changed: dict[str, int], is_delivered: bool
) -> None:
    decoder.feed(frame({RELIANCE: full(vtt=6_841_203)}), RECEIVED_MS)
    update = full(ltpc=trade(ltp=1300.0, ltt=TRADED_MS + changed.get("ltt", 0)), vtt=6_841_203 + changed.get("vtt", 0))

    delivered = decoder.feed(frame({RELIANCE: update}), RECEIVED_MS)

    assert bool(delivered) is is_delivered
    assert decoder.skipped["out of order"] == (not is_delivered)


def test_a_late_partial_update_changes_nothing_that_is_known(decoder: FeedDecoder) -> None:
    decoder.feed(frame({RELIANCE: full()}), RECEIVED_MS)
    decoder.feed(frame({RELIANCE: full(ltpc=trade(ltp=1.0, ltt=TRADED_MS - 10), marketLevel=None)}), RECEIVED_MS)

    tick = tick_of(decoder, RELIANCE, full(ltpc=None, marketLevel=book(1)))

    assert (tick.last_price, tick.traded_ms) == (1404.9, TRADED_MS)


def test_a_wrong_stamp_far_ahead_silences_no_instrument(decoder: FeedDecoder) -> None:
    decoder.feed(frame({RELIANCE: ltp_feed(ltp=1.0, ltt=TRADED_MS + 10**9)}), RECEIVED_MS)

    prices = [
        tick.last_price
        for n in range(6)
        for tick in decoder.feed(frame({RELIANCE: ltp_feed(ltp=100.0 + n, ltt=TRADED_MS + n)}), RECEIVED_MS)
        if isinstance(tick, Tick)
    ]

    assert prices == [102.0, 103.0, 104.0, 105.0]
    assert decoder.skipped == {"out of order": 2}


def test_single_late_updates_never_add_up_to_a_new_truth(decoder: FeedDecoder) -> None:
    for n in range(10):
        assert decoder.feed(frame({RELIANCE: full(vtt=10_000 + n)}), RECEIVED_MS)
        assert not decoder.feed(frame({RELIANCE: full(vtt=5_000 + n)}), RECEIVED_MS)


def test_a_snapshot_is_believed_whatever_came_before(decoder: FeedDecoder) -> None:
    decoder.feed(frame({RELIANCE: full()}), RECEIVED_MS)

    (tick,) = decoder.feed(frame({RELIANCE: full(vtt=5)}, kind=pb.initial_feed), RECEIVED_MS)

    assert isinstance(tick, Tick)
    assert (tick.volume, tick.is_snapshot) == (5, True)
