"""What feeds survive: outages, random disconnects, the nightly end of the token, silence; beside the vendor's SDK.

    python benchmarks/outages.py --vendor-python VENV/bin/python   # an environment with upstox-python-sdk
    python benchmarks/outages.py --smoke                           # ours alone, in seconds, for CI

Both talk to the same emulator through a proxy that cuts, resets and refuses. Ours runs on a
clock that goes ``--scale`` times as fast as the wall's (all figures are seconds of that clock);
the SDK cannot be told the time, so its figures are real seconds. The exit code is 1 where ours
breaks a promise. The SDK reconnects five times, a second apart, and watches nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, SystemClock
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, Tick
from hybridbroker.errors import FeedAuthenticationError, InstrumentNotFound, TokenExpired
from hybridbroker.protocols import MarketStream
from hybridbroker.silence import Patience
from hybridbroker.testing.emulators import EmulatedMarket, ListedInstrument, TcpProxy, UpstoxEmulator
from hybridbroker.testing.emulators.listed import invent

VENDOR = Path(__file__).resolve().parent / "_vendor_feed.py"
HERE = "127.0.0.1"
BACK_WITHIN = 35.0
"""Seconds after the line is back: the longest pause between two attempts, and something for the attempt."""
PATIENCE = Patience(every=0.02)
LOOK = 0.5
"""Real seconds that two looks of the watch may lie apart on a machine that has other things to do."""
SESSION = datetime(2026, 10, 1, 10, 15, tzinfo=IST)
EVENING = datetime(2026, 10, 1, 16, 0, tzinfo=IST)


class FastClock(SystemClock):
    """A clock that starts where it is told and goes ``scale`` times as fast."""

    def __init__(self, start: datetime, scale: float) -> None:
        self.scale = scale
        self._start, self._began = start, time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.scale

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.scale)


class Names:
    """An `InstrumentLookup` of invented shares."""

    def __init__(self, listed: tuple[ListedInstrument, ...]) -> None:
        self._keys = {each.instrument.id: each.upstox_key for each in listed}
        self._instruments = {each.upstox_key: each.instrument for each in listed}

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        return self._instruments[self._keys[id]]

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        return BrokerKey(broker=broker, segment="NSE_EQ", id=self._keys[instrument.id])

    def by_key(self, broker: str, key: str) -> Instrument:
        if key not in self._instruments:
            raise InstrumentNotFound(f"{broker}: {key}")
        return self._instruments[key]


class Tokens:
    """A `TokenSource` with a token for tomorrow, or without one."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.asked = 0

    async def token(self) -> AccessToken:
        self.asked += 1
        return AccessToken(secret=SecretStr(self.secret), expires_at=datetime(2030, 1, 1, tzinfo=UTC), is_certain=True)

    async def renewed(self, refused: AccessToken) -> AccessToken:
        if refused.secret.get_secret_value() == self.secret:
            raise TokenExpired("there is no other token")
        return await self.token()


@attrs.define
class Ours:
    """One stream of ours on an emulator behind a proxy, read all the time."""

    emulator: UpstoxEmulator
    proxy: TcpProxy
    stream: MarketStream
    clock: FastClock
    tokens: Tokens
    count: int
    ticks: int = 0
    gaps: list[Gap] = attrs.field(factory=list)
    error: BaseException | None = None

    @property
    def lost(self) -> int:
        """Return how many subscriptions the server does not have."""
        return self.count - len(self.emulator.subscriptions)

    async def read(self) -> None:
        try:
            async for event in self.stream:
                self._note(event)
        except FeedAuthenticationError as exc:
            self.error = exc

    def _note(self, event: MarketEvent) -> None:
        self.ticks += isinstance(event, Tick)
        if isinstance(event, Gap):
            self.gaps.append(event)

    async def until(self, met: Callable[[], bool], *, seconds: float) -> float:
        """Wait until ``met``, and return the seconds of our clock it took; more than ``seconds`` means never."""
        began = self.clock.monotonic()
        while not met() and self.clock.monotonic() - began <= seconds:  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.002)
        return self.clock.monotonic() - began

    def is_whole(self) -> bool:
        return self.stream.health.state is FeedState.LIVE and self.lost == 0


