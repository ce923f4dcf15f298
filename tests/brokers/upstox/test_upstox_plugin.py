"""The plugin record: cheap to find, complete when opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from upstox_kit import Lookup, settings

from hybridbroker.brokers.upstox import PLUGIN
from hybridbroker.errors import ConfigurationError
from hybridbroker.plugins import OpenContext, find_broker
from hybridbroker.protocols import Capability, MarketData


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
    assert data.capabilities == PLUGIN.capabilities


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
