"""However a master is damaged, no wrong pair comes out: quarantined, or refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from master_files import (
    Row,
    dhan_contract,
    dhan_index,
    dhan_share,
    registry,
    upstox_contract,
    upstox_index,
    upstox_share,
)  # fmt: skip

from hybridbroker.errors import HybridBrokerError, InstrumentConflict, InstrumentUnmapped

SHARES = [(f"SHARE{n}", f"INE{n:03}A010{n % 90 + 10}", str(100 + n)) for n in range(30)]
CONTRACTS = [("ALPHA", str(9000 + n), ("CE", "PE")[n % 2], 100.0 * (n // 2 + 1)) for n in range(30)]
INDICES = [("Nifty 50", "13"), ("Moon Index", "14")]

Damage = Callable[[list[Row], random.Random], list[Row]]


def upstox_rows() -> list[Row]:
    return [
        *(upstox_share(*each) for each in SHARES),
        *(upstox_contract(*each) for each in CONTRACTS),
        *(upstox_index(name) for name, _ in INDICES),
    ]


def dhan_rows() -> list[Row]:
    return [
        *(dhan_share(*each) for each in SHARES),
        *(dhan_contract(*each) for each in CONTRACTS),
        *(dhan_index(native, name.upper(), name) for name, native in INDICES),
    ]


def pair_of(rows: Sequence[Row], chance: random.Random, segment: str) -> tuple[Row, Row]:
    one, other = chance.sample([row for row in rows if segment in {row.get("SEGMENT"), row.get("segment")}], 2)
    return one, other


def swap(segment: str, *columns: str) -> Damage:
    def damage(rows: list[Row], chance: random.Random) -> list[Row]:
        one, other = pair_of(rows, chance, segment)
        for column in columns:
            one[column], other[column] = other[column], one[column]
        return rows

    return damage


def overwrite(segment: str, *columns: str) -> Damage:
    def damage(rows: list[Row], chance: random.Random) -> list[Row]:
        one, other = pair_of(rows, chance, segment)
        for column in columns:
            one[column] = other[column]
        return rows

    return damage


def change(segment: str, column: str, value: Callable[[object], object]) -> Damage:
    def damage(rows: list[Row], chance: random.Random) -> list[Row]:
        row, _ = pair_of(rows, chance, segment)
        row[column] = value(row[column])
        return rows

    return damage


DHAN_DAMAGE = {
    "swapped share tokens": swap("E", "SECURITY_ID"),
    "swapped ISINs": swap("E", "ISIN"),
    "swapped symbols": swap("E", "UNDERLYING_SYMBOL"),
    "swapped contract tokens": swap("D", "SECURITY_ID"),
    "swapped strikes": swap("D", "STRIKE_PRICE"),
    "swapped rights": swap("D", "OPTION_TYPE"),
    "duplicate ISIN": overwrite("E", "ISIN"),
    "duplicate ISIN and symbol": overwrite("E", "ISIN", "UNDERLYING_SYMBOL"),
    "two rows with one share token": overwrite("E", "SECURITY_ID"),
    "two rows with one contract token": overwrite("D", "SECURITY_ID"),
    "two contracts with one name": overwrite("D", "STRIKE_PRICE", "OPTION_TYPE"),
    "series changed": change("E", "SERIES", lambda _: "W1"),
    "token and series changed to another's": overwrite("E", "SECURITY_ID", "SERIES"),
    "strike off by 100": change("D", "STRIKE_PRICE", lambda strike: f"{float(str(strike)) + 100:.5f}"),
    "strike off the grid": change("D", "STRIKE_PRICE", lambda strike: f"{float(str(strike)) + 50:.5f}"),
    "expiry a day off": change("D", "SM_EXPIRY_DATE", lambda _: "2026-11-25"),
    "another underlying": change("D", "UNDERLYING_SYMBOL", lambda _: "BETA"),
    "another lot": change("D", "LOT_SIZE", lambda _: "25.0"),
    "swapped index ids": swap("I", "SECURITY_ID", "UNDERLYING_SYMBOL"),
}
UPSTOX_DAMAGE = {
    "swapped share tokens": swap("NSE_EQ", "exchange_token"),
    "swapped ISINs with keys": swap("NSE_EQ", "isin", "instrument_key"),
    "swapped keys alone": swap("NSE_EQ", "instrument_key"),
    "duplicate ISIN": overwrite("NSE_EQ", "isin", "instrument_key"),
    "two rows with one share token": overwrite("NSE_EQ", "exchange_token"),
    "swapped contract tokens": swap("NSE_FO", "exchange_token", "instrument_key"),
    "swapped contract keys alone": swap("NSE_FO", "instrument_key"),
    "two rows with one contract token": overwrite("NSE_FO", "exchange_token", "instrument_key"),
    "swapped strikes": swap("NSE_FO", "strike_price"),
    "strike off by 100": change("NSE_FO", "strike_price", lambda strike: float(str(strike)) + 100),
    "expiry a day off": change("NSE_FO", "expiry", lambda expiry: int(str(expiry)) + 86_400_000),
    "series changed": change("NSE_EQ", "instrument_type", lambda _: "W1"),
}


def wrong_pairs(folder: Path, upstox: list[Row], dhan: list[Row]) -> tuple[list[str], int]:
    """Return the ids whose two keys are not of one row of the undamaged tables, and how many still map."""
    truth = {(f"NSE_EQ|{isin}", f"NSE_EQ:{token}"): f"NSE:{symbol}" for symbol, isin, token in SHARES}
    truth |= {
        (f"NSE_FO|{token}", f"NSE_FNO:{token}"): f"NSE:{symbol}:2026-11-24:{strike:g}:{right}"
        for symbol, token, right, strike in CONTRACTS
    }
    truth |= {(f"NSE_INDEX|{name}", f"IDX_I:{native}"): f"NSE:{name.upper()}:INDEX" for name, native in INDICES}
    built = registry(folder, upstox=upstox, dhan=dhan)
    wrong, mapped = [], 0
    for name in built:
        keys = {broker: str(key) for broker, key in built.keys_of(built[name]).items()}
        if len(keys) == 2:
            mapped += 1
            if truth.get((keys["upstox"], keys["dhan"])) != name:
                wrong.append(name)
    return wrong, mapped


def test_undamaged_masters_map_in_full(tmp_path: Path) -> None:
    assert wrong_pairs(tmp_path, upstox_rows(), dhan_rows()) == ([], len(SHARES) + len(CONTRACTS) + len(INDICES))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", DHAN_DAMAGE)
def test_damaged_dhan_master_makes_no_wrong_pair(tmp_path: Path, name: str, seed: int) -> None:
    damaged = DHAN_DAMAGE[name](dhan_rows(), random.Random(seed))

    wrong, mapped = wrong_pairs(tmp_path, upstox_rows(), damaged)

    # Indices have names only: two rows whose ids were exchanged together with one of their names contradict themselves.
    assert wrong == []
    assert mapped >= 56


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", UPSTOX_DAMAGE)
def test_damaged_upstox_master_makes_no_wrong_pair(tmp_path: Path, name: str, seed: int) -> None:
    damaged = UPSTOX_DAMAGE[name](upstox_rows(), random.Random(seed))

    wrong, mapped = wrong_pairs(tmp_path, damaged, dhan_rows())

    assert wrong == []
    assert mapped >= 56


@pytest.mark.parametrize("seed", range(40))
def test_several_damages_at_once_make_no_wrong_pair(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    upstox, dhan = upstox_rows(), dhan_rows()
    for _ in range(3):
        upstox = chance.choice(list(UPSTOX_DAMAGE.values()))(upstox, chance)
        dhan = chance.choice([each for name, each in DHAN_DAMAGE.items() if "index" not in name])(dhan, chance)

    try:
        wrong, _ = wrong_pairs(tmp_path, upstox, dhan)
    except HybridBrokerError:
        wrong = []  # refused as a whole

    assert wrong == []


def test_quarantined_contract_raises_by_id_and_by_either_key(tmp_path: Path) -> None:
    built = registry(
        tmp_path, upstox=[upstox_contract("ALPHA", "9", "CE", 100)], dhan=[dhan_contract("ALPHA", "9", "CE", 200)]
    )

    for name in ("NSE:ALPHA:2026-11-24:100:CE", "NSE:ALPHA:2026-11-24:200:CE"):
        with pytest.raises(InstrumentConflict, match="one exchange token, other terms"):
            built[name]
    for broker, key in (("upstox", "NSE_FO|9"), ("dhan", "NSE_FNO:9")):
        with pytest.raises(InstrumentConflict, match="one exchange token, other terms"):
            built.by_key(broker, key)


def test_row_whose_key_contradicts_it_is_dropped_for_that_broker_alone(tmp_path: Path) -> None:
    broken = upstox_share(*SHARES[0], instrument_key="NSE_EQ|INE999A01019")
    built = registry(tmp_path, upstox=[*(upstox_share(*each) for each in SHARES[1:]), broken], dhan=dhan_rows())

    with pytest.raises(InstrumentUnmapped, match="upstox does not list NSE:SHARE0"):
        built.key(built["NSE:SHARE0"], "upstox")