@asynccontextmanager
async def streaming(count: int, *, scale: float, start: datetime = SESSION) -> AsyncIterator[Ours]:
    listed, clock = invent(count), FastClock(start, scale)
    async with UpstoxEmulator(EmulatedMarket.still(listed)) as emulator, TcpProxy(emulator.port) as proxy:
        tokens = Tokens(emulator.access_token)
        settings = UpstoxSettings.model_validate({"access_token": "unused", "base_url": f"http://{proxy.address}"})
        data = UpstoxMarketData(settings, instruments=Names(listed), clock=clock, tokens=tokens, patience=PATIENCE)
        half = count // 2
        async with data, data.stream((each.instrument for each in listed[:half]), mode=FeedMode.FULL) as stream:
            await stream.subscribe((each.instrument for each in listed[half:]), mode=FeedMode.LTP)
            ours = Ours(emulator, proxy, stream, clock, tokens, count)
            reading = asyncio.create_task(ours.read())
            await ours.until(lambda: ours.is_whole() and ours.ticks >= count, seconds=10 * scale)
            try:
                yield ours
            finally:
                reading.cancel()
                await asyncio.wait({reading})


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    kept: bool
    vendor: str = "-"


async def outage(seconds: float, count: int, scale: float) -> Row:
    async with streaming(count, scale=scale) as ours:
        ours.proxy.refuse()
        ours.proxy.reset()
        await ours.clock.sleep(seconds)
        before, ticks = len(ours.gaps), ours.ticks
        ours.proxy.refuse(refusing=False)
        took = await ours.until(lambda: ours.is_whole() and ours.ticks >= ticks + count, seconds=4 * BACK_WITHIN)
        kept = took <= BACK_WITHIN and ours.lost == 0 and len(ours.gaps) == before + 1
        return Row(what=f"outage of {seconds:.0f} s", ours=f"whole {took:.1f} s after, {ours.lost} lost", kept=kept)


async def disconnects(times: int, count: int, scale: float) -> Row:
    chance, longest, lost = random.Random(17), 0.0, 0  # noqa: S311 - not a secret
    async with streaming(count, scale=scale) as ours:
        for number in range(1, times + 1):
            match chance.randrange(3):
                case 0:
                    ours.proxy.cut()
                case 1:
                    ours.proxy.reset()
                case _:
                    ours.emulator.drop_connections()
            await ours.until(lambda number=number: ours.stream.health.reconnects >= number, seconds=4 * BACK_WITHIN)  # type: ignore[misc]
            longest = max(longest, await ours.until(ours.is_whole, seconds=BACK_WITHIN))
            lost += ours.lost
            await asyncio.sleep(chance.random() * 0.02)
        await ours.until(lambda: len(ours.gaps) >= times, seconds=BACK_WITHIN)
        kept = lost == 0 and len(ours.gaps) == times == ours.stream.health.reconnects
        return Row(what=f"{times} random disconnects", ours=f"{len(ours.gaps)} gaps told, {lost} lost", kept=kept)


async def roll_over(count: int, scale: float) -> Row:
    async with streaming(count, scale=scale) as ours:
        ours.tokens.secret = ours.emulator.roll_over(token="of-tomorrow")  # noqa: S106
        ours.emulator.drop_connections()
        took = await ours.until(lambda: bool(ours.gaps) and ours.is_whole(), seconds=BACK_WITHIN)
        kept = took <= BACK_WITHIN and ours.lost == 0
        return Row(what="03:30, a new token is there", ours=f"whole {took:.1f} s after, {ours.lost} lost", kept=kept)


