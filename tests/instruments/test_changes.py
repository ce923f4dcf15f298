"""What a new build says has changed overnight."""

from __future__ import annotations

from pathlib import Path

import pytest
from master_files import Row, dhan_contract, dhan_share, registry, upstox_contract, upstox_share

from hybridbroker.instruments import writer
from hybridbroker.instruments.changes import Change, ChangeKind
from hybridbroker.instruments.join import join
from hybridbroker.instruments.registry import InstrumentRegistry

ISIN, OTHER = "INE111A01011", "INE222A01019"
ALPHA = [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "1")]
CALL = [upstox_contract("ALPHA", "9", "CE", 100)], [dhan_contract("ALPHA", "9", "CE", 100)]


def changes(
    folder: Path, before: tuple[list[Row], list[Row]], after: tuple[list[Row], list[Row]]
) -> dict[str, list[tuple[str, str | None, str | None]]]:
    rest = [upstox_share("REST", "INE999A01019", "99")], [dhan_share("REST", "INE999A01019", "99")]
    old = registry(folder, upstox=before[0] + rest[0], dhan=before[1] + rest[1])
    new = registry(folder, upstox=after[0] + rest[0], dhan=after[1] + rest[1])
    told = new.changes_since(old)
    return {str(kind): [(each.id, each.before, each.after) for each in told.of(kind)] for kind in told.counts}


def test_new_and_gone_instruments_are_told(tmp_path: Path) -> None:
    beta = [upstox_share("BETA", OTHER, "2")], [dhan_share("BETA", OTHER, "2")]

    assert changes(tmp_path, ALPHA, beta) == {
        "new": [("NSE:BETA", None, None)],
        "gone": [("NSE:ALPHA", None, None)],
    }


def test_renamed_share_is_told_by_its_isin(tmp_path: Path) -> None:
    renamed = [upstox_share("OMEGA", ISIN, "1")], [dhan_share("OMEGA", ISIN, "1")]

    assert changes(tmp_path, ALPHA, renamed) == {"renamed": [("NSE:OMEGA", "NSE:ALPHA", "NSE:OMEGA")]}


def test_split_changes_isin_and_upstox_key(tmp_path: Path) -> None:
    split = "INE111A01029"

    told = changes(tmp_path, ALPHA, ([upstox_share("ALPHA", split, "1")], [dhan_share("ALPHA", split, "1")]))

    assert told == {
        "ISIN changed": [("NSE:ALPHA", ISIN, split)],
        "key changed": [("NSE:ALPHA", f"upstox NSE_EQ|{ISIN}", f"upstox NSE_EQ|{split}")],
    }


def test_move_between_series_changes_the_token(tmp_path: Path) -> None:
    moved = [upstox_share("ALPHA", ISIN, "2", instrument_type="BE")], [dhan_share("ALPHA", ISIN, "2", SERIES="BE")]

    assert changes(tmp_path, ALPHA, moved) == {
        "series moved": [("NSE:ALPHA", "EQ", "BE")],
        "key changed": [("NSE:ALPHA", "dhan NSE_EQ:1", "dhan NSE_EQ:2")],
    }


def test_other_lot_tick_and_freeze_are_told(tmp_path: Path) -> None:
    after = (
        [upstox_contract("ALPHA", "9", "CE", 100, lot_size=25, tick_size=10.0, freeze_quantity=500.0)],
        [dhan_contract("ALPHA", "9", "CE", 100, LOT_SIZE="25.0", TICK_SIZE="10.0000")],
    )
    name = "NSE:ALPHA:2026-11-24:100:CE"

    assert changes(tmp_path, CALL, after) == {
        "lot size": [(name, "50", "25")],
        "tick size": [(name, "0.05", "0.10")],
        "freeze quantity": [(name, "1000", "500")],
    }


def test_token_given_to_another_contract_is_told(tmp_path: Path) -> None:
    after = [upstox_contract("BETA", "9", "CE", 300)], [dhan_contract("BETA", "9", "CE", 300)]
    was, now = "NSE:ALPHA:2026-11-24:100:CE", "NSE:BETA:2026-11-24:300:CE"

    told = changes(tmp_path, CALL, after)

    assert told["token reused"] == [(now, was, "upstox NSE_FO|9"), (now, was, "dhan NSE_FNO:9")]


def test_newly_quarantined_instrument_is_told(tmp_path: Path) -> None:
    after = [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "7")]

    assert changes(tmp_path, ALPHA, after) == {"quarantined": [("NSE:ALPHA", None, None)]}


def test_same_build_has_no_changes(tmp_path: Path) -> None:
    assert changes(tmp_path, ALPHA, ALPHA) == {}


@pytest.mark.parametrize("in_memory", [True, False])
def test_files_and_memory_compare_alike(tmp_path: Path, in_memory: bool) -> None:
    new = InstrumentRegistry.builtin()
    if not in_memory:
        writer.write(tmp_path / "old.sqlite", join([]), [], built_at=None)
    old = InstrumentRegistry.from_listings([]) if in_memory else InstrumentRegistry.open(tmp_path / "old.sqlite")

    told = new.changes_since(old)

    assert len(told) == told.counts[ChangeKind.NEW] == 7
    assert told.of(ChangeKind.NEW)[0] == Change(ChangeKind.NEW, "NSE:HDFCBANK")
