"""Streams over a real socket, against the emulated feed: subscribed, repaired, refused, closed."""

from __future__ import annotations

import asyncio
import logging

import pytest
from dhan_data_kit import (
    CALL,
    NIFTY,
    RELIANCE,
    TCS,
    HastyClock,
    Lookup,
    emulated,
    full,
    next_tick,
    take,
    ticker,
    until,
)
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.data.stream import DhanStream
from hybridbroker.domain.calendar import Session, TradingCalendar
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketStatus, Tick
from hybridbroker.errors import (
    FeedAuthenticationError,
    FeedError,
    InstrumentUnmapped,
    NotSent,
    SubscriptionLimit,
    TokenExpired,
    Unsupported,
)
from hybridbroker.silence import Patience
from hybridbroker.testing.emulators import EmulatedMarket, Fault, invent


async def test_a_stream_subscribes_and_delivers() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE, TCS], mode=FeedMode.FULL) as events:
        ticks = [event for event in await take(events, 2) if isinstance(event, Tick)]

        assert {tick.instrument for tick in ticks} == {RELIANCE, TCS}
        assert all(tick.is_snapshot and tick.depth and tick.day for tick in ticks)
        assert dhan.feed.subscriptions == {("NSE_EQ", "2885"): 21, ("NSE_EQ", "11536"): 21}
        assert events.health.state is FeedState.LIVE
        assert not events.health.stale(RELIANCE)


async def test_prices_follow_the_market() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE, CALL], mode=FeedMode.FULL) as events:
        await take(events, 2)
        await dhan.market.move(RELIANCE, 1402.3, quantity=40)

        tick = await next_tick(events)

        assert tick.instrument == RELIANCE
        assert (tick.last_price, tick.last_quantity, tick.previous_close) == (1402.3, 40, 1400.0)
        assert tick.traded_at == dhan.market.now
        assert not tick.is_snapshot


async def test_tickers_tell_last_price_and_time_and_of_an_index_the_previous_close() -> None:
    async with emulated() as (_, data), data.stream([RELIANCE, NIFTY]) as events:
        ticks = {event.instrument: event for event in await take(events, 2) if isinstance(event, Tick)}

        assert ticks[RELIANCE].last_price == 1400.0
        assert ticks[RELIANCE].previous_close is None
        assert ticks[NIFTY].previous_close == 25_000.0
        assert ticks[NIFTY].volume is None


async def test_several_packets_in_a_frame_all_arrive() -> None:
    async with emulated() as (dhan, data):
        dhan.feed.per_frame = 50
        async with data.stream([RELIANCE, TCS, NIFTY, CALL], mode=FeedMode.FULL) as events:
            ticks = await take(events, 4)

            assert len({event.instrument for event in ticks if isinstance(event, Tick)}) == 4


async def test_a_lost_connection_is_a_gap_and_everything_is_said_again() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await events.subscribe([TCS], mode=FeedMode.LTP)
        await take(events, 2)
        dhan.feed.received.clear()
        dhan.drop_connections(reset=True)

        gap, *ticks = await take(events, 3)

        assert isinstance(gap, Gap)
        assert gap.since <= gap.until
        assert all(isinstance(each, Tick) for each in ticks)
        assert sorted(each["RequestCode"] for each in dhan.feed.received) == [15, 21]
        assert dhan.feed.subscriptions == {("NSE_EQ", "2885"): 21, ("NSE_EQ", "11536"): 15}
        assert (events.health.reconnects, events.health.gaps) == (1, 1)


async def test_hundreds_of_instruments_survive_a_reconnection_in_messages_of_a_hundred() -> None:
    listed = invent(300)
    lookup = Lookup({each.instrument: f"{each.dhan_segment}:{each.dhan_id}" for each in listed})
    instruments = [each.instrument for each in listed]
    async with (
        emulated(market=EmulatedMarket.still(listed), lookup=lookup) as (dhan, data),
        data.stream(instruments) as events,
    ):
        await take(events, 300)
        dhan.drop_connections()
        await until(lambda: len(dhan.feed.subscriptions) == 300 and events.health.reconnects == 1)

        assert {each["InstrumentCount"] for each in dhan.feed.received} == {100}
        assert len(dhan.feed.received) == 6


