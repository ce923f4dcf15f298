"""Which addresses this library talks to, who it says it is, and whom it trusts."""

from __future__ import annotations

import functools
import os
import re
import ssl
from collections.abc import Collection, Mapping
from importlib.metadata import version
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

import certifi

from hybridbroker.errors import ConfigurationError

__all__ = ["check_headers", "check_url", "tls_context", "user_agent"]

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN: Final = frozenset({"http", "ws"})


def check_url(url: str, *, schemes: Collection[str] = ("https", "http")) -> str:
    """Return ``url`` if it is safe to send credentials to.

    The scheme must be one of ``schemes``, and an unencrypted one only leads to this very
    machine. There is no switch: an emulator listens on loopback, a broker has a certificate.

    Raises:
        ConfigurationError: Otherwise; the message names scheme and host, never the query.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigurationError(f"this is no address: {url.partition('?')[0]!r} ({exc})") from None
    if parts.scheme not in schemes or not host:
        raise ConfigurationError(f"{_shown(parts)!r} is no address; it must begin with {' or '.join(schemes)}://host")
    if parts.username is not None:
        raise ConfigurationError(f"the address of {host} carries a user name; credentials go in settings, not in URLs")
    if parts.scheme in _PLAIN and not _is_loopback(host):
        raise ConfigurationError(
            f"{_shown(parts)} is not encrypted; use {parts.scheme}s:// (unencrypted is for this machine only)"
        )
    return url


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what HTTP cannot carry in a header; a line break would begin another one.

    Raises:
        ConfigurationError: Names the header, never its value.
    """
    bad = next((name for name, value in headers.items() if not _is_plain(name, value)), None)
    if bad is not None:
        raise ConfigurationError(
            f"header {bad!r} ends in a blank or has a character HTTP forbids; copy the credential again"
        )


def _is_plain(name: str, value: str) -> bool:
    return (
        _HEADER_NAME.fullmatch(name) is not None and value.isascii() and value.isprintable() and value == value.strip()
    )


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the process's one TLS context: verified certificates, no way to turn that off.

    Trusts certifi's list, or instead what ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name. One per
    process because each takes some 20 ms to build.

    Raises:
        ConfigurationError: The named file or directory cannot be read.
    """
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        if file or directory:
            return ssl.create_default_context(cafile=file or None, capath=directory or None)
        return ssl.create_default_context(cafile=certifi.where())
    except OSError as exc:
        raise ConfigurationError(f"no certificates in SSL_CERT_FILE={file} SSL_CERT_DIR={directory}: {exc}") from exc


@functools.cache
def user_agent() -> str:
    """Return how this library names itself; the default names of HTTP libraries get blocked by Upstox's front."""
    return f"hybridbroker/{version('hybridbroker')}"


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname or ''}" if parts.scheme else parts.path


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
