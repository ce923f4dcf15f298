"""The sandbox is a broker of its own, which neither takes live settings nor is taken for live trading."""

from __future__ import annotations

from typing import Any

import pytest
import respx
from dhan_kit import NOON, RELIANCE, Table, jwt, limit_order, settings
from pydantic import SecretStr

from hybridbroker.brokers.dhan import SANDBOX
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.sandbox_broker import DhanSandboxBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.domain.standing import BracketOrder
from hybridbroker.errors import ConfigurationError, Unsupported
from hybridbroker.plugins import OpenContext, find_broker
from hybridbroker.protocols import Broker, Capability
from hybridbroker.testing.clock import ManualClock

API = "https://sandbox.dhan.co/v2"
SANDBOX_TOKEN = jwt(exp=1_790_000_000, dhanClientId="2500000001")
LIVE_TOKEN = jwt(iat=1_789_446_600, exp=1_789_533_000)


def sandbox_settings(token: str = SANDBOX_TOKEN, **changes: Any) -> DhanSettings:
    return settings(sandbox_client_id="2500000001", sandbox_token=SecretStr(token), **changes).for_sandbox()


def open_sandbox(chosen: DhanSettings | None = None) -> DhanSandboxBroker:
    return DhanSandboxBroker(chosen or sandbox_settings(), instruments=Table(), clock=ManualClock(NOON))


def proves_the_fit(broker: DhanSandboxBroker) -> Broker:
    return broker


def test_the_sandbox_is_found_by_its_own_name() -> None:
    assert find_broker("dhan-sandbox") is SANDBOX
    assert SANDBOX.open_broker is not None

    broker = SANDBOX.open_broker(OpenContext(instruments=Table(), settings=sandbox_settings()))

    assert (broker.name, broker.capabilities) == ("dhan-sandbox", SANDBOX.capabilities)
    assert isinstance(proves_the_fit(open_sandbox()), Broker)


def test_the_sandbox_reads_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", "1100000001")
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", "live")
    monkeypatch.delenv("DHAN_SANDBOX_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="DHAN_SANDBOX_TOKEN"):
        SANDBOX.settings()
    monkeypatch.setenv("DHAN_SANDBOX_CLIENT_ID", "2500000001")
    monkeypatch.setenv("DHAN_SANDBOX_TOKEN", "play")

    read = SANDBOX.settings()

    assert (read.client_id, read.access_token.get_secret_value(), read.base_url) == ("2500000001", "play", API)


@pytest.mark.parametrize(
    "absent",
    [
        Capability.LIVE_MONEY,
        Capability.FILLS,
        Capability.ORDER_UPDATES,
        Capability.BRACKET_ORDERS,
        Capability.KILL_SWITCH,
        Capability.QUOTES,
    ],
)
def test_the_sandbox_does_not_claim(absent: Capability) -> None:
    assert absent not in SANDBOX.capabilities


async def test_what_the_sandbox_lacks_is_refused_without_a_request() -> None:
    bracket = BracketOrder(RELIANCE, Side.BUY, quantity=1, price="1400", target_price="1430", stop_price="1385")
    with respx.mock(base_url=API) as server:
        async with open_sandbox() as broker:
            for call in (
                lambda: broker.place_bracket(bracket),
                broker.brackets,
                lambda: broker.cancel_bracket("1"),
                broker.activate_kill_switch,
                broker.kill_switch_active,
                broker.exit_all,
                lambda: broker.set_pnl_exit(profit=1, loss=1),
                broker.pnl_exit,
                lambda: broker.margin([limit_order(), limit_order()]),
            ):
                with pytest.raises(Unsupported, match="dhan-sandbox"):
                    await call()
            with pytest.raises(Unsupported):
                broker.order_updates()
        assert not server.calls


async def test_an_order_goes_to_the_sandbox_with_its_own_token_and_a_sale_asks_nothing() -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/orders").respond(json={"orderId": "7126", "orderStatus": "TRANSIT"})
        async with open_sandbox() as broker:
            await broker.place_order(limit_order())
            await broker.place_order(LimitOrder(RELIANCE, Side.SELL, quantity=1, price="1402.5"))
        assert len(server.calls) == 2

    assert {call.request.headers["access-token"] for call in route.calls} == {SANDBOX_TOKEN}
    assert {call.request.headers["client-id"] for call in route.calls} == {"2500000001"}


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(settings, id="live settings"),
        pytest.param(lambda: settings(base_url=API), id="live settings at the sandbox"),
        pytest.param(lambda: sandbox_settings(LIVE_TOKEN), id="live token"),
    ],
)
def test_the_sandbox_refuses(chosen: Any) -> None:
    with pytest.raises(ConfigurationError):
        open_sandbox(chosen())


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(sandbox_settings, id="settings of the sandbox"),
        pytest.param(lambda: settings(base_url=API), id="address of the sandbox"),
        pytest.param(lambda: settings(access_token=SecretStr(jwt(exp=1_790_000_000))), id="token of the sandbox"),
    ],
)
def test_live_trading_refuses(chosen: Any) -> None:
    with pytest.raises(ConfigurationError, match="sandbox"):
        DhanBroker(chosen(), instruments=Table(), clock=ManualClock(NOON))


def test_an_emulator_is_either() -> None:
    here = "http://127.0.0.1:8000/v2"

    sandboxed = open_sandbox(sandbox_settings(base_url=here))
    live = DhanBroker(settings(base_url=here), instruments=Table(), clock=ManualClock(NOON))

    assert (sandboxed.name, live.name) == ("dhan-sandbox", "dhan")
