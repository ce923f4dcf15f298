"""A built registry on disk: one SQLite file, put in place whole, opened read-only.

Kept out of the Python heap on purpose: a heap of some 400,000 objects costs the feed a pause of
over a hundred milliseconds whenever the garbage collector walks it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hybridbroker.errors import ConfigurationError

__all__ = ["APPLICATION", "HINT", "VERSION", "brokers_of", "copy", "in_place", "key_column", "open_readonly"]

APPLICATION: Final = 0x48425249
"""Marks the database as ours; ``HBRI``."""
VERSION: Final = 1
"""Of the tables; a file of another version is built again, never migrated."""
HINT: Final = "build one with: hybridbroker instruments build"


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a built registry without locks, since a file in place is never changed, only replaced.

    Raises:
        ConfigurationError: There is none, it is something else, or another version of this library built it.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such instrument registry; {HINT}")
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    except sqlite3.DatabaseError as exc:
        connection.close()
        raise ConfigurationError(f"{path}: not an instrument registry ({exc}); {HINT}") from exc
    size = path.stat().st_size
    if application == APPLICATION and version == VERSION and pages * page_size == size:
        return connection
    connection.close()
    if application != APPLICATION:
        raise ConfigurationError(f"{path}: a database, but no instrument registry; {HINT}")
    if version != VERSION:
        raise ConfigurationError(f"{path}: built by another version of this library ({version}, not {VERSION}); {HINT}")
    raise ConfigurationError(f"{path}: damaged ({size:,} bytes where {pages * page_size:,} should be); {HINT}")


def brokers_of(connection: sqlite3.Connection, schema: str = "main") -> dict[str, str]:
    """Return the brokers a registry knows, each with the column that holds its keys."""
    columns = [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info(instrument)")]
    return {column.removeprefix("key "): f'"{column}"' for column in columns if column.startswith("key ")}


def key_column(broker: str) -> str:
    """Return the column that holds a broker's keys, quoted.

    Raises:
        ConfigurationError: The broker's name cannot be part of it.
    """
    if not broker.replace("-", "").replace("_", "").isalnum() or not broker.isascii():
        raise ConfigurationError(f"{broker!r} cannot name a broker; letters, digits, hyphens and underscores can")
    return f'"key {broker}"'


def copy(source: Path, target: Path) -> None:
    """Copy a built file, whole or not at all.

    Raises:
        ConfigurationError: The target cannot be written.
    """
    with in_place(target) as part:
        shutil.copyfile(source, part)


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to, and put it there once it is written."""
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except (OSError, sqlite3.OperationalError) as exc:
        raise ConfigurationError(f"{path}: cannot be written ({exc}); choose another place") from exc
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
