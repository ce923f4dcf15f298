"""The join on real masters of both brokers, against a truth worked out from the raw files by other means."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from master_files import write_csv, write_upstox

from hybridbroker.brokers.dhan.instruments import DhanListings
from hybridbroker.brokers.upstox.instruments import UpstoxListings
from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.errors import InstrumentConflict, InstrumentNotFound, InstrumentUnmapped
from hybridbroker.instruments.identity import instrument_id
from hybridbroker.instruments.join import join
from hybridbroker.instruments.registry import InstrumentRegistry

Row = dict[str, Any]
DHAN_DAY = date(2026, 3, 23)


@attrs.frozen
class Raw:
    upstox: list[Row]
    dhan: list[Row]


@pytest.fixture(scope="module")
def masters(shared_data: Path) -> Path:
    return shared_data / "instruments"


@pytest.fixture(scope="module")
def dhan_rows(masters: Path) -> list[Row]:
    body = gzip.decompress((masters / "dhan_detailed_2026-03-23.csv.gz").read_bytes())
    return [row for row in csv.DictReader(io.StringIO(body.decode())) if row["SEGMENT"] in {"E", "D", "I"}]


def upstox_rows(path: Path) -> list[Row]:
    rows: list[Row] = json.loads(gzip.decompress(path.read_bytes()))
    return [row for row in rows if row["segment"] in {"NSE_EQ", "BSE_EQ", "NSE_FO", "BSE_FO", "NSE_INDEX", "BSE_INDEX"}]


@pytest.fixture(scope="module")
def main_raw(masters: Path, dhan_rows: list[Row]) -> Raw:
    return Raw(upstox_rows(masters / "upstox_NSE_2026-02-27.json.gz"), dhan_rows)


@pytest.fixture(scope="module")
def january_raw(masters: Path, dhan_rows: list[Row]) -> Raw:
    return Raw(upstox_rows(masters / "upstox_complete_2026-01-02.json.gz"), dhan_rows)


def build(masters: Path, upstox: str) -> InstrumentRegistry:
    return InstrumentRegistry.from_listings(
        [
            UpstoxListings().read([masters / upstox]),
            DhanListings().read([masters / "dhan_detailed_2026-03-23.csv.gz"]),
        ]
    )


@pytest.fixture(scope="module")
def main(masters: Path) -> InstrumentRegistry:
    return build(masters, "upstox_NSE_2026-02-27.json.gz")


@pytest.fixture(scope="module")
def january(masters: Path) -> InstrumentRegistry:
    return build(masters, "upstox_complete_2026-01-02.json.gz")


def dhan_key(registry: InstrumentRegistry, upstox_key: str) -> str | None:
    """Return Dhan's key for Upstox's, None where the registry refuses to say."""
    try:
        return str(registry.key(registry.by_key("upstox", upstox_key), "dhan"))
    except (InstrumentUnmapped, InstrumentConflict, InstrumentNotFound):
        return None


def contract_of_upstox(row: Row) -> tuple[object, ...]:
    last_second = datetime.fromtimestamp(row["expiry"] / 1000, UTC) + timedelta(hours=5, minutes=30)
    strike = None if row["instrument_type"] == "FUT" else Decimal(str(row["strike_price"]))
    return row["underlying_symbol"], last_second.date().isoformat(), strike, row["instrument_type"]


def contract_of_dhan(row: Row) -> tuple[object, ...]:
    kind = row["OPTION_TYPE"] if row["OPTION_TYPE"] in {"CE", "PE"} else "FUT"
    strike = None if kind == "FUT" else Decimal(row["STRIKE_PRICE"])
    return row["UNDERLYING_SYMBOL"], row["SM_EXPIRY_DATE"], strike, kind


def test_every_share_that_both_list_on_nse_is_mapped_right(main: InstrumentRegistry, main_raw: Raw) -> None:
    tokens = {
        row["ISIN"]: row["SECURITY_ID"] for row in main_raw.dhan if (row["EXCH_ID"], row["SEGMENT"]) == ("NSE", "E")
    }
    shares = [
        row
        for row in main_raw.upstox
        if row["segment"] == "NSE_EQ" and row["isin"].startswith("INE") and row["isin"][7:9] == "01"
    ]
    listed_by_both = [row for row in shares if row["isin"] in tokens]

    wrong = {
        row["trading_symbol"]: found
        for row in listed_by_both
        if (found := dhan_key(main, row["instrument_key"])) != f"NSE_EQ:{tokens[row['isin']]}"
    }

    assert wrong == {}
    assert len(listed_by_both) > 2_700


@pytest.mark.parametrize("pair", ["main", "january"])
def test_no_cash_paper_is_mapped_to_another(pair: str, request: pytest.FixtureRequest) -> None:
    registry: InstrumentRegistry = request.getfixturevalue(pair)
    raw: Raw = request.getfixturevalue(f"{pair}_raw")
    papers = {f"{row['EXCH_ID']}_EQ:{row['SECURITY_ID']}": row for row in raw.dhan if row["SEGMENT"] == "E"}
    mapped = 0
    for row in raw.upstox:
        if not row["segment"].endswith("_EQ") or (key := dhan_key(registry, row["instrument_key"])) is None:
            continue
        mapped += 1
        other = papers[key]
        assert other["EXCH_ID"] == row["exchange"]
        same_isin = other["ISIN"] == row["isin"]
        same_token = other["SECURITY_ID"] == row["exchange_token"]
        same_symbol = other["UNDERLYING_SYMBOL"] == row["trading_symbol"]
        assert same_isin or (same_token and same_symbol)
        assert same_token or other["SERIES"] != row["instrument_type"]

    assert mapped > (8_800 if pair == "main" else 20_000)


@pytest.mark.parametrize(
    ("pair", "exchange", "expected"), [("main", Exchange.NSE, 36_638), ("january", Exchange.BSE, 985)]
)
def test_every_unexpired_contract_with_the_same_terms_is_mapped_right(
    pair: str, exchange: Exchange, expected: int, request: pytest.FixtureRequest
) -> None:
    registry: InstrumentRegistry = request.getfixturevalue(pair)
    raw: Raw = request.getfixturevalue(f"{pair}_raw")
    terms = {
        contract_of_dhan(row): row["SECURITY_ID"]
        for row in raw.dhan
        if (row["EXCH_ID"], row["SEGMENT"]) == (exchange, "D")
    }
    checked = 0
    for row in raw.upstox:
        contract = contract_of_upstox(row) if row["segment"] == f"{exchange}_FO" else ()
        if contract not in terms or str(contract[1]) < DHAN_DAY.isoformat():
            continue
        checked += 1
        assert terms[contract] == row["exchange_token"]
        assert dhan_key(registry, row["instrument_key"]) == f"{exchange}_FNO:{row['exchange_token']}"

    assert checked == expected


def test_no_contract_of_the_older_list_is_mapped_to_other_terms(january: InstrumentRegistry, january_raw: Raw) -> None:
    terms = {
        f"{row['EXCH_ID']}_FNO:{row['SECURITY_ID']}": contract_of_dhan(row)
        for row in january_raw.dhan
        if row["SEGMENT"] == "D"
    }
    for row in january_raw.upstox:
        if row["segment"].endswith("_FO") and (key := dhan_key(january, row["instrument_key"])) is not None:
            assert terms[key] == contract_of_upstox(row)


def test_tokens_that_name_another_live_contract_are_not_used(main: InstrumentRegistry) -> None:
    assert main.by_key("dhan", "NSE_FNO:45548").id == "NSE:BAJFINANCE:2026-05-26:400:CE"
    with pytest.raises(InstrumentNotFound, match="expired"):
        main.by_key("upstox", "NSE_FO|45548")


def test_ids_are_unique_and_round_trip_through_every_key(main: InstrumentRegistry) -> None:
    names = list(main)
    assert len(names) == len(set(names)) == len(main)

    keys: Counter[tuple[str, str]] = Counter()
    for number, name in enumerate(names):
        instrument = main[name]
        found = main.keys_of(instrument)
        if len(found) == 1 and number % 10:
            continue
        for broker, key in found.items():
            keys[broker, str(key)] += 1
            assert main.by_key(broker, str(key)).id == name
        terms = instrument.series, instrument.expiry, instrument.strike, instrument.right
        assert instrument_id(instrument.exchange, instrument.kind, instrument.symbol, *terms) == name

    assert set(keys.values()) == {1}


@pytest.mark.parametrize("pair", ["main", "january"])
def test_every_row_is_mapped_or_carries_a_reason(pair: str, request: pytest.FixtureRequest) -> None:
    coverage = request.getfixturevalue(pair).coverage()

    for broker, read in coverage.read.items():
        told = sum(coverage.mapped[broker].values()) + sum(coverage.unmapped[broker].values())
        assert told == sum(read.values())
        assert not any(reason.startswith("malformed") for reason in coverage.unmapped[broker])


@pytest.mark.parametrize(
    ("upstox", "dhan"),
    [
        ("NSE_INDEX|Nifty 50", "IDX_I:13"),
        ("NSE_INDEX|Nifty Bank", "IDX_I:25"),
        ("NSE_INDEX|Nifty Fin Service", "IDX_I:27"),
        ("NSE_INDEX|NIFTY MID SELECT", "IDX_I:442"),
        ("NSE_INDEX|Nifty Next 50", "IDX_I:38"),
        ("NSE_INDEX|India VIX", "IDX_I:21"),
        ("NSE_INDEX|NIFTY MIDSML 400", "IDX_I:7"),
        ("NSE_INDEX|NIFTY SMLCAP 50", "IDX_I:22"),
        ("NSE_INDEX|NIFTY SMLCAP 100", "IDX_I:5"),
        ("NSE_INDEX|NIFTY SMLCAP 250", "IDX_I:3"),
        ("NSE_INDEX|NIFTY100 LowVol30", "IDX_I:11"),
        ("NSE_INDEX|NIFTY100 EQL Wgt", "IDX_I:10"),
        ("BSE_INDEX|SENSEX", "IDX_I:51"),
        ("BSE_INDEX|BANKEX", "IDX_I:69"),
        ("BSE_INDEX|SENSEX50", "IDX_I:83"),
        ("BSE_INDEX|SNSX60", "IDX_I:860"),
        ("BSE_INDEX|BS1000", "IDX_I:844"),
        ("BSE_INDEX|CAPINS", "IDX_I:99"),
    ],
)
def test_reviewed_indices_are_mapped(january: InstrumentRegistry, upstox: str, dhan: str) -> None:
    assert dhan_key(january, upstox) == dhan


def test_number_of_mapped_indices_is_what_was_reviewed(january: InstrumentRegistry, main: InstrumentRegistry) -> None:
    assert main.coverage().mapped["dhan"]["NSE index"] == 118
    assert january.coverage().mapped["dhan"]["BSE index"] == 68


@pytest.mark.parametrize(
    ("underlying", "key", "index"),
    [
        ("NIFTY", "NSE_FNO/underlying:26000", "NSE:NIFTY 50:INDEX"),
        ("BANKNIFTY", "NSE_FNO/underlying:26009", "NSE:NIFTY BANK:INDEX"),
        ("SENSEX", "BSE_FNO/underlying:1", "BSE:SENSEX:INDEX"),
    ],
)
def test_underlying_and_its_two_dhan_ids_are_known(
    january: InstrumentRegistry, underlying: str, key: str, index: str
) -> None:
    future = january.future(underlying, expiry=january.expiries(underlying, kind=InstrumentKind.FUTURE)[0])

    assert january.underlying(future).id == index
    assert january.by_key("dhan", key).id == index


def test_symbols_that_several_series_share_stay_apart(main: InstrumentRegistry) -> None:
    share, paper = main["NSE:CHOLAFIN"], main["NSE:CHOLAFIN:D1"]

    assert (main.key(share, "dhan").id, main.key(paper, "dhan").id) == ("685", "19257")
    assert main.equity("CHOLAFIN", exchange=Exchange.NSE) == share


def test_share_that_moved_and_share_that_split_are_mapped(main: InstrumentRegistry) -> None:
    assert main.key(main["NSE:JETFREIGHT"], "dhan").id == "7211"
    assert str(main.key(main["NSE:VGL"], "upstox")) == "NSE_EQ|INE273D01019"


def test_quantities_and_prices_are_in_units_and_rupees(main: InstrumentRegistry) -> None:
    option = main.option("NIFTY", expiry=date(2026, 3, 30), strike=25_000, right="CE")

    assert (option.lot_size, option.freeze_quantity, option.tick_size) == (65, 1755, Decimal("0.05"))
    assert main["NSE:RELIANCE"].tick_size == Decimal("0.10")
    assert main["NSE:FOCE"].lot_size == 1200  # good at 100 and at 240


def test_search_gives_the_share_first(main: InstrumentRegistry) -> None:
    assert main.search("relianc")[0].id == "NSE:RELIANCE"


@pytest.mark.parametrize(
    "file",
    ["dhan_compact_NSE_EQ_2025-08-11.csv.gz", "dhan_detailed_old39col_NSE_FNO_excerpt_2025-07-20.tsv.gz"],
)
def test_other_layouts_are_read_whole(masters: Path, file: str) -> None:
    listings = DhanListings().read([masters / file])

    assert sum(listings.read.values()) == len(listings) + sum(listings.skipped.values())
    assert len(listings) > 2_000
    assert listings.skipped.keys() <= {"test symbol"}


# Damage, on real rows


def excerpt(raw: Raw) -> Raw:
    """Return some hundred shares and the contracts of three underlyings, as both brokers list them."""
    isins = {row["isin"] for row in raw.upstox[:6_000] if row["segment"] == "NSE_EQ" and row["isin"].startswith("INE")}
    on = {"RELIANCE", "MIDCPNIFTY", "TCS"}
    return Raw(
        [row for row in raw.upstox if row.get("isin") in isins or row.get("underlying_symbol") in on],
        [
            row
            for row in raw.dhan
            if row["EXCH_ID"] == "NSE"
            and (row["ISIN"] in isins or (row["SEGMENT"] == "D" and row["UNDERLYING_SYMBOL"] in on))
        ],
    )


def pairs(folder: Path, raw: Raw) -> Iterator[tuple[str, ...]]:
    upstox = write_upstox(folder / "u.json.gz", raw.upstox)
    dhan = write_csv(folder / "d.csv", raw.dhan, columns=list(raw.dhan[0]))
    for entry in join([UpstoxListings().read([upstox]), DhanListings().read([dhan])]).entries():
        if len(entry.rows) == 2:
            yield tuple(sorted(str(row.key) for row in entry.rows))


Damage = Callable[[list[Row], str], None]


def exchanged(rows: list[Row], column: str) -> None:
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        one[column], other[column] = other[column], one[column]


def copied(rows: list[Row], column: str) -> None:
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        one[column] = other[column]


def made_warrants(rows: list[Row], column: str) -> None:
    for row in rows:
        row[column] = "W1"


def made_single_lots(rows: list[Row], column: str) -> None:
    for row in rows:
        row[column] = "1.0"


def off_by_a_hundred(rows: list[Row], column: str) -> None:
    for row in rows:
        row[column] = f"{float(row[column]) + 100:.5f}"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("where", "damage"),
    [
        (("E", "SECURITY_ID"), exchanged),
        (("E", "SECURITY_ID"), copied),
        (("E", "ISIN"), exchanged),
        (("E", "ISIN"), copied),
        (("E", "SERIES"), exchanged),
        (("E", "SERIES"), made_warrants),
        (("D", "SECURITY_ID"), exchanged),
        (("D", "SECURITY_ID"), copied),
        (("D", "STRIKE_PRICE"), off_by_a_hundred),
        (("D", "STRIKE_PRICE"), exchanged),
        (("D", "SM_EXPIRY_DATE"), exchanged),
        (("D", "UNDERLYING_SYMBOL"), exchanged),
        (("D", "LOT_SIZE"), made_single_lots),
    ],
)
def test_damaged_real_master_makes_no_wrong_pair(
    main_raw: Raw, tmp_path: Path, where: tuple[str, str], damage: Damage, seed: int
) -> None:
    segment, column = where
    sound = excerpt(main_raw)
    truth = set(pairs(tmp_path, sound))
    rows = [dict(row) for row in sound.dhan]
    candidates = [row for row in rows if row["SEGMENT"] == segment and row["OPTION_TYPE"] != "XX"]
    damage(random.Random(seed).sample(candidates, 60), column)

    found = set(pairs(tmp_path, Raw(sound.upstox, rows)))

    assert found - truth == set()
    assert len(found) > len(truth) - 400
