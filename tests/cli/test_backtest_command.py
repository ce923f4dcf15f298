"""``hybridbroker backtest`` and ``record``: what they print, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hybridbroker import cli
from hybridbroker.clock import IST

Command = Callable[..., tuple[int, str, str]]
OPEN = datetime(2026, 9, 21, 9, 15, tzinfo=IST)
EXAMPLES = Path(__file__).parents[2] / "examples"

BOT = """
import hybridbroker as hb

class Buyer(hb.Strategy):
    interval = hb.Interval.MINUTE_1
    units = 1

    async def on_start(self, session):
        self.broker, self.bars = session.broker, 0

    async def on_candle(self, candle):
        self.bars += 1
        if self.bars == 2:
            await self.broker.place_order(hb.MarketOrder(candle.instrument, hb.Side.BUY, quantity=self.units))
        if self.bars == 4 and self.units == 13:
            raise RuntimeError("unlucky")
"""


@pytest.fixture
def hybridbroker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hybridbroker", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def bot(tmp_path: Path) -> str:
    path = tmp_path / "buyer.py"
    path.write_text(BOT)
    return f"{path}:Buyer"


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """375 bars of a made-up session, as a broker writes them."""
    rows = []
    for minute in range(375):
        price = 1400 - minute / 20 if minute < 120 else 1394 + (minute - 120) / 5
        volume = 9_000 if 120 <= minute < 140 else 1_000
        row = [round(price, 1), round(price + 1, 1), round(price - 1, 1), round(price, 1), volume, 0]
        rows.append([(OPEN + timedelta(minutes=minute)).isoformat(), *row])
    path = tmp_path / "RELIANCE.json"
    path.write_text(json.dumps({"status": "success", "data": {"candles": rows[::-1]}}))
    return path


def test_a_run_prints_its_report_and_ends_with_zero(hybridbroker: Command, bot: str, day: Path) -> None:
    code, out, _ = hybridbroker("backtest", bot, "--candles", day)

    assert code == 0
    assert "375 bars" in out
    assert "What was assumed" in out


def test_json_is_one_object_and_html_one_page(hybridbroker: Command, bot: str, day: Path, tmp_path: Path) -> None:
    code, out, _ = hybridbroker("backtest", bot, "--candles", day, "--json", "--html", tmp_path / "r.html")

    assert code == 0
    assert json.loads(out)["trades"][0]["price"] == "1399.90"
    assert (tmp_path / "r.html").stat().st_size > 1_000_000


@pytest.mark.parametrize(("remains", "held"), [("keep", 1), ("flatten", 2)])
def test_a_bot_that_fails_is_reported_and_ends_with_one(
    hybridbroker: Command, bot: str, day: Path, remains: str, held: int
) -> None:
    code, out, _ = hybridbroker(
        "backtest", bot, "--candles", day, "--param", "units=13", "--on-failure", remains, "--json"
    )

    told = json.loads(out)
    assert code == 1
    assert told["failure"] == "RuntimeError: unlucky"
    assert len(told["trades"]) == held


def test_a_grid_is_a_sorted_table(hybridbroker: Command, bot: str, day: Path) -> None:
    code, out, _ = hybridbroker("backtest", bot, "--candles", day, "--grid", "units=1:5:2", "--workers", 1, "--json")

    rows = json.loads(out)
    assert code == 0
    assert [row["parameters"]["units"] for row in rows] == [5, 2, 1]


def test_a_grid_with_a_failing_run_ends_with_one(hybridbroker: Command, bot: str, day: Path) -> None:
    code, out, _ = hybridbroker("backtest", bot, "--candles", day, "--grid", "units=1:13", "--workers", 1)

    assert code == 1
    assert "unlucky" in out


@pytest.mark.parametrize("name", ["swing_bot.py:SwingBot", "opening_range.py:OpeningRange"])
def test_the_examples_run_unchanged(hybridbroker: Command, day: Path, name: str) -> None:
    code, out, _ = hybridbroker("backtest", EXAMPLES / name, "--candles", day, "--json")

    assert code == 0
    assert json.loads(out)["orders"]


def test_defects_are_told_with_row_and_reason_and_can_be_allowed(hybridbroker: Command, bot: str, day: Path) -> None:
    told = json.loads(day.read_text())
    told["data"]["candles"][10][1] = -5
    day.write_text(json.dumps(told))

    code, out, err = hybridbroker("backtest", bot, "--candles", day)
    allowed, report, _ = hybridbroker("backtest", bot, "--candles", day, "--allow", "not-positive", "--json")

    assert (code, out) == (2, "")
    assert "row 364" in err
    assert "not-positive" in err
    assert allowed == 0
    assert any("left out" in each for each in json.loads(report)["assumptions"])


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ("nothing.py:Bot --candles DAY", "no Python file"),
        ("BOT", "say what to play"),
        ("BOT --candles DAY --tape DAY", "one of them"),
        ("BOT --candles DAY --grid units", "name=value"),
        ("BOT --candles DAY --param units", "name=value"),
        ("BOT --candles DAY --param nope=1", "no parameter 'nope'"),
        ("BOT --candles DAY --param units=1 --grid units=1:2", "give it once"),
        ("BOT --candles DAY --charges nobody", "installed"),
        ("BOT --candles DAY --square-off noon", "HH:MM"),
        ("BOT --candles DAY --from monday", "YYYY-MM-DD"),
        ("BOT --candles DAY --from 2030-01-01", "no bars to play"),
        ("BOT --candles DAY --at-end sell", "keep nor flatten"),
        ("BOT --candles DAY --allow typo", "out-of-order"),
        ("BOT --candles DAY --participation 2", "fraction"),
        ("BOT --data upstox", "--instrument"),
        ("BOT --tape EMPTY", "holds no tape"),
        ("BOTX --candles DAY", "Buyer"),
    ],
)
def test_a_mistake_is_one_line_with_the_fix(  # noqa: PLR0917 - fixtures and the table
    hybridbroker: Command, bot: str, day: Path, tmp_path: Path, arguments: str, fix: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = {"BOT": bot, "BOTX": f"{bot}x", "DAY": str(day), "EMPTY": str(tmp_path / "empty")}

    code, out, err = hybridbroker("backtest", *(words.get(each, each) for each in arguments.split()))

    assert (code, out) == (2, ""), err
    assert fix in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["backtest", "record"])
def test_help_has_an_example(hybridbroker: Command, command: str) -> None:
    code, out, _ = hybridbroker(command, "--help")

    assert code == 0
    assert "Example" in out


def test_a_number_becomes_what_the_bots_own_default_is(hybridbroker: Command, day: Path) -> None:
    code, out, _ = hybridbroker(
        "backtest", EXAMPLES / "swing_bot.py", "--candles", day, "--param", "busy=1.25", "--grid", "risk=300:500.5",
        "--workers", 1, "--json",
    )  # fmt: skip

    assert code == 0
    assert [row["failure"] for row in json.loads(out)] == [None, None]
