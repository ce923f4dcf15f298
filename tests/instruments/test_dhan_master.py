"""Dhan's CSV masters are read by column name, in every layout seen."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from master_files import (
    COMPACT_COLUMNS,
    DHAN_COLUMNS,
    EXPIRY,
    dhan_contract,
    dhan_index,
    dhan_share,
    read_dhan,
    write_csv,
)  # fmt: skip

from hybridbroker.brokers.dhan.instruments import DhanListings
from hybridbroker.domain.instrument import Exchange, InstrumentKind, OptionRight
from hybridbroker.errors import ConfigurationError

SHARE = dhan_share("ALPHA", "INE111A01011", "111", TICK_SIZE="10.0000")
OPTION = dhan_contract("ALPHA", "9001", "CE", 62.5)


def test_share_is_read_in_rupees_and_units(tmp_path: Path) -> None:
    (row,) = read_dhan(tmp_path, SHARE)

    assert (row.id, str(row.key), row.token) == ("NSE:ALPHA", "NSE_EQ:111", "111")
    assert (row.isin, row.lot_size, row.tick_size) == ("INE111A01011", 1, Decimal("0.10"))


def test_option_carries_its_terms(tmp_path: Path) -> None:
    (row,) = read_dhan(tmp_path, OPTION)

    assert (row.id, str(row.key)) == ("NSE:ALPHA:2026-11-24:62.5:CE", "NSE_FNO:9001")
    assert (row.expiry, row.strike, row.right) == (EXPIRY, Decimal("62.5"), OptionRight.CALL)


@pytest.mark.parametrize("option_type", ["XX", ""])
def test_future_has_neither_strike_nor_right(tmp_path: Path, option_type: str) -> None:
    (row,) = read_dhan(tmp_path, dhan_contract("ALPHA", "9001", "FUT", OPTION_TYPE=option_type))

    assert (row.id, row.strike, row.right) == ("NSE:ALPHA:2026-11-24:FUT", None, None)


def test_index_ticks_are_in_rupees(tmp_path: Path) -> None:
    (row,) = read_dhan(tmp_path, dhan_index("13", "NIFTY", "Nifty 50"))

    assert (row.kind, str(row.key), row.tick_size) == (InstrumentKind.INDEX, "IDX_I:13", Decimal("0.05"))


def test_series_na_is_a_series(tmp_path: Path) -> None:
    (row,) = read_dhan(tmp_path, dhan_share("PAPER", "INE111A07AB1", "5", SERIES="NA"))

    assert row.id == "NSE:PAPER:NA"


@pytest.mark.parametrize("isin", ["NA", "0", "", "INEl48I07QA5"])
def test_text_that_is_no_isin_is_none(tmp_path: Path, isin: str) -> None:
    (row,) = read_dhan(tmp_path, SHARE | {"ISIN": isin})

    assert row.isin is None


def test_order_of_columns_and_further_ones_do_not_matter(tmp_path: Path) -> None:
    columns = ["BRAND_NEW", *reversed(DHAN_COLUMNS)]
    path = write_csv(tmp_path / "dhan.csv", [SHARE, OPTION], columns=columns)

    assert [row.id for row in DhanListings().read([path])] == ["NSE:ALPHA", "NSE:ALPHA:2026-11-24:62.5:CE"]


def test_tabs_quotes_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "dhan.tsv", [SHARE | {"SYMBOL_NAME": '"ALPHA, BETA & CO"'}], by="\t")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))

    (row,) = DhanListings().read([path])

    assert (row.id, row.name) == ("NSE:ALPHA", "ALPHA, BETA & CO")


def test_published_freeze_quantity_is_used_where_there_is_one(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "d.csv", [OPTION | {"SM_FREEZE_QTY": "1756"}], columns=[*DHAN_COLUMNS, "SM_FREEZE_QTY"])

    (row,) = DhanListings().read([path])

    assert row.freeze_quantity == 1756


@pytest.mark.parametrize("missing", ["SECURITY_ID", "ISIN", "LOT_SIZE", "UNDERLYING_SYMBOL"])
def test_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    path = write_csv(tmp_path / "dhan.csv", [SHARE], columns=[name for name in DHAN_COLUMNS if name != missing])

    with pytest.raises(ConfigurationError, match=rf"dhan\.csv: the columns {missing} are missing"):
        DhanListings().read([path])


def test_test_symbols_are_dropped_and_counted(tmp_path: Path) -> None:
    listings = read_dhan(
        tmp_path,
        SHARE,
        dhan_share("011NSETEST", "DUMMYSAN001", "12841"),
        dhan_contract("011NSETEST", "9002", "FUT"),
    )

    assert [row.id for row in listings] == ["NSE:ALPHA"]
    assert listings.skipped == {"test symbol": 2}


def test_other_segments_are_counted_not_carried(tmp_path: Path) -> None:
    listings = read_dhan(tmp_path, SHARE, SHARE | {"EXCH_ID": "MCX", "SEGMENT": "M"}, SHARE | {"SEGMENT": "C"})

    assert listings.read == {"NSE E": 1, "MCX M": 1, "NSE C": 1}
    assert listings.skipped == {"segment not carried: MCX M": 1, "segment not carried: NSE C": 1}


@pytest.mark.parametrize(
    "odd",
    [
        OPTION | {"STRIKE_PRICE": "-0.01"},
        OPTION | {"OPTION_TYPE": "XX"},
        OPTION | {"SM_EXPIRY_DATE": "soon"},
        OPTION | {"UNDERLYING_SYMBOL": "NA"},
        SHARE | {"SECURITY_ID": "INE1"},
        SHARE | {"LOT_SIZE": "0"},
        SHARE | {"SERIES": ""},
        SHARE | {"UNDERLYING_SYMBOL": ""},
        SHARE | {"DISPLAY_NAME": "Alpha, Inc"},
        SHARE | {"SEGMENT": "E7"},
    ],
)
def test_odd_row_is_counted_not_carried(tmp_path: Path, odd: dict[str, str]) -> None:
    good = [dhan_share(f"S{n}", f"INE{n:03}A01011", str(n)) for n in range(1, 40)]

    listings = read_dhan(tmp_path, *good, odd)

    assert len(listings) == len(good)
    assert sum(listings.read.values()) == len(good) + 1
    assert sum(listings.skipped.values()) == 1


def test_file_whose_columns_have_shifted_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "dhan.csv", [dhan_share(f"S{n}", f"INE{n:03}A01011", str(n)) for n in range(40)])
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(line.replace(",", ",,", 1).removesuffix(",") for line in lines)]))

    with pytest.raises(ConfigurationError, match="rows cannot be read"):
        DhanListings().read([path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"<html><title>502 Bad Gateway</title></html>", "web page titled '502 Bad Gateway'", id="html"),
        pytest.param(b'{"errorType":"Order_Error"}', "JSON object", id="error body"),
        pytest.param(b"a,b,c\n1,2,3\n", "something that begins", id="another CSV"),
        pytest.param(",".join(DHAN_COLUMNS).encode(), "header and no rows", id="no rows"),
        pytest.param(b"\n\n", "white space", id="blank"),
        pytest.param(b"", "empty", id="empty"),
    ],
)
def test_file_that_is_no_master_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "dhan.csv"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"dhan\.csv") as refusal:
        DhanListings().read([path])

    assert words in str(refusal.value)


def compact(segment: str, native: str, instrument: str, ticker: str, **changes: str) -> dict[str, str]:
    row = {
        "SEM_EXM_EXCH_ID": "NSE", "SEM_SEGMENT": segment, "SEM_SMST_SECURITY_ID": native,
        "SEM_INSTRUMENT_NAME": instrument, "SEM_TRADING_SYMBOL": ticker, "SEM_LOT_UNITS": "1.0",
        "SEM_TICK_SIZE": "5.0000", "SEM_EXCH_INSTRUMENT_TYPE": "ES", "SEM_SERIES": "EQ", "SM_SYMBOL_NAME": "ALPHA LTD",
    }  # fmt: skip
    return row | changes


@pytest.mark.parametrize(
    ("row", "id_"),
    [
        (compact("E", "111", "EQUITY", "ALPHA"), "NSE:ALPHA"),
        (
            compact(
                "D", "9", "OPTSTK", "BAJAJ-AUTO-Nov2026-9000-CE",
                SEM_EXPIRY_DATE="2026-11-24 14:30:00", SEM_STRIKE_PRICE="9000.00000", SEM_OPTION_TYPE="CE",
            ),
            "NSE:BAJAJ-AUTO:2026-11-24:9000:CE",
        ),
        (
            compact("D", "9", "FUTSTK", "BAJAJ-AUTO-Nov2026-FUT", SEM_EXPIRY_DATE="24-11-2026 14:30"),
            "NSE:BAJAJ-AUTO:2026-11-24:FUT",
        ),
    ],
)  # fmt: skip
def test_compact_layout_is_read_alone(tmp_path: Path, row: dict[str, str], id_: str) -> None:
    path = write_csv(tmp_path / "compact.csv", [row], columns=COMPACT_COLUMNS)

    (read,) = DhanListings().read([path])

    assert read.id == id_
    assert read.isin is None


def test_compact_contract_whose_name_tells_nothing_is_counted(tmp_path: Path) -> None:
    row = compact(
        "D", "9", "OPTIDX", "BSXOPT", SEM_EXPIRY_DATE="2026-11-24", SEM_STRIKE_PRICE="1", SEM_OPTION_TYPE="CE"
    )

    listings = DhanListings().read([write_csv(tmp_path / "compact.csv", [row], columns=COMPACT_COLUMNS)])

    assert (len(listings), dict(listings.skipped)) == (0, {"contract does not name its underlying": 1})


def test_compact_file_lends_a_ticker_the_detailed_one_lacks(tmp_path: Path) -> None:
    detailed = write_csv(tmp_path / "detailed.csv", [SHARE | {"UNDERLYING_SYMBOL": ""}])
    short = write_csv(tmp_path / "compact.csv", [compact("E", "111", "EQUITY", "ALPHA")], columns=COMPACT_COLUMNS)

    listings = DhanListings().read([detailed, short])

    assert [(row.id, row.isin) for row in listings] == [("NSE:ALPHA", "INE111A01011")]


def test_files_of_single_segments_are_read_as_one_master(tmp_path: Path) -> None:
    cash = write_csv(tmp_path / "NSE_EQ.csv", [SHARE])
    contracts = write_csv(tmp_path / "NSE_FNO.csv", [OPTION])

    listings = DhanListings().read([cash, contracts])

    assert listings.read == {"NSE E": 1, "NSE D": 1}
    assert listings.files == ("NSE_EQ.csv", "NSE_FNO.csv")


def test_other_id_of_an_underlying_index_is_noted(tmp_path: Path) -> None:
    future = dhan_contract("NIFTY", "9001", "FUT", INSTRUMENT="FUTIDX", UNDERLYING_SECURITY_ID="26000")

    listings = read_dhan(tmp_path, future)

    assert str(listings.underlying_ids[Exchange.NSE, "NIFTY"]) == "NSE_FNO/underlying:26000"
