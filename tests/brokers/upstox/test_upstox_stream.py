"""Streams over a real socket: subscribed, repaired, refused, closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from pydantic import SecretStr
from upstox_kit import (
    CALL,
    KEYS,
    NIFTY,
    PATIENCE,
    RELIANCE,
    TCS,
    TOKEN,
    TRADED_MS,
    UNLISTED,
    HastyClock,
    SessionClock,
    UpstoxServer,
    frame,
    full,
    ltp_feed,
    market_data,
    market_info,
    serving,
    trade,
)

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, MarketStatus, Tick
from hybridbroker.errors import (
    FeedAuthenticationError,
    InstrumentUnmapped,
    NetworkError,
    NotSent,
    RateLimited,
    SubscriptionLimit,
    TokenExpired,
    Unsupported,
    WireFormatError,
)
from hybridbroker.protocols import MarketStream, Overflow
from hybridbroker.silence import Patience


async def take(events: MarketStream, count: int) -> list[MarketEvent]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(count)]


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.01)


async def next_tick(events: MarketStream) -> Tick:
    async with asyncio.timeout(PATIENCE):
        return await anext(events.ticks())


async def test_a_stream_subscribes_and_delivers() -> None:
    async with (
        serving(greeting=[market_info(NSE_EQ=pb.NORMAL_OPEN)]) as (server, data),
        data.stream([RELIANCE, TCS], mode=FeedMode.FULL) as events,
    ):
        (request,) = await server.heard(1)
        await server.send(frame({RELIANCE: full(), TCS: full()}, kind=pb.initial_feed))
        status, *ticks = await take(events, 3)

        assert request["method"] == "sub"
        assert request["data"] == {"mode": "full", "instrumentKeys": [KEYS[RELIANCE], KEYS[TCS]]}
        assert isinstance(status, MarketStatus)
        assert {tick.instrument for tick in ticks if isinstance(tick, Tick)} == {RELIANCE, TCS}
        assert events.health.state is FeedState.LIVE
        assert events.health.last_data is not None
        assert not events.health.stale(RELIANCE)


async def test_leaving_closes_the_socket_and_ends_the_iteration() -> None:
    async with serving() as (server, data):
        async with data.stream([RELIANCE]) as events:
            await server.heard(1)
            await server.send(frame({RELIANCE: full()}))
            before = len(asyncio.all_tasks())

        assert events.health.state is FeedState.CLOSED
        await asyncio.wait_for(server.sockets[0].wait_closed(), 5)
        assert len(asyncio.all_tasks()) < before
        assert [type(event) async for event in events] in ([Tick], [])


async def test_leaving_by_an_exception_closes_the_socket() -> None:
    async with serving() as (server, data):
        with pytest.raises(ZeroDivisionError):
            async with data.stream([RELIANCE]):
                raise ZeroDivisionError

        await asyncio.wait_for(server.sockets[0].wait_closed(), 5)


async def test_a_lost_connection_is_a_gap_and_everything_is_said_again_on_a_fresh_address() -> None:
    async with serving() as (server, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await events.subscribe([TCS], mode=FeedMode.LTP)
        await server.heard(2)
        await server.send(frame({RELIANCE: full()}))
        first = await next_tick(events)
        await server.cut()
        await server.heard(2, connection=1)
        await server.send(frame({RELIANCE: full(ltpc=trade(ltp=2.0))}, kind=pb.initial_feed))
        gap, tick = await take(events, 2)

        assert first.last_price == 1404.9
        assert isinstance(gap, Gap)
        assert gap.since <= gap.until
        assert isinstance(tick, Tick)
        assert tick.last_price == 2.0
        assert len(set(server.addresses)) == len(server.addresses) == 2
        told = {each["data"]["mode"]: each["data"]["instrumentKeys"] for each in server.received[1]}
        assert told == {"full": [KEYS[RELIANCE]], "ltpc": [KEYS[TCS]]}
        assert (events.health.reconnects, events.health.gaps) == (1, 1)


async def test_what_was_known_before_a_gap_does_not_fill_what_comes_after() -> None:
    async with serving() as (server, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await server.heard(1)
        await server.send(frame({RELIANCE: full()}))
        await next_tick(events)
        await server.cut()
        await server.heard(1, connection=1)
        await server.send(frame({RELIANCE: full(ltpc=None)}), frame({RELIANCE: full(ltpc=trade(ltp=3.0))}))

        assert (await next_tick(events)).last_price == 3.0
        assert events.health.skipped["no last price"] == 1


async def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    clock = HastyClock()
    async with serving(clock=clock) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        await server.stop()
        await until(lambda: len(clock.pauses) >= 6)
        state = events.health.state
        await server.start()
        await server.heard(1, connection=-1)
        await server.connected(2)
        await server.heard(1, connection=1)
        await server.send(frame({RELIANCE: full()}))
        (gap,) = await take(events, 1)
        tick = await next_tick(events)

        assert state is FeedState.RECONNECTING
        assert isinstance(gap, Gap)
        assert tick.instrument is RELIANCE
        assert events.health.state is FeedState.LIVE


async def test_an_address_used_before_is_refused_and_replaced() -> None:
    async with serving() as (server, data):
        server.handshake = [403]

        async with data.stream([RELIANCE]):
            assert len(server.addresses) == 2
            assert len(set(server.addresses)) == 2


@pytest.mark.parametrize("trouble", [403, 429, 500, 503])
async def test_handshakes_that_are_refused_slow_down_and_go_on(trouble: int) -> None:
    clock = HastyClock()
    async with serving(clock=clock) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.handshake = [trouble] * 3
        await server.cut()
        await server.connected(2)
        (gap,) = await take(events, 1)

        assert isinstance(gap, Gap)
        assert len(set(server.addresses)) == 5
        pauses = clock.pauses[1:4]
        assert len(pauses) == 3
        assert min(pauses) >= 1.0
        assert max(pauses) >= 4.0


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_authorize_call_that_fails_is_repeated_with_patience(status: int) -> None:
    clock = HastyClock()
    async with serving(clock=clock) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.authorize = [status, status]
        await server.cut()
        await server.connected(2)
        (gap,) = await take(events, 1)

        assert isinstance(gap, Gap)
        assert len(server.tokens) == 4
        assert sorted(clock.pauses)[-2] >= 1.0


@pytest.mark.parametrize(
    ("authorize", "expected", "calls"),
    [
        pytest.param([401], FeedAuthenticationError, 1, id="wrong token"),
        pytest.param([429], RateLimited, 1, id="too often"),
        pytest.param([500], NetworkError, 1, id="server error"),
        pytest.param([b"<html><title>Attention Required!</title></html>"], NetworkError, 1, id="Cloudflare"),
        pytest.param([b'{"status":"success","data":{}}'], WireFormatError, 1, id="no address"),
        pytest.param([b'{"status":"success","data":{"authorized_redirect_uri":null}}'], WireFormatError, 1, id="null"),
    ],
)
async def test_entering_raises_what_stands_in_the_way(
    authorize: list[Any], expected: type[Exception], calls: int
) -> None:
    async with serving() as (server, data):
        server.authorize = list(authorize)

        with pytest.raises(expected):
            async with data.stream([RELIANCE]):
                pass

        assert len(server.tokens) == calls
        assert server.open_sockets == 0
        async with data.stream([RELIANCE]):
            assert server.open_sockets == 1


async def test_nobody_there_is_not_sent() -> None:
    async with market_data("http://127.0.0.1:9") as data:
        with pytest.raises(NotSent):
            async with data.stream([RELIANCE]):
                pass


async def test_credentials_that_die_end_the_stream_instead_of_hammering() -> None:
    async with serving() as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.token = "another-one"
        await server.cut()

        with pytest.raises(FeedAuthenticationError):
            await next_tick(events)

        assert len(server.tokens) == 2
        assert events.health.state is FeedState.CLOSED


async def test_a_handshake_401_asks_once_more_then_stops() -> None:
    async with serving() as (server, data):
        server.handshake = [401, 401, 401]

        with pytest.raises(FeedAuthenticationError):
            async with data.stream([RELIANCE]):
                pass

        assert len(server.addresses) == 2


class Told:
    """A `Notifier` that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    async def notify(self, message: str) -> None:
        self.messages.append(message)