async def test_a_changed_mode_ends_the_old_subscription_and_begins_the_new() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        await events.subscribe([RELIANCE], mode=FeedMode.FULL)
        await dhan.market.move(RELIANCE, 1401.0)

        tick = await next_tick(events)
        while tick.depth is None:
            tick = await next_tick(events)

        assert [each["RequestCode"] for each in dhan.feed.received] == [15, 16, 21]
        assert dhan.feed.subscriptions == {("NSE_EQ", "2885"): 21}


async def test_subscribing_again_without_a_mode_keeps_it_and_says_nothing() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await take(events, 1)

        await events.subscribe([RELIANCE])
        await events.subscribe([TCS])

        await until(lambda: len(dhan.feed.received) == 2)
        assert dhan.feed.subscriptions == {("NSE_EQ", "2885"): 21, ("NSE_EQ", "11536"): 21}


async def test_what_is_unsubscribed_comes_no_more() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE, TCS]) as events:
        await take(events, 2)
        await events.unsubscribe([RELIANCE, NIFTY])
        await until(lambda: ("NSE_EQ", "2885") not in dhan.feed.subscriptions)
        await dhan.market.move_all({RELIANCE: 1405.0, TCS: 3105.0})

        assert (await next_tick(events)).instrument == TCS
        assert events.health.stale(RELIANCE)


async def test_a_phase_change_is_a_market_status() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        await dhan.market.close_session()

        (status,) = await take(events, 1)

        assert isinstance(status, MarketStatus)


async def test_leaving_closes_the_socket_and_ends_the_iteration() -> None:
    async with emulated() as (dhan, data):
        async with data.stream([RELIANCE]) as events:
            await take(events, 1)

        await until(lambda: not dhan.feed.sockets)
        assert events.health.state is FeedState.CLOSED
        assert [event async for event in events] == []


async def test_more_sockets_than_allowed_are_refused_before_anything_is_sent() -> None:
    async with emulated() as (dhan, data):
        opened = [data.stream([RELIANCE]) for _ in range(5)]
        for each in opened:
            await each.__aenter__()
        with pytest.raises(SubscriptionLimit, match="5 feed sockets"):
            async with data.stream([TCS]):
                pass
        for each in opened:
            await each.__aexit__(None, None, None)

        assert len(dhan.received("WS")) == 5


async def test_more_instruments_than_a_socket_carries_are_refused_before_anything_is_sent() -> None:
    listed = invent(5001)
    lookup = Lookup({each.instrument: f"{each.dhan_segment}:{each.dhan_id}" for each in listed})
    instruments = [each.instrument for each in listed]
    async with emulated(lookup=lookup) as (dhan, data):
        with pytest.raises(SubscriptionLimit, match="5000 instruments"):
            async with data.stream(instruments):
                pass

        assert dhan.received("WS") == []


@pytest.mark.parametrize("mode", [FeedMode.OPTION_GREEKS, FeedMode.DEPTH_30])
async def test_a_mode_that_dhan_lacks_is_refused_before_anything_is_sent(mode: FeedMode) -> None:
    async with emulated() as (dhan, data):
        with pytest.raises(Unsupported, match=mode.value):
            async with data.stream([RELIANCE], mode=mode):
                pass

        assert dhan.received("WS") == []


async def test_an_instrument_that_dhan_does_not_list_is_refused_before_anything_is_sent() -> None:
    stranger = invent(1)[0].instrument
    async with emulated() as (dhan, data):
        with pytest.raises(InstrumentUnmapped):
            async with data.stream([stranger]):
                pass

        assert dhan.received("WS") == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(804, SubscriptionLimit), (806, FeedAuthenticationError), (810, FeedAuthenticationError), (813, FeedError)],
)
async def test_a_reason_without_remedy_ends_the_stream(code: int, error: type[FeedError]) -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        dhan.feed.disconnect(code)

        with pytest.raises(error, match=rf"\[{code}\]"):
            await take(events, 1)
        assert len(dhan.received("WS")) == 1