async def no_token(count: int, scale: float) -> Row:
    async with streaming(count, scale=scale) as ours:
        ours.emulator.roll_over(token="of-tomorrow")  # noqa: S106
        ours.emulator.drop_connections()
        took = await ours.until(lambda: ours.error is not None, seconds=BACK_WITHIN)
        asked = ours.tokens.asked
        await ours.clock.sleep(40)
        kept = isinstance(ours.error, FeedAuthenticationError) and ours.tokens.asked == asked
        told = "FeedAuthenticationError" if ours.error is not None else "nothing"
        return Row(what="03:30, no new token", ours=f"{told} after {took:.1f} s, asks no more", kept=kept)


async def closed_market(count: int, scale: float) -> Row:
    async with streaming(count, scale=scale, start=EVENING) as ours:
        await ours.clock.sleep(7200)
        health = ours.stream.health
        alarms = health.silent + health.reconnects + health.stale() + len(ours.gaps)
        return Row(what="two hours of closed market", ours=f"{alarms} false alarms", kept=alarms == 0)


async def silence(count: int, scale: float) -> Row:
    async with streaming(count, scale=scale) as ours:
        health, last = ours.stream.health, ours.clock.monotonic()
        await ours.until(lambda: health.silent, seconds=120)
        noticed = ours.clock.monotonic() - last
        await ours.until(lambda: bool(ours.gaps) and ours.is_whole(), seconds=120)
        replaced = ours.clock.monotonic() - last
        look = LOOK * scale
        kept = noticed <= PATIENCE.report + look and replaced <= PATIENCE.replace + 2 * look and ours.lost == 0
        told = f"told after {noticed:.0f} s, replaced after {replaced:.0f} s, {ours.lost} lost"
        return Row(what="socket alive, silent in the session", ours=told, kept=kept)


async def half_open(count: int, scale: float) -> Row:
    async with streaming(count, scale=scale) as ours:
        began = time.monotonic()
        ours.proxy.strand()
        await ours.until(lambda: bool(ours.gaps) and ours.is_whole(), seconds=45 * scale)
        took = time.monotonic() - began
        kept = took <= 45 and ours.lost == 0
        return Row(what="half-open line (real time)", ours=f"found by ping, whole in {took:.0f} s", kept=kept)


