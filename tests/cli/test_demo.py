"""The demo: a whole market day through real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest


def demo(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hybridbroker", "demo", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def default_day() -> dict[str, Any]:
    return demo()


def test_the_default_day_holds_a_round_trip(default_day: dict[str, Any]) -> None:
    filled = [order for order in default_day["orders"] if order["filled_quantity"]]

    assert {order["side"] for order in filled} == {"buy", "sell"}
    assert default_day["fills"] >= 2


def test_profit_is_what_the_fills_and_the_charges_add_up_to(default_day: dict[str, Any]) -> None:
    signs = {"buy": -1, "sell": 1}
    filled = [order for order in default_day["orders"] if order["filled_quantity"]]
    gross = sum(signs[o["side"]] * o["filled_quantity"] * Decimal(o["average_price"]) for o in filled)
    pnl = {name: Decimal(value) for name, value in default_day["pnl"].items()}

    assert sum(signs[o["side"]] * o["filled_quantity"] for o in filled) == 0
    assert abs(gross - pnl["gross"]) < Decimal("0.05") * len(filled)
    assert pnl["net"] == pnl["gross"] - pnl["charges"]
    assert pnl["charges"] > 0


def test_every_order_was_timed(default_day: dict[str, Any]) -> None:
    latency = default_day["latency_ms"]["tick_to_order"]

    assert latency["n"] == len(default_day["orders"])
    assert 0 < latency["p50"] <= latency["p99"]


def test_the_feed_neither_broke_nor_lagged(default_day: dict[str, Any]) -> None:
    assert default_day["feed"] == {"reconnects": 0, "gaps": 0, "conflated": 0}
    assert default_day["bars"] >= 370


def test_the_same_seed_gives_the_same_orders(default_day: dict[str, Any]) -> None:
    def terms(day: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(o["side"], o["type"], o["quantity"], o["price"], o["status"]) for o in day["orders"]]

    assert terms(demo()) == terms(default_day)


def test_the_chart_page_is_self_contained(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    page = tmp_path / "day.html"

    demo("--html", page)

    text = page.read_text()
    assert "EMA 9" in text
    assert "entries" in text
    assert 'src="http' not in text


def test_real_candles_with_a_real_registry(shared_data: Path, tmp_path: Path) -> None:
    database = tmp_path / "registry.db"
    masters = shared_data / "instruments"
    build = [
        sys.executable, "-m", "hybridbroker", "instruments", "build",
        "--upstox", masters / "upstox_NSE_2026-02-27.json.gz", "--dhan", masters / "dhan_detailed_2026-03-23.csv.gz",
        "--out", database,
    ]  # fmt: skip
    subprocess.run(list(map(str, build)), check=True, capture_output=True, timeout=120)

    day = demo("--candles", shared_data / "candles/minute1_2016/RELIANCE.json.gz", "--instruments", database)

    assert day["instrument"] == "NSE:RELIANCE"
    assert day["ids"] == {"upstox": "NSE_EQ|INE002A01018", "dhan": "2885"}
    assert day["bars"] == 375

    recorded = shared_data / "samples/upstox_feed_v3/2025-12-15_NSE_EQ_INE027H01010.ndjson.gz"
    day = demo("--ticks", recorded, "--instruments", database)

    assert day["instrument"] == "NSE:MAXHEALTH"
    assert day["ticks"] > 1000