async def test_a_hang_up_for_crowding_waits_a_minute_and_comes_back() -> None:
    clock = HastyClock()
    async with emulated(clock=clock) as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        dhan.feed.disconnect(805)

        gap, tick = await take(events, 2)

        assert isinstance(gap, Gap)
        assert "805" in gap.reason
        assert isinstance(tick, Tick)
        assert max(clock.pauses) > 55


async def test_being_crowded_out_twice_ends_the_stream() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        dhan.feed.disconnect(805)
        await take(events, 2)
        dhan.feed.disconnect(805)

        with pytest.raises(SubscriptionLimit, match="other programs"):
            await take(events, 1)


async def test_a_sixth_socket_of_the_account_is_noticed_by_the_oldest() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        other = [DhanSocket(dhan.feed_url, dhan.client_id, dhan.access_token) for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            for each in other:
                group.create_task(each.open())
        gap, tick = await take(events, 2)
        for each in other:
            await each.close()

        assert isinstance(gap, Gap)
        assert isinstance(tick, Tick)


async def test_internal_errors_of_the_feed_are_waited_out_longer_and_longer() -> None:
    clock = HastyClock()
    async with emulated(clock=clock) as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        for _ in range(3):
            dhan.feed.disconnect(800)
            gap, tick = await take(events, 2)
            assert isinstance(gap, Gap)
            assert isinstance(tick, Tick)

        assert sum(pause > 1.5 for pause in clock.pauses) >= 3


class Renewing:
    """Tokens that can be renewed; counts how often they are."""

    def __init__(self, *tokens: AccessToken) -> None:
        self.tokens = list(tokens)
        self.renewals = 0

    async def token(self) -> AccessToken:
        return self.tokens[0]

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.renewals += 1
        if self.tokens[0].secret != refused.secret:
            return self.tokens[0]
        if len(self.tokens) == 1:
            raise TokenExpired("no newer token")
        self.tokens.pop(0)
        return self.tokens[0]


def access(client_id: str, secret: str) -> AccessToken:
    return AccessToken(client_id=client_id, secret=SecretStr(secret))


async def test_a_token_that_dies_is_replaced_once_and_the_stream_goes_on() -> None:
    async with emulated() as (dhan, data):
        first = access(dhan.client_id, dhan.access_token)
        tokens = Renewing(first)
        data._tokens = data._client._tokens = tokens
        async with data.stream([RELIANCE]) as events:
            await take(events, 1)
            tokens.tokens.append(access(dhan.client_id, dhan.new_token()))  # hangs up with 807

            gap, tick = await take(events, 2)

            assert isinstance(gap, Gap)
            assert isinstance(tick, Tick)
            assert tokens.renewals == 1


async def test_a_token_that_dies_without_successor_ends_the_stream() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        dhan.new_token()

        with pytest.raises(FeedAuthenticationError):
            await take(events, 1)


@pytest.mark.parametrize("way", ["packet", "reset"])
async def test_a_token_that_the_feed_refuses_stops_it_instead_of_hammering(way: str) -> None:
    async with emulated() as (dhan, data):
        dhan.feed.bad_login = way  # type: ignore[assignment]
        bad = Renewing(access(dhan.client_id, "another-token"))
        data._tokens = data._client._tokens = bad
        async with data.stream([RELIANCE]) as events:
            with pytest.raises(FeedAuthenticationError):
                await take(events, 1)

        assert len(dhan.received("WS")) == 1


async def test_an_account_without_the_plan_is_told_so_by_the_feed() -> None:
    async with emulated() as (dhan, data):
        dhan.login.data_plan = "Deactive"
        async with data.stream([RELIANCE]) as events:
            with pytest.raises(FeedAuthenticationError, match="Data API plan"):
                await take(events, 1)


async def test_an_account_whose_plan_ran_out_without_a_word_is_told_so() -> None:
    async with emulated() as (dhan, data), data.stream([]) as events:
        dhan.login.data_plan = "Deactive"
        dhan.drop_connections(reset=True)

        with pytest.raises(FeedAuthenticationError, match="Data API plan"):
            await take(events, 1)


async def test_a_handshake_answered_429_is_waited_for_a_minute() -> None:
    clock = HastyClock()
    async with emulated(clock=clock) as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        dhan.faults.add("WS /feed", Fault.rate_limited(), times=2)
        dhan.drop_connections()

        gap, tick = await take(events, 2)

        assert isinstance(gap, Gap)
        assert isinstance(tick, Tick)
        assert max(clock.pauses) >= 30
        assert events.health.refusals == 2


async def test_a_server_that_is_away_is_waited_for() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        await dhan.stop()
        await until(lambda: events.health.state is FeedState.RECONNECTING)
        await dhan.start()

        gap, tick = await take(events, 2)

        assert isinstance(gap, Gap)
        assert isinstance(tick, Tick)


async def test_a_first_connection_that_cannot_be_made_is_an_error() -> None:
    async with emulated() as (dhan, data):
        await dhan.stop()
        with pytest.raises(NotSent):
            async with data.stream([RELIANCE]):
                pass
        await dhan.start()


async def test_frames_that_cannot_be_read_end_nothing() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await take(events, 1)
        for frame in (b"", b"\x02", full()[:90], "text", ticker(0.0), b"\xff" * 40):
            await dhan.feed.send(frame)
        await dhan.market.move(RELIANCE, 1404.0)

        assert (await next_tick(events)).last_price == 1404.0
        assert sum(events.health.skipped.values()) >= 5


class AlwaysOpen(TradingCalendar):
    """A calendar that knows of no closed hour, since it knows nothing."""

    def session(self, *_: object, **__: object) -> Session | None:
        raise Unsupported("no calendar")


async def test_silence_in_an_open_session_is_noticed_and_the_socket_replaced() -> None:
    patience = Patience(report=0.2, replace=0.4, every=0.05)
    async with (
        emulated(calendar=AlwaysOpen(), patience=patience) as (dhan, data),
        data.stream([RELIANCE]) as events,
    ):
        await take(events, 1)

        gap, tick = await take(events, 2)

        assert isinstance(gap, Gap)
        assert "nothing came" in gap.reason
        assert isinstance(tick, Tick)
        assert len(dhan.received("WS")) == 2


async def test_a_consumer_that_sleeps_gets_the_newest_price_and_a_count() -> None:
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        await take(events, 1)
        for step in range(1, 40):
            await dhan.market.move(RELIANCE, 1400.0 + step / 10)
        await asyncio.sleep(0.4)

        tick = await next_tick(events)

        assert tick.last_price == 1403.9
        assert events.health.conflated > 0


async def test_no_log_record_and_no_repr_holds_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with emulated() as (dhan, data), data.stream([RELIANCE]) as events:
        secret = dhan.access_token
        await take(events, 1)
        dhan.drop_connections(reset=True)
        await take(events, 1)
        assert isinstance(events, DhanStream)
        endpoint = await events._endpoint()

    # The emulator's server logs handshakes as any server would; the client's own loggers must not.
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    assert told
    assert not any(secret in each for each in told)
    assert secret in endpoint.url
    assert secret not in repr(endpoint)


class DhanSocket:
    """A feed socket of some other program."""

    def __init__(self, url: str, client_id: str, token: str) -> None:
        self._url = f"{url}?version=2&token={token}&clientId={client_id}&authType=2"
        self._socket: ClientConnection | None = None

    async def open(self) -> None:
        self._socket = await connect(self._url)

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
