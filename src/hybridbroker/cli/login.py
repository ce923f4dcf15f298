"""``hybridbroker login``: get a broker's token, keep it for this user's programs, or say what there is."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
import webbrowser
from typing import TYPE_CHECKING

import typer

from hybridbroker.errors import ConfigurationError, Unsupported

if TYPE_CHECKING:
    from hybridbroker.plugins import LoginResult, LoginWay

__all__ = ["login"]


def login(
    broker: str = typer.Argument(help="Which broker, such as upstox or dhan."),
    *,
    browser: bool = typer.Option(False, "--browser", help="Log in on the broker's page in a browser of this machine."),
    paste: bool = typer.Option(False, "--paste", help="Use any browser, and paste the address it ends at."),
    request: bool = typer.Option(False, "--request", help="Have the broker ask you in its app (upstox)."),
    listen: str | None = typer.Option(None, help="HOST:PORT or HOST:PORT/PATH on which --request receives the token."),
    totp: bool = typer.Option(False, "--totp", help="Make a token with PIN and TOTP secret, unattended (dhan)."),
    token: bool = typer.Option(False, "--token", help="Paste a token made on the broker's site, or pipe it in."),
    kind: str = typer.Option("", help="The kind of token that --token brings: access or analytics (upstox)."),
    renew: bool = typer.Option(False, "--renew", help="Exchange the living token for a new one (dhan)."),
    status: bool = typer.Option(False, "--status", help="Only say what token there is. Exit code 1 when none lives."),
    logout: bool = typer.Option(False, "--logout", help="End the token where the broker can, and forget it."),
    timeout: float = typer.Option(300.0, min=1.0, help="Seconds to wait for you."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object; it never holds a secret."),
) -> None:
    """Log in to a broker. Without an option: whatever the settings allow, unattended before by hand.

    \b
    Examples: hybridbroker login upstox
              hybridbroker login upstox --paste
              hybridbroker login upstox --request --listen 0.0.0.0:8770/upstox
              hybridbroker login upstox --token --kind analytics
              hybridbroker login dhan --totp
              hybridbroker login dhan --status --json
    """  # noqa: D301 - click's way to keep lines apart
    chosen = {
        "browser": browser,
        "paste": paste,
        "request": request,
        "totp": totp,
        "token": token,
        "renew": renew,
        "status": status,
        "logout": logout,
    }
    way = _way([name for name, is_set in chosen.items() if is_set])
    result = asyncio.run(_login(broker, way, kind=kind, listen=_address(listen, way), timeout=timeout))
    if as_json:
        print(json.dumps(_row(result)))
    else:
        print("\n".join(_lines(result)))
    if status and not result.logged_in:
        raise typer.Exit(1)


async def _login(
    broker: str, way: LoginWay, *, kind: str, listen: tuple[str, int, str] | None, timeout: float
) -> LoginResult:
    from hybridbroker.plugins import LoginRequest, find_broker

    plugin = find_broker(broker)
    if plugin.login is None:
        raise Unsupported(f"{plugin.title} has no login of its own here; set its token in the environment")
    host, port, path = listen or ("", 0, "/")
    return await plugin.login(
        LoginRequest(
            way=way,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            ask_secret=_ask,
            open_browser=webbrowser.open,
            kind=kind,
            listen=(host, port) if listen else None,
            listen_path=path,
            timeout=timeout,
        )
    )


def _way(chosen: list[str]) -> LoginWay:
    from hybridbroker.plugins import LoginWay

    if len(chosen) > 1:
        raise ConfigurationError(f"--{' and --'.join(chosen)} exclude each other; give one of them")
    return LoginWay(chosen[0]) if chosen else LoginWay.USUAL


def _address(text: str | None, way: LoginWay) -> tuple[str, int, str] | None:
    if text is None:
        return None
    if way != "request":
        raise ConfigurationError("--listen goes with --request")
    place, slash, path = text.partition("/")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:  # noqa: PLR2004
        raise ConfigurationError(f"{text!r} is no address to listen on; write HOST:PORT or HOST:PORT/PATH")
    return host.strip("[]"), int(port), f"/{path}" if slash else "/"


def _ask(question: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(question)
    return sys.stdin.readline()


def _row(result: LoginResult) -> dict[str, object]:
    return {
        "broker": result.broker,
        "logged_in": result.logged_in,
        "account": result.account,
        "kind": result.kind,
        "expires_at": result.expires_at.isoformat() if result.expires_at else None,
        "seconds_left": _seconds_left(result),
        "source": result.source,
        "notes": list(result.notes),
    }


def _seconds_left(result: LoginResult) -> int | None:
    from hybridbroker.clock import SystemClock

    if result.expires_at is None:
        return None
    return max(0, int((result.expires_at - SystemClock().now()).total_seconds()))


def _lines(result: LoginResult) -> list[str]:
    from hybridbroker.brokers.countdown import countdown
    from hybridbroker.clock import SystemClock

    if not result.source:
        return [f"{result.broker}: not logged in", *result.notes]
    who = f" as {result.account}" if result.account else ""
    state = f"logged in{who}" if result.logged_in else f"not logged in{who}"
    dies = countdown(result.expires_at, now=SystemClock().now()) if result.expires_at else "does not say when it dies"
    token = f"{result.kind} token, {dies}"
    return [f"{result.broker}: {state}", token, f"kept in {result.source}", *result.notes]
