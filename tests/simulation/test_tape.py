"""Recorded events: every field comes back, and a killed recorder leaves whole files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backtest_kit import MORNING, Ticking
from simulated import ACME, OPTION

from hybridbroker.clock import from_epoch_ms, to_epoch_ms
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import (
    Auction,
    Candle,
    Depth,
    DepthLevel,
    Gap,
    Greeks,
    MarketEvent,
    MarketPhase,
    MarketStatus,
    Tick,
    TickDetails,
)
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.replay import ReplayMarketData
from hybridbroker.simulation.tape import Tape, TapeWriter
from hybridbroker.simulation.tape_rows import instrument_from, instrument_to

START = to_epoch_ms(MORNING)
MINUTE = Candle(instrument=ACME, start=MORNING, open=1.0, high=2.0, low=0.5, close=1.5, volume=7, open_interest=3)
FULL = Tick(
    ACME, 100.05, 5, START - 3, START, 99.5, 1_000, is_snapshot=True,
    details=TickDetails(
        average_price=100.01, open_interest=12.0, total_buy_quantity=10.0, total_sell_quantity=20.0,
        depth=Depth(bids=(DepthLevel(100.0, 10, 2), DepthLevel(99.95, 5)), asks=()),
        day=MINUTE, minute=MINUTE,
        greeks=Greeks(delta=0.5, theta=-1.0, gamma=0.1, vega=2.0, implied_volatility=0.118),
        auction=Auction(price=100.0, quantity=7, eligible=True),
    ),
)  # fmt: skip
BARE = Tick(OPTION, 1.05, None, None, START + 1)
GAP = Gap(since=MORNING, until=from_epoch_ms(START + 2), reason="connection reset")
STATUS = MarketStatus(phases={"NSE:cash": MarketPhase.OPEN}, at=from_epoch_ms(START + 3), raw={"NSE_EQ": "NORMAL_OPEN"})


def tick(second: int, price: float = 100.0) -> Tick:
    return Tick(ACME, price, 1, START + second * 1000, START + second * 1000)


def write(directory: Path, events: Iterable[MarketEvent], *, flush_after: int = 10_000) -> None:
    with TapeWriter(directory) as writer:
        for number, event in enumerate(events, 1):
            writer.add(event)
            if number % flush_after == 0:
                writer.flush()


def told(event: MarketEvent) -> object:
    if not isinstance(event, Tick):
        return event
    return (
        event.instrument, event.last_price, event.last_quantity, event.traded_ms, event.received_ms,
        event.previous_close, event.volume, event.is_snapshot, event.details,
    )  # fmt: skip


def test_every_field_of_every_event_comes_back(tmp_path: Path) -> None:
    events: list[MarketEvent] = [FULL, BARE, GAP, STATUS]

    write(tmp_path, events)

    tape = Tape.open(tmp_path)
    assert [told(event) for _, event in tape.events()] == [told(event) for event in events]
    assert [at - START for at, _ in tape.events()] == [0, 1, 2, 3]
    assert [each.id for each in tape.instruments] == sorted([ACME.id, OPTION.id])
    assert len(tape) == 4


def test_every_field_of_an_instrument_comes_back() -> None:
    option = Instrument(
        id="NSE:ACME:2026-11-24:25000:CE", exchange=Exchange.NSE, segment=Segment.DERIVATIVES,
        kind=InstrumentKind.OPTION, symbol="ACME", lot_size=75, tick_size=Decimal("0.05"), freeze_quantity=1800,
        underlying="ACME", expiry=date(2026, 11, 24), strike=Decimal(25000), right=OptionRight.CALL,
    )  # fmt: skip

    back = instrument_from(json.loads(json.dumps(instrument_to(option))))

    assert instrument_to(back) == instrument_to(option)
    assert (back.strike, back.expiry, back.right) == (option.strike, option.expiry, option.right)


def test_each_hour_is_one_file_and_the_order_stays(tmp_path: Path) -> None:
    events = [tick(second) for second in range(0, 3 * 3600, 60)]

    write(tmp_path, events, flush_after=7)

    assert len(list(tmp_path.iterdir())) == 4  # 9:15 to 12:14
    assert [at for at, _ in Tape.open(tmp_path).events()] == [event.received_ms for event in events]


def test_a_recorder_started_again_adds_to_the_tape(tmp_path: Path) -> None:
    write(tmp_path, [tick(0), tick(1)])
    write(tmp_path, [tick(2)])

    assert [at - START for at, _ in Tape.open(tmp_path).events()] == [0, 1000, 2000]


def test_parts_that_an_hours_file_already_holds_are_not_played_twice(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path)
    for second in range(4):
        writer.add(tick(second))
        writer.flush()
    parts = {each: each.read_bytes() for each in tmp_path.iterdir()}
    writer.close()
    for path, content in parts.items():  # as if the recorder had been killed before it deleted them
        path.write_bytes(content)

    assert len(list(tmp_path.iterdir())) == 5
    assert [at - START for at, _ in Tape.open(tmp_path).events()] == [0, 1000, 2000, 3000]


def test_a_killed_recorder_leaves_everything_it_had_flushed(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_tape import tick
from hybridbroker.simulation.tape import TapeWriter
writer = TapeWriter(Path({str(tmp_path)!r}))
for second in range(1_000_000):
    writer.add(tick(second * 60))
    writer.flush()
    print(second, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = 0
    while last < 70:
        last = int(process.stdout.readline())

    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()

    last = max([last, *map(int, rest)])
    seconds = [(at - START) // 60_000 for at, _ in Tape.open(tmp_path).events()]
    assert seconds[: last + 1] == list(range(last + 1))
    assert len(seconds) <= last + 2


def test_a_tape_plays_to_a_bot_as_it_was_received(tmp_path: Path) -> None:
    write(tmp_path, [STATUS, *(tick(second, 100.0 + second) for second in range(0, 180, 20)), GAP])
    bot = Ticking()

    result = simulate(bot, Tape.open(tmp_path))

    assert [each.last_price for each in bot.ticks] == [100.0 + second for second in range(0, 180, 20)]
    assert bot.gaps == [GAP]
    assert [candle.close for _, candle in bot.seen] == [140.0, 200.0]  # the gap spoils the third
    assert result.interval is None
    assert result.events == 11


def test_two_instances_of_one_tape_give_the_same_result(tmp_path: Path) -> None:
    write(tmp_path, [tick(second, 100.0 + second % 7) for second in range(300)])

    first, second = (simulate(Ticking(), Tape.open(tmp_path)).dumps() for _ in range(2))

    assert first == second


def test_memory_does_not_grow_with_the_tape(tmp_path: Path) -> None:
    write(tmp_path, [tick(second // 50) for second in range(20_000)])
    replay = ReplayMarketData.from_tape(Tape.open(tmp_path))

    class Counting(Ticking):
        most = 0

        async def on_tick(self, tick: Tick) -> None:
            self.most = max(self.most, len(replay.playback.samples.at_ms))

    bot = Counting()
    result = simulate(bot, Tape.open(tmp_path))

    assert result.events == 20_000
    assert len(result.samples.at_ms) == 7  # one a minute


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        pytest.param(lambda path: None, "holds no tape", id="empty"),
        pytest.param(lambda path: (path / "x.parquet").write_bytes(b"PAR1 not"), "damaged", id="damaged"),
        pytest.param(
            lambda path: pq.write_table(pa.table({"a": [1]}), path / "x.parquet"), "no tape", id="somebody else's"
        ),
        pytest.param(
            lambda path: pq.write_table(
                pa.table({"a": [1]}).replace_schema_metadata({b"hybridbroker.tape": b"99"}), path / "x.parquet"
            ),
            "newer version",
            id="of a later version",
        ),
    ],
)
def test_what_is_no_tape_is_refused_with_the_fix(tmp_path: Path, make: object, fix: str) -> None:
    make(tmp_path)  # type: ignore[operator]

    with pytest.raises(ConfigurationError, match=fix):
        Tape.open(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"hybridbroker\[parquet\]"):
        TapeWriter(tmp_path)


def test_times_are_those_of_the_recording(tmp_path: Path) -> None:
    write(tmp_path, [tick(0)])

    (at, _), *_ = Tape.open(tmp_path).events()

    assert datetime.fromtimestamp(at / 1000, UTC) == MORNING
    assert time.time() * 1000 != at
