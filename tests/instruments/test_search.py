"""Search finds what was meant, best first, misspelt or not."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from master_files import dhan_contract, dhan_index, dhan_share, read_dhan, registry, upstox_contract, upstox_share

from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.instruments.search import SearchText

PAPERS = [
    ("RELIANCE", "RELIANCE INDUSTRIES LTD", "INE002A01018"),
    ("RELINFRA", "RELIANCE INFRASTRUCTURE LTD", "INE036A01016"),
    ("RPOWER", "RELIANCE POWER LTD", "INE614G01033"),
    ("TCS", "TATA CONSULTANCY SERV LT", "INE467B01029"),
    ("HDFCBANK", "HDFC BANK LTD", "INE040A01034"),
    ("NIFTYBEES", "NIPPON INDIA ETF NIFTY 50 BEES", "INF204KB14I2"),
    ("749RJ35", "RELIANCE SDL RJ 7.49% 2035", "IN2920250163"),
    ("M&M", "MAHINDRA & MAHINDRA LTD", "INE101A01026"),
]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    folder = tmp_path_factory.mktemp("search")
    shares = [dhan_share(symbol, isin, str(n), SYMBOL_NAME=name) for n, (symbol, name, isin) in enumerate(PAPERS)]
    bse = dhan_share("RELIANCE", "INE002A01018", "500325", EXCH_ID="BSE", SERIES="A")
    contracts = [
        dhan_contract("RELIANCE", "90", "FUT"),
        dhan_contract("RELIANCE", "91", "CE", 1500),
        dhan_contract("RELIANCE", "92", "PE", 1500),
        dhan_contract("RELIANCE", "93", "CE", 1500, expiry=date(2026, 12, 29)),
    ]
    rows = [*shares, bse, *contracts, dhan_index("13", "NIFTY", "Nifty 50")]
    return InstrumentRegistry.from_listings([read_dhan(folder, *rows)])


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("relianc", "NSE:RELIANCE"),
        ("RELIANCE", "NSE:RELIANCE"),
        ("relaince", "NSE:RELIANCE"),
        ("reliance infra", "NSE:RELINFRA"),
        ("infra reliance", "NSE:RELINFRA"),
        ("hdfc bnk", "NSE:HDFCBANK"),
        ("tata consultancy", "NSE:TCS"),
        ("tcs", "NSE:TCS"),
        ("bees", "NSE:NIFTYBEES"),
        ("nifty", "NSE:NIFTY 50:INDEX"),
        ("m&m", "NSE:M&M"),
        ("sdl 2035", "NSE:749RJ35"),
        ("reliance fut", "NSE:RELIANCE:2026-11-24:FUT"),
        ("reliance 1500 pe", "NSE:RELIANCE:2026-11-24:1500:PE"),
        ("RELIANCE 1500.00", "NSE:RELIANCE:2026-11-24:1500:CE"),
    ],
)
def test_search_gives_what_was_meant_first(market: InstrumentRegistry, query: str, first: str) -> None:
    assert market.search(query)[0].id == first


def test_contracts_come_soonest_first(market: InstrumentRegistry) -> None:
    assert [each.id for each in market.search("reliance 1500 ce")] == [
        "NSE:RELIANCE:2026-11-24:1500:CE",
        "NSE:RELIANCE:2026-12-29:1500:CE",
    ]


def test_bonds_come_after_everything_else(market: InstrumentRegistry) -> None:
    assert [each.id for each in market.search("reliance")][-1] == "NSE:749RJ35"


def test_search_gives_at_most_what_was_asked_for(market: InstrumentRegistry) -> None:
    assert len(market.search("reliance", limit=2)) == 2


@pytest.mark.parametrize("query", ["", "   ", "%%%", "zzzzzzzz", "qqq fut"])
def test_search_without_a_hit_is_empty(market: InstrumentRegistry, query: str) -> None:
    assert market.search(query) == ()


@given(st.text(max_size=40))
def test_no_query_breaks_the_search(query: str) -> None:
    texts = {"names": "\nALPHA\tALPHA LTD\tNSE:ALPHA\n", "debt": "\n", "vocabulary": "\nALPHA\nLTD\n"}

    assert isinstance(SearchText(texts.__getitem__).find(query, limit=3), list)


def test_quarantined_papers_are_not_found(tmp_path: Path) -> None:
    market = registry(
        tmp_path,
        upstox=[upstox_share("ALPHA", "INE111A01011", "1"), upstox_contract("BETA", "9", "FUT")],
        dhan=[dhan_share("ALPHA", "INE111A01011", "2")],
    )

    assert market.search("alpha") == ()
