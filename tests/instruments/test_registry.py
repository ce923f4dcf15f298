"""Every look-up answers exactly, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from master_files import (
    EXPIRY,
    dhan_contract,
    dhan_index,
    dhan_share,
    read_dhan,
    read_upstox,
    registry,
    upstox_contract,
    upstox_index,
    upstox_share,
)

from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight
from hybridbroker.errors import (
    InstrumentAmbiguous,
    InstrumentConflict,
    InstrumentError,
    InstrumentNotFound,
    InstrumentUnmapped,
)
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.protocols import InstrumentLookup

ISIN, WARRANT = "INE111A01011", "INE111A13017"
LATER = EXPIRY + timedelta(days=35)


@pytest.fixture
def market(tmp_path: Path) -> InstrumentRegistry:
    upstox = [
        upstox_share("ALPHA", ISIN, "1"),
        upstox_share("ALPHA", WARRANT, "2", instrument_type="W1"),
        upstox_share("ALPHA", ISIN, "500111", exchange="BSE", instrument_type="A"),
        upstox_share("SOLO", "INE333A01015", "3"),
        upstox_index("Nifty 50", ticker="NIFTY"),
        upstox_contract("NIFTY", "90", "FUT"),
        upstox_contract("NIFTY", "91", "CE", 25000),
        upstox_contract("NIFTY", "92", "PE", 25000),
        upstox_contract("NIFTY", "93", "CE", 9500),
        upstox_contract("ALPHA", "94", "CE", 62.5),
        upstox_contract("BROKEN", "99", "CE", 100),
    ]
    dhan = [
        dhan_share("ALPHA", ISIN, "1"),
        dhan_share("ALPHA", WARRANT, "2", SERIES="W1"),
        dhan_index("13", "NIFTY", "Nifty 50"),
        dhan_contract("NIFTY", "90", "FUT", INSTRUMENT="FUTIDX", UNDERLYING_SECURITY_ID="26000"),
        dhan_contract("NIFTY", "91", "CE", 25000),
        dhan_contract("NIFTY", "95", "CE", 25000, expiry=LATER),
        dhan_contract("ALPHA", "94", "CE", 62.5),
        dhan_contract("ALPHA", "194", "CE", 62.5, EXCH_ID="BSE"),
        dhan_contract("BROKEN", "99", "CE", 200),
    ]
    return registry(tmp_path, upstox=upstox, dhan=dhan)


def ids(found: tuple[Instrument, ...]) -> list[str]:
    return [each.id for each in found]


def test_registry_is_an_instrument_lookup() -> None:
    lookup: InstrumentLookup = InstrumentRegistry.builtin()

    assert lookup["NSE:TCS"].symbol == "TCS"


def test_builtin_registry_knows_the_public_ids() -> None:
    builtin = InstrumentRegistry.builtin()
    reliance, nifty = builtin["NSE:RELIANCE"], builtin["NSE:NIFTY 50:INDEX"]

    assert (str(builtin.key(reliance, "dhan")), reliance.tick_size) == ("NSE_EQ:2885", Decimal("0.10"))
    assert builtin.key(reliance, "upstox").id == "NSE_EQ|INE002A01018"
    assert builtin.by_key("dhan", "IDX_I:13") == nifty
    assert not nifty.tradable


def test_id_gives_the_instrument_and_the_same_object_again(market: InstrumentRegistry) -> None:
    share = market["NSE:ALPHA"]

    assert (share.isin, share.series, share.kind) == (ISIN, "EQ", InstrumentKind.EQUITY)
    assert market["NSE:ALPHA"] is share
    assert "NSE:ALPHA" in market
    assert "NSE:NOPE" not in market


def test_every_id_round_trips_through_every_key(market: InstrumentRegistry) -> None:
    for name in market:
        for broker, key in market.keys_of(market[name]).items():
            assert market.by_key(broker, str(key)).id == name


def test_key_of_a_broker_that_does_not_list_it_is_unmapped(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentUnmapped, match="dhan does not list NSE:SOLO; only upstox does"):
        market.key(market["NSE:SOLO"], "dhan")


def test_key_of_an_instrument_from_elsewhere_is_not_found(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentNotFound):
        market.key(InstrumentRegistry.builtin()["NSE:TCS"], "dhan")


@pytest.mark.parametrize("key", ["1", "NSE_EQ:777", "BSE_EQ:1", "NSE_FO|90", ""])
def test_key_the_broker_does_not_have_is_not_found(market: InstrumentRegistry, key: str) -> None:
    with pytest.raises(InstrumentNotFound, match="dhan key"):
        market.by_key("dhan", key)


def test_both_dhan_ids_of_an_index_are_known(market: InstrumentRegistry) -> None:
    assert market.by_key("dhan", "IDX_I:13").id == "NSE:NIFTY 50:INDEX"
    assert market.by_key("dhan", "NSE_FNO/underlying:26000").id == "NSE:NIFTY 50:INDEX"
    assert market.key(market["NSE:NIFTY 50:INDEX"], "dhan").id == "13"


def test_ticker_means_the_share_where_there_is_one(market: InstrumentRegistry) -> None:
    assert market.equity("ALPHA", exchange=Exchange.NSE).id == "NSE:ALPHA"
    assert market.equity("ALPHA", exchange=Exchange.NSE, series="W1").id == "NSE:ALPHA:W1"
    assert market.equity("SOLO").id == "NSE:SOLO"


def test_ticker_on_two_exchanges_is_ambiguous(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentAmbiguous, match="NSE:ALPHA or BSE:ALPHA") as several:
        market.equity("ALPHA")

    assert several.value.candidates == ("NSE:ALPHA", "BSE:ALPHA")


def test_isin_names_one_paper_per_exchange(market: InstrumentRegistry) -> None:
    assert market.isin(ISIN, exchange=Exchange.BSE).id == "BSE:ALPHA"
    assert market.isin(WARRANT).id == "NSE:ALPHA:W1"
    with pytest.raises(InstrumentAmbiguous):
        market.isin(ISIN)


def test_contract_is_found_by_its_terms(market: InstrumentRegistry) -> None:
    assert market.future("NIFTY", expiry=EXPIRY).id == "NSE:NIFTY:2026-11-24:FUT"
    call = market.option("NIFTY", expiry=EXPIRY, strike=25_000, right="CE")
    assert call == market.option("NIFTY", expiry=EXPIRY, strike="25000.00", right=OptionRight.CALL)
    assert (call.freeze_quantity, call.lot_size, call.underlying) == (1000, 50, "NIFTY")


def test_contract_on_two_exchanges_is_ambiguous(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentAmbiguous):
        market.option("ALPHA", expiry=EXPIRY, strike="62.5", right="CE")

    assert market.option("ALPHA", expiry=EXPIRY, strike="62.5", right="CE", exchange=Exchange.BSE).exchange == "BSE"


def test_expiries_come_soonest_first(market: InstrumentRegistry) -> None:
    assert market.expiries("NIFTY") == (EXPIRY, LATER)
    assert market.expiries("NIFTY", kind=InstrumentKind.FUTURE) == (EXPIRY,)


def test_chain_is_sorted_by_strike_with_the_call_first(market: InstrumentRegistry) -> None:
    assert [name.split(":", 3)[3] for name in ids(market.chain("NIFTY", expiry=EXPIRY))] == [
        "9500:CE",
        "25000:CE",
        "25000:PE",
    ]


def test_chain_leaves_quarantined_contracts_out(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentNotFound, match="no derivatives on 'BROKEN'"):
        market.chain("BROKEN", expiry=EXPIRY)

    assert [conflict.ids for conflict in market.conflicts()] == [
        ("NSE:BROKEN:2026-11-24:100:CE", "NSE:BROKEN:2026-11-24:200:CE")
    ]


def test_chain_on_two_exchanges_is_ambiguous(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentAmbiguous, match="name the exchange"):
        market.chain("ALPHA", expiry=EXPIRY)


def test_underlying_of_a_derivative_is_an_instrument(market: InstrumentRegistry) -> None:
    assert market.underlying(market.future("NIFTY", expiry=EXPIRY)).id == "NSE:NIFTY 50:INDEX"
    contract = market.option("ALPHA", expiry=EXPIRY, strike="62.5", right="CE", exchange=Exchange.NSE)
    assert market.underlying(contract).id == "NSE:ALPHA"
    with pytest.raises(InstrumentNotFound):
        market.underlying(market["NSE:SOLO"])


@pytest.mark.parametrize(
    "use",
    [
        lambda market: market["NSE:BROKEN:2026-11-24:100:CE"],
        lambda market: market.option("BROKEN", expiry=EXPIRY, strike=200, right="CE"),
        lambda market: market.by_key("dhan", "NSE_FNO:99"),
        lambda market: market.by_key("upstox", "NSE_FO|99"),
    ],
)
def test_quarantined_contract_says_why(
    market: InstrumentRegistry, use: Callable[[InstrumentRegistry], Instrument]
) -> None:
    with pytest.raises(InstrumentConflict, match="quarantined: one exchange token, other terms"):
        use(market)


def test_isin_and_ticker_of_quarantined_papers_say_why(tmp_path: Path) -> None:
    market = registry(tmp_path, upstox=[upstox_share("ALPHA", ISIN, "1")], dhan=[dhan_share("ALPHA", ISIN, "2")])

    with pytest.raises(InstrumentConflict):
        market.isin(ISIN)
    with pytest.raises(InstrumentConflict):
        market.equity("ALPHA")


def test_unknown_name_suggests_similar_ones(market: InstrumentRegistry) -> None:
    with pytest.raises(InstrumentNotFound, match="did you mean NSE:ALPHA"):
        market["NSE:APLHA"]


def test_expired_contract_says_so(tmp_path: Path) -> None:
    market = InstrumentRegistry.from_listings(
        [read_upstox(tmp_path, upstox_contract("ALPHA", "9", "FUT"), published=EXPIRY + timedelta(days=1))]
    )

    with pytest.raises(InstrumentNotFound, match="not carried: expired"):
        market["NSE:ALPHA:2026-11-24:FUT"]
    with pytest.raises(InstrumentNotFound, match="expired"):
        market.by_key("upstox", "NSE_FO|9")


@pytest.mark.parametrize(
    ("upstox", "dhan", "of_today", "age"),
    [
        (date(2026, 9, 15), date(2026, 9, 15), True, 0),
        (date(2026, 9, 16), date(2026, 9, 15), True, 0),
        (date(2026, 9, 14), date(2026, 9, 15), False, 1),
        (None, date(2026, 9, 15), False, 0),
        (None, None, False, 0),
    ],
)
def test_registry_is_of_a_day_only_when_every_master_is_known_to_be(
    tmp_path: Path, upstox: date | None, dhan: date | None, of_today: bool, age: int
) -> None:
    masters = [
        read_upstox(tmp_path, upstox_contract("ALPHA", "9", "FUT"), published=upstox),
        read_dhan(tmp_path, dhan_contract("ALPHA", "9", "FUT"), published=dhan),
    ]

    market = InstrumentRegistry.from_listings(masters)

    assert market.is_of(date(2026, 9, 15)) is of_today
    assert market.age(date(2026, 9, 15)) == age


def test_age_of_a_master_without_any_date_is_unknown() -> None:
    builtin = InstrumentRegistry.builtin()

    assert builtin.age(date(2026, 9, 15)) is None
    assert not builtin.is_of(date(2026, 9, 15))


def test_masters_of_different_days_say_how_far_apart(tmp_path: Path) -> None:
    market = InstrumentRegistry.from_listings(
        [
            read_upstox(tmp_path, upstox_share("ALPHA", ISIN, "1"), published=date(2026, 9, 1)),
            read_dhan(tmp_path, dhan_share("ALPHA", ISIN, "1"), published=date(2026, 9, 15)),
        ]
    )

    assert market.days_apart == 14
    assert market.as_of == date(2026, 9, 1)


def test_coverage_accounts_for_every_row(market: InstrumentRegistry) -> None:
    coverage = market.coverage()

    for broker, read in coverage.read.items():
        told = sum(coverage.mapped[broker].values()) + sum(coverage.unmapped[broker].values())
        assert told == sum(read.values())
    assert coverage.unmapped["dhan"]["not listed by upstox"] == 2
    assert coverage.unmapped["upstox"]["quarantined: terms"] == 1
    assert coverage.conflicts["terms"].count == 1
    assert sum(coverage.instruments.values()) == len(market)


def test_registry_can_be_read_from_many_threads(market: InstrumentRegistry) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = list(market) * 20

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: market[name].id, names))

    assert found == names


def test_strange_names_never_escape_as_anything_else(market: InstrumentRegistry) -> None:
    for name in ("", ":", "NSE:", "NSE:ALPHA:", "x" * 1000, "NSE:%", "NSE:ALPHA' OR 1=1 --", "\0"):
        with pytest.raises(InstrumentError):
            market[name]
