"""Any frame is survived: only ticks with real prices come out, everything else is counted."""

from __future__ import annotations

import struct

from dhan_data_kit import CALL, NOW_MS, WALL_S, decoder, full, goodbye, interest, previous_close, quote, ticker
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbroker.domain.market import MarketStatus, Tick

PACKETS = [ticker(), quote(), full(), full(instrument=CALL), interest(7), previous_close(1.5), goodbye(805)]

singles = st.floats(width=32, min_value=0, exclude_min=True, allow_infinity=False)
units = st.integers(min_value=0, max_value=2**32 - 1)


def check(frame: bytes) -> None:
    subject = decoder()
    for event in subject.feed(frame, NOW_MS):
        assert isinstance(event, Tick | MarketStatus)
        if isinstance(event, Tick):
            assert 0 < event.last_price < float("inf")
            assert event.traded_ms is None or event.traded_ms > 0
            assert event.previous_close is None or event.previous_close > 0
            assert event.volume is None or event.volume >= 0
            _ = event.details, event.traded_at, repr(event)


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(frame: bytes) -> None:
    check(frame)


@settings(max_examples=400)
@given(data=st.data())
def test_any_mutation_of_packets_is_survived(data: st.DataObject) -> None:
    frame = bytearray(b"".join(data.draw(st.lists(st.sampled_from(PACKETS), min_size=1, max_size=4))))
    places = st.integers(min_value=0, max_value=len(frame) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(min_value=0, max_value=255)), max_size=8)):
        frame[place] = value

    check(bytes(frame[: data.draw(st.integers(min_value=0, max_value=len(frame)))]))


@given(code=st.integers(min_value=0, max_value=255), body=st.binary(max_size=170))
def test_a_packet_of_any_code_and_body_is_survived(code: int, body: bytes) -> None:
    check(struct.pack("<BHBI", code, 8 + len(body), 1, 2885) + body)


@given(price=singles, second=st.integers(min_value=WALL_S, max_value=WALL_S + 10**8), volume=units, close=singles)
def test_what_is_written_is_what_is_read(price: float, second: int, volume: int, close: float) -> None:
    (tick,) = decoder().feed(quote(price, second=second, volume=volume, close=close), NOW_MS)

    assert isinstance(tick, Tick)
    assert struct.pack("<f", tick.last_price) == struct.pack("<f", price)
    assert tick.traded_ms == (second - 19_800) * 1000
    assert tick.volume == volume
    assert tick.previous_close is not None
    assert struct.pack("<f", tick.previous_close) == struct.pack("<f", close)