SHORT = Patience(report=0.1, replace=0.2, every=0.01)


async def test_a_socket_that_lives_and_says_nothing_in_the_session_is_reported_then_replaced() -> None:
    told, clock = Told(), SessionClock()
    async with (
        serving(clock=clock, patience=SHORT, notifier=told, greeting=[market_info()]) as (server, data),
        data.stream([RELIANCE]) as events,
    ):
        await server.heard(1)
        await server.send(frame({RELIANCE: ltp_feed()}))
        await next_tick(events)
        quiet_from = events.health.last_data
        await until(lambda: events.health.silent)
        await server.heard(1, connection=1)
        await server.send(frame({RELIANCE: ltp_feed(ltt=TRADED_MS + 5000)}, kind=pb.initial_feed))
        gap = next(event for event in await take(events, 2) if isinstance(event, Gap))
        await until(lambda: not events.health.silent)

        assert gap.since == quiet_from
        assert "nothing came for" in gap.reason
        assert len(told.messages) == 1
        assert "although a session is open" in told.messages[0]
        assert server.received[1][0]["data"]["instrumentKeys"] == [KEYS[RELIANCE]]


async def test_a_session_that_is_closed_is_quiet_without_an_alarm() -> None:
    told, clock = Told(), SessionClock("2026-10-01T16:00+05:30", speed=36_000.0)
    async with (
        serving(clock=clock, patience=attrs.evolve(SHORT, report=30.0, replace=60.0), notifier=told) as (server, data),
        data.stream([RELIANCE, CALL, NIFTY]) as events,
    ):
        await server.heard(1)
        await until(lambda: clock.now() > datetime.fromisoformat("2026-10-01T18:00+05:30"))

        assert (told.messages, events.health.silent, events.health.reconnects) == ([], False, 0)
        assert not events.health.stale()


