"""The registry's day: once is enough, two at a time are one too many, and yesterday's is better than none."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import pytest
from master_files import DHAN_COLUMNS, Row, dhan_share, upstox_share, write_csv, write_upstox

from hybridbroker.brokers.dhan.instruments import DhanListings
from hybridbroker.brokers.upstox.instruments import UpstoxListings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import ConfigurationError, HybridBrokerError, NotSent, WireFormatError
from hybridbroker.instruments import refresh
from hybridbroker.instruments.listings import Listings, ListingSource, MasterFile, Progress
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.plugins import BrokerPlugin
from hybridbroker.protocols import Capability
from hybridbroker.testing.clock import ManualClock

MORNING = datetime(2026, 9, 15, 8, 0, tzinfo=IST)
SHARES = [(f"SHARE{n}", f"INE{n:03}A01011", str(n)) for n in range(20)]


class Published:
    """A master on a server that changes, fails and counts who asks."""

    def __init__(self, reader: ListingSource, content: bytes, *, day: date) -> None:
        self.content = content
        self.day: date | None = day
        self.fault: HybridBrokerError | None = None
        self.downloads = 0
        self._reader = reader

    async def download(self, folder: Path, *, clock: Clock, progress: Progress | None = None) -> Sequence[MasterFile]:
        self.downloads += 1
        if self.fault is not None:
            raise self.fault
        await clock.sleep(0)
        path = folder / "master"
        if not path.exists() or path.read_bytes() != self.content:
            path.write_bytes(self.content)
        if progress is not None:
            progress("master", len(self.content), None)
        return [MasterFile(path=path, published=self.day)]

    def read(self, files: Sequence[Path], *, published: date | None = None) -> Listings:
        return self._reader.read(files, published=published)


class UnhurriedClock(ManualClock):
    """Its sleeps take a moment, so that work in a thread gets its turn."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.005)
        self.advance(seconds)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cache"
        self.files = folder
        self.clock = ManualClock(MORNING)
        self.upstox = Published(UpstoxListings(), self.upstox_master(SHARES), day=MORNING.date())
        self.dhan = Published(DhanListings(), self.dhan_master(SHARES), day=MORNING.date())

    @property
    def sources(self) -> dict[str, ListingSource]:
        return {"upstox": self.upstox, "dhan": self.dhan}

    def upstox_master(self, shares: Sequence[tuple[str, str, str]]) -> bytes:
        return write_upstox(self.files / "u", [upstox_share(*each) for each in shares]).read_bytes()

    def dhan_master(self, shares: Sequence[tuple[str, str, str]]) -> bytes:
        rows: list[Row] = [dhan_share(*each) for each in shares]
        return write_csv(self.files / "d", rows, columns=DHAN_COLUMNS).read_bytes()

    async def today(self) -> Path:
        return await refresh.todays_build(self.folder, self.sources, clock=self.clock)

    async def later_than(self, seconds: float) -> None:
        while self.clock.monotonic() < seconds:  # noqa: ASYNC110 - the task under test moves the clock
            await asyncio.sleep(0)

    def builds(self) -> list[Path]:
        return sorted(self.folder.glob("*.sqlite"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_first_load_downloads_and_builds(world: World) -> None:
    market = InstrumentRegistry.open(await world.today())

    assert len(market) == len(SHARES)
    assert market.is_of(MORNING.date())


async def test_second_load_of_the_day_asks_nobody(world: World) -> None:
    first = await world.today()
    world.clock.advance(9 * 3600)

    assert await world.today() == first
    assert world.upstox.downloads == 1


async def test_load_after_the_next_publication_refreshes(world: World) -> None:
    first = await world.today()
    world.clock.advance(24 * 3600)
    world.upstox.content = world.upstox_master([*SHARES, ("FRESH", "INE900A01011", "900")])
    world.upstox.day = world.dhan.day = date(2026, 9, 16)

    second = await world.today()

    assert second != first
    assert "NSE:FRESH" in InstrumentRegistry.open(second)


async def test_load_before_six_in_the_morning_keeps_yesterdays(world: World) -> None:
    first = await world.today()
    world.clock.advance(21.5 * 3600)  # 05:30 of the next day

    assert await world.today() == first
    assert world.upstox.downloads == 1


async def test_unchanged_masters_are_not_built_again(world: World) -> None:
    first = await world.today()
    world.clock.advance(24 * 3600)

    assert await world.today() == first
    assert world.upstox.downloads == 2


async def test_masters_that_are_late_are_asked_for_again_after_a_while(world: World) -> None:
    await world.today()
    world.clock.advance(24 * 3600)

    await world.today()
    world.clock.advance(10 * 60)
    await world.today()
    asked = world.upstox.downloads
    world.clock.advance(25 * 60)
    await world.today()

    assert (asked, world.upstox.downloads) == (2, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"<html><title>Bad Gateway</title></html>", "Bad Gateway", id="page"),
        pytest.param(b"\x1f\x8b" + b"x" * 50, "damaged", id="damaged"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b'[{"segment":"NSE_EQ"}]', "cannot be read", id="columns missing"),
    ],
)
async def test_implausible_master_keeps_the_last_build_and_names_it(
    world: World, caplog: pytest.LogCaptureFixture, content: bytes, words: str
) -> None:
    first = await world.today()
    world.clock.advance(24 * 3600)
    world.upstox.content = content

    with caplog.at_level(logging.WARNING):
        kept = await world.today()

    assert kept == first
    assert str(first) in caplog.text
    assert words in caplog.text
    assert not InstrumentRegistry.open(kept).is_of(date(2026, 9, 16))


