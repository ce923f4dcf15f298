"""A bot run as a user runs it: on paper and at an emulated broker, to its end or to its failure."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator

SWING_BOT = Path(__file__).resolve().parents[2] / "examples" / "swing_bot.py"
RUN_AT = Path(__file__).with_name("run_at.py")
BUYS = """
import hybridbroker as hb

class Buys(hb.Strategy):
    "Buys one share at the first price."
    quantity = 2
    order = None

    async def on_start(self, session):
        self.session = session

    async def on_tick(self, tick):
        if self.order is None:
            price = tick.instrument.price(tick.last_price * 1.01)
            self.order = await self.session.broker.place_order(hb.LimitOrder(
                tick.instrument, "buy", quantity=self.quantity, price=price, product="intraday"))
            self.placed()

    def placed(self):
        self.stop()
"""
FAILS = (
    BUYS
    + """
class Fails(Buys):
    def placed(self):
        raise ZeroDivisionError("no such luck")
"""
)
WAITS = (
    BUYS
    + """
class Waits(Buys):
    def placed(self):
        print("placed", flush=True)

    async def on_stop(self):
        print("stopped", flush=True)
"""
)


@attrs.frozen
class Done:
    returncode: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found


@attrs.frozen
class Desk:
    """Both brokers, and a directory to work in."""

    market: EmulatedMarket
    dhan: DhanEmulator
    upstox: UpstoxEmulator
    directory: Path

    @property
    def env(self) -> Mapping[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DHAN_", "UPSTOX_"))}
        return clean | {
            "UPSTOX_BASE_URL": self.upstox.rest_url,
            "UPSTOX_ORDER_URL": self.upstox.rest_url,
            "UPSTOX_ACCESS_TOKEN": self.upstox.access_token,
            "DHAN_CLIENT_ID": self.dhan.client_id,
            "DHAN_ACCESS_TOKEN": self.dhan.access_token,
            "DHAN_BASE_URL": self.dhan.rest_url,
            "DHAN_ORDER_UPDATES_URL": self.dhan.order_updates_url,
            "HYBRIDBROKER_STATE_DIR": str(self.directory / "state"),
            "COLUMNS": "200",
        }

    def bot(self, source: str, name: str) -> str:
        (self.directory / "bot.py").write_text(source)
        return f"bot.py:{name}"

    @asynccontextmanager
    async def started(self, *arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
        at = self.market.now.isoformat()  # real orders are refused outside the market's hours
        line = [sys.executable, str(RUN_AT), at, *map(str, arguments), "--instruments", "builtin"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *line, stdout=pipe, stderr=pipe, env=self.env, cwd=self.directory
        )
        try:
            async with asyncio.timeout(60):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def run(self, *arguments: str | Path) -> Done:
        async with self.started(*arguments) as process:
            out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def opened(market: EmulatedMarket, directory: Path) -> AsyncIterator[Desk]:
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
        yield Desk(market, dhan, upstox, directory)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A market that stands still."""
    async with opened(EmulatedMarket.still(), tmp_path) as found:
        yield found


RELIANCE = ("--instrument", "NSE:RELIANCE", "--json")
LIVE = (*RELIANCE, "--live", "--allow-old-instruments")


async def test_example_bot_trades_a_day_on_paper_to_the_close_and_its_account_lives_on(tmp_path: Path) -> None:
    async with opened(EmulatedMarket.random_walk(speed=None), tmp_path) as day:
        done = await day.run("paper", f"{SWING_BOT}:SwingBot", *RELIANCE, "--state", "account.json")

    assert done.returncode == 0, done.stderr
    filled = [each for each in done.summary["orders"] if each["filled_quantity"]]
    assert {each["side"] for each in filled} == {"buy", "sell"}
    assert done.summary["failure"] is None
    assert done.summary["held"] == []

    async with opened(EmulatedMarket.still(), tmp_path) as next_run:
        kept = await next_run.run("paper", next_run.bot(BUYS, "Buys"), *RELIANCE, "--state", "account.json")

    assert kept.returncode == 0, kept.stderr
    assert [each["id"] for each in kept.summary["orders"][:-1]] == [each["id"] for each in done.summary["orders"]]
    assert kept.summary["held"] == ["NSE:RELIANCE +2"]
    assert Decimal(kept.summary["available"]) < Decimal(done.summary["available"])


