"""Secrets on this disk: one small file each, readable by its owner alone, replaced whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import platformdirs

from hybridbroker.errors import ConfigurationError, ServiceUnavailable

__all__ = ["Vault", "is_exposed"]

logger = logging.getLogger(__name__)

_STATE_DIR: Final = "HYBRIDBROKER_STATE_DIR"
_OURS_ALONE: Final = 0o600
_FOLDER: Final = 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_LARGEST: Final = 64 * 1024
_POLL: Final = 0.05
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)

Stamp = tuple[int, int, int]


class Vault:
    """A folder of records, each a flat object of strings under a name.

    A record is written to a new file of mode 0600 that then takes the old one's place, so nobody
    ever sees half of it and nobody else sees it at all. A file that others may read is made
    private again when it is read, and a warning says so; one that belongs to somebody else, or is
    no plain file, is refused. On Windows the folder's own rights protect it.

    ``directory`` is, unless given, ``tokens`` in ``$HYBRIDBROKER_STATE_DIR`` or in the platform's
    place for state (``~/.local/state/hybridbroker`` on Linux).
    """

    def __init__(self, directory: Path | None = None) -> None:
        chosen = os.environ.get(_STATE_DIR)
        home = Path(chosen) if chosen else platformdirs.user_state_path("hybridbroker")
        self.directory = directory or home / "tokens"
        self._paths: dict[str, Path] = {}
        self._known: dict[str, tuple[Stamp, Mapping[str, str]]] = {}

    def path(self, name: str) -> Path:
        """Return the file of the record ``name``."""
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = self.directory / f"{_plain(name)}.json"
        return path

    def read(self, name: str) -> Mapping[str, str] | None:
        """Return a record, or None where there is none; costs one look at the disk while nothing changed.

        Raises:
            ConfigurationError: The file is another user's, no plain file, or damaged.
        """
        path = self.path(name)
        try:
            found = path.lstat()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be read ({exc.strerror})") from exc
        known = self._known.get(name)
        if known is not None and known[0] == _stamp(found):
            return known[1]
        record = self._read(path)
        # The stamp from before the reading: a record that changes meanwhile is read once more, not missed.
        self._known[name] = (_stamp(found), record)
        return record

    def write(self, name: str, record: Mapping[str, str]) -> Path:
        """Put ``record`` in the place of what ``name`` held; return the file.

        Raises:
            ConfigurationError: It cannot be written.
        """
        path = self.path(name)
        content = json.dumps(dict(record), indent=1).encode()
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            self._make_folder()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, _OURS_ALONE)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise ConfigurationError(
                f"{path} cannot be written ({exc.strerror}); check the folder, or set {_STATE_DIR}"
            ) from exc
        self._known.pop(name, None)
        return path

    def remove(self, name: str) -> bool:
        """Delete a record; return whether there was one."""
        self._known.pop(name, None)
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise ConfigurationError(f"{self.path(name)} cannot be deleted ({exc.strerror})") from exc
        return True

    @asynccontextmanager
    async def locked(self, name: str, *, patience: float = 30.0) -> AsyncIterator[None]:
        """Keep every other task and process of this machine out of ``name`` meanwhile; dies with the process.

        Raises:
            ServiceUnavailable: Somebody else held it for ``patience`` seconds.
        """
        path = self.directory / f"{_plain(name)}.lock"
        try:
            self._make_folder()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, _OURS_ALONE)
        except OSError as exc:
            raise ConfigurationError(
                f"{path} cannot be made ({exc.strerror}); check the folder, or set {_STATE_DIR}"
            ) from exc
        try:
            # Real time: what is waited for is another process, not a broker.
            for _ in range(max(1, round(patience / _POLL))):
                if _lock(descriptor):
                    break
                await asyncio.sleep(_POLL)
            else:
                raise ServiceUnavailable(f"another program has held {path} for {patience:.0f} s")
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        self.directory.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        if sys.platform != "win32" and stat.S_IMODE(self.directory.stat().st_mode) & _OTHERS_WRITE:
            self.directory.chmod(_FOLDER)

    def _read(self, path: Path) -> Mapping[str, str]:
        try:
            descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be read ({exc.strerror}); delete it and log in again") from exc
        with os.fdopen(descriptor, "rb") as file:
            _guard(path, file.fileno())
            content = file.read(_LARGEST + 1)
        # Outside of the handler, since what json raises holds the text it could not read.
        record = _record(content)
        if record is None:
            raise ConfigurationError(f"{path} is damaged; delete it and log in again")
        return record

    def __repr__(self) -> str:
        return f"<Vault {self.directory}>"


def is_exposed(path: Path) -> bool:
    """Return whether somebody else on this machine may read ``path``; never on Windows, whose rights are not modes."""
    try:
        return sys.platform != "win32" and bool(stat.S_IMODE(path.stat().st_mode) & _OTHERS)
    except OSError:
        return False


def _guard(path: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is no plain file; delete it and log in again")
    if sys.platform == "win32":
        return
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} belongs to another user; delete it and log in again")
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        os.fchmod(descriptor, _OURS_ALONE)
        logger.warning("making %s private again: others could read it; if others use this machine, log in anew", path)


def _record(content: bytes) -> Mapping[str, str] | None:
    if len(content) > _LARGEST:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        read = json.loads(content)
        if isinstance(read, dict) and all(isinstance(each, str) for each in read.values()):
            return read
    return None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ino, found.st_mode


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "account"


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
