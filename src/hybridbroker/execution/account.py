"""Where the files of one account live, and the lock that keeps its journal to one writer."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

import attrs
import platformdirs

from hybridbroker.errors import ConfigurationError

__all__ = ["AccountFiles", "FileLock", "account_name", "lock", "unlock"]

_STATE_DIR = "HYBRIDBROKER_STATE_DIR"


@attrs.frozen(kw_only=True)
class AccountFiles:
    """The journal, the rate ledger, the kill file and the log of one account."""

    journal: Path
    rate: Path
    """Shared by all processes of the account, whatever their journals."""
    kill: Path
    """While this file exists, entries are refused."""
    log: Path

    @classmethod
    def of(cls, account: str, *, journal: Path | None = None, directory: Path | None = None) -> AccountFiles:
        """Return where the files of ``account`` are; nothing is created.

        ``journal`` moves the journal alone: the others stay where every process of the account
        finds them. ``directory`` is, unless given, ``$HYBRIDBROKER_STATE_DIR`` or the
        platform's place for state (``~/.local/state/hybridbroker`` on Linux).
        """
        chosen = os.environ.get(_STATE_DIR)
        home = directory or (Path(chosen) if chosen else platformdirs.user_state_path("hybridbroker"))
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", account) or "account"
        return cls(
            journal=journal or home / f"{name}.journal.db",
            rate=home / f"{name}.rate",
            kill=home / f"{name}.kill",
            log=home / f"{name}.log",
        )


def account_name(broker: str, settings: object = None) -> str:
    """Return the name of the account that a broker's settings open: ``dhan-1100000001``.

    Settings without a client id give the broker's name alone. A broker on this machine (an
    emulator) is an account of its own by its port, so that play never meets the real thing.
    """
    client = str(getattr(settings, "client_id", "") or "")
    address = urlsplit(str(getattr(settings, "base_url", "") or ""))
    here = address.hostname in {"127.0.0.1", "localhost", "::1"}
    parts = [broker, client, f"port{address.port}" if here else ""]
    return "-".join(part for part in parts if part)


class FileLock:
    """A lock that dies with its process; the file holds the owner's process id for a person to read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ConfigurationError: Another process (or another session of this one) holds it.
            OSError: The file cannot be made.
        """
        file = self._path.open("a+", encoding="utf-8")
        if not lock(file.fileno()):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise ConfigurationError(
                f"another process (id {owner}) writes the journal that {self._path} guards; stop it first, or give "
                "this one a journal of its own with journal=PATH"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30

    def lock(descriptor: int) -> bool:
        """Take an exclusive lock on an open file; False where another has it."""
        # A byte far behind the content: Windows refuses even to read what is locked.
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Give the lock back; closing the file, or dying, does so as well."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock(descriptor: int) -> bool:
        """Take an exclusive lock on an open file; False where another has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Give the lock back; closing the file, or dying, does so as well."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