async def test_a_person_is_told_in_words(desk: Desk) -> None:
    done = await desk.run("paper", desk.bot(BUYS, "Buys"), "--instrument", "NSE:RELIANCE", "--param", "quantity=3")

    assert done.returncode == 0, done.stderr
    assert "buy 3 NSE:RELIANCE" in done.stdout
    assert "held: NSE:RELIANCE +3" in done.stdout
    assert "rupees" in done.stdout


async def test_real_money_needs_the_word_live(desk: Desk) -> None:
    done = await desk.run("run", desk.bot(BUYS, "Buys"), *RELIANCE)

    assert done.returncode == 2
    assert "add --live if you mean it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert desk.dhan.exchange.orders() == []


async def test_a_bot_trades_at_the_broker_and_the_journal_tells_all(desk: Desk) -> None:
    done = await desk.run("run", desk.bot(BUYS, "Buys"), *LIVE, "--journal", "orders.db")

    assert done.returncode == 0, done.stderr
    (order,) = desk.dhan.exchange.orders()
    assert [(each["side"], each["status"], each["filled_quantity"]) for each in done.summary["orders"]] == [
        (order.side, order.status, order.filled_quantity)
    ]
    assert done.summary["held"] == ["NSE:RELIANCE +2"]
    assert journal_states(desk.directory / "orders.db") == ["final"]


@pytest.mark.parametrize(
    ("then", "left"),
    [pytest.param("keep", ["NSE:RELIANCE +2"], id="keep"), pytest.param("flatten", [], id="flatten")],
)
async def test_a_bot_that_fails_is_told_of_and_its_position_is_kept_or_closed(
    desk: Desk, then: str, left: list[str]
) -> None:
    done = await desk.run("run", desk.bot(FAILS, "Fails"), *LIVE, "--journal", "orders.db", "--on-failure", then)

    assert done.returncode == 1
    assert done.summary["failure"] == "ZeroDivisionError: no such luck"
    assert done.summary["held"] == left
    assert "Traceback" in done.stderr
    assert "the bot failed: ZeroDivisionError: no such luck" in done.stderr
    sides = [each.side for each in desk.dhan.exchange.orders()]
    assert sides == (["buy"] if then == "keep" else ["buy", "sell"])
    assert journal_states(desk.directory / "orders.db") == ["final"] * len(sides)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT])
async def test_a_wish_to_stop_ends_a_run_in_order(desk: Desk, wish: signal.Signals) -> None:
    bot = desk.bot(WAITS, "Waits")
    async with desk.started("run", bot, *LIVE, "--journal", "orders.db") as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"placed\n"
        process.send_signal(wish)
        out, err = await process.communicate()

    stopped, told = out.decode().splitlines()
    assert stopped == "stopped"
    assert process.returncode == 0, err.decode()
    assert json.loads(told)["held"] == ["NSE:RELIANCE +2"]
    assert b"Traceback" not in err
    assert journal_states(desk.directory / "orders.db") == ["final"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("paper nothing.py:Bot", "nothing.py is no Python file"),
        ("paper bot.py:Nobody", "has no strategy 'Nobody'"),
        ("paper bot.py:Buys --param depth=3", "Buys has no parameter 'depth'"),
        ("paper bot.py:Buys --param depth", "write name=value"),
        ("paper bot.py:Buys --instrument NSE:NOPE", "NSE:NOPE"),
        ("paper bot.py:Buys --cash much", "no amount of rupees"),
        ("paper bot.py:Buys --charges nobody", "nobody"),
        ("paper bot.py:Buys --state bot.py", "is cut off or damaged"),
        ("paper bot.py:Buys --data nobody", "nobody"),
        ("run bot.py:Buys --broker nobody --live", "nobody"),
        ("run bot.py:Buys --max-order-value -5 --live", "max_order_value"),
    ],
)
def test_a_mistake_is_one_line_with_the_fix(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hybridbroker import cli

    (tmp_path / "bot.py").write_text(BUYS)
    monkeypatch.chdir(tmp_path)
    for name in ("UPSTOX_ACCESS_TOKEN", "DHAN_ACCESS_TOKEN", "DHAN_CLIENT_ID"):
        monkeypatch.setenv(name, "invented")
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["hybridbroker", *line.split(), "--instruments", "builtin"])

    with pytest.raises(SystemExit) as end:
        cli.main()

    told = capsys.readouterr()
    assert end.value.code == 2, told.err
    assert says in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert told.out == ""


def journal_states(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT state FROM orders ORDER BY created_at")]
    connection.close()
    return found
