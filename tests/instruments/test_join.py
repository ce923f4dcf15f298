"""What is one instrument at two brokers, what is not, and what nobody may use."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import attrs
import pytest
from master_files import (
    EXPIRY,
    Row,
    dhan_contract,
    dhan_index,
    dhan_share,
    read_dhan,
    read_upstox,
    upstox_contract,
    upstox_index,
    upstox_share,
)  # fmt: skip

from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.join import join
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.outcome import Outcome

LATER = date(2026, 12, 29)
ISIN, OTHER = "INE111A01011", "INE222A01019"


def joined(folder: Path, upstox: list[Row], dhan: list[Row]) -> Outcome:
    masters = [read_upstox(folder, *upstox)] if upstox else []
    return join([*masters, read_dhan(folder, *dhan)])


def pairs(outcome: Outcome) -> dict[str, dict[str, str]]:
    return {each.terms.id: {row.broker: row.native_id for row in each.rows} for each in outcome.entries()}


def kinds(outcome: Outcome) -> list[str]:
    return [str(conflict.kind) for conflict in outcome.conflicts]


# Cash


def test_share_with_one_isin_and_token_is_one_instrument(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "1")])

    assert pairs(outcome) == {"NSE:ALPHA": {"upstox": f"NSE_EQ|{ISIN}", "dhan": "1"}}
    assert outcome.conflicts == []


def test_share_that_moved_between_series_is_found_by_its_isin(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_share("ALPHA", ISIN, "1", instrument_type="BE")],
        [dhan_share("ALPHA", ISIN, "2", SERIES="EQ")],
    )

    assert pairs(outcome) == {"NSE:ALPHA": {"upstox": f"NSE_EQ|{ISIN}", "dhan": "2"}}


def test_token_that_changed_without_a_move_is_a_conflict(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "2")])

    assert pairs(outcome) == {}
    assert kinds(outcome) == ["token"]


def test_share_with_a_new_isin_is_found_by_token_and_symbol(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", OTHER, "1")])

    assert pairs(outcome) == {"NSE:ALPHA": {"upstox": f"NSE_EQ|{ISIN}", "dhan": "1"}}


def test_token_given_to_another_paper_is_a_conflict(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("BETA", OTHER, "1")])

    assert pairs(outcome) == {}
    assert kinds(outcome) == ["isin"]


def test_isin_and_token_of_two_rows_quarantine_both(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_share("ALPHA", ISIN, "1"), upstox_share("BETA", OTHER, "2")],
        [dhan_share("ALPHA", ISIN, "2"), dhan_share("BETA", OTHER, "1")],
    )

    assert pairs(outcome) == {}
    assert set(kinds(outcome)) == {"token"}


def test_renamed_share_carries_the_younger_masters_name(tmp_path: Path) -> None:
    older = read_upstox(tmp_path, upstox_share("OLDNAME", ISIN, "1"), published=date(2026, 9, 14))
    younger = read_dhan(tmp_path, dhan_share("NEWNAME", ISIN, "1"), published=date(2026, 9, 15))

    assert list(pairs(join([older, younger]))) == ["NSE:NEWNAME"]
    assert list(pairs(join([younger, older]))) == ["NSE:NEWNAME"]


def test_share_in_another_kind_of_series_is_another_paper(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "1", SERIES="W1")])

    assert pairs(outcome) == {}
    assert kinds(outcome) == ["series"]


def test_group_of_a_bse_share_may_change(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_share("ALPHA", ISIN, "500111", exchange="BSE", instrument_type="X")],
        [dhan_share("ALPHA", ISIN, "500111", EXCH_ID="BSE", SERIES="XT")],
    )

    assert list(pairs(outcome)) == ["BSE:ALPHA"]


def test_token_of_a_bse_share_may_not(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_share("ALPHA", ISIN, "500111", exchange="BSE", instrument_type="X")],
        [dhan_share("ALPHA", ISIN, "500112", EXCH_ID="BSE", SERIES="XT")],
    )

    assert kinds(outcome) == ["token"]


def test_isin_on_the_other_exchange_is_another_listing(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", ISIN, "1", EXCH_ID="BSE")])

    assert pairs(outcome) == {"NSE:ALPHA": {"upstox": f"NSE_EQ|{ISIN}"}, "BSE:ALPHA": {"dhan": "1"}}


def test_symbol_alone_joins_nothing(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "1")], [dhan_share("ALPHA", OTHER, "2")])

    assert pairs(outcome) == {}
    assert kinds(outcome) == ["name"]


def test_series_keep_papers_of_one_symbol_apart(tmp_path: Path) -> None:
    warrant = "INE111A13017"
    outcome = joined(
        tmp_path,
        [upstox_share("ALPHA", ISIN, "1"), upstox_share("ALPHA", warrant, "2", instrument_type="W1")],
        [dhan_share("ALPHA", ISIN, "1"), dhan_share("ALPHA", warrant, "2", SERIES="W1")],
    )

    assert pairs(outcome)["NSE:ALPHA"]["dhan"] == "1"
    assert pairs(outcome)["NSE:ALPHA:W1"]["dhan"] == "2"


def test_row_of_one_broker_stays_usable_there(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [], [dhan_share("ALPHA", ISIN, "1")])

    assert pairs(outcome) == {"NSE:ALPHA": {"dhan": "1"}}


def test_row_without_isin_or_token_is_left_out(tmp_path: Path) -> None:
    nameless = Listing("third", "EQ", "ALPHA-EQ", None, Exchange.NSE, InstrumentKind.EQUITY, "ALPHA", series="EQ")

    outcome = join([Listings(broker="third", rows=[nameless]), read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1"))])

    assert pairs(outcome) == {"NSE:ALPHA": {"dhan": "1"}}
    assert [(each.broker, str(each.reason)) for each in outcome.left_out] == [
        ("third", "neither ISIN nor exchange token")
    ]


# Derivatives


def test_contract_is_one_by_token_and_all_terms(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_contract("ALPHA", "9", "CE", 100), upstox_contract("ALPHA", "8", "FUT")],
        [dhan_contract("ALPHA", "9", "CE", 100), dhan_contract("ALPHA", "8", "FUT")],
    )

    assert pairs(outcome) == {
        "NSE:ALPHA:2026-11-24:100:CE": {"upstox": "NSE_FO|9", "dhan": "9"},
        "NSE:ALPHA:2026-11-24:FUT": {"upstox": "NSE_FO|8", "dhan": "8"},
    }


@pytest.mark.parametrize(
    "other",
    [
        dhan_contract("ALPHA", "9", "CE", 200),
        dhan_contract("ALPHA", "9", "PE", 100),
        dhan_contract("ALPHA", "9", "FUT"),
        dhan_contract("BETA", "9", "CE", 100),
        dhan_contract("ALPHA", "9", "CE", 100, expiry=EXPIRY + timedelta(days=7)),
        dhan_contract("ALPHA", "7", "CE", 100),
        dhan_contract("ALPHA", "9", "CE", 100, LOT_SIZE="25.0"),
    ],
    ids=["strike", "right", "kind", "underlying", "expiry", "token", "lot"],
)
def test_contract_of_which_anything_differs_is_nobodys(tmp_path: Path, other: Row) -> None:
    today = date(2026, 11, 2)
    upstox = read_upstox(tmp_path, upstox_contract("ALPHA", "9", "CE", 100), published=today)

    outcome = join([upstox, read_dhan(tmp_path, other, published=today)])

    assert pairs(outcome) == {}
    assert len(outcome.conflicts) == 1


def test_conflict_spreads_to_whatever_shares_a_token_or_terms(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_contract("ALPHA", "9", "CE", 100), upstox_contract("ALPHA", "8", "CE", 200)],
        [dhan_contract("ALPHA", "9", "CE", 200), dhan_contract("ALPHA", "7", "CE", 300)],
    )

    assert pairs(outcome) == {"NSE:ALPHA:2026-11-24:300:CE": {"dhan": "7"}}


def test_token_of_a_row_that_clashed_is_not_free_for_another(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_contract("ALPHA", "8", "CE", 100), upstox_contract("ALPHA", "9", "CE", 900)],
        [dhan_contract("ALPHA", "9", "CE", 100)],
    )

    assert pairs(outcome) == {}


def test_contract_that_expired_before_the_younger_master_is_left_out(tmp_path: Path) -> None:
    upstox = read_upstox(tmp_path, upstox_contract("ALPHA", "9", "CE", 100), published=EXPIRY)
    dhan = read_dhan(
        tmp_path, dhan_contract("BETA", "9", "CE", 300, expiry=LATER), published=EXPIRY + timedelta(days=1)
    )

    outcome = join([upstox, dhan])

    assert pairs(outcome) == {"NSE:BETA:2026-12-29:300:CE": {"dhan": "9"}}
    assert [name for each in outcome.left_out for name in each.ids] == ["NSE:ALPHA:2026-11-24:100:CE"]


def test_without_known_days_what_an_underlyings_later_list_has_dropped_is_left_out(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_contract("ALPHA", "9", "CE", 100), upstox_contract("GAMMA", "8", "CE", 100)],
        [dhan_contract("ALPHA", "7", "CE", 100, expiry=LATER)],
    )

    assert sorted(pairs(outcome)) == ["NSE:ALPHA:2026-12-29:100:CE", "NSE:GAMMA:2026-11-24:100:CE"]
    assert [name for each in outcome.left_out for name in each.ids] == ["NSE:ALPHA:2026-11-24:100:CE"]


def test_near_expiry_that_the_older_list_alone_lacks_is_kept(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_contract("ALPHA", "9", "FUT", expiry=LATER), upstox_contract("BETA", "6", "FUT")],
        [dhan_contract("ALPHA", "7", "FUT", expiry=EXPIRY), dhan_contract("BETA", "6", "FUT")],
    )

    assert "NSE:ALPHA:2026-11-24:FUT" in pairs(outcome)


def test_contract_that_expires_today_is_kept(tmp_path: Path) -> None:
    upstox = read_upstox(tmp_path, upstox_contract("ALPHA", "9", "FUT"), published=EXPIRY)
    dhan = read_dhan(tmp_path, dhan_contract("ALPHA", "9", "FUT"), published=EXPIRY)

    assert list(pairs(join([upstox, dhan]))) == ["NSE:ALPHA:2026-11-24:FUT"]


def test_contract_without_a_token_is_left_out(tmp_path: Path) -> None:
    future = Listing("third", "FO", "ALPHA26NOVFUT", None, Exchange.NSE, InstrumentKind.FUTURE, "ALPHA", expiry=EXPIRY)

    outcome = join([Listings(broker="third", rows=[future]), read_dhan(tmp_path, dhan_contract("ALPHA", "9", "FUT"))])

    assert pairs(outcome) == {"NSE:ALPHA:2026-11-24:FUT": {"dhan": "9"}}
    assert len(outcome.left_out) == 1


def test_cash_and_derivative_tokens_do_not_meet(tmp_path: Path) -> None:
    outcome = joined(tmp_path, [upstox_share("ALPHA", ISIN, "9")], [dhan_contract("BETA", "9", "CE", 100)])

    assert sorted(pairs(outcome)) == ["NSE:ALPHA", "NSE:BETA:2026-11-24:100:CE"]


# Indices


@pytest.mark.parametrize(
    ("upstox", "dhan", "id_"),
    [
        (upstox_index("Nifty 50", ticker="NIFTY"), dhan_index("13", "NIFTY", "Nifty 50"), "NSE:NIFTY 50:INDEX"),
        (upstox_index("Nifty Bank"), dhan_index("25", "BANKNIFTY", "Nifty Bank"), "NSE:NIFTY BANK:INDEX"),
        (
            upstox_index("NIFTY SMLCAP 50"),
            dhan_index("22", "NIFTY SMALLCAP 50", "Nifty Smallcap 50"),
            "NSE:NIFTY SMLCAP 50:INDEX",
        ),
        (upstox_index("Nifty Rural"), dhan_index("825", "Nifty Rural", "Nifty Rural"), "NSE:NIFTY RURAL:INDEX"),
        (
            upstox_index("SENSEX50", exchange="BSE"),
            dhan_index("83", "SNSX50", "BSE Sensex 50", exchange="BSE"),
            "BSE:SENSEX50:INDEX",
        ),
    ],
    ids=["nifty", "bank", "alias", "spelling", "bse"],
)  # fmt: skip
def test_index_is_one_by_its_names(tmp_path: Path, upstox: Row, dhan: Row, id_: str) -> None:
    outcome = joined(tmp_path, [upstox], [dhan])

    assert pairs(outcome) == {id_: {"upstox": upstox["instrument_key"], "dhan": dhan["SECURITY_ID"]}}


def test_index_keeps_its_id_when_one_broker_alone_lists_it(tmp_path: Path) -> None:
    assert list(pairs(joined(tmp_path, [], [dhan_index("25", "BANKNIFTY", "Nifty Bank")]))) == ["NSE:NIFTY BANK:INDEX"]


def test_indices_are_not_joined_by_tokens(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_index("SNSX60", "69", exchange="BSE")],
        [dhan_index("69", "BANKEX", "BSE BANKEX", exchange="BSE")],
    )

    assert len(pairs(outcome)) == 2


def test_index_with_the_names_of_two_is_a_conflict(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_index("Moon Index", ticker="MARS INDEX")],
        [dhan_index("1", "MOON INDEX", "Moon Index"), dhan_index("2", "MARS INDEX", "Mars Index")],
    )

    assert pairs(outcome) == {}
    assert len(outcome.conflicts) == 1


def test_two_dhan_indices_of_one_ticker_are_told_apart_by_their_long_names(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path,
        [upstox_index("CAPINS", exchange="BSE")],
        [
            dhan_index("99", "CAPINS", "BSE Capital Markets & Insurance", exchange="BSE"),
            dhan_index("846", "CAPINS", "BSE Capital Goods Industrial Solutions", exchange="BSE"),
        ],
    )

    assert pairs(outcome)["BSE:CAPINS:INDEX"] == {"upstox": "BSE_INDEX|CAPINS", "dhan": "99"}
    assert outcome.conflicts == []


# Keys


def test_row_repeated_word_for_word_counts_once(tmp_path: Path) -> None:
    share = dhan_share("ALPHA", ISIN, "1")

    assert list(pairs(joined(tmp_path, [], [share, share]))) == ["NSE:ALPHA"]


def test_one_key_for_two_indices_is_nobodys(tmp_path: Path) -> None:
    outcome = joined(
        tmp_path, [], [dhan_index("13", "NIFTY", "Nifty 50"), dhan_index("13", "SENSEX", "Sensex", exchange="BSE")]
    )

    assert pairs(outcome) == {}
    assert kinds(outcome) == ["duplicate"]


def test_order_of_the_masters_changes_nothing(tmp_path: Path) -> None:
    upstox = read_upstox(tmp_path, upstox_share("ALPHA", ISIN, "1"), upstox_contract("ALPHA", "9", "CE", 100))
    dhan = read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1"), dhan_contract("ALPHA", "9", "CE", 200))

    assert pairs(join([upstox, dhan])) == pairs(join([dhan, upstox]))
    assert kinds(join([upstox, dhan])) == kinds(join([dhan, upstox]))


def test_two_masters_of_one_broker_are_refused(tmp_path: Path) -> None:
    dhan = read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1"))

    with pytest.raises(ConfigurationError, match="two masters of one broker"):
        join([dhan, dhan])


def test_derivatives_one_by_one_join_as_those_in_bulk(tmp_path: Path) -> None:
    strikes = [(str(9000 + n), "CE", 100.0 * n) for n in range(1, 6)]
    upstox = read_upstox(tmp_path, *(upstox_contract("ALPHA", *each) for each in strikes))
    dhan = read_dhan(tmp_path, *(dhan_contract("ALPHA", *each) for each in strikes), dhan_contract("ALPHA", "7", "FUT"))

    singly = [attrs.evolve(master, rows=list(master), contracts=()) for master in (upstox, dhan)]

    assert pairs(join(singly)) == pairs(join([upstox, dhan]))
    assert len(pairs(join(singly))) == 6


def third(*rows: tuple[str, str | None, str | None]) -> Listings:
    """Return a third broker's listings: native id, token and ISIN of shares called ALPHA."""
    return Listings(
        broker="third",
        rows=[
            Listing("third", "EQ", native, token, Exchange.NSE, InstrumentKind.EQUITY, "ALPHA", "", isin, "EQ")
            for native, token, isin in rows
        ],
    )


@pytest.mark.parametrize(("token", "isin"), [("1", ISIN), (None, ISIN), ("1", None)])
def test_third_broker_joins_by_whichever_number_it_has(tmp_path: Path, token: str | None, isin: str | None) -> None:
    masters = [
        read_upstox(tmp_path, upstox_share("ALPHA", ISIN, "1")),
        read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1")),
        third(("ALPHA-EQ", token, isin)),
    ]

    assert pairs(join(masters)) == {"NSE:ALPHA": {"upstox": f"NSE_EQ|{ISIN}", "dhan": "1", "third": "ALPHA-EQ"}}


def test_third_broker_that_contradicts_two_quarantines_all(tmp_path: Path) -> None:
    masters = [
        read_upstox(tmp_path, upstox_share("ALPHA", ISIN, "1")),
        read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1")),
        third(("ALPHA-EQ", "2", ISIN)),
    ]

    assert pairs(join(masters)) == {}


def test_one_key_for_two_papers_of_a_third_broker_is_nobodys(tmp_path: Path) -> None:
    masters = [read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1")), third(("ONE", "1", ISIN), ("ONE", "2", OTHER))]

    assert pairs(join(masters)) == {}
