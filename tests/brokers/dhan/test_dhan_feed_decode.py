"""Packets of Dhan's live feed: vectors, traps, merging, and frames that are not what they should be."""

from __future__ import annotations

import copy
import pickle
import struct
from datetime import datetime

import attrs
import pytest
from dhan_data_kit import (
    CALL,
    DAY_MS,
    NIFTY,
    NOW_MS,
    RELIANCE,
    TCS,
    TRADED_MS,
    WALL_S,
    decoder,
    full,
    goodbye,
    head,
    interest,
    number,
    previous_close,
    quote,
    ticker,
)

from hybridbroker.brokers.dhan.data.feed import FeedDecoder
from hybridbroker.clock import IST
from hybridbroker.domain.market import MarketPhase, MarketStatus, Tick
from hybridbroker.errors import FeedAuthenticationError, FeedError, SubscriptionLimit

TICKER = "02 10 00 01 45 0b 00 00 00 50 af 44 20 17 a9 6a"
QUOTE = (
    "04 32 00 01 45 0b 00 00 00 50 af 44 19 00 20 17 a9 6a 00 f8 ae 44 87 d6 12 00 c8 af 00 00 20 cb 00 00 "
    "00 60 ae 44 00 d0 ad 44 00 00 b0 44 00 88 ad 44"
)
DISCONNECT = "32 0a 00 00 00 00 00 00 25 03"


def one(frame: bytes, *, of: FeedDecoder | None = None, now_ms: int = NOW_MS) -> Tick:
    (tick,) = (of or decoder()).feed(frame, now_ms)
    assert isinstance(tick, Tick)
    return tick


def test_the_documented_ticker_decodes_exactly() -> None:
    tick = one(bytes.fromhex(TICKER))

    assert tick.instrument is RELIANCE
    assert tick.last_price == 1402.5
    assert tick.traded_at == datetime(2026, 9, 15, 10, 0, tzinfo=IST)
    assert tick.traded_ms == TRADED_MS
    assert tick.received_ms == NOW_MS
    absent = (tick.last_quantity, tick.volume, tick.previous_close, tick.depth, tick.day, tick.open_interest)
    assert absent == (None,) * 6


def test_the_documented_quote_decodes_exactly() -> None:
    tick = one(bytes.fromhex(QUOTE))

    assert (tick.last_price, tick.last_quantity, tick.traded_ms) == (1402.5, 25, TRADED_MS)
    assert (tick.average_price, tick.volume) == (1399.75, 1_234_567)
    assert (tick.total_sell_quantity, tick.total_buy_quantity) == (45_000, 52_000)
    assert tick.previous_close == 1390.5
    assert tick.day is not None
    day = tick.day
    assert (day.open, day.high, day.low, day.close, day.volume) == (1395.0, 1408.0, 1388.25, 1402.5, 1_234_567)
    assert day.start == datetime(2026, 9, 15, tzinfo=IST)
    assert day == attrs.evolve(day)
    assert (tick.depth, tick.open_interest, tick.minute, tick.greeks, tick.auction) == (None,) * 5


def test_the_documented_disconnection_decodes_exactly() -> None:
    subject = decoder()

    assert subject.feed(bytes.fromhex(DISCONNECT), NOW_MS) == []
    assert subject.goodbye is not None
    assert subject.goodbye.code == 805


def test_a_full_packet_tells_the_book_best_price_first() -> None:
    tick = one(full(1402.5, interest=7))

    assert tick.depth is not None
    assert [level.price for level in tick.depth.bids] == [1402.4, 1402.3, 1402.2, 1402.1, 1402.0]
    assert [level.price for level in tick.depth.asks] == [1402.5, 1402.6, 1402.7, 1402.8, 1402.9]
    assert (tick.depth.bids[0].quantity, tick.depth.bids[0].orders) == (100, 1)
    assert (tick.depth.asks[1].quantity, tick.depth.asks[1].orders) == (100, 4)
    assert tick.depth is tick.depth


def test_empty_places_of_the_book_are_left_out() -> None:
    tick = one(full(levels=2))

    assert tick.depth is not None
    assert (len(tick.depth.bids), len(tick.depth.asks)) == (2, 2)


def test_open_interest_of_zero_is_told_for_contracts_alone() -> None:
    share, contract = one(full()), one(full(instrument=CALL))

    assert share.open_interest is None
    assert contract.open_interest == 0