class Vendor:
    """The SDK's streamer as a process, on an emulator behind a proxy."""

    def __init__(self, emulator: UpstoxEmulator, proxy: TcpProxy, process: asyncio.subprocess.Process) -> None:
        self.emulator, self.proxy, self.process = emulator, proxy, process
        self.heard: list[str] = []

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.heard.append(line.decode().split()[0])

    async def until(self, met: Callable[[], bool], *, seconds: float) -> float | None:
        """Wait in real seconds; None means never."""
        began = time.monotonic()
        while not met():
            if time.monotonic() - began > seconds:
                return None
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@asynccontextmanager
async def vendor_streaming(python: str, count: int) -> AsyncIterator[Vendor]:
    listed = invent(count)
    async with UpstoxEmulator(EmulatedMarket.still(listed)) as emulator, TcpProxy(emulator.port) as proxy:
        url = f"ws://{proxy.address}/v3/feed/market-data-feed"
        keys = [each.upstox_key for each in listed]
        process = await asyncio.create_subprocess_exec(
            python, str(VENDOR), url, emulator.access_token, "full", *keys,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        vendor = Vendor(emulator, proxy, process)
        listening = asyncio.create_task(vendor.listen())
        try:
            if await vendor.until(lambda: len(emulator.subscriptions) == count, seconds=30) is None:
                raise SystemExit(f"{python} does not run the vendor's SDK; it needs upstox-python-sdk")
            yield vendor
        finally:
            process.kill()
            await process.wait()
            await listening


async def vendor_outage(python: str, seconds: float, count: int) -> str:
    async with vendor_streaming(python, count) as vendor:
        vendor.proxy.refuse()
        vendor.proxy.reset()
        await asyncio.sleep(seconds)
        await vendor.until(lambda: not vendor.emulator.subscriptions, seconds=5)
        vendor.proxy.refuse(refusing=False)
        took = await vendor.until(lambda: len(vendor.emulator.subscriptions) == count, seconds=BACK_WITHIN)
        lost = count - len(vendor.emulator.subscriptions)
        return f"never came back, {lost} lost" if took is None else f"whole {took:.1f} s after, {lost} lost"


async def vendor_disconnects(python: str, times: int, count: int) -> str:
    async with vendor_streaming(python, count) as vendor:
        for number in range(times):
            vendor.proxy.reset()
            await vendor.until(lambda: not vendor.emulator.subscriptions, seconds=5)
            if await vendor.until(lambda: len(vendor.emulator.subscriptions) == count, seconds=15) is None:
                return f"dead after {number + 1}"
        return "0 lost"


async def vendor_roll_over(python: str, count: int) -> str:
    async with vendor_streaming(python, count) as vendor:
        vendor.emulator.roll_over(token="of-tomorrow")  # noqa: S106
        vendor.proxy.reset()
        await vendor.until(lambda: not vendor.emulator.subscriptions, seconds=5)
        took = await vendor.until(lambda: len(vendor.emulator.subscriptions) == count, seconds=15)
        return f"never came back, {count} lost" if took is None else f"whole {took:.1f} s after"


async def vendor_silence(python: str, count: int, *, strand: bool) -> str:
    async with vendor_streaming(python, count) as vendor:
        if strand:
            vendor.proxy.strand()
        took = await vendor.until(lambda: bool({"close", "reconnecting", "stopped"} & set(vendor.heard)), seconds=70)
        return "not noticed in 70 s" if took is None else f"noticed after {took:.0f} s"


async def run(options: argparse.Namespace) -> list[Row]:
    count, scale, rows = options.instruments, options.scale, list[Row]()
    spans = [1.0, 4.0] if options.smoke else [1.0, 4.0, 10.0, 60.0]
    times = 10 if options.smoke else 100
    beside: list[Awaitable[str]] = []
    python = options.vendor_python
    if python:
        beside += [vendor_outage(python, span, count) for span in spans]
        beside += [vendor_disconnects(python, times, count), vendor_roll_over(python, count), _const("-")]
        beside += [_const("watches nothing"), vendor_silence(python, count, strand=False)]
        beside += [vendor_silence(python, count, strand=True)]
    else:
        beside += [_const("-") for _ in range(len(spans) + 6)]
    told = await asyncio.gather(*beside)
    ways: list[Callable[[], Awaitable[Row]]] = [
        *(lambda span=span: outage(span, count, scale) for span in spans),
        lambda: disconnects(times, count, max(scale, 20.0)),
        lambda: roll_over(count, scale),
        lambda: no_token(count, max(scale, 20.0)),
        lambda: closed_market(count, 3600.0),
        lambda: silence(count, scale),
    ]
    if not options.smoke:
        ways.append(lambda: half_open(count, scale))
    for way, vendor in zip(ways, itertools.chain(told), strict=False):
        rows.append(attrs.evolve(await way(), vendor=vendor))
    return rows


async def _const(text: str) -> str:
    return text


def main() -> int:
    """Print the table; return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vendor-python", help="a Python that has upstox-python-sdk")
    parser.add_argument("--scale", type=float, default=10.0, help="how much faster than the wall's our clock goes")
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="fewer and shorter, a faster clock, no half-open line")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.scale, options.instruments = 20.0, min(options.instruments, 40)
    rows = asyncio.run(run(options))
    if options.json:
        print(json.dumps([attrs.asdict(row) for row in rows]))
    else:
        print(
            f"{options.instruments} instruments; ours on a clock {options.scale:g} times as fast, the SDK in real time"
        )
        for row in rows:
            verdict = "ok" if row.kept else "BROKEN"
            print(f"{row.what:36} {verdict:7} {row.ours:46} | {row.vendor}")
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