async def test_a_consumer_that_holds_up_the_reader_is_not_taken_for_a_silent_feed() -> None:
    told = Told()
    async with (
        serving(clock=SessionClock(), patience=SHORT, notifier=told) as (server, data),
        data.stream([RELIANCE], overflow=Overflow.BLOCK) as events,
    ):
        await server.heard(1)
        await server.send(frame({RELIANCE: ltp_feed()}))
        await until(lambda: events.health.last_data is not None)
        await asyncio.sleep(0.3)

        assert (told.messages, events.health.reconnects) == ([], 0)


async def test_beyond_the_calendar_the_feed_says_whether_a_session_is_open() -> None:
    clock = SessionClock("2031-10-01T10:15+05:30")
    async with serving(clock=clock) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        unknown = events.health.stale(RELIANCE, after=-1.0)
        await server.send(market_info(NSE_EQ=pb.NORMAL_CLOSE))
        await take(events, 1)
        closed = events.health.silence(RELIANCE)
        await server.send(market_info(NSE_EQ=pb.NORMAL_OPEN))
        await take(events, 1)
        await asyncio.sleep(0.05)

        assert unknown
        assert closed == 0.0
        assert 0.0 < events.health.silence(RELIANCE) < 5.0


async def test_repeated_and_late_updates_are_counted_and_no_new_trades() -> None:
    async with serving(clock=SessionClock()) as (server, data), data.stream([RELIANCE], mode=FeedMode.FULL) as events:
        await server.heard(1)
        first = full(ltpc=trade(ltp=100.0), vtt=1000)
        late = full(ltpc=trade(ltp=99.0, ltt=TRADED_MS - 250), vtt=900)
        newer = full(ltpc=trade(ltp=101.0, ltt=TRADED_MS + 10), vtt=1100)
        await server.send(*(frame({RELIANCE: each}) for each in (first, first, late, newer)))

        assert [(await next_tick(events)).last_price for _ in range(2)] == [100.0, 101.0]
        assert events.health.skipped == {"duplicate": 1, "out of order": 1}


