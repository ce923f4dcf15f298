"""A login on the broker's own page: open it, and take what the browser comes back with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from hybridbroker.errors import AuthenticationError, ConfigurationError
from hybridbroker.plugins import LoginRequest, LoginWay
from hybridbroker.transport.callback import Arrival, Turned, check_redirect, loopback_listener

__all__ = ["ask_for", "come_back"]


async def come_back(request: LoginRequest, *, page: str, redirect_uri: str, want: str, state: str | None = None) -> str:
    """Send the person to ``page`` and return the parameter ``want`` of the address they end at.

    By `LoginWay.PASTE` they paste that address; otherwise a listener on this machine takes it,
    which is why ``redirect_uri`` must lead there. A ``state`` that was sent along must come back.

    Raises:
        AuthenticationError: They did not agree, did not come in time, or came with another's answer.
        ConfigurationError: ``redirect_uri`` does not lead to this machine, or nobody is there to paste.
    """
    if request.way is LoginWay.PASTE:
        return _needed(_pasted(request, page=page, want=want, state=state))

    async def accept(arrival: Arrival) -> str:
        return check_redirect(arrival.query, want=want, state=state)

    async with loopback_listener(redirect_uri, accept=accept) as listener:
        opened = request.open_browser is not None and await asyncio.to_thread(request.open_browser, page)
        where = "If no browser opens, open this" if opened else "Open this"
        request.say(f"{where} in a browser on this machine, and log in there:\n{page}")
        return _needed(await listener.wait(request.timeout))


def ask_for(request: LoginRequest, question: str) -> str:
    """Return what the person types or pastes, which is not echoed.

    Raises:
        ConfigurationError: Nobody is there, or nothing was typed.
    """
    if request.ask_secret is None:
        raise ConfigurationError("this login asks a question, and nobody is there to answer; use another way")
    answer = request.ask_secret(question).strip()
    if not answer:
        raise ConfigurationError("nothing was pasted; nothing was changed")
    return answer


def _pasted(request: LoginRequest, *, page: str, want: str, state: str | None) -> str:
    request.say(f"Open this in any browser, and log in there:\n{page}")
    request.say("It ends at an address that may show no page at all; copy that address from the browser.")
    query = _query(ask_for(request, "The whole address (not shown): "))
    try:
        return check_redirect(query, want=want, state=state)
    except Turned as exc:
        reason = str(exc)
    raise AuthenticationError(f"{reason} Paste the whole address, with everything behind the question mark.")


def _query(pasted: str) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(urlsplit(pasted).query))
    except ValueError:
        return {}


def _needed(value: str) -> str:
    if not value:
        raise AuthenticationError("the broker sent nothing to log in with: the login was not agreed to; start again")
    return value
