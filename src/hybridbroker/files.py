"""Files that outlive a process: replaced as a whole, and held by one process at a time."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from hybridbroker.errors import ConfigurationError

__all__ = ["FileLock", "lock", "replace_file", "unlock"]

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of what ``path`` held, readable by its owner alone.

    Whoever reads it, also after a loss of power, finds the whole of the old or the whole of the
    new content. Only one process may do this to a path at a time; see `FileLock`.

    Raises:
        OSError: It cannot be written; the old content stays.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # a process that was killed may have left it
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with suppress(PermissionError):  # Windows opens no directories, and needs none to be flushed
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class FileLock:
    """A lock that dies with its process; the file holds the owner's process id for a person to read.

    Args:
        path: The lock's own file.
        use: What its holder does, for the message to whoever comes second: "writes the journal x.db".
        instead: What to do about it besides stopping the holder.
    """

    def __init__(self, path: Path, *, use: str, instead: str) -> None:
        self._path = path
        self._use = use
        self._instead = instead
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
                f"another process (id {owner}) {self._use}, which {self._path} guards; stop it first, or "
                f"{self._instead}"
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