def test_an_index_has_neither_volume_nor_book() -> None:
    tick = one(full(25_000.05, volume=0, instrument=NIFTY))

    assert tick.last_price == 25_000.05
    assert (tick.volume, tick.depth, tick.total_buy_quantity, tick.total_sell_quantity) == (None,) * 4


def test_a_price_that_a_single_cannot_hold_is_the_one_that_was_meant() -> None:
    assert one(ticker(1402.4)).last_price == 1402.4
    assert struct.unpack("<f", struct.pack("<f", 1402.4))[0] != 1402.4


def test_several_packets_in_one_frame_are_all_delivered() -> None:
    frame = ticker() + quote(instrument=TCS) + interest(9) + full(25_000.0, instrument=NIFTY) + ticker(instrument=CALL)

    ticks = decoder().feed(frame, NOW_MS)

    assert [tick.instrument for tick in ticks if isinstance(tick, Tick)] == [RELIANCE, TCS, NIFTY, CALL]


def test_a_tick_keeps_its_own_bytes_and_not_the_frame() -> None:
    frame = full() + full(instrument=TCS)

    first, second = decoder().feed(frame, NOW_MS)

    assert len(first.packet) == len(second.packet) == 162  # type: ignore[union-attr]


def test_a_packet_that_the_frame_cuts_short_is_counted() -> None:
    subject = decoder()

    ticks = subject.feed(ticker() + full()[:100], NOW_MS)

    assert len(ticks) == 1
    assert subject.skipped == {"truncated packet": 1}


@pytest.mark.parametrize("size", range(8))
def test_less_than_a_header_is_counted(size: int) -> None:
    subject = decoder()

    assert subject.feed(ticker()[:size], NOW_MS) == []
    assert subject.skipped == ({"truncated packet": 1} if size else {})


@pytest.mark.parametrize("code", [1, 3, 9, 41, 51, 255])
def test_an_unknown_packet_is_skipped_by_its_length_and_counted(code: int) -> None:
    subject = decoder()

    ticks = subject.feed(head(code, 20) + bytes(12) + ticker(), NOW_MS)

    assert len(ticks) == 1
    assert subject.skipped == {"unknown packet": 1}


@pytest.mark.parametrize("length", [0, 7, 30])
def test_an_unknown_packet_of_impossible_length_ends_its_frame_alone(length: int) -> None:
    subject = decoder()

    assert subject.feed(head(99, length) + bytes(4), NOW_MS) == []
    assert subject.skipped == {"unknown packet": 1}
    assert len(subject.feed(ticker(), NOW_MS)) == 1


def test_a_heartbeat_is_nothing() -> None:
    subject = decoder()

    assert subject.feed(bytes(8), NOW_MS) == []
    assert subject.skipped == {}


@pytest.mark.parametrize("length", [8, 0, 500])
def test_a_frame_that_ends_where_a_packet_ends_is_one_whatever_its_length_field_says(length: int) -> None:
    frames = [each[:1] + struct.pack("<H", length) + each[3:] for each in (ticker(), quote(), full())]

    assert [one(each).last_price for each in frames] == [1402.5] * 3


def test_fields_added_at_the_end_of_a_packet_are_passed_over() -> None:
    longer = quote()[:1] + struct.pack("<H", 54) + quote()[3:] + bytes(4)
    subject = decoder()

    ticks = subject.feed(
        longer + ticker(instrument=TCS)[:1] + struct.pack("<H", 20) + ticker(instrument=TCS)[3:] + bytes(4), NOW_MS
    )

    assert [tick.instrument for tick in ticks if isinstance(tick, Tick)] == [RELIANCE, TCS]


def test_what_nobody_subscribed_is_counted() -> None:
    subject = decoder(TCS)

    assert subject.feed(ticker() + quote() + interest(4), NOW_MS) == []
    assert subject.skipped == {"unknown key": 3}


def test_an_instrument_that_was_removed_is_delivered_no_more() -> None:
    subject = decoder()
    subject.remove([number(RELIANCE)])

    assert subject.feed(ticker(), NOW_MS) == []


