"""Finding Dhan costs nothing; opening it needs settings; its tables are the documented ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dhan_kit import Table, proves_the_fit, settings

from hybridbroker.brokers.dhan import DATA_CAPABILITIES, PLUGIN
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.limits import LIMITS, MODIFICATIONS_PER_ORDER
from hybridbroker.errors import ConfigurationError
from hybridbroker.plugins import OpenContext, find_broker
from hybridbroker.protocols import (
    BracketOrders,
    Broker,
    Capability,
    GttOrders,
    KillSwitchControl,
    Margins,
    PositionConversion,
    SlicedOrders,
)


@pytest.mark.parametrize("module", ["httpx", "pydantic", "websockets", "msgspec", "hybridbroker.transport"])
def test_importing_the_slice_does_not_import(module: str) -> None:
    code = f"import hybridbroker.brokers.dhan, sys; sys.exit({module!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


def test_the_plugin_is_found_by_its_name() -> None:
    assert find_broker("dhan") is PLUGIN


def test_the_plugin_opens_a_broker() -> None:
    assert PLUGIN.open_broker is not None

    broker = PLUGIN.open_broker(OpenContext(instruments=Table(), settings=settings()))

    assert isinstance(broker, DhanBroker)
    assert isinstance(proves_the_fit(broker), Broker)
    assert broker.name == "dhan"
    assert broker.capabilities | DATA_CAPABILITIES == PLUGIN.capabilities


def test_every_ability_that_is_flagged_is_there() -> None:
    broker = DhanBroker(settings(), instruments=Table(), clock=OpenContext(instruments=Table()).clock)

    for ability in (GttOrders, BracketOrders, SlicedOrders, Margins, KillSwitchControl, PositionConversion):
        assert isinstance(broker, ability)


def test_live_money_is_flagged() -> None:
    assert Capability.LIVE_MONEY in PLUGIN.capabilities


def test_incomplete_settings_do_not_make_a_broker() -> None:
    with pytest.raises(ConfigurationError, match="DHAN_ACCESS_TOKEN"):
        DhanBroker(settings(access_token=""), instruments=Table(), clock=OpenContext(instruments=Table()).clock)


@pytest.mark.parametrize("url", ["http://api.dhan.co/v2", "ftp://127.0.0.1", "api.dhan.co"])
def test_an_unsafe_address_does_not_make_a_broker(url: str) -> None:
    with pytest.raises(ConfigurationError):
        DhanBroker(settings(base_url=url), instruments=Table(), clock=OpenContext(instruments=Table()).clock)


def test_order_limits_are_the_documented_ones() -> None:
    assert [window.limit for window in LIMITS["order"]] == [10, 250, 1_000, 7_000]
    assert [window.seconds for window in LIMITS["order"][1:]] == [60, 3_600, 86_400]
    assert LIMITS["order"][0].seconds >= 1
    assert MODIFICATIONS_PER_ORDER == 25
