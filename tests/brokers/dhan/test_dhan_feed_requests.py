"""What is sent to subscribe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybridbroker.brokers.dhan.data.feed import feed_key_of, hello_frames, subscribe_frames, unsubscribe_frames
from hybridbroker.domain.instrument import BrokerKey
from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import Unsupported


def key(native: str = "2885", segment: str = "NSE_EQ") -> BrokerKey:
    return BrokerKey(broker="dhan", segment=segment, id=native)


def test_a_subscription_is_written_as_documented() -> None:
    (frame,) = subscribe_frames([key("1333"), key("532540", "BSE_EQ")], FeedMode.LTP)

    assert json.loads(frame) == {
        "RequestCode": 15,
        "InstrumentCount": 2,
        "InstrumentList": [
            {"ExchangeSegment": "NSE_EQ", "SecurityId": "1333"},
            {"ExchangeSegment": "BSE_EQ", "SecurityId": "532540"},
        ],
    }


def test_the_documentations_own_example_is_what_we_send(shared_data: Path) -> None:
    pages = json.loads((shared_data / "samples" / "doc_samples" / "dhan_docs_json_examples.json").read_text())
    example = pages["15-live-market-feed.md"][0]["example"]
    keys = [key(each["SecurityId"], each["ExchangeSegment"]) for each in example["InstrumentList"]]

    assert [json.loads(frame) for frame in subscribe_frames(keys, FeedMode.LTP)] == [example]


@pytest.mark.parametrize(("mode", "code"), [(FeedMode.LTP, 15), (FeedMode.FULL, 21)])
def test_unsubscribing_is_one_code_more(mode: FeedMode, code: int) -> None:
    (subscribed,), (ended,) = subscribe_frames([key()], mode), unsubscribe_frames([key()], mode)

    assert json.loads(subscribed)["RequestCode"] == code
    assert json.loads(ended)["RequestCode"] == code + 1


def test_a_message_holds_at_most_a_hundred_instruments() -> None:
    keys = [key(str(n)) for n in range(250)]

    frames = [json.loads(frame) for frame in subscribe_frames(keys, FeedMode.FULL)]

    assert [frame["InstrumentCount"] for frame in frames] == [100, 100, 50]
    assert [each["SecurityId"] for frame in frames for each in frame["InstrumentList"]] == [each.id for each in keys]


def test_a_fresh_connection_is_told_everything_by_mode() -> None:
    wanted = {key("1"): FeedMode.LTP, key("2"): FeedMode.FULL, key("3"): FeedMode.LTP}

    told = {
        frame["RequestCode"]: [each["SecurityId"] for each in frame["InstrumentList"]]
        for frame in map(json.loads, hello_frames(wanted))
    }

    assert told == {15: ["1", "3"], 21: ["2"]}


@pytest.mark.parametrize("bad", [key("5", "NSE_COMM"), key("INFY"), key(""), key(str(2**32)), key("-1"), key("²")])
def test_what_packets_cannot_name_is_refused(bad: BrokerKey) -> None:
    with pytest.raises(Unsupported):
        feed_key_of(bad)