@pytest.mark.parametrize("price", [0.0, -0.0])
def test_what_has_not_traded_is_no_tick(price: float) -> None:
    subject = decoder()

    assert subject.feed(ticker(price) + quote(price), NOW_MS) == []
    assert subject.skipped == {"no last price": 2}


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
def test_an_impossible_price_is_counted(price: float) -> None:
    subject = decoder()

    assert subject.feed(ticker(price) + full(price), NOW_MS) == []
    assert subject.skipped == {"malformed packet": 2}


@pytest.mark.parametrize("second", [0, 19_799, 315_532_800])
def test_a_time_before_the_exchanges_were_electronic_is_none(second: int) -> None:
    assert one(ticker(second=second)).traded_ms is None


def test_a_time_after_this_century_is_malformed() -> None:
    subject = decoder()

    assert subject.feed(ticker(second=2**32 - 1) + quote(second=2**32 - 1), NOW_MS) == []
    assert subject.skipped == {"malformed packet": 2}


def test_open_interest_of_its_own_packet_shows_from_the_next_tick_on() -> None:
    subject = decoder()

    silence = subject.feed(interest(4_387_500), NOW_MS)
    from_quote = one(quote(instrument=CALL), of=subject)
    from_ticker = one(ticker(1402.0, second=WALL_S + 1, instrument=CALL), of=subject)

    assert silence == []
    assert (from_quote.open_interest, from_ticker.open_interest) == (4_387_500, 4_387_500)


def test_the_previous_close_of_an_index_shows_in_its_tickers() -> None:
    subject = decoder()

    subject.feed(previous_close(24_950.35), NOW_MS)

    assert one(ticker(25_000.0, instrument=NIFTY), of=subject).previous_close == 24_950.35


def test_a_previous_close_is_that_of_the_day_before_after_midnight() -> None:
    subject = decoder()
    subject.feed(previous_close(24_950.35), NOW_MS)

    tick = one(ticker(25_000.0, second=WALL_S + 86_400, instrument=NIFTY), of=subject, now_ms=NOW_MS + DAY_MS)

    assert tick.previous_close is None


def test_close_is_the_previous_close_while_the_session_runs_and_stays_so_after_it() -> None:
    subject = decoder()
    during = one(quote(close=1390.5), of=subject)

    after = one(quote(1401.0, close=1401.0, second=WALL_S + 19_000), of=subject, now_ms=NOW_MS + 20_000_000)

    assert (during.previous_close, after.previous_close) == (1390.5, 1390.5)


def test_close_first_heard_after_the_session_is_nobodys() -> None:
    tick = one(quote(close=1401.0), now_ms=NOW_MS + 20_000_000)

    assert tick.previous_close is None


def test_close_counts_only_once_the_instrument_has_traded_today() -> None:
    subject = decoder()
    before = one(quote(second=WALL_S - 86_400, close=1390.5), of=subject)

    after = one(quote(1403.0, second=WALL_S + 1, volume=2_000_000, close=1390.5), of=subject)

    assert (before.previous_close, after.previous_close) == (None, 1390.5)


def test_an_unchanged_close_is_looked_at_anew_the_next_day() -> None:
    subject = decoder()
    one(quote(close=1390.5), of=subject)

    next_day = one(quote(second=WALL_S + 86_400, volume=9, close=1390.5), of=subject, now_ms=NOW_MS + DAY_MS)

    assert next_day.previous_close == 1390.5


@pytest.mark.parametrize("close", [0.0, float("nan"), -1.0])
def test_a_close_that_is_no_price_tells_nothing(close: float) -> None:
    subject = decoder()

    assert one(quote(close=close)).previous_close is None
    assert one(quote(close=1390.5), of=subject).previous_close == 1390.5
    assert one(quote(1403.0, volume=2_000_000, close=close), of=subject).previous_close == 1390.5


