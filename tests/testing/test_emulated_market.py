"""The market behind the emulators: deterministic days, real bars bar for bar, clear errors."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from hybridbroker.clock import IST
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import LISTED, EmulatedMarket, Recording, invent
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.candles import Bar, aggregate, read_candles
from hybridbroker.testing.emulators.steps import Step

RELIANCE, TCS = LISTED[0], LISTED[1]
KEY = RELIANCE.upstox_key


def candle_rows(day: date, count: int, *, first: float = 100.0, volume: int = 101) -> list[list[Any]]:
    rows = []
    for minute in range(count):
        start = datetime(day.year, day.month, day.day, 9, 15 + minute, tzinfo=IST).isoformat()
        low = first + minute
        rows.append([start, low + 0.5, low + 2, low, low + 1, volume, 0])
    return rows[::-1]


def candle_file(path: Path, rows: list[list[Any]]) -> Path:
    text = json.dumps({"status": "success", "data": {"candles": rows}}).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


async def played(market: EmulatedMarket) -> list[Step]:
    steps: list[Step] = []

    async def note(step: Step) -> None:
        steps.append(step)

    market.listen(note)
    await market.run()
    return steps


async def test_the_same_seed_gives_the_same_day() -> None:
    first, second, other = (EmulatedMarket.random_walk([RELIANCE], seed=seed) for seed in (1, 1, 2))

    days = [[bar.row() for bar in (await played(each), each.today_bars(KEY))[1]] for each in (first, second, other)]

    assert days[0] == days[1]
    assert days[0] != days[2]
    assert len(days[0]) == 375


async def test_the_synthetic_day_breaks_out_on_volume() -> None:
    market = EmulatedMarket.random_walk([RELIANCE])
    await market.run()
    bars = market.today_bars(KEY)

    fall, rally = bars[:82], bars[82:150]

    assert fall[-1].close < fall[0].open
    assert rally[-1].close > rally[0].open * 1.01
    assert sum(bar.volume for bar in rally[:15]) / 15 > 3 * sum(bar.volume for bar in fall) / 82


async def test_every_synthetic_price_is_on_the_tick() -> None:
    market = EmulatedMarket.random_walk()
    steps = await played(market)

    for step in steps[:400]:
        for listed, feed in step.updates:
            if feed.fullFeed.HasField("marketFF"):
                quote = feed.fullFeed.marketFF.marketLevel.bidAskQuote[0]
                for price in (feed.fullFeed.marketFF.ltpc.ltp, quote.bidP, quote.askP):
                    assert float(listed.instrument.price(price)) == price
                assert quote.bidP <= feed.fullFeed.marketFF.ltpc.ltp <= quote.askP


async def test_history_joins_the_day() -> None:
    market = EmulatedMarket.random_walk([RELIANCE], day=date(2026, 10, 6), history_days=3)
    past = market.past_bars(KEY)

    await market.step()
    await market.step()

    feed = market.feed(KEY)
    assert feed is not None
    assert [day.start.date() for day in aggregate(past, "days", 1)] == [
        date(2026, 9, 30),
        date(2026, 10, 1),
        date(2026, 10, 5),
    ]
    assert feed.fullFeed.marketFF.ltpc.cp == past[-1].close


async def test_candles_are_played_bar_for_bar(tmp_path: Path) -> None:
    rows = candle_rows(date(2026, 1, 6), 20)
    path = candle_file(tmp_path / "x.json.gz", rows)
    market = EmulatedMarket.from_candles({RELIANCE: path})

    steps = await played(market)

    assert [bar.row() for bar in market.today_bars(KEY)][::-1] == rows
    volumes = [feed.fullFeed.marketFF.vtt for step in steps for _, feed in step.updates]
    assert volumes == sorted(volumes)
    assert volumes[-1] == 20 * 101
    assert len(volumes) == 80


async def test_only_the_last_session_is_played_and_the_rest_is_history(tmp_path: Path) -> None:
    rows = candle_rows(date(2026, 1, 6), 5) + candle_rows(date(2026, 1, 5), 4, first=50)
    market = EmulatedMarket.from_candles({RELIANCE: candle_file(tmp_path / "x.json", rows)})

    await market.run()

    feed = market.feed(KEY)
    assert feed is not None
    assert feed.fullFeed.marketFF.ltpc.cp == 54.0
    assert len(market.past_bars(KEY)) == 4
    assert len(market.today_bars(KEY)) == 5


async def test_several_sessions_are_separate_days(tmp_path: Path) -> None:
    rows = candle_rows(date(2026, 1, 6), 5) + candle_rows(date(2026, 1, 5), 4, first=50)
    market = EmulatedMarket.from_candles({RELIANCE: candle_file(tmp_path / "x.json", rows)}, days=None)

    steps = await played(market)

    assert [step.status for step in steps if step.status is not None] == [
        pb.NORMAL_OPEN,
        pb.NORMAL_CLOSE,
        pb.NORMAL_OPEN,
        pb.NORMAL_CLOSE,
    ]
    assert len(market.past_bars(KEY)) == 4
    assert market.today_bars(KEY)[-1].row() == rows[0]


async def test_instruments_that_trade_at_once_share_a_step(tmp_path: Path) -> None:
    path = candle_file(tmp_path / "x.json", candle_rows(date(2026, 1, 6), 2))

    steps = await played(EmulatedMarket.from_candles({RELIANCE: path, TCS: path}))

    assert [len(step.updates) for step in steps] == [0, *[2] * 8, 0]


async def test_a_bar_without_volume_trades_nothing(tmp_path: Path) -> None:
    path = candle_file(tmp_path / "x.json", candle_rows(date(2026, 1, 6), 3, volume=0))

    steps = await played(EmulatedMarket.from_candles({RELIANCE: path}))

    assert {feed.fullFeed.marketFF.vtt for step in steps for _, feed in step.updates} == {0}


async def test_depth_goes_as_deep_as_asked(tmp_path: Path) -> None:
    path = candle_file(tmp_path / "x.json", candle_rows(date(2026, 1, 6), 2))
    market = EmulatedMarket.from_candles({RELIANCE: path}, levels=30)
    await market.run()

    feed = market.feed(KEY)

    assert feed is not None
    assert len(feed.fullFeed.marketFF.marketLevel.bidAskQuote) == 30


async def test_speed_scales_time(tmp_path: Path) -> None:
    clock = ManualClock()
    path = candle_file(tmp_path / "x.json", candle_rows(date(2026, 1, 6), 10))
    market = EmulatedMarket.from_candles({RELIANCE: path}, speed=10, clock=clock)

    await market.run()

    opening_to_last_trade = 9 * 60 + 45
    assert clock.monotonic() == pytest.approx(opening_to_last_trade / 10)


async def test_the_markets_clock_tells_simulated_time() -> None:
    market = EmulatedMarket.random_walk([RELIANCE])

    await market.run()

    assert market.clock.now() == market.now
    assert f"{market.now:%H:%M}" == "15:30"
    assert not market.is_open


async def test_a_still_market_moves_by_hand() -> None:
    market = EmulatedMarket.still(prices={"NSE:RELIANCE": 1400.0})

    await market.move("NSE:RELIANCE", 1402.5, quantity=7)

    tick = market.tick(RELIANCE)
    assert tick is not None
    assert (tick.last_price, tick.last_quantity, tick.volume) == (1402.5, 7, 8)
    assert tick.depth is not None
    assert tick.depth.best_ask is not None
    assert tick.depth.best_ask.price == 1402.5


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        pytest.param(gzip.compress(b"{}" * 5000)[:30], "cut short", id="truncated gzip"),
        pytest.param(b"plain text", "no gzip file", id="not gzip"),
        pytest.param(gzip.compress(b"not json"), "no candle file", id="not JSON"),
        pytest.param(gzip.compress(b'{"status":"error","errors":[]}'), "no candle file", id="an error body"),
        pytest.param(gzip.compress(b'{"data":{"candles":[]}}'), "no candles", id="empty"),
        pytest.param(gzip.compress(b'{"data":{"candles":[["x",1,2,3]]}}'), "no candle file", id="wrong rows"),
    ],
)
def test_an_unusable_candle_file_says_what_is_wrong(tmp_path: Path, content: bytes, fix: str) -> None:
    path = tmp_path / "candles.json.gz"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=fix) as caught:
        EmulatedMarket.from_candles({RELIANCE: path})

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_candle_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="check the path"):
        read_candles(tmp_path / "nowhere.json")


def test_daily_bars_are_no_market_day(tmp_path: Path) -> None:
    rows = [["2026-01-06T00:00:00+05:30", 1, 2, 1, 2, 5, 0], ["2026-01-05T00:00:00+05:30", 1, 2, 1, 2, 5, 0]]
    path = candle_file(tmp_path / "x.json", rows)

    with pytest.raises(ConfigurationError, match="minute bars"):
        EmulatedMarket.from_candles({RELIANCE: path})


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        (b"", "no feed entries"),
        (b"{not json}", "line 1"),
        (b'{"instrumentKey": "NSE_EQ|X", "fullFeed": {}}', "line 1"),
        (b"[1]", "line 1"),
    ],
)
def test_an_unusable_recording_says_what_is_wrong(tmp_path: Path, line: bytes, fix: str) -> None:
    path = tmp_path / "feed.ndjson"
    path.write_bytes(line)

    with pytest.raises(ConfigurationError, match=fix):
        Recording.open(path)


def test_a_recording_of_other_instruments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.ndjson"
    path.write_text(json.dumps(recorded_line("NSE_EQ|OTHER", "2026-01-06 10:00:00.000000", 100.0)))

    with pytest.raises(ConfigurationError, match=r"holds only NSE_EQ\|OTHER"):
        EmulatedMarket.from_recording(Recording.open(path), [RELIANCE])


def recorded_line(key: str, at: str, price: float) -> dict[str, Any]:
    ltpc = {"ltp": price, "ltt": "1767673800000", "ltq": "5", "cp": 99.0}
    market = {"ltpc": ltpc, "optionGreeks": {}, "marketLevel": {"bidAskQuote": [{}, {"askQ": "3", "askP": 101.0}]}}
    full = {"marketFF": {**market, "vtt": "70", "tsq": 12.0}}
    return {"fullFeed": full, "requestMode": "full_d5", "instrumentKey": key, "_insertion_time": at}


async def test_recordings_are_merged_by_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    first.write_text("\n".join(json.dumps(recorded_line(KEY, f"2026-01-06 10:00:0{n}", n)) for n in (1, 3)))
    second.write_text(json.dumps(recorded_line(TCS.upstox_key, "2026-01-06 10:00:02", 2)))
    market = EmulatedMarket.from_recording(Recording.open(first, second), [RELIANCE, TCS])

    steps = await played(market)

    assert [listed.instrument.symbol for step in steps for listed, _ in step.updates] == ["RELIANCE", "TCS", "RELIANCE"]
    assert steps[-1].status == pb.NORMAL_CLOSE


async def test_an_entry_that_is_not_of_mode_full_is_named(tmp_path: Path) -> None:
    path = tmp_path / "feed.ndjson"
    line = recorded_line(KEY, "2026-01-06 10:00:00", 1.0)
    line["fullFeed"]["marketFF"]["ltpc"]["ltt"] = "noon"
    path.write_text(json.dumps(line))
    market = EmulatedMarket.from_recording(Recording.open(path), [RELIANCE])

    with pytest.raises(ConfigurationError, match="mode full"):
        await market.run()


async def test_what_goes_wrong_while_playing_is_raised_when_playing_ends(tmp_path: Path) -> None:
    path = tmp_path / "feed.ndjson"
    line = recorded_line(KEY, "2026-01-06 10:00:00", 1.0) | {"fullFeed": {"marketFF": {"price": 1}}}
    path.write_text(json.dumps(line))
    market = EmulatedMarket.from_recording(Recording.open(path), [RELIANCE])
    market.audience(1)

    market.play()

    with pytest.raises(ConfigurationError):
        await market.finished()
    with pytest.raises(ConfigurationError):
        await market.stop()


async def test_a_depth_without_a_price_is_passed_on_but_no_state(tmp_path: Path) -> None:
    path = tmp_path / "feed.ndjson"
    whole, part = (recorded_line(KEY, f"2026-01-06 10:00:0{n}", 100.0) for n in (1, 2))
    del part["fullFeed"]["marketFF"]["ltpc"]
    path.write_text(f"{json.dumps(whole)}\n{json.dumps(part)}")
    market = EmulatedMarket.from_recording(Recording.open(path), [RELIANCE])

    steps = await played(market)

    tick = market.tick(RELIANCE)
    assert tick is not None
    assert tick.last_price == 100.0
    assert [len(step.updates) for step in steps] == [1, 1, 0]


async def test_invented_instruments_are_all_different() -> None:
    market = EmulatedMarket.still(invent(50))

    await market.move_all({each.instrument: 1000.0 + n for n, each in enumerate(market.listed)})

    prices = [tick.last_price for each in market.listed if (tick := market.tick(each))]
    assert prices == [1000.0 + n for n in range(50)]
    assert market.steps_done == 1


@pytest.mark.parametrize(
    ("unit", "interval", "starts"),
    [
        ("minutes", 5, ["09:15", "09:20"]),
        ("minutes", 30, ["09:15"]),
        ("hours", 1, ["09:15"]),
        ("days", 1, ["00:00"]),
    ],
)
def test_bars_are_anchored_at_the_opening(unit: str, interval: int, starts: list[str]) -> None:
    opens = int(datetime(2026, 1, 6, 9, 15, tzinfo=IST).timestamp() * 1000)
    minutes = [Bar(opens + n * 60_000, 1, 2 + n, 0.5, 1.5, 10) for n in range(7)]

    bars = aggregate(minutes, unit, interval)

    assert [f"{bar.start:%H:%M}" for bar in bars] == starts
    assert sum(bar.volume for bar in bars) == 70
    assert max(bar.high for bar in bars) == 8