async def test_master_that_lost_a_fifth_of_its_rows_is_not_believed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = await world.today()
    world.clock.advance(24 * 3600)
    world.dhan.content = world.dhan_master(SHARES[:15])

    assert await world.today() == first
    assert "15 usable rows where the last had 20" in caplog.text


async def test_master_that_lost_a_few_rows_is_believed(world: World) -> None:
    await world.today()
    world.clock.advance(24 * 3600)
    world.dhan.content = world.dhan_master(SHARES[:17])

    assert "NSE:SHARE19" in InstrumentRegistry.open(await world.today())
    assert len(world.builds()) == 3  # two builds and the lock


async def test_server_that_cannot_be_reached_keeps_the_last_build(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = await world.today()
    world.clock.advance(24 * 3600)
    world.dhan.fault = NotSent("no route")

    assert await world.today() == first
    assert "no route" in caplog.text


async def test_failure_without_any_build_is_raised(world: World) -> None:
    world.dhan.fault = NotSent("no route")

    with pytest.raises(NotSent):
        await world.today()

    assert refresh.newest_build(world.folder) is None


async def test_rejected_master_comes_again_next_time(world: World) -> None:
    await world.today()
    world.clock.advance(24 * 3600)
    world.upstox.content = b"<html></html>"
    await world.today()
    world.clock.advance(60)
    world.upstox.content = world.upstox_master([*SHARES, ("FRESH", "INE900A01011", "900")])

    assert "NSE:FRESH" in InstrumentRegistry.open(await world.today())


async def test_damaged_build_is_made_again(world: World) -> None:
    first = await world.today()
    first.write_bytes(b"damaged")
    world.clock.advance(60)

    assert len(InstrumentRegistry.open(await world.today())) == len(SHARES)


async def test_two_loads_at_once_download_once(world: World) -> None:
    world.clock = UnhurriedClock(MORNING)

    first, second = await asyncio.gather(world.today(), world.today())

    assert first == second
    assert world.upstox.downloads == 1


async def test_folder_held_by_another_process_is_waited_for(world: World) -> None:
    world.folder.mkdir()
    with closing(sqlite3.connect(world.folder / "lock.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(world.today())
        await asyncio.wait_for(world.later_than(5), timeout=20)
        assert not waiting.done()
        assert world.upstox.downloads == 0

    assert (await waiting).exists()


async def test_folder_held_for_ever_is_given_up(world: World) -> None:
    world.folder.mkdir()
    with closing(sqlite3.connect(world.folder / "lock.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match="another process"):
            await world.today()


async def test_folder_that_cannot_be_written_is_named(world: World) -> None:
    world.folder.write_text("a file stands in the way")

    with pytest.raises(ConfigurationError, match="HYBRIDBROKER_CACHE"):
        await world.today()


async def test_old_builds_are_pruned(world: World) -> None:
    for day in range(8):
        world.upstox.content = world.upstox_master([*SHARES, (f"DAY{day}", "INE900A01011", "900")])
        await world.today()
        world.clock.advance(24 * 3600)

    assert len(list(world.folder.glob("instruments-*.sqlite"))) == 5


async def test_no_source_at_all_is_a_clear_error(world: World) -> None:
    with pytest.raises(ConfigurationError, match="no installed broker"):
        await refresh.refresh(world.folder, {}, clock=world.clock)


async def test_load_opens_todays_build_from_the_named_cache(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRIDBROKER_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("hybridbroker.instruments.refresh.installed_sources", lambda: world.sources)

    market = await InstrumentRegistry.load(clock=world.clock)

    assert market.path is not None
    assert market.path.parent == tmp_path / "elsewhere" / "instruments"


def test_sources_of_the_installed_brokers_are_found() -> None:
    assert {"dhan", "upstox"} <= refresh.installed_sources().keys()


def test_plugin_that_offers_no_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = BrokerPlugin(
        name="odd", title="Odd", capabilities=Capability.NONE, settings=lambda: None, listings=lambda: 42
    )
    monkeypatch.setattr(refresh, "find_broker", lambda _: plugin)

    with pytest.raises(ConfigurationError, match="no ListingSource but int"):
        refresh.source_of("odd")


def test_shrinkage_error_names_the_broker(world: World) -> None:
    listings = DhanListings().read([write_csv(world.files / "d", [dhan_share(*SHARES[0])])])

    with pytest.raises(WireFormatError, match="dhan: the new instrument master has 1 usable rows"):
        refresh._refuse_shrunken([listings], before={"dhan": 100})
