"""The schema: complete by the documentation, ours by name, and what is committed is what is generated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from upstox_kit import KEYS, RELIANCE, frame, full, market_info

from hybridbroker.brokers.upstox.proto import feed_pb2 as pb

Field = descriptor_pb2.FieldDescriptorProto

SOURCE = Path(__file__).resolve().parents[3] / "src"
PROTO = "hybridbroker/brokers/upstox/proto/feed.proto"

DOCUMENTED = """
LTPC: ltp=1 double, ltt=2 int64, ltq=3 int64, cp=4 double, iep=5 DoubleValue
MarketLevel: bidAskQuote=1 repeated Quote
Quote: bidQ=1 int64, bidP=2 double, askQ=3 int64, askP=4 double
OptionGreeks: delta=1 double, theta=2 double, gamma=3 double, vega=4 double, rho=5 double
MarketOHLC: ohlc=1 repeated OHLC
OHLC: interval=1 string, open=2 double, high=3 double, low=4 double, close=5 double, vol=6 int64, ts=7 int64
MarketFullFeed: ltpc=1 LTPC, marketLevel=2 MarketLevel, optionGreeks=3 OptionGreeks, marketOHLC=4 MarketOHLC, \
atp=5 double, vtt=6 int64, oi=7 double, iv=8 double, tbq=9 double, tsq=10 double, iep=11 double, rp=12 double, \
ieq=13 int64, iiqTotal=14 int64, iiqM=15 int64, casEligible=16 bool
IndexFullFeed: ltpc=1 LTPC, marketOHLC=2 MarketOHLC
FullFeed: marketFF=1 MarketFullFeed, indexFF=2 IndexFullFeed
FirstLevelWithGreeks: ltpc=1 LTPC, firstDepth=2 Quote, optionGreeks=3 OptionGreeks, vtt=4 int64, oi=5 double, \
iv=6 double
Feed: ltpc=1 LTPC, fullFeed=2 FullFeed, firstLevelWithGreeks=3 FirstLevelWithGreeks, requestMode=4 RequestMode
StatusInfo: status=1 string, updatedTime=2 int64
MarketInfo: segmentStatus=1 repeated SegmentStatusEntry, casMarketStatus=2 repeated CasMarketStatusEntry, \
preOpenSessionStatus=3 repeated PreOpenSessionStatusEntry
FeedResponse: type=1 Type, feeds=2 repeated FeedsEntry, currentTs=3 int64, marketInfo=4 MarketInfo
"""

TYPES = {Field.TYPE_DOUBLE: "double", Field.TYPE_INT64: "int64", Field.TYPE_STRING: "string", Field.TYPE_BOOL: "bool"}


def described(field: Field) -> str:
    label = "repeated " if field.label == Field.LABEL_REPEATED else ""
    return f"{field.name}={field.number} {label}{field.type_name.rpartition('.')[2] or TYPES[field.type]}"


@pytest.mark.parametrize("line", DOCUMENTED.strip().splitlines(), ids=lambda line: line.partition(":")[0])
def test_every_message_has_the_documented_fields(line: str) -> None:
    name, _, fields = line.partition(": ")

    message = descriptor_pb2.DescriptorProto()
    pb.DESCRIPTOR.message_types_by_name[name].CopyToProto(message)

    assert ", ".join(described(field) for field in message.field) == fields


def test_the_enumerations_have_the_documented_numbers() -> None:
    assert dict(pb.Type.items()) == {"initial_feed": 0, "live_feed": 1, "market_info": 2}
    assert dict(pb.RequestMode.items()) == {"ltpc": 0, "full_d5": 1, "option_greeks": 2, "full_d30": 3}
    assert dict(pb.MarketStatus.items()) == {
        "PRE_OPEN_START": 0,
        "PRE_OPEN_END": 1,
        "NORMAL_OPEN": 2,
        "NORMAL_CLOSE": 3,
        "CLOSING_START": 4,
        "CLOSING_END": 5,
    }


def test_alternatives_exclude_each_other() -> None:
    feed = pb.Feed(ltpc=pb.LTPC(ltp=1.0))

    feed.fullFeed.marketFF.vtt = 1

    assert feed.WhichOneof("FeedUnion") == "fullFeed"
    assert feed.fullFeed.WhichOneof("FullFeedUnion") == "marketFF"


def test_the_cut_reads_the_same_bytes() -> None:
    cut = pb.FeedFrame.FromString(frame({RELIANCE: full()}))
    status = pb.FeedFrame.FromString(market_info(NSE_EQ=pb.NORMAL_OPEN))

    assert pb.Feed.FromString(cut.feeds[KEYS[RELIANCE]]) == full()
    assert cut.type == pb.live_feed
    assert dict(status.marketInfo.segmentStatus) == {"NSE_EQ": pb.NORMAL_OPEN}


def test_names_are_ours_so_that_the_vendors_schema_can_be_loaded_beside_it() -> None:
    proto = descriptor_pb2.FileDescriptorProto()

    pb.DESCRIPTOR.CopyToProto(proto)

    assert proto.package == "hybridbroker.brokers.upstox"
    assert proto.name == PROTO


def test_the_committed_code_is_what_the_compiler_makes(tmp_path: Path) -> None:
    python = os.environ.get("HYBRIDBROKER_PROTO_PYTHON", sys.executable)
    command = [
        python,
        "-m",
        "grpc_tools.protoc",
        "-I",
        str(SOURCE),
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    found = subprocess.run([python, "-c", "import grpc_tools"], check=False, capture_output=True)
    if found.returncode:
        pytest.skip("grpcio-tools 1.68 is in an environment of its own: name its python in HYBRIDBROKER_PROTO_PYTHON")

    subprocess.run([*command, str(SOURCE / PROTO)], check=True, capture_output=True)

    for made in ("feed_pb2.py", "feed_pb2.pyi"):
        fresh = (tmp_path / PROTO).with_name(made).read_text()
        assert fresh == (SOURCE / PROTO).with_name(made).read_text(), f"{made}: generate it anew, see feed.proto"
