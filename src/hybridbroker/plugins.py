"""Brokers are found, not imported: the entry-point group ``hybridbroker.brokers``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.errors import ConfigurationError
from hybridbroker.protocols import Broker, Capability, InstrumentLookup, MarketData

if TYPE_CHECKING:
    from hybridbroker.alerts import Notifier

__all__ = [
    "CHECKED_BY_BROKERS",
    "GROUP",
    "BrokerPlugin",
    "Check",
    "CheckStatus",
    "LoginRequest",
    "LoginResult",
    "LoginWay",
    "OpenContext",
    "find_broker",
    "installed_brokers",
]

GROUP = "hybridbroker.brokers"


@attrs.frozen(kw_only=True)
class OpenContext:
    """What a plugin is handed to build its objects from."""

    instruments: InstrumentLookup
    clock: Clock = attrs.field(factory=SystemClock)
    settings: Any = None
    """The plugin's own settings object; None means: read the environment."""
    calendar: TradingCalendar | None = None
    """When the exchanges are open; None: the plugin takes the built-in one."""
    notifier: Notifier | None = None
    """Where alerts go; None: the log."""


class CheckStatus(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    """Trading works, but look at it."""
    FAILED = "failed"
    """Trading would fail."""
    UNKNOWN = "unknown"
    """Nobody could tell; said rather than left out."""


@attrs.frozen(kw_only=True)
class Check:
    """One finding of `hybridbroker doctor`: a plain sentence, and what to do about it."""

    subject: str
    """What was looked at; a broker's checks use the words of `CHECKED_BY_BROKERS`."""
    status: CheckStatus
    message: str
    fix: str = ""
    """What to do, where there is something to do."""


CHECKED_BY_BROKERS: Final = ("token", "address", "data plan", "delivery sales", "segments", "limits table")
"""What doctor asks every broker: the token's kind and time left, the public address against the registered
one, the data plan, whether delivery shares can be sold (DDPI), the active segments, the date of its limits."""


class LoginWay(StrEnum):
    """How to log in; a broker takes some of these and raises `Unsupported` for the others."""

    USUAL = "usual"
    """Whatever the broker recommends with the settings there are."""
    BROWSER = "browser"
    """A page of the broker in a browser on this machine, which comes back to it."""
    PASTE = "paste"
    """The same page in a browser anywhere; the person pastes the address it ended at."""
    REQUEST = "request"
    """Ask the broker to ask the person in its app."""
    TOTP = "totp"
    """Unattended, with the secrets in the settings."""
    TOKEN = "token"  # noqa: S105
    """The person pastes a token made elsewhere."""
    RENEW = "renew"
    """Exchange a living token for a new one."""
    STATUS = "status"
    """Only say what token there is."""
    LOGOUT = "logout"
    """Make the token worthless and forget it."""


@attrs.frozen(kw_only=True)
class LoginRequest:
    """What is asked of a broker's login, and how to reach the person who asks.

    The callables may block until the person has answered.
    """

    way: LoginWay = LoginWay.USUAL
    settings: Any = None
    """The plugin's own settings object; None means: read the environment."""
    calendar: TradingCalendar | None = None
    """When the exchanges are open; None: the plugin takes the built-in one."""
    notifier: Notifier | None = None
    """Where alerts go; None: the log."""
    clock: Clock = attrs.field(factory=SystemClock)
    say: Callable[[str], None] = lambda line: None  # noqa: ARG005
    """Show one line; it never holds a secret but the address of the broker's own login page."""
    ask: Callable[[str], str] | None = None
    """Ask for what may be seen; None: nobody is there."""
    ask_secret: Callable[[str], str] | None = None
    """Ask for what must not be echoed; None: nobody is there."""
    open_browser: Callable[[str], bool] | None = None
    """Open an address; returns whether a browser took it. None: there is no browser."""
    kind: str = ""
    """The kind of token that `LoginWay.TOKEN` brings, in the broker's own words; "" is its ordinary one."""
    listen: tuple[str, int] | None = None
    """Host and port for `LoginWay.REQUEST` to receive the token on; None only sends the request."""
    listen_path: str = "/"
    timeout: float = 300.0
    """Seconds to wait for the person."""


@attrs.frozen(kw_only=True)
class LoginResult:
    """What came of a login; no secret is in it."""

    broker: str
    logged_in: bool
    """Whether there is a token now that the broker takes, as far as can be told."""
    account: str = ""
    """The broker's id of the account."""
    kind: str = ""
    """The kind of token, in the broker's own words."""
    expires_at: datetime | None = None
    """When the token dies; None where nobody can tell."""
    source: str = ""
    """Where the token is kept: a file, or the name of a variable."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing, a sentence each."""


@attrs.frozen(kw_only=True)
class BrokerPlugin:
    """Everything the library knows of a broker before it is opened.

    The callables import what they need when called, so that finding a plugin stays cheap.
    """

    name: str
    title: str
    capabilities: Capability
    settings: Callable[[], Any]
    """Read the settings from the environment; raise `ConfigurationError` with the fix."""
    open_data: Callable[[OpenContext], MarketData] | None = None
    """Build a source of prices; no I/O before it is entered."""
    open_broker: Callable[[OpenContext], Broker] | None = None
    """Build a taker of orders; no I/O before it is entered."""
    listings: Callable[[], Any] | None = None
    """Return the `ListingSource` of this broker's instrument master (`hybridbroker.instruments.listings`)."""
    charges: Callable[[], Any] | None = None
    """Return the `ChargeSchedule` of trades at this broker: statutory rows and its own."""
    login: Callable[[LoginRequest], Awaitable[LoginResult]] | None = None
    """Obtain a token and keep it where the broker's objects find it, or say what there is (`LoginWay`)."""
    checks: Callable[[OpenContext], Awaitable[Sequence[Check]]] | None = None
    """Answer `hybridbroker doctor`: one `Check` for each of `CHECKED_BY_BROKERS` that can be told."""


def installed_brokers() -> tuple[str, ...]:
    """Return the names of the installed brokers, sorted, without importing any of them."""
    return tuple(sorted(_points()))


def find_broker(name: str) -> BrokerPlugin:
    """Import and return one plugin.

    Raises:
        ConfigurationError: No such broker, two by one name, or its package does not load.
    """
    points = _points()
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise ConfigurationError(f"no broker is called {name!r}; installed: {known}")
    try:
        plugin = points[name].load()
    except (ImportError, AttributeError) as exc:
        raise ConfigurationError(f"broker {name!r} does not load: {exc}") from exc
    if not isinstance(plugin, BrokerPlugin):
        raise ConfigurationError(f"entry point {name!r} is no BrokerPlugin but {type(plugin).__name__}")
    if plugin.name != name:
        raise ConfigurationError(f"entry point {name!r} names itself {plugin.name!r}; the two must agree")
    return plugin


def _points() -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            raise ConfigurationError(
                f"two brokers are called {point.name!r}: {known.value} and {point.value}; uninstall one"
            )
    return found
