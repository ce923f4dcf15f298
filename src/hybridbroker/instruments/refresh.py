"""The registry's daily life: today's build if there is one, else a new one, else the last good one and why."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from hybridbroker.clock import IST, Clock
from hybridbroker.errors import ConfigurationError, HybridBrokerError, WireFormatError
from hybridbroker.instruments import store
from hybridbroker.instruments.build import build
from hybridbroker.instruments.listings import Listings, ListingSource, MasterFile, Progress
from hybridbroker.plugins import find_broker, installed_brokers

__all__ = [
    "PUBLISHED_AT",
    "cache_folder",
    "installed_sources",
    "new_build_path",
    "newest_build",
    "refresh",
    "source_of",
    "todays_build",
]

logger = logging.getLogger(__name__)

PUBLISHED_AT: Final = time(6, 0)
"""IST; masters are republished about then (documented by Upstox, unconfirmed for Dhan)."""
_ASK_AGAIN: Final = timedelta(minutes=30)
"""How soon to ask once more for a master that was not republished when it should have been."""
_KEPT: Final = 5
_LARGEST_LOSS: Final = 0.2
_LOCK_PATIENCE: Final = 300.0
_LOCK_PAUSE: Final = 0.25
_BUILDS: Final = "instruments-*.sqlite"


def cache_folder() -> Path:
    """Return where this user's builds and masters are kept; ``$HYBRIDBROKER_CACHE`` names another place."""
    from platformdirs import user_cache_path

    given = os.environ.get("HYBRIDBROKER_CACHE")
    return (Path(given) if given else user_cache_path("hybridbroker", appauthor=False)) / "instruments"


def installed_sources() -> dict[str, ListingSource]:
    """Return every installed broker's master, by the broker's name.

    Raises:
        ConfigurationError: A plugin does not load, or offers something that is no `ListingSource`.
    """
    found = {name: source_of(name) for name in installed_brokers()}
    return {name: source for name, source in found.items() if source is not None}


def source_of(broker: str) -> ListingSource | None:
    """Return where one installed broker's instruments come from; None where it publishes no master.

    Raises:
        ConfigurationError: There is no such broker, or it offers something that is no `ListingSource`.
    """
    listings = find_broker(broker).listings
    source = None if listings is None else listings()
    if source is not None and not isinstance(source, ListingSource):
        raise ConfigurationError(f"broker {broker!r}: listings() gives no ListingSource but {type(source).__name__}")
    return source


def new_build_path(folder: Path, *, now: datetime) -> Path:
    """Return where a build made ``now`` goes."""
    return folder / f"instruments-{now.astimezone(IST):%Y%m%dT%H%M%S}.sqlite"


def newest_build(folder: Path) -> Path | None:
    """Return the build made last, of those that can be opened; their names sort by time."""
    builds = sorted(folder.glob(_BUILDS), reverse=True)
    return next((build for build in builds if _meta(build)), None)


async def todays_build(
    folder: Path, sources: Mapping[str, ListingSource], *, clock: Clock, progress: Progress | None = None
) -> Path:
    """Return a build to use now: of today if that can be had, else the last good one, with a warning.

    One process at a time refreshes; others wait for it and use what it made.

    Raises:
        HybridBrokerError: There is no build at all and none can be made.
    """
    found = newest_build(folder)
    if found is not None and _is_fresh(found, now=clock.now()):
        return found
    try:
        async with _only_one(folder, clock=clock):
            found = newest_build(folder)
            if found is None or not _is_fresh(found, now=clock.now()):
                found = await _refresh(folder, sources, clock=clock, progress=progress)
    except HybridBrokerError as exc:
        if found is None:
            raise
        logger.warning("keeping the instruments of %s (%s): %s", _made_at(found), found, exc)
    return found


async def refresh(
    folder: Path, sources: Mapping[str, ListingSource], *, clock: Clock, progress: Progress | None = None
) -> Path:
    """Download what changed, build, and return the build's path; whatever fails leaves the last build as it was.

    One process at a time does so.

    Raises:
        NetworkError: A master could not be had.
        ConfigurationError: A master is not what it should be, or there is no source.
        WireFormatError: A master lost more than a fifth of its rows since the last build.
    """
    async with _only_one(folder, clock=clock):
        return await _refresh(folder, sources, clock=clock, progress=progress)