async def test_a_refused_handshake_shows_in_the_health(caplog: pytest.LogCaptureFixture) -> None:
    clock = HastyClock()
    async with serving(clock=clock) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        seen: list[str | None] = []
        server.handshake = [403, 429]
        with caplog.at_level(logging.WARNING, "hybridbroker"):
            await server.cut()
            while len(server.sockets) < 2:
                seen.append(events.health.trouble)
                await asyncio.sleep(0.001)
            await take(events, 1)

        assert any(each and "HTTP 403" in each for each in seen)
        assert events.health.trouble is None
        assert events.health.refusals == 2
        assert [each.levelname for each in caplog.records] == ["WARNING", "WARNING"]


class Tokens:
    """A `TokenSource` whose token is changed by the test."""

    def __init__(self, secret: str = TOKEN) -> None:
        self.secret = secret
        self.clock = HastyClock()
        self.over = False
        self.next: str | None = None
        self.renewals: list[str] = []
        self.on_renewal: Callable[[], None] = lambda: None

    async def token(self) -> AccessToken:
        if self.over:
            raise TokenExpired("it is half past three")
        return AccessToken.of(SecretStr(self.secret), seen_at=self.clock.now())

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.renewals.append(refused.secret.get_secret_value())
        if self.next is None:
            raise TokenExpired("there is no other")
        self.secret, self.next = self.next, None
        self.on_renewal()
        return await self.token()


async def test_a_handshake_401_renews_the_token_once() -> None:
    tokens = Tokens()
    tokens.next = "renewed"
    async with serving(tokens=tokens) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.handshake = [401]
        tokens.on_renewal = lambda: setattr(server, "token", "renewed")
        await server.cut()
        await server.connected(2)
        await take(events, 1)

        assert tokens.renewals == [TOKEN]
        assert server.tokens[-1] == "Bearer renewed"


async def test_an_authorize_401_renews_the_token_once_and_then_stops() -> None:
    tokens = Tokens()
    async with serving(tokens=tokens) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.token, tokens.next = "renewed", "renewed"
        await server.cut()
        (gap,) = await take(events, 1)
        server.token = "another"
        await server.cut()

        with pytest.raises(FeedAuthenticationError):
            await next_tick(events)

        assert isinstance(gap, Gap)
        assert tokens.renewals == [TOKEN, "renewed"]


async def test_a_running_stream_survives_the_nightly_roll_over_when_there_is_a_new_token() -> None:
    tokens = Tokens()
    async with serving(tokens=tokens) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        server.token = tokens.secret = "tomorrows-token"
        await server.cut()
        await server.heard(1, connection=1)
        await server.send(frame({RELIANCE: full()}))

        assert isinstance((await take(events, 1))[0], Gap)
        assert (await next_tick(events)).instrument is RELIANCE
        assert server.tokens == [f"Bearer {TOKEN}", "Bearer tomorrows-token"]


async def test_without_a_new_token_the_stream_says_that_it_is_over() -> None:
    tokens = Tokens()
    async with serving(tokens=tokens) as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        tokens.over = True
        await server.cut()

        with pytest.raises(FeedAuthenticationError, match="half past three") as caught:
            await next_tick(events)

        assert isinstance(caught.value.__cause__, TokenExpired)
        assert len(server.tokens) == 1


