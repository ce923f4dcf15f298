"""What is said to the feed: documented JSON, few messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from hybridbroker.brokers.upstox.data import mapping
from hybridbroker.brokers.upstox.data.feed import change_mode_frames, hello_frames, subscribe_frames, unsubscribe_frames
from hybridbroker.domain.market import FeedMode


def read(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(each) for each in frames]


def test_a_subscription_is_the_documented_message() -> None:
    (message,) = read(subscribe_frames(["NSE_EQ|A", "NSE_INDEX|Nifty 50"], FeedMode.FULL))

    guid = message.pop("guid")
    assert len(guid) >= 20
    assert message == {"method": "sub", "data": {"mode": "full", "instrumentKeys": ["NSE_EQ|A", "NSE_INDEX|Nifty 50"]}}


def test_a_change_of_mode_names_the_mode() -> None:
    (message,) = read(change_mode_frames(["NSE_EQ|A"], FeedMode.OPTION_GREEKS))

    assert message["method"] == "change_mode"
    assert message["data"] == {"mode": "option_greeks", "instrumentKeys": ["NSE_EQ|A"]}


def test_an_unsubscription_names_no_mode() -> None:
    (message,) = read(unsubscribe_frames(["NSE_EQ|A"]))

    assert message["method"] == "unsub"
    assert message["data"] == {"instrumentKeys": ["NSE_EQ|A"]}


def test_every_message_has_its_own_guid() -> None:
    first, second = read([*unsubscribe_frames(["A"]), *unsubscribe_frames(["A"])])

    assert first["guid"] != second["guid"]


def test_nothing_wanted_is_nothing_said() -> None:
    assert not read(subscribe_frames([], FeedMode.LTP))
    assert not read(hello_frames({}))


def test_hello_says_everything_in_one_message_a_mode() -> None:
    wanted = {"A": FeedMode.LTP, "B": FeedMode.FULL, "C": FeedMode.LTP}

    messages = read(hello_frames(wanted))

    told = {message["data"]["mode"]: message["data"]["instrumentKeys"] for message in messages}
    assert told == {"ltpc": ["A", "C"], "full": ["B"]}
    assert {message["method"] for message in messages} == {"sub"}


def test_two_thousand_keys_are_two_messages() -> None:
    messages = read(subscribe_frames([f"K{n}" for n in range(2000)], FeedMode.FULL))

    assert [len(message["data"]["instrumentKeys"]) for message in messages] == [1000, 1000]


@pytest.mark.parametrize("mode", FeedMode)
def test_every_mode_has_a_spelling(mode: FeedMode) -> None:
    assert mapping.FEED_MODES[mode] in {"ltpc", "full", "option_greeks", "full_d30"}
