"""Partial updates: what they leave out is what it was, and never zero."""

from __future__ import annotations

from typing import Any

import pytest
from upstox_kit import (
    CALL,
    KEYS,
    NIFTY,
    RECEIVED_MS,
    RELIANCE,
    bars,
    book,
    frame,
    full,
    greeks,
    greeks_feed,
    index_feed,
    ltp_feed,
    trade,
)

from hybridbroker.brokers.upstox.data.feed import FeedDecoder
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Tick

Market = pb.MarketFullFeed


@pytest.fixture
def decoder() -> FeedDecoder:
    decoder = FeedDecoder()
    decoder.add({key: instrument for instrument, key in KEYS.items()})
    return decoder


def after(decoder: FeedDecoder, instrument: Instrument, *feeds: pb.Feed) -> Tick:
    """The tick that the last of ``feeds`` makes."""
    events: list[Any] = []
    for feed in feeds:
        events = decoder.feed(frame({instrument: feed}), RECEIVED_MS)
    (tick,) = events
    assert isinstance(tick, Tick)
    return tick


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        pytest.param(
            Market(marketLevel=book(2)),
            {"last_price": 1404.9, "last_quantity": 12, "volume": 6841203, "average_price": 1402.3},
            id="a book without a trade",
        ),
        pytest.param(
            Market(ltpc=trade(ltp=1500.0)),
            {"last_price": 1500.0, "volume": 6841203, "open_interest": 4387500.0, "total_buy_quantity": 412300.0},
            id="a trade without a book",
        ),
        pytest.param(
            Market(ltpc=trade(ltp=1500.0), vtt=6841300, oi=4387600.0),
            {"volume": 6841300, "open_interest": 4387600.0, "average_price": 1402.3},
            id="some scalars",
        ),
        pytest.param(
            Market(ltpc=trade(ltp=1500.0), tbq=5.0),
            {"total_buy_quantity": 5.0, "total_sell_quantity": 0.0},
            id="both sides are told together",
        ),
        pytest.param(
            Market(
                ltpc=trade(ltp=1500.0, cp=0), marketLevel=book(), optionGreeks=greeks(), marketOHLC=bars(), vtt=9000000
            ),
            {"previous_close": 1398.1, "last_price": 1500.0, "volume": 9000000, "average_price": None},
            id="the close holds all day",
        ),
        pytest.param(
            Market(ltpc=trade(ltp=0, cp=1399.0), marketLevel=book()),
            {"last_price": 1404.9, "previous_close": 1399.0},
            id="a close without a trade",
        ),
        pytest.param(Market(), {"last_price": 1404.9, "volume": 6841203}, id="nothing at all"),
    ],
)
def test_a_partial_update_is_filled_up(decoder: FeedDecoder, partial: Market, expected: dict[str, Any]) -> None:
    tick = after(decoder, CALL, full(), full(partial))

    assert {name: getattr(tick, name) for name in expected} == expected


@pytest.mark.parametrize("missing", ["marketLevel", "optionGreeks", "marketOHLC"])
def test_each_sub_message_is_carried_over_whole(decoder: FeedDecoder, missing: str) -> None:
    before = after(decoder, CALL, full())
    changed: dict[str, Any] = {
        "marketLevel": book(1),
        "optionGreeks": greeks(0.1),
        "marketOHLC": bars(1.0),
        missing: None,
    }

    tick = after(decoder, CALL, full(**changed))

    names = {"marketLevel": ["depth"], "optionGreeks": ["greeks"], "marketOHLC": ["day", "minute"]}
    for sub_message, details in names.items():
        for detail in details:
            assert (getattr(tick, detail) == getattr(before, detail)) is (sub_message == missing)


def test_a_whole_update_replaces_everything(decoder: FeedDecoder) -> None:
    tick = after(decoder, CALL, full(), full(tbq=0, tsq=0, oi=0, atp=0, vtt=0, iv=0, marketLevel=pb.MarketLevel()))

    assert (tick.total_buy_quantity, tick.total_sell_quantity, tick.open_interest) == (0.0, 0.0, 0.0)
    assert (tick.average_price, tick.volume) == (None, 0)
    assert tick.depth is not None
    assert tick.depth.best_bid is None