def test_the_first_tick_of_a_connection_is_a_snapshot() -> None:
    subject = decoder()
    first = one(ticker(), of=subject)
    second = one(ticker(1403.0, second=WALL_S + 1), of=subject)
    subject.reset()
    third = one(ticker(1403.0, second=WALL_S + 1), of=subject)

    assert [each.is_snapshot for each in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize("packet", [ticker(), quote(), full()])
def test_a_packet_that_comes_twice_is_no_second_trade(packet: bytes) -> None:
    subject = decoder()
    one(packet, of=subject)

    assert subject.feed(packet, NOW_MS) == []
    assert subject.skipped == {"duplicate": 1}
    assert subject.unchanged == [RELIANCE]
    subject.feed(b"", NOW_MS)
    assert subject.unchanged == []


def test_a_book_that_moves_without_a_trade_is_a_tick() -> None:
    subject = decoder()
    one(full(levels=5), of=subject)

    assert one(full(levels=4), of=subject).depth is not None


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(ticker(1401.0, second=WALL_S - 1), id="ticker"),
        pytest.param(quote(1401.0, volume=1_234_560), id="quote, by volume"),
        pytest.param(full(1401.0, second=WALL_S - 1), id="full, by time"),
    ],
)
def test_a_late_packet_is_counted_and_not_delivered(late: bytes) -> None:
    subject = decoder()
    one(quote(), of=subject)

    assert subject.feed(late, NOW_MS) == []
    assert subject.skipped == {"out of order": 1}


def test_late_packets_that_agree_among_themselves_are_believed_at_last() -> None:
    subject = decoder()
    one(ticker(second=WALL_S + 50_000), of=subject)

    told = [subject.feed(ticker(1400.0 + n, second=WALL_S + n), NOW_MS) for n in range(5)]

    assert [len(each) for each in told] == [0, 0, 1, 1, 1]


def test_late_packets_count_only_in_a_row() -> None:
    subject = decoder()
    told = []
    for n in range(4):
        one(ticker(1402.0 + n, second=WALL_S + 100 * (n + 1)), of=subject)
        told += subject.feed(ticker(1400.0 + n, second=WALL_S + n), NOW_MS)

    assert told == []
    assert subject.skipped == {"out of order": 4}


def test_a_volume_that_falls_while_time_goes_on_is_a_new_day() -> None:
    subject = decoder()
    one(quote(volume=1_000_000), of=subject)

    assert one(quote(volume=10, second=WALL_S + 86_400), of=subject, now_ms=NOW_MS + DAY_MS).volume == 10


def test_a_market_status_says_only_that_something_changed() -> None:
    (status,) = decoder().feed(struct.pack("<BHBI", 7, 8, 1, 0), NOW_MS)

    assert isinstance(status, MarketStatus)
    assert status.phases == {"NSE:cash": MarketPhase.UNKNOWN}
    assert set(status.raw) == {"NSE_EQ"}


def test_text_is_counted() -> None:
    subject = decoder()

    assert subject.feed('{"status": "failed"}', NOW_MS) == []
    assert subject.skipped == {"text frame": 1}


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (401, FeedAuthenticationError, "log in"),
        (804, SubscriptionLimit, "too many instruments"),
        (806, FeedAuthenticationError, "Data API plan"),
        (807, FeedAuthenticationError, "expired"),
        (808, FeedAuthenticationError, "wrong"),
        (809, FeedAuthenticationError, "invalid"),
        (810, FeedAuthenticationError, "DHAN_CLIENT_ID"),
        (811, FeedError, "expiry"),
        (812, FeedError, "date"),
        (813, FeedError, "security id"),
        (814, FeedError, "request"),
        (820, FeedAuthenticationError, "Data API plan"),
        (821, FeedAuthenticationError, "Data API plan"),
    ],
)
def test_a_reason_that_ends_the_stream_is_an_exception(code: int, kind: type[FeedError], word: str) -> None:
    subject = decoder()
    subject.feed(goodbye(code), NOW_MS)

    assert subject.goodbye is not None
    assert type(subject.goodbye.error) is kind
    assert word in str(subject.goodbye.error)
    assert f"[{code}]" in str(subject.goodbye.error)


@pytest.mark.parametrize("code", [800, 805, 899])
def test_a_passing_reason_ends_nothing(code: int) -> None:
    subject = decoder()
    subject.feed(goodbye(code), NOW_MS)

    assert subject.goodbye is not None
    assert subject.goodbye.error is None


def test_a_tick_that_is_copied_or_pickled_is_a_plain_one_read_in_full() -> None:
    tick = one(full(interest=3))

    copies = [pickle.loads(pickle.dumps(tick)), copy.copy(tick), attrs.evolve(tick)]  # noqa: S301 - our own bytes

    for each in copies:
        assert type(each) is Tick
        assert each.details == tick.details
        assert (each.last_price, each.volume, each.previous_close) == (1402.5, 1_234_567, 1390.5)
