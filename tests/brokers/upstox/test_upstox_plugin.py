"""The plugin record: cheap to find, complete when opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from upstox_kit import Lookup, settings

from hybridbroker.brokers.upstox import (
    BROKER_CAPABILITIES,
    CAPABILITIES,
    PLUGIN,
    SANDBOX,
    SANDBOX_CAPABILITIES,
)
from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.sandbox import UpstoxSandboxBroker
from hybridbroker.errors import ConfigurationError, Unsupported
from hybridbroker.plugins import OpenContext, find_broker
from hybridbroker.protocols import Broker, Capability, MarketData


def test_the_plugin_is_found_by_name() -> None:
    assert find_broker("upstox") is PLUGIN


def test_importing_the_plugin_loads_none_of_the_machinery() -> None:
    code = (
        "import sys, hybridbroker.brokers.upstox;"
        "sys.exit(any(m in sys.modules for m in ('httpx', 'websockets', 'pydantic', 'google.protobuf', 'msgspec')))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


def test_opening_it_makes_a_market_data_without_io() -> None:
    assert PLUGIN.open_data is not None

    data = PLUGIN.open_data(OpenContext(instruments=Lookup(), settings=settings()))

    assert isinstance(data, MarketData)
    assert data.name == "upstox"
    assert data.capabilities == CAPABILITIES
    assert data.capabilities in PLUGIN.capabilities


def test_opening_it_makes_a_broker_without_io() -> None:
    assert PLUGIN.open_broker is not None

    broker = PLUGIN.open_broker(OpenContext(instruments=Lookup(), settings=settings()))

    assert isinstance(broker, Broker)
    assert broker.name == "upstox"
    assert broker.capabilities == BROKER_CAPABILITIES
    assert broker.capabilities in PLUGIN.capabilities
    assert Capability.OCO_ORDERS not in broker.capabilities


def test_the_sandbox_is_a_broker_of_another_name_that_cannot_be_confused() -> None:
    assert find_broker("upstox-sandbox") is SANDBOX
    assert SANDBOX.open_broker is not None
    live = settings("https://api.upstox.com", sandbox_token="a-token-of-the-sandbox")

    broker = SANDBOX.open_broker(OpenContext(instruments=Lookup(), settings=live))

    assert isinstance(broker, Broker)
    assert (broker.name, broker.capabilities) == ("upstox-sandbox", SANDBOX_CAPABILITIES)
    assert not broker.capabilities & (Capability.LIVE_MONEY | Capability.ORDER_BOOK | Capability.PORTFOLIO)


def test_the_sandbox_takes_no_live_settings_and_the_live_broker_none_of_the_sandbox() -> None:
    live = settings("https://api.upstox.com", sandbox_token="a-token-of-the-sandbox")

    with pytest.raises(ConfigurationError, match="live account"):
        UpstoxSandboxBroker(live, instruments=Lookup())
    with pytest.raises(ConfigurationError, match="upstox-sandbox"):
        UpstoxBroker(live.for_sandbox(), instruments=Lookup())


def test_the_sandbox_needs_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "a-live-token")
    monkeypatch.delenv("UPSTOX_SANDBOX_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match="UPSTOX_SANDBOX_TOKEN"):
        SANDBOX.settings()


@pytest.mark.parametrize("read", ["order", "find_order"])
async def test_the_sandbox_refuses_to_read_before_any_io(read: str) -> None:
    live = settings("https://api.upstox.com", sandbox_token="a-token-of-the-sandbox")
    broker = UpstoxSandboxBroker(live.for_sandbox(), instruments=Lookup())

    with pytest.raises(Unsupported, match="capabilities"):
        await getattr(broker, read)("1")
    for name in ("orders", "trades", "positions", "holdings", "funds"):
        with pytest.raises(Unsupported, match="capabilities"):
            await getattr(broker, name)()
    with pytest.raises(Unsupported, match="order updates"):
        broker.order_updates()


def test_plus_adds_thirty_levels() -> None:
    assert PLUGIN.open_data is not None

    data = PLUGIN.open_data(OpenContext(instruments=Lookup(), settings=settings(plan="plus")))

    assert Capability.DEPTH_30 in data.capabilities


def test_opening_it_unconfigured_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UPSTOX_ACCESS_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    assert PLUGIN.open_data is not None

    with pytest.raises(ConfigurationError, match="UPSTOX_ACCESS_TOKEN"):
        PLUGIN.open_data(OpenContext(instruments=Lookup()))
    assert PLUGIN.open_broker is not None
    with pytest.raises(ConfigurationError, match="UPSTOX_ACCESS_TOKEN"):
        PLUGIN.open_broker(OpenContext(instruments=Lookup()))


def test_a_feed_refuses_the_pure_python_protobuf() -> None:
    code = (
        "from hybridbroker.brokers.upstox.data.feed import FeedDecoder\n"
        "from hybridbroker.errors import ConfigurationError\n"
        "try:\n    FeedDecoder()\n"
        "except ConfigurationError as exc:\n    raise SystemExit(0 if 'protobuf wheel' in str(exc) else 2)\n"
        "raise SystemExit(1)"
    )
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PATH": ""}

    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)

    assert done.returncode == 0