async def _refresh(
    folder: Path, sources: Mapping[str, ListingSource], *, clock: Clock, progress: Progress | None
) -> Path:
    if not sources:
        raise ConfigurationError("no installed broker publishes an instrument master; give files instead")
    files: dict[str, Sequence[MasterFile]] = {}
    for name, source in sources.items():
        place = folder / "masters" / name
        place.mkdir(parents=True, exist_ok=True)
        files[name] = await source.download(place, clock=clock, progress=progress)
    now = clock.now()
    last = newest_build(folder)
    state = _state_of(files)
    if last is not None and _meta(last).get("state") == state:
        _checked(last, now=now)
        return last
    target = new_build_path(folder, now=now)
    before = {} if last is None else _meta(last).get("kept", {})
    await asyncio.to_thread(
        build,
        target,
        [partial(_read, sources[name], each) for name, each in files.items()],
        built_at=now,
        check=partial(_refuse_shrunken, before=before),
        extra={"state": state},
    )
    _checked(target, now=now)
    _prune(folder)
    return target


def _checked(build: Path, *, now: datetime) -> None:
    # A build is never written to again; when it was last found current is its file's time.
    os.utime(build, (now.timestamp(), now.timestamp()))


def _prune(folder: Path) -> None:
    for old in sorted(folder.glob(_BUILDS))[:-_KEPT]:
        try:
            old.unlink(missing_ok=True)
        except OSError as exc:  # another process has it open, where that forbids deleting
            logger.info("leaving %s: %s", old, exc)


def _read(source: ListingSource, files: Sequence[MasterFile]) -> Listings:
    days = [file.published for file in files]
    published = min(day for day in days if day is not None) if all(days) else None
    try:
        return source.read([file.path for file in files], published=published)
    except HybridBrokerError:
        # Whatever it is, it must come again, and not conditionally.
        for file in files:
            file.path.unlink(missing_ok=True)
        raise


def _refuse_shrunken(masters: Sequence[Listings], *, before: Mapping[str, int]) -> None:
    for master in masters:
        kept = before.get(master.broker, 0)
        if len(master) < kept * (1 - _LARGEST_LOSS):
            raise WireFormatError(
                f"{master.broker}: the new instrument master has {len(master):,} usable rows where the last had "
                f"{kept:,}; it is not believed"
            )


def _state_of(files: Mapping[str, Sequence[MasterFile]]) -> list[list[Any]]:
    stats = [(name, file, file.path.stat()) for name, each in sorted(files.items()) for file in each]
    return [[name, file.path.name, stat.st_size, stat.st_mtime_ns, str(file.published)] for name, file, stat in stats]


def _is_fresh(build: Path, *, now: datetime) -> bool:
    """Say whether the build was checked since masters were last due, and again lately where they are late."""
    local = now.astimezone(IST)
    due = datetime.combine(local.date(), PUBLISHED_AT, IST)
    if local < due:
        due -= timedelta(days=1)
    checked = datetime.fromtimestamp(build.stat().st_mtime, IST)
    if checked < due:
        return False
    days = [each["published"] for each in _meta(build).get("masters", [])]
    late = not all(day is not None and day >= due.date().isoformat() for day in days)
    return not late or local - checked < _ASK_AGAIN


def _made_at(build: Path) -> str:
    return str(_meta(build).get("built_at"))


def _meta(build: Path) -> dict[str, Any]:
    """Return what a build says about itself; nothing where it cannot be read."""
    try:
        with closing(store.open_readonly(build)) as connection:
            rows = connection.execute(
                "SELECT name, value FROM meta WHERE name IN ('built_at','kept','masters','state')"
            )
            return {name: json.loads(value) for name, value in rows}
    except (ConfigurationError, sqlite3.DatabaseError):
        return {}


def _lock_file(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(folder / "lock.sqlite", timeout=0, isolation_level=None)


@asynccontextmanager
async def _only_one(folder: Path, *, clock: Clock) -> AsyncIterator[None]:
    """Hold the folder for this process; SQLite's own file lock ends with its holder, however that ends.

    Raises:
        ConfigurationError: Another process held it too long, or the folder cannot be written to.
    """
    try:
        lock = _lock_file(folder)
    except (OSError, sqlite3.OperationalError) as exc:
        raise ConfigurationError(f"{folder}: cannot be written to ({exc}); set HYBRIDBROKER_CACHE") from exc
    waited = 0.0
    with closing(lock):
        while True:
            try:
                lock.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or waited >= _LOCK_PATIENCE:
                    raise ConfigurationError(f"{folder}: another process is refreshing it ({exc})") from exc
            await clock.sleep(_LOCK_PAUSE)
            waited += _LOCK_PAUSE
        yield