async def test_noise_text_and_strangers_are_counted_and_the_rest_is_delivered() -> None:
    async with serving() as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        good = frame({RELIANCE: full()})
        refusal = '{"status":"failed","method":"sub","error":"Invalid instrument"}'
        stranger = frame({TCS: full()})
        await server.send(b"\xff\x01noise", good[:-9], "hello", refusal, stranger, b"", good)

        tick = await next_tick(events)

        assert tick.instrument is RELIANCE
        assert events.health.skipped == {
            "unreadable frame": 2,
            "text frame": 2,
            "refused request": 1,
            "unknown key": 1,
            "empty frame": 1,
        }
        assert events.health.reconnects == 0


async def test_modes_change_while_the_stream_runs() -> None:
    async with serving() as (server, data), data.stream([RELIANCE, TCS]) as events:
        await events.subscribe([TCS, CALL], mode=FeedMode.FULL)
        await events.subscribe([TCS, NIFTY])
        await events.subscribe([TCS, NIFTY, CALL])

        requests = await server.heard(4)

        told = [(each["method"], each["data"].get("mode"), each["data"]["instrumentKeys"]) for each in requests]
        assert told == [
            ("sub", "ltpc", [KEYS[RELIANCE], KEYS[TCS]]),
            ("sub", "full", [KEYS[CALL]]),
            ("change_mode", "full", [KEYS[TCS]]),
            ("sub", "ltpc", [KEYS[NIFTY]]),
        ]


async def test_unsubscribed_instruments_stay_away_after_a_reconnection() -> None:
    async with serving() as (server, data), data.stream([RELIANCE, TCS]) as events:
        await events.unsubscribe([TCS, CALL, UNLISTED])
        requests = await server.heard(2)
        await server.send(frame({TCS: ltp_feed()}), frame({RELIANCE: ltp_feed()}))
        tick = await next_tick(events)
        await server.cut()
        again = await server.heard(1, connection=1)

        assert requests[1]["method"] == "unsub"
        assert requests[1]["data"] == {"instrumentKeys": [KEYS[TCS]]}
        assert tick.instrument is RELIANCE
        assert again[0]["data"]["instrumentKeys"] == [KEYS[RELIANCE]]
        assert events.health.stale(TCS)


async def test_an_instrument_upstox_does_not_list_is_refused_before_anything_is_sent() -> None:
    async with serving() as (server, data):
        with pytest.raises(InstrumentUnmapped):
            async with data.stream([RELIANCE, UNLISTED]):
                pass
        async with data.stream([RELIANCE]) as events:
            with pytest.raises(InstrumentUnmapped):
                await events.subscribe([TCS, UNLISTED])
            await events.subscribe([CALL])
            requests = await server.heard(2)

        assert [each["data"]["instrumentKeys"] for each in requests] == [[KEYS[RELIANCE]], [KEYS[CALL]]]
        assert len(server.tokens) == 1


async def test_a_third_socket_is_refused_until_one_is_closed() -> None:
    async with serving() as (server, data):
        async with data.stream([RELIANCE]):
            async with data.stream([TCS]):
                with pytest.raises(SubscriptionLimit, match="2 feed sockets"):
                    async with data.stream([CALL]):
                        pass
            async with data.stream([CALL]):
                assert server.open_sockets == 2

        assert len(server.tokens) == 3


async def test_plus_may_open_five_sockets_and_see_thirty_levels() -> None:
    async with (
        serving(plan="plus") as (server, data),
        data.stream(),
        data.stream(),
        data.stream(),
        data.stream(),
        data.stream([RELIANCE], mode=FeedMode.DEPTH_30),
    ):
        (request,) = await server.heard(1)

        assert request["data"]["mode"] == "full_d30"
        with pytest.raises(SubscriptionLimit):
            async with data.stream():
                pass


