"""Reading a master file whole: gzip or plain, bounded in size, and a plain word when it is something else."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hybridbroker.errors import ConfigurationError

__all__ = ["MAX_BYTES", "read_master", "what_it_is"]

MAX_BYTES: Final = 512 * 1024 * 1024
"""Masters have 40 to 70 MB unpacked; more than this is no master."""
_CHUNK: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_ANY_GZIP: Final = zlib.MAX_WBITS | 16
_TITLE: Final = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def read_master(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """Return the contents of ``path``, unpacked if it is gzip whatever its name says.

    Raises:
        ConfigurationError: It is missing, empty, truncated, damaged, or larger than ``limit`` once unpacked.
    """
    try:
        packed = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read ({exc.strerror}); check the path") from exc
    if not packed:
        raise ConfigurationError(f"{path}: the file is empty; download it again")
    if not packed.startswith(_GZIP):
        return packed
    whole = io.BytesIO()  # grows in place, where joining parts would need the memory twice
    try:
        for part in _unpacked(packed):
            whole.write(part)
            if whole.tell() > limit:
                raise ConfigurationError(f"{path}: unpacks to more than {limit:,} bytes; this is no master")
    except EOFError:
        raise ConfigurationError(f"{path}: the gzip file is cut short; download it again") from None
    except zlib.error as exc:
        raise ConfigurationError(f"{path}: the gzip file is damaged ({exc}); download it again") from exc
    return whole.getvalue()


def _unpacked(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_ANY_GZIP)
    for start in range(0, len(packed), _CHUNK):
        data = packed[start : start + _CHUNK]
        while data:
            if unpacker.eof:
                if not data.strip(b"\0"):
                    return
                unpacker = zlib.decompressobj(_ANY_GZIP)
            yield unpacker.decompress(data, _CHUNK)
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise EOFError


def what_it_is(head: bytes) -> str:
    """Describe in a few words what stands where a master should."""
    text = head[:4_000].lstrip()[:2_000]
    if text[:1] == b"<":
        title = _TITLE.search(text)
        shown = f" titled {title[1].decode('utf-8', 'replace').strip()!r}" if title else ""
        return f"a web page{shown}"
    if text[:1] == b"{":
        return f"a JSON object ({text[:120].decode('utf-8', 'replace')})"
    if not text:
        return "nothing but white space"
    return f"something that begins {text[:60].decode('utf-8', 'replace')!r}"
