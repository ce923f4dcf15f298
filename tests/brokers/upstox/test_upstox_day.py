"""A day at the emulated Upstox: what the client and the exchange believe is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import pytest
from pydantic import SecretStr
from upstox_kit import Lookup

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.sandbox import UpstoxSandboxBroker
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderStatus,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
)
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, Crossing, Gtt, GttOrder, LegRole, LegStatus, Trigger
from hybridbroker.errors import (
    AuthenticationError,
    FeedAuthenticationError,
    InvalidOrder,
    OrderOutcomeUnknown,
    OrderRejected,
    StaticIpRequired,
)
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.protocols import (
    BracketOrders,
    Broker,
    GttOrders,
    InstrumentLookup,
    KillSwitchControl,
    Margins,
    PositionConversion,
    SlicedOrders,
)
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import EmulatedMarket, Fault, UpstoxEmulator
from hybridbroker.testing.emulators.listed import LISTED

E = TypeVar("E")


@pytest.fixture
def registry() -> InstrumentRegistry:
    return InstrumentRegistry.builtin()


@pytest.fixture
def share(registry: InstrumentRegistry) -> Instrument:
    return registry["NSE:RELIANCE"]


@pytest.fixture
async def exchange() -> AsyncIterator[UpstoxEmulator]:
    async with UpstoxEmulator(EmulatedMarket.still(prices={"NSE:RELIANCE": 1400.0})) as emulator:
        yield emulator


def client(
    exchange: UpstoxEmulator, registry: InstrumentLookup, *, token: str | None = None, clock: Clock | None = None
) -> UpstoxBroker:
    at_home = UpstoxSettings(
        _env_file=None,
        access_token=SecretStr(token or exchange.access_token),
        base_url=exchange.rest_url,
        order_url=exchange.rest_url,
        keep_warm_seconds=0,
    )
    return UpstoxBroker(at_home, instruments=registry, clock=clock or ManualClock())


async def until(updates: AsyncIterator[object], kind: type[E], **wanted: object) -> E:
    async with asyncio.timeout(20):
        async for event in updates:
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in wanted.items()):
                return event
    raise AssertionError(f"the stream ended before a {kind.__name__} with {wanted}")


async def gathered(updates: AsyncIterator[Any], *kinds: type) -> dict[type, Any]:
    """Return the last word on each of these kinds, once each is at its end."""
    seen: dict[type, Any] = {}
    async with asyncio.timeout(20):
        async for event in updates:
            if type(event) in kinds:
                seen[type(event)] = event
            if len(seen) == len(kinds) and seen[Order].is_final and not seen[Gtt].is_live and seen[Position].quantity:
                return seen
    raise AssertionError(f"the stream ended with {seen}")


async def test_it_is_a_broker_with_everything_it_claims(exchange: UpstoxEmulator, registry: InstrumentRegistry) -> None:
    broker = client(exchange, registry)

    for protocol in (Broker, GttOrders, BracketOrders, SlicedOrders, Margins, KillSwitchControl, PositionConversion):
        assert isinstance(broker, protocol)


async def test_an_order_lives_its_life(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390", client_order_id="u-1"))
        resting = await until(updates, Order, status=OrderStatus.OPEN)
        changed = await broker.modify_order(placed.id, quantity=6, price=Decimal(1395))
        await exchange.market.move(share, 1394.0)
        filled = await until(updates, Order, status=OrderStatus.FILLED)
        found = await broker.find_order("u-1")
        history = await broker.order_history(placed.id)
        (trade,) = await broker.trades()
        (same,) = await broker.trades(placed.id)
        (position,) = await broker.positions()
        funds = await broker.funds()

    assert placed.id == resting.id == changed.id == filled.id == trade.order_id
    assert placed.status is OrderStatus.PENDING
    assert (resting.client_order_id, resting.instrument) == ("u-1", share)
    assert (changed.quantity, changed.price) == (6, Decimal(1395))
    assert found is not None
    assert (found.status, found.filled_quantity, found.instrument) == (OrderStatus.FILLED, 6, share)
    assert [history[0].raw, history[-1].raw] == ["put order req received", "complete"]
    assert same == trade
    assert (position.instrument, position.quantity) == (share, 6)
    assert funds.available == Decimal(100_000) - trade.value


async def test_a_cancelled_order_is_gone_and_cancelling_again_is_harmless(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390"))
        cancelled = await broker.cancel_order(placed.id)
        again = await broker.cancel_order(placed.id)

    assert cancelled.status is OrderStatus.CANCELLED
    assert again == cancelled


async def test_a_market_order_fills_and_stops_wait(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        bought = await broker.place_order(MarketOrder(share, Side.BUY, quantity=5))
        limited = await broker.place_order(
            StopLimitOrder(share, Side.SELL, quantity=2, price="1379", trigger_price="1380")
        )
        at_market = await broker.place_order(StopMarketOrder(share, Side.SELL, quantity=2, trigger_price="1380"))
        book = {order.id: order for order in await broker.orders()}

    assert book[bought.id].status is OrderStatus.FILLED
    assert book[limited.id].status is OrderStatus.TRIGGER_PENDING
    assert (book[limited.id].price, book[limited.id].trigger_price) == (Decimal(1379), Decimal(1380))
    assert book[at_market.id].status is OrderStatus.TRIGGER_PENDING


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_change_the_exchange_refuses_is_a_rejection_and_the_order_stands(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument, *, keeps: bool
) -> None:
    exchange.desk.book.keeps_change_status = True
    exchange.refuse_changes("EXCH: price outside the range")
    async with client(exchange, registry) as broker:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390"))
        with pytest.raises(OrderRejected, match="outside the range"):
            await broker.modify_order(placed.id, price=Decimal(1391))
        if keeps:
            await broker.modify_order(placed.id, price=Decimal(1392))
        left = await broker.order(placed.id)

    assert left.is_open
    assert left.price == Decimal(1392 if keeps else 1390)


async def test_a_cancellation_the_exchange_refuses_is_a_rejection(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    exchange.desk.book.keeps_change_status = True
    async with client(exchange, registry) as broker:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390"))
        exchange.refuse_changes("EXCH: try later")
        with pytest.raises(OrderRejected, match="try later"):
            await broker.cancel_order(placed.id)
        cancelled = await broker.cancel_order(placed.id)

    assert cancelled.status is OrderStatus.CANCELLED


async def test_a_change_still_on_its_way_is_shown_as_it_stands(registry: InstrumentRegistry, share: Instrument) -> None:
    async with (
        UpstoxEmulator(EmulatedMarket.still(), transit=None) as exchange,
        client(exchange, registry) as broker,
    ):
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1000"))
        exchange.release()
        changed = await broker.modify_order(placed.id, price=Decimal(1001))
        exchange.release()
        later = await broker.order(placed.id)

    assert changed.raw.startswith("modify")
    assert changed.price == Decimal(1000)
    assert later.price == Decimal(1001)


async def test_an_order_whose_reply_was_lost_is_found_by_its_tag(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        exchange.faults.add("POST /v3/order/place", Fault.lost_reply())
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        found = await broker.find_order(caught.value.client_order_id)

    assert found is not None
    assert len(exchange.book()) == 1


async def test_what_filled_during_a_gap_is_told_after_it(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        await until(updates, Order, status=OrderStatus.OPEN)
        exchange.drop_connections(reset=True)
        await exchange.market.move(share, 1389.0)
        await until(updates, Gap)
        filled = await until(updates, Order, status=OrderStatus.FILLED)

    assert filled.id == placed.id
    assert updates.health.gaps == 1


async def test_a_wrong_token_ends_in_words(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry, token="wrong") as broker:
        with pytest.raises(AuthenticationError):
            await broker.funds()
        with pytest.raises(AuthenticationError):
            await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        with pytest.raises(FeedAuthenticationError):
            async with broker.order_updates():
                pytest.fail("the stream was entered")

    assert exchange.book() == []


async def test_the_roll_over_of_the_token_is_survived_by_stream_and_calls(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    class Tokens:
        """Knows yesterday's token until it is told that it is refused."""

        def __init__(self) -> None:
            self.secret = exchange.access_token
            self.renewals = 0

        async def token(self) -> AccessToken:
            return AccessToken.of(SecretStr(self.secret), seen_at=ManualClock().now())

        async def renewed(self, refused: AccessToken) -> AccessToken:
            self.renewals += 1
            self.secret = exchange.access_token
            return await self.token()

    tokens = Tokens()
    settings = UpstoxSettings(
        _env_file=None, base_url=exchange.rest_url, order_url=exchange.rest_url, keep_warm_seconds=0
    )
    broker = UpstoxBroker(settings, instruments=registry, clock=ManualClock(), tokens=tokens)
    async with broker, broker.order_updates() as updates:
        exchange.roll_over()
        await until(updates, Gap)
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        told = await until(updates, Order, status=OrderStatus.OPEN)
        profile = await broker.profile()

    assert told.id == placed.id
    assert tokens.renewals == 1
    assert profile.user_id == exchange.user_id