def test_a_snapshot_forgets_what_was_before(decoder: FeedDecoder) -> None:
    decoder.feed(frame({CALL: full()}), RECEIVED_MS)

    (tick,) = decoder.feed(frame({CALL: full(marketLevel=None, tbq=0)}, kind=pb.initial_feed), RECEIVED_MS)

    assert isinstance(tick, Tick)
    assert tick.depth is None
    assert tick.total_buy_quantity is None


def test_a_reset_forgets_what_was_before(decoder: FeedDecoder) -> None:
    after(decoder, CALL, full())

    decoder.reset()

    assert not decoder.feed(frame({CALL: full(ltpc=None)}), RECEIVED_MS)
    assert decoder.skipped == {"no last price": 1}


def test_a_book_that_came_before_the_first_price_is_kept_for_it(decoder: FeedDecoder) -> None:
    tick = after(decoder, RELIANCE, full(ltpc=None), full(Market(ltpc=trade())))

    assert tick.last_price == 1404.9
    assert tick.depth is not None
    assert len(tick.depth.bids) == 5
    assert tick.volume == 6841203
    assert decoder.skipped == {"no last price": 1}


def test_three_partial_updates_add_up(decoder: FeedDecoder) -> None:
    tick = after(
        decoder,
        CALL,
        full(Market(ltpc=trade())),
        full(Market(marketLevel=book(3))),
        full(Market(optionGreeks=greeks(0.3), iv=0.2)),
        full(Market(ltpc=trade(ltp=7.5))),
    )

    assert tick.last_price == 7.5
    assert tick.depth is not None
    assert len(tick.depth.asks) == 3
    assert tick.greeks is not None
    assert (tick.greeks.delta, tick.greeks.implied_volatility) == (0.3, 0.2)


def test_a_change_of_mode_carries_the_last_price_over_and_nothing_else(decoder: FeedDecoder) -> None:
    tick = after(decoder, RELIANCE, ltp_feed(), full(ltpc=None, marketLevel=book(1)))
    lighter = after(decoder, RELIANCE, pb.Feed(ltpc=pb.LTPC(cp=1398.1)))

    assert (tick.last_price, tick.previous_close) == (1404.9, 1398.1)
    assert tick.depth is not None
    assert lighter.last_price == 1404.9
    assert lighter.depth is None
    assert lighter.volume is None


def test_an_index_keeps_its_bars(decoder: FeedDecoder) -> None:
    tick = after(decoder, NIFTY, index_feed(), index_feed(ltpc=trade(ltp=2.0), marketOHLC=None))

    assert tick.last_price == 2.0
    assert tick.day is not None


def test_greeks_mode_keeps_its_level(decoder: FeedDecoder) -> None:
    tick = after(decoder, CALL, greeks_feed(), greeks_feed(ltpc=trade(ltp=2.0), firstDepth=None, vtt=0, oi=0, iv=0))

    assert tick.depth is not None
    assert (tick.last_price, tick.volume, tick.open_interest) == (2.0, 9120000, 4387500.0)


def test_earlier_ticks_do_not_change(decoder: FeedDecoder) -> None:
    first = after(decoder, CALL, full())

    after(decoder, CALL, full(Market(ltpc=trade(ltp=9.0))), full(Market(marketLevel=book(1))))

    assert first.last_price == 1404.9
    assert first.depth is not None
    assert len(first.depth.bids) == 5


def test_a_malformed_update_spoils_nothing(decoder: FeedDecoder) -> None:
    decoder.feed(frame({CALL: full()}), RECEIVED_MS)
    decoder.feed(frame({CALL: full(Market(ltpc=trade(ltp=float("nan"))))}), RECEIVED_MS)

    tick = after(decoder, CALL, full(Market(marketLevel=book(1))))

    assert tick.last_price == 1404.9