async def test_thirty_levels_need_plus() -> None:
    async with serving() as (server, data):
        with pytest.raises(Unsupported, match="UPSTOX_PLAN=plus"):
            async with data.stream([RELIANCE], mode=FeedMode.DEPTH_30):
                pass

        assert not server.tokens


async def test_a_frame_without_listeners_is_still_read() -> None:
    async with serving(greeting=[market_info()]) as (_, data), data.stream() as events:
        (status,) = await take(events, 1)

        assert isinstance(status, MarketStatus)


async def test_a_slow_consumer_gets_the_newest_price_and_a_count() -> None:
    async with serving() as (server, data), data.stream([RELIANCE]) as events:
        await server.heard(1)
        await server.send(*(frame({RELIANCE: ltp_feed(ltp=float(n))}) for n in range(1, 60)))
        await until(lambda: events.health.last_data is not None)
        await asyncio.sleep(0.4)

        assert (await next_tick(events)).last_price == 59.0
        assert events.health.conflated == 58


async def test_a_blocked_stream_loses_nothing() -> None:
    async with serving() as (server, data), data.stream([RELIANCE], overflow=Overflow.BLOCK) as events:
        await server.heard(1)
        await server.send(*(frame({RELIANCE: ltp_feed(ltp=float(n))}) for n in range(1, 40)))
        await asyncio.sleep(0.3)

        assert [(await next_tick(events)).last_price for _ in range(39)] == [float(n) for n in range(1, 40)]
        assert events.health.conflated == 0


async def test_two_streams_do_not_hear_each_other() -> None:
    async with serving() as (server, data), data.stream([RELIANCE]) as first, data.stream([TCS]) as second:
        await server.connected(2)
        await server.heard(1, connection=0)
        await server.heard(1, connection=1)
        await server.send(frame({RELIANCE: ltp_feed(), TCS: ltp_feed()}))

        assert (await next_tick(first)).instrument is RELIANCE
        assert (await next_tick(second)).instrument is TCS


async def test_neither_token_nor_one_time_code_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as (server, data):
        server.handshake = [403]
        async with data.stream([RELIANCE]) as events:
            await server.heard(1)
            await server.cut()
            await server.connected(2)
            await take(events, 1)

    assert "code=code-" not in _ours(caplog)
    assert TOKEN not in _ours(caplog)


def _ours(caplog: pytest.LogCaptureFixture) -> str:
    """What the client logged; the test server logs what it is sent."""
    return "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("hybridbroker"))


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        pytest.param("2026-10-01T10:15+05:30", True, id="in the session"),
        pytest.param("2026-10-01T16:15+05:30", False, id="after it"),
        pytest.param("2026-10-02T10:15+05:30", False, id="on a holiday"),
        pytest.param("2026-10-03T10:15+05:30", False, id="on a Saturday"),
    ],
)
async def test_an_instrument_that_never_ticks_is_stale_while_its_session_is_open(now: str, is_open: bool) -> None:
    async with serving(clock=SessionClock(now)) as (server, data), data.stream([RELIANCE, TCS]) as events:
        await server.heard(1)
        await asyncio.sleep(0.05)
        await server.send(frame({RELIANCE: ltp_feed()}))
        await next_tick(events)

        assert events.health.stale(TCS, after=0.04) is is_open
        assert not events.health.stale(RELIANCE, after=timedelta(seconds=30).total_seconds())
        assert events.health.unheard == (TCS.id,)


@pytest.mark.parametrize("uri", ["http://127.0.0.1/", "ws://feed.example.test/?code=1", "not a url", ""])
async def test_an_address_that_is_not_safe_is_not_connected_to(uri: str) -> None:
    async with UpstoxServer() as server, market_data(server.url) as data:
        server.authorize = [f'{{"data":{{"authorized_redirect_uri":"{uri}"}}}}'.encode()]

        with pytest.raises(Exception, match=r"address|encrypted") as caught:
            async with data.stream([RELIANCE]):
                pass

        assert "code=1" not in str(caught.value)
        assert not server.sockets