async def test_a_gtt_order_waits_changes_and_fires(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker, broker.portfolio_updates() as updates:
        placed = await broker.place_gtt(
            GttOrder(share, Side.BUY, quantity=2, trigger=Trigger("1380"), client_order_id="g-1")
        )
        changed = await broker.modify_gtt(placed.id, quantity=3, trigger=Trigger("1385"))
        found = await broker.find_gtt("g-1")
        (listed,) = await broker.gtts()
        await exchange.market.move(share, 1384.0)
        seen = await gathered(updates, Gtt, Order, Position)
        fired, bought, position = seen[Gtt], seen[Order], seen[Position]

    assert placed.legs[0].status is LegStatus.ARMED
    assert (changed.quantity, changed.legs[0].trigger_price) == (3, Decimal(1385))
    assert found == listed == changed
    assert found.client_order_id == "g-1"
    assert fired.legs[0].status is LegStatus.FILLED
    assert (bought.instrument, bought.filled_quantity) == (share, 3)
    assert position.instrument == share


async def test_a_gtt_order_is_cancelled_once(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        order = GttOrder(share, Side.BUY, quantity=2, trigger=Trigger("1380"), crossing=Crossing.BELOW)
        placed = await broker.place_gtt(order)
        cancelled = await broker.cancel_gtt(placed.id)
        again = await broker.cancel_gtt(placed.id)

    assert not cancelled.is_live
    assert again == cancelled


async def test_a_bracket_enters_moves_its_exits_and_takes_its_profit(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        placed = await broker.place_bracket(
            BracketOrder(
                share,
                Side.BUY,
                quantity=1,
                product=Product.INTRADAY,
                price="1405",
                target_price="1450",
                stop_price="1365",
                trail="5",
            )
        )
        await exchange.market.move(share, 1401.0)
        entered = (await broker.brackets())[0]
        moved = await broker.modify_bracket(placed.id, target_price=Decimal(1440), trail=Decimal(0))
        with pytest.raises(InvalidOrder, match="quantity cannot be changed"):
            await broker.modify_bracket(placed.id, quantity=2)
        await exchange.market.move(share, 1441.0)
        (ended,) = await broker.brackets()
        (position,) = await broker.positions()

    assert [leg.role for leg in placed.legs] == [LegRole.ENTRY, LegRole.TARGET, LegRole.STOP]
    assert entered.legs[0].status is LegStatus.FILLED
    assert moved.legs[1].trigger_price == Decimal(1440)
    assert moved.legs[2].trail is None
    assert not ended.is_live
    assert position.quantity == 0


@pytest.mark.parametrize("told", [100, None], ids=["as the registry says", "the registry does not know"])
async def test_a_large_order_becomes_several_with_one_name(told: int | None) -> None:
    (listed,) = [each for each in LISTED if each.instrument.id == "NSE:RELIANCE"]
    real = attrs.evolve(listed, instrument=attrs.evolve(listed.instrument, freeze_quantity=100))
    share = attrs.evolve(listed.instrument, freeze_quantity=told)
    instruments = Lookup({share: listed.upstox_key})
    order = SlicedOrder(share, Side.BUY, quantity=250, price="1390", product=Product.INTRADAY, client_order_id="s-1")
    async with (
        UpstoxEmulator(EmulatedMarket.still([real]), cash=Decimal(10**7)) as exchange,
        client(exchange, instruments) as broker,
    ):
        sliced = await broker.place_sliced(order)
        found = await broker.find_order("s-1")
        book = await broker.orders()

    assert [each.quantity for each in sliced.orders] == [100, 100, 50]
    assert sliced.placed_quantity == 250
    assert {each.client_order_id for each in book} == {"s-1"}
    assert found is not None
    assert found.id == book[-1].id


async def test_everything_is_cancelled_and_closed_in_two_calls(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        await broker.place_order(MarketOrder(share, Side.BUY, quantity=5, product=Product.INTRADAY))
        resting = [
            await broker.place_order(
                LimitOrder(share, Side.BUY, quantity=1, price=str(1300 + n), product=Product.INTRADAY)
            )
            for n in range(12)
        ]
        cancelled = await broker.cancel_all()
        again = await broker.cancel_all()
        closed = await broker.exit_all()
        positions = await broker.positions()
        nothing = await broker.exit_all()

    assert cancelled.is_complete
    assert sorted(cancelled.order_ids) == sorted(order.id for order in resting)
    assert again.order_ids == ()
    assert len(closed.order_ids) == 1
    assert [position.quantity for position in positions] == [0]
    assert nothing.order_ids == ()


async def test_a_position_is_converted_and_margins_and_charges_are_told(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    order = LimitOrder(share, Side.BUY, quantity=5, price="1400", product=Product.INTRADAY)
    async with client(exchange, registry) as broker:
        margin = await broker.margin([order])
        charges = await broker.brokerage(order)
        await broker.place_order(MarketOrder(share, Side.BUY, quantity=5, product=Product.INTRADAY))
        await broker.convert_position(
            share, side=Side.BUY, quantity=5, from_product=Product.INTRADAY, to_product=Product.DELIVERY
        )
        held = {each.product: each.quantity for each in await broker.positions()}
        mtf = await broker.mtf_positions()

    assert margin.required > 0
    assert charges.total >= 0
    assert held[Product.DELIVERY] == 5
    assert held.get(Product.INTRADAY, 0) == 0
    assert mtf == []


async def test_the_kill_switch_stops_orders(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        before = await broker.kill_switch_active()
        await broker.activate_kill_switch()
        after = await broker.kill_switch_active()
        with pytest.raises(OrderRejected):
            await broker.deactivate_kill_switch()

    assert (before, after) == (False, True)


async def test_an_address_that_is_not_registered_may_read_and_not_write(
    exchange: UpstoxEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    exchange.gates.static_ips = ("203.0.113.7",)
    exchange.gates.origin = "203.0.113.9"
    async with client(exchange, registry) as broker:
        with pytest.raises(StaticIpRequired, match=r"203\.0\.113\.7.*203\.0\.113\.9"):
            await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        assert await broker.orders() == []


async def test_holdings_are_shares_that_can_be_sold(registry: InstrumentRegistry, share: Instrument) -> None:
    held = Holding(instrument=share, quantity=12, available_quantity=12, average_price=Decimal("1266.7"))
    async with (
        UpstoxEmulator(EmulatedMarket.still(), holdings=[held]) as exchange,
        client(exchange, registry) as broker,
    ):
        (holding,) = await broker.holdings()

    assert (holding.instrument, holding.quantity, holding.available_quantity) == (share, 12, 12)
    assert holding.average_price == Decimal("1266.7")


async def test_the_sandbox_takes_orders_and_nothing_else(registry: InstrumentRegistry, share: Instrument) -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), sandbox=True) as exchange:
        settings = UpstoxSettings(
            _env_file=None,
            sandbox_token=SecretStr(exchange.access_token),
            base_url=exchange.rest_url,
            order_url=exchange.rest_url,
        ).for_sandbox()
        async with UpstoxSandboxBroker(settings, instruments=registry, clock=ManualClock()) as broker:
            placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
            changed = await broker.modify_order(placed.id, price=Decimal(1391))
            cancelled = await broker.cancel_order(placed.id)

    assert isinstance(broker, Broker)
    assert changed.price == Decimal(1391)
    assert cancelled.status is OrderStatus.CANCELLED
