"""Upstox's JSON master is read row by row; what cannot be read is counted, not guessed."""

from __future__ import annotations

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from master_files import EXPIRY, read_upstox, upstox_contract, upstox_index, upstox_share, write_upstox

from hybridbroker.brokers.upstox.instruments import UpstoxListings
from hybridbroker.domain.instrument import Exchange, InstrumentKind, OptionRight, Segment
from hybridbroker.errors import ConfigurationError

SHARE = upstox_share("ALPHA", "INE111A01011", "111", tick_size=10.0)


def test_share_is_read_in_rupees_and_units(tmp_path: Path) -> None:
    (row,) = read_upstox(tmp_path, SHARE)

    assert (row.id, row.native_id, row.token) == ("NSE:ALPHA", "NSE_EQ|INE111A01011", "111")
    assert (row.kind, row.series, row.lot_size, row.tick_size) == (InstrumentKind.EQUITY, "EQ", 1, Decimal("0.10"))
    assert str(row.key) == "NSE_EQ|INE111A01011"


def test_placeholder_freeze_quantity_of_cash_is_none(tmp_path: Path) -> None:
    (row,) = read_upstox(tmp_path, SHARE)

    assert row.freeze_quantity is None


def test_option_carries_its_terms_and_freeze_quantity(tmp_path: Path) -> None:
    (row,) = read_upstox(tmp_path, upstox_contract("ALPHA", "9001", "CE", 62.5))

    assert row.id == "NSE:ALPHA:2026-11-24:62.5:CE"
    assert (row.expiry, row.strike, row.right) == (EXPIRY, Decimal("62.5"), OptionRight.CALL)
    assert (row.lot_size, row.freeze_quantity) == (50, 1000)
    assert row.segment is Segment.DERIVATIVES


def test_expiry_is_the_indian_day_wherever_the_machine_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")

    (row,) = read_upstox(tmp_path, upstox_contract("ALPHA", "9001", "FUT"))

    assert row.id == "NSE:ALPHA:2026-11-24:FUT"


def test_index_has_no_token_to_be_joined_by(tmp_path: Path) -> None:
    (row,) = read_upstox(tmp_path, upstox_index("Nifty 50", ticker="NIFTY"))

    assert (row.kind, row.token, row.exchange) == (InstrumentKind.INDEX, None, Exchange.NSE)


def test_other_segments_and_unknown_ones_are_counted_not_carried(tmp_path: Path) -> None:
    others = [{"segment": "MCX_FO"}, {"segment": "NCD_FO"}, {"segment": "MOON_EQ", "trading_symbol": 7 * "x"}]

    listings = read_upstox(tmp_path, SHARE, *others)

    assert len(listings) == 1
    assert listings.read == {"NSE_EQ": 1, "MCX_FO": 1, "NCD_FO": 1, "MOON_EQ": 1}
    assert listings.skipped["segment not carried: MOON_EQ"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"exchange_token": ""}, "exchange token"),
        ({"exchange_token": None}, "exchange token"),
        ({"instrument_key": "NSE_EQ|INE999A01019"}, "instrument key"),
        ({"tick_size": 0.0}, "tick size"),
        ({"tick_size": "cheap"}, "tick size"),
        ({"lot_size": None}, "lot size"),
        ({"trading_symbol": " "}, "trading symbol"),
    ],
)
def test_odd_row_is_counted_under_its_fault(tmp_path: Path, change: dict[str, object], field: str) -> None:
    good = [upstox_share(f"S{n}", f"INE{n:03}A01011", str(n)) for n in range(1, 40)]

    listings = read_upstox(tmp_path, *good, SHARE | change)

    assert len(listings) == len(good)
    assert sum(listings.read.values()) == len(good) + 1
    (reason,) = listings.skipped
    assert field in reason


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"instrument_key": "NSE_FO|1"}, "instrument key"),
        ({"expiry": 0}, "expiry"),
        ({"expiry": "2026-11-24"}, "expiry"),
        ({"strike_price": 0.0}, "strike"),
        ({"instrument_type": "XX"}, "instrument type"),
        ({"underlying_symbol": None}, "underlying symbol"),
    ],
)
def test_odd_contract_is_counted_under_its_fault(tmp_path: Path, change: dict[str, object], field: str) -> None:
    good = [upstox_contract("ALPHA", str(n), "CE", n) for n in range(1, 40)]

    listings = read_upstox(tmp_path, *good, upstox_contract("ALPHA", "9001", "CE", 62.5) | change)

    assert len(listings) == len(good)
    assert any(field in reason for reason in listings.skipped)


def test_file_whose_fields_have_moved_is_refused(tmp_path: Path) -> None:
    moved = [upstox_share(f"S{n}", f"INE{n:03}A01011", "EQ") for n in range(1, 40)]

    with pytest.raises(ConfigurationError, match="rows cannot be read"):
        read_upstox(tmp_path, *moved)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'{"status":"error","errors":[{"errorCode":"UDAPI100012"}]}', "UDAPI100012", id="error body"),
        pytest.param(b"<html><title>Access denied</title></html>", "web page titled 'Access denied'", id="html"),
        pytest.param(gzip.compress(b"<html></html>"), "web page", id="html, compressed"),
        pytest.param(b'[{"segment":"NSE_EQ",', "not readable", id="cut JSON"),
        pytest.param(b"[]", "no row", id="no rows"),
        pytest.param(b'[{"x":1},{"x":2}]', "no row", id="another list"),
        pytest.param(b"[1,2]", "not readable", id="not rows"),
        pytest.param(b"", "empty", id="empty"),
    ],
)
def test_file_that_is_no_master_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "NSE.json.gz"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"NSE\.json\.gz") as refusal:
        UpstoxListings().read([path])

    assert words in str(refusal.value)


def test_several_files_are_read_as_one_master(tmp_path: Path) -> None:
    nse = write_upstox(tmp_path / "NSE.json.gz", [SHARE])
    bse = tmp_path / "BSE.json"
    bse.write_text(json.dumps([upstox_share("ALPHA", "INE111A01011", "500111", exchange="BSE")]))

    listings = UpstoxListings().read([nse, bse], published=date(2026, 9, 15))

    assert {row.id for row in listings} == {"NSE:ALPHA", "BSE:ALPHA"}
    assert listings.latest == date(2026, 9, 15)


def test_day_nobody_told_is_bounded_by_the_earliest_expiry(tmp_path: Path) -> None:
    later = date(2026, 12, 29)

    listings = read_upstox(
        tmp_path, upstox_contract("ALPHA", "1", "FUT", expiry=later), upstox_contract("ALPHA", "2", "FUT")
    )

    assert (listings.published, listings.not_after, listings.latest) == (None, EXPIRY, EXPIRY)
