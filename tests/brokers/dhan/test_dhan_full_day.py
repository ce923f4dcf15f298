"""Everything beyond plain orders, at the emulated Dhan: both sides believe the same, whichever reading it plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest
from dhan_kit import settings
from pydantic import SecretStr

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.sandbox_broker import DhanSandboxBroker
from hybridbroker.clock import SystemClock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Side,
    StopMarketOrder,
)
from hybridbroker.domain.portfolio import Holding
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, OrderOutcomeUnknown, OrderRejected, StaticIpRequired, TokenExpired
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault
from hybridbroker.testing.emulators.dhan.habits import DhanHabits

REGISTRY = InstrumentRegistry.builtin()
SHARE = REGISTRY["NSE:RELIANCE"]


def market() -> EmulatedMarket:
    return EmulatedMarket.still(prices={"NSE:RELIANCE": 1400.0})


@pytest.fixture
def held() -> list[Holding]:
    return [Holding(instrument=SHARE, quantity=20, available_quantity=20, average_price=Decimal(1300))]


@pytest.fixture
async def exchange(held: list[Holding]) -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(market(), holdings=held) as emulator:
        yield emulator


def client(exchange: DhanEmulator, **changes: Any) -> DhanBroker:
    at_home = settings(
        client_id=exchange.client_id,
        access_token=SecretStr(exchange.access_token),
        base_url=exchange.rest_url,
        order_updates_url=exchange.order_updates_url,
    )
    return DhanBroker(at_home, instruments=REGISTRY, clock=ManualClock(), **changes)


def pair(**changes: Any) -> OcoOrder:
    terms: dict[str, Any] = {
        "quantity": 10,
        "target": Trigger(1450, price=1449),
        "stop": Trigger(1350, price=1340),
        "client_order_id": "oco-1",
    }
    return OcoOrder(SHARE, Side.SELL, **{**terms, **changes})


def bracket(**changes: Any) -> BracketOrder:
    terms: dict[str, Any] = {
        "quantity": 10,
        "price": 1390,
        "target_price": 1430,
        "stop_price": 1370,
        "trail": 5,
        "product": Product.INTRADAY,
        "client_order_id": "br-1",
    }
    return BracketOrder(SHARE, Side.BUY, **{**terms, **changes})


async def test_a_stop_market_order_waits_and_sells_below_its_trigger(exchange: DhanEmulator) -> None:
    exchange.habits.stop_market = "fires"
    async with client(exchange) as broker:
        placed = await broker.place_order(StopMarketOrder(SHARE, Side.SELL, quantity=5, trigger_price=1380))
        waiting = await broker.order(placed.id)
        await exchange.market.move(SHARE, 1379.0)
        sold = await broker.order(placed.id)

    assert (placed.type, placed.price) == (OrderType.STOP_LIMIT, Decimal("1373.1"))
    assert waiting.is_open
    assert (sold.status, sold.filled_quantity) == (OrderStatus.FILLED, 5)


async def test_a_market_order_that_rests_is_followed_until_it_fills(exchange: DhanEmulator) -> None:
    exchange.habits.market_orders_rest = True
    async with client(exchange) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(MarketOrder(SHARE, Side.BUY, quantity=5))
        resting = await broker.order(placed.id)
        cancelled = await broker.cancel_order(placed.id)
        async with asyncio.timeout(20):
            seen = [event async for event in until(updates, OrderStatus.CANCELLED)]

    assert (resting.type, resting.is_open) == (OrderType.LIMIT, True)
    assert resting.price is not None
    assert cancelled.status is OrderStatus.CANCELLED
    assert seen[-1].id == placed.id


async def until(updates: AsyncIterator[Any], status: OrderStatus) -> AsyncIterator[Order]:
    async for event in updates:
        if isinstance(event, Order):
            yield event
            if event.status is status:
                return


async def test_a_rejection_that_comes_later_is_in_the_book_and_the_updates(exchange: DhanEmulator) -> None:
    exchange.habits.rejections.append("EXCH:16283:The order price is not multiple of the tick size.")
    async with client(exchange) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=5, price=1390))
        async with asyncio.timeout(20):
            *_, told = [event async for event in until(updates, OrderStatus.REJECTED)]
        found = await broker.order(placed.id)

    assert placed.status is OrderStatus.PENDING
    assert told.reason == found.reason == "EXCH:16283:The order price is not multiple of the tick size."


@pytest.mark.parametrize("keys", ["camel", "pascal", "mixed"])
@pytest.mark.parametrize("statuses", ["title", "upper"])
async def test_updates_are_read_in_every_spelling(exchange: DhanEmulator, keys: Any, statuses: Any) -> None:
    exchange.habits.update_keys, exchange.habits.update_statuses = keys, statuses
    exchange.habits.part_traded_as = "PART_TRADED"
    exchange.habits.liquidity = 3
    async with client(exchange) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=5, price=1410, client_order_id="u-1"))
        async with asyncio.timeout(20):
            seen = [event async for event in until(updates, OrderStatus.PARTIALLY_FILLED)]

    assert (seen[-1].id, seen[-1].client_order_id, seen[-1].filled_quantity) == (placed.id, "u-1", 3)


async def test_an_order_above_the_freeze_quantity_is_sliced() -> None:
    freezing = attrs.evolve(SHARE, freeze_quantity=10)
    async with DhanEmulator(market()) as exchange, client(exchange) as broker:
        sliced = await broker.place_sliced(SlicedOrder(freezing, Side.BUY, quantity=25, price=1390))
        book = await broker.orders()

    assert [order.id for order in sliced.orders] == [order.id for order in book]
    assert sliced.placed_quantity == 25
    assert {order.client_order_id for order in sliced.orders} == {sliced.client_order_id}


@pytest.mark.parametrize("code", ["DH-905", "DH-911"])
async def test_an_unregistered_address_is_told(exchange: DhanEmulator, code: Any) -> None:
    exchange.habits.refuse_address = code
    async with client(exchange) as broker:
        with pytest.raises(StaticIpRequired):
            await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=1390))
        with pytest.raises(StaticIpRequired):
            await broker.place_gtt(pair())
        assert await broker.orders() == []


@pytest.mark.parametrize("leg_name", ["ENTRY_LEG", "TARGET_LEG"])
async def test_a_forever_order_is_changed_and_fires(exchange: DhanEmulator, leg_name: Any) -> None:
    exchange.habits.single_leg = leg_name
    order = GttOrder(SHARE, Side.SELL, quantity=10, trigger=Trigger(1350, price=1340), client_order_id="gtt-1")
    async with client(exchange) as broker:
        placed = await broker.place_gtt(order)
        await broker.modify_gtt(placed.id, quantity=5, trigger=Trigger(1380, price=1370))
        (armed,) = await broker.gtts()
        await exchange.market.move(SHARE, 1379.0)
        (fired,) = await broker.gtts()
        (sold,) = await broker.orders()

    assert [(leg.role, leg.status, leg.trigger_price) for leg in armed.legs] == [
        (LegRole.ENTRY, LegStatus.ARMED, Decimal(1380))
    ]
    assert not fired.is_live
    assert (sold.filled_quantity, sold.side) == (5, Side.SELL)


async def test_a_pair_is_verified_changed_leg_by_leg_and_cancelled(exchange: DhanEmulator) -> None:
    async with client(exchange) as broker:
        placed = await broker.place_gtt(pair())
        changed = await broker.modify_gtt(placed.id, quantity=8, stop=Trigger(1360, price=1350))
        (shown,) = await broker.gtts()
        gone = await broker.cancel_gtt(placed.id)
        again = await broker.cancel_gtt(placed.id)

    assert [(leg.role, leg.quantity, leg.trigger_price) for leg in shown.legs] == [
        (LegRole.TARGET, 8, Decimal(1450)),
        (LegRole.STOP, 8, Decimal(1360)),
    ]
    assert changed.legs[1].trigger_price == Decimal(1360)
    assert not gone.is_live
    assert again == gone


async def test_one_leg_of_a_pair_cancels_the_other(exchange: DhanEmulator) -> None:
    async with client(exchange) as broker:
        await broker.place_gtt(pair())
        await exchange.market.move(SHARE, 1349.0)
        (fired,) = await broker.gtts()
        (sold,) = await broker.orders()

    assert not fired.is_live
    assert (sold.side, sold.filled_quantity) == (Side.SELL, 10)


async def test_a_pair_that_the_other_reading_would_swap_is_cancelled_and_then_placed_right(
    held: list[Holding],
) -> None:
    habits = DhanHabits(oco_first_leg="STOP_LOSS_LEG")
    async with DhanEmulator(market(), holdings=held, habits=habits) as exchange, client(exchange) as broker:
        with pytest.raises((OrderRejected, OrderOutcomeUnknown), match="swapped"):
            await broker.place_gtt(pair())
        gtt = await broker.place_gtt(pair(client_order_id="oco-2"))
        live = [each for each in await broker.gtts() if each.is_live]

    assert [each.id for each in live] == [gtt.id]
    assert [(leg.role, leg.trigger_price) for leg in gtt.legs] == [
        (LegRole.TARGET, Decimal(1450)),
        (LegRole.STOP, Decimal(1350)),
    ]


async def test_a_pair_whose_reply_was_lost_is_live_and_shown(exchange: DhanEmulator) -> None:
    exchange.faults.add("POST /v2/forever/orders", Fault.lost_reply())
    async with client(exchange) as broker:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.place_gtt(pair())
        shown = await broker.gtts()

    assert caught.value.client_order_id == "oco-1"
    assert len(shown) == 1


@pytest.mark.parametrize("spelling", ["totalQuatity", "totalQuantity"])
@pytest.mark.parametrize("answers", [True, False])
async def test_a_super_order_lives_its_life(exchange: DhanEmulator, spelling: Any, answers: bool) -> None:
    exchange.habits.quantity_key, exchange.habits.super_cancel_body = spelling, answers
    async with client(exchange) as broker:
        placed = await broker.place_bracket(bracket())
        await broker.modify_bracket(placed.id, quantity=6, price=Decimal(1395))
        (waiting,) = await broker.brackets()
        await exchange.market.move(SHARE, 1394.0)
        await broker.modify_bracket(placed.id, target_price=Decimal(1440), trail=Decimal(0))
        (open_,) = await broker.brackets()
        await exchange.market.move(SHARE, 1441.0)
        (closed,) = await broker.brackets()
        found = await broker.find_bracket("br-1")

    assert [(leg.role, leg.quantity, leg.status) for leg in waiting.legs] == [
        (LegRole.ENTRY, 6, LegStatus.SENT),
        (LegRole.TARGET, 6, LegStatus.INACTIVE),
        (LegRole.STOP, 6, LegStatus.INACTIVE),
    ]
    assert [(leg.status, leg.trigger_price) for leg in open_.legs] == [
        (LegStatus.FILLED, None),
        (LegStatus.ARMED, Decimal(1440)),
        (LegStatus.ARMED, Decimal(1370)),
    ]
    assert not closed.is_live
    assert found is not None
    assert found.id == placed.id


async def test_a_super_order_is_cancelled_by_leg_and_whole(exchange: DhanEmulator) -> None:
    async with client(exchange) as broker:
        first = await broker.place_bracket(bracket())
        await exchange.market.move(SHARE, 1389.0)
        without = await broker.cancel_bracket(first.id, leg=LegRole.TARGET)
        second = await broker.place_bracket(bracket(price=1350, stop_price=1340, client_order_id="br-2"))
        gone = await broker.cancel_bracket(second.id)
        with pytest.raises(InvalidOrder):
            await broker.modify_bracket(first.id, target_price=Decimal(1440))

    target = without.leg(LegRole.TARGET)
    assert target is None or target.status is LegStatus.CANCELLED
    assert without.is_live
    assert not gone.is_live


async def test_without_a_ddpi_only_what_is_approved_is_sold(held: list[Holding]) -> None:
    habits = DhanHabits(ddpi=False, approved={str(SHARE.isin): 4})
    async with DhanEmulator(market(), holdings=held, habits=habits) as exchange, client(exchange) as broker:
        with pytest.raises(InvalidOrder, match="T-PIN"):
            await broker.place_order(LimitOrder(SHARE, Side.SELL, quantity=5, price=1400))
        assert await broker.orders() == []
        approval = await broker.edis_approval(SHARE)
        sold = await broker.place_order(LimitOrder(SHARE, Side.SELL, quantity=4, price=1400))

    assert sold.status is OrderStatus.PENDING
    assert approval.approved == 4


@pytest.mark.parametrize("style", ["camel", "snake"])
async def test_margins_are_told_for_one_and_several(exchange: DhanEmulator, style: Any) -> None:
    exchange.habits.margin_style = style
    order = LimitOrder(SHARE, Side.BUY, quantity=10, price=1400)
    async with client(exchange) as broker:
        one, several = await broker.margin(order), await broker.margin([order, order])

    assert one.required == Decimal(14_000)
    assert several.required >= one.required
    assert several.available == Decimal(100_000)


async def test_a_position_is_converted_and_all_are_closed(exchange: DhanEmulator) -> None:
    async with client(exchange) as broker:
        await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=4, price=1410, product=Product.INTRADAY))
        await broker.convert_position(
            SHARE, side=Side.BUY, quantity=4, from_product=Product.INTRADAY, to_product=Product.DELIVERY
        )
        held_ = {each.product: each.quantity for each in await broker.positions()}
        await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=4, price=1300))
        await broker.exit_all()
        left = [each for each in await broker.positions() if each.quantity]
        open_ = [each for each in await broker.orders() if each.is_open]

    assert held_[Product.DELIVERY] == 4
    assert (left, open_) == ([], [])


async def test_the_kill_switch_stops_orders_until_it_is_turned_off(exchange: DhanEmulator) -> None:
    order = LimitOrder(SHARE, Side.BUY, quantity=1, price=1390)
    async with client(exchange) as broker:
        before = await broker.kill_switch_active()
        await broker.activate_kill_switch()
        during = await broker.kill_switch_active()
        with pytest.raises(OrderRejected):
            await broker.place_order(order)
        await broker.deactivate_kill_switch()
        await broker.place_order(order)
        with pytest.raises(OrderRejected):
            await broker.activate_kill_switch()

    assert (before, during) == (False, True)


@pytest.mark.parametrize("as_numbers", [True, False])
async def test_a_pnl_exit_is_set_read_and_ended(exchange: DhanEmulator, as_numbers: bool) -> None:
    exchange.habits.pnl_as_numbers = as_numbers
    async with client(exchange) as broker:
        await broker.set_pnl_exit(profit=1500, loss="500.50", products=[Product.INTRADAY])
        found = await broker.pnl_exit()
        await broker.cancel_pnl_exit()
        ended = await broker.pnl_exit()

    assert found is not None
    assert (found.profit, found.loss, found.products) == (
        Decimal(1500),
        Decimal("500.5"),
        frozenset({Product.INTRADAY}),
    )
    assert ended is None


@pytest.mark.parametrize("as_array", [True, False])
async def test_statements_are_read(exchange: DhanEmulator, as_array: bool) -> None:
    exchange.habits.ledger_as_array, exchange.habits.history_page = as_array, 2
    today: date = exchange.market.now.date()
    days = {"start": today - timedelta(days=7), "end": today}
    async with client(exchange) as broker:
        for _ in range(5):
            await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=1410))
        trades = await broker.trades()
        history = await broker.trade_history(**days)
        ledger = await broker.ledger(**days)

    assert [each.trade.price for each in history] in ([trade.price for trade in trades], [])
    assert ledger


async def test_a_token_that_another_killed_is_told_and_reads_go_on_with_the_new_one(exchange: DhanEmulator) -> None:
    tokens = Newest(exchange)
    async with client(exchange, tokens=tokens) as broker:
        await broker.orders()
        exchange.new_token()
        read = await broker.orders()
        exchange.new_token()
        with pytest.raises(TokenExpired):
            await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=1390, client_order_id="k-1"))
        placed = await broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=1390, client_order_id="k-1"))

    assert read == []
    assert len(exchange.book()) == 1
    assert placed.status is OrderStatus.PENDING


class Newest:
    """A `TokenSource` that learns of a new token only by a refusal."""

    def __init__(self, exchange: DhanEmulator) -> None:
        self._exchange = exchange
        self._token = self._newest()

    def _newest(self) -> Any:
        from hybridbroker.brokers.dhan.auth import AccessToken

        return AccessToken(client_id=self._exchange.client_id, secret=SecretStr(self._exchange.access_token))

    async def token(self) -> Any:
        return self._token

    async def renewed(self, refused: Any) -> Any:
        if refused is self._token:
            self._token = self._newest()
        return self._token


async def test_the_sandbox_takes_orders_and_fills_none() -> None:
    async with DhanEmulator(market(), sandbox=True) as exchange:
        at_home = settings(
            sandbox_client_id=exchange.client_id,
            sandbox_token=SecretStr(exchange.access_token),
            base_url=exchange.rest_url,
        ).for_sandbox()
        async with DhanSandboxBroker(at_home, instruments=REGISTRY, clock=SystemClock()) as broker:
            placed = await broker.place_order(MarketOrder(SHARE, Side.BUY, quantity=1))
            found = await broker.order(placed.id)
            funds = await broker.funds()
            gtt = await broker.place_gtt(pair(client_order_id="s-2"))
            gone = await broker.cancel_gtt(gtt.id)
            holdings = await broker.holdings()

    assert found.is_open
    assert funds.available > 0
    assert not gone.is_live
    assert list(holdings) == []


def test_the_share_is_the_registrys() -> None:
    assert isinstance(SHARE, Instrument)
