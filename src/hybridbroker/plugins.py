"""Brokers are found, not imported: the entry-point group ``hybridbroker.brokers``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.errors import ConfigurationError
from hybridbroker.protocols import Broker, Capability, InstrumentLookup, MarketData

__all__ = [
    "CHECKED_BY_BROKERS",
    "GROUP",
    "BrokerPlugin",
    "Check",
    "CheckStatus",
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
    login: Callable[..., Awaitable[Any]] | None = None
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
