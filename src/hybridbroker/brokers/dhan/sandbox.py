"""Dhan's sandbox, kept apart from live trading: which settings belong where, and a broker that can do less.

The sandbox (https://sandbox.dhan.co/v2, token from https://developer.dhanhq.co, no Dhan account
needed) takes orders and matches none: accepted ones stay open for ever, market orders too (three
people found so between March and September 2026; that everything fills at 100 was claimed before).
It has no super orders, no kill-switch status, no exit-all, no P&L exit and no sockets; errors come
and go within one session. Its tokens are no good for live trading, nor the other way round; theirs
say when they die but not when they were made (``iat``), which tells them apart.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.settings import SANDBOX_URL, DhanSettings
from hybridbroker.errors import ConfigurationError

__all__ = ["refuse_live", "refuse_sandbox"]

_SANDBOX_HOST: Final = urlsplit(SANDBOX_URL).hostname


def refuse_sandbox(settings: DhanSettings) -> None:
    """Raise `ConfigurationError` for settings of the sandbox, as far as they can be told."""
    if settings.is_sandbox or _host(settings) == _SANDBOX_HOST:
        raise ConfigurationError(
            'these settings lead to Dhan\'s sandbox, which is a broker of its own: broker="dhan-sandbox"'
        )
    token = _token(settings)
    if not settings.port_of_this_machine() and token.expires_at is not None and token.issued_at is None:
        raise ConfigurationError(
            "DHAN_ACCESS_TOKEN is a token of Dhan's sandbox: it belongs into DHAN_SANDBOX_TOKEN, "
            "or make one at web.dhan.co"
        )


def refuse_live(settings: DhanSettings) -> None:
    """Raise `ConfigurationError` for settings of live trading, as far as they can be told."""
    if not settings.is_sandbox or (_host(settings) != _SANDBOX_HOST and not settings.port_of_this_machine()):
        raise ConfigurationError(
            "these settings lead to live trading; the sandbox's are DhanSettings(...).for_sandbox(), "
            "from DHAN_SANDBOX_CLIENT_ID and DHAN_SANDBOX_TOKEN"
        )
    if _token(settings).issued_at is not None:
        raise ConfigurationError(
            "DHAN_SANDBOX_TOKEN is a token for live trading; the sandbox's come from developer.dhanhq.co"
        )


def _host(settings: DhanSettings) -> str | None:
    return urlsplit(settings.base_url).hostname


def _token(settings: DhanSettings) -> AccessToken:
    return AccessToken.of(client_id=settings.client_id, secret=settings.access_token)
