"""Trading days and hours of NSE and BSE as dated data, each with its source.

Closed days are weekdays only; Saturdays and Sundays are closed unless a special session says
otherwise. They are those of NSE's capital-market segment; its derivatives segment and both
segments of BSE kept the same days throughout.

Sources. Closed days 2015 to 2024: the ``XBOM`` calendar of exchange_calendars 4.13, whose list
goes back to the exchanges' yearly circulars. 2025: NSE circular CMTR65587 (13 December 2024).
2026: NSE circulars CMTR71775 (12 December 2025; same days for derivatives: FAOP71777) and
CMTR72260 (12 January 2026, which added 15 January; derivatives: FAOP72262; BSE notice 20260112-8).
All years were compared with ``XBOM``, and with the dates of recorded NSE daily candles (2015 to June
2021, 2022 to January 2026): they differ only by the special sessions below, which ``XBOM`` lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from types import MappingProxyType
from typing import Final

import attrs

from hybridbroker.domain.instrument import Segment

__all__ = ["CLOSED_DAYS", "COVERED", "HOURS", "SPECIAL_SESSIONS", "Hours", "SpecialSession"]

COVERED: Final = (date(2015, 1, 1), date(2026, 12, 31))
"""First and last date the tables speak of; NSE publishes a year's closed days in the December before."""


@attrs.frozen(kw_only=True)
class Hours:
    """Regular hours of one segment from one day on, IST."""

    valid_from: date
    segment: Segment
    opens: time = time(9, 15)
    closes: time
    pre_open: tuple[time, time] | None = (time(9, 0), time(9, 15))
    """The call auction before the opening, its matching and buffer included; None where no source states it."""
    auction_from: time | None = None
    """From when shares that have derivatives trade in the closing auction only; None: no such cut."""
    source: str


@attrs.frozen(kw_only=True)
class SpecialSession:
    """Trading on a day that would have none, or at other hours, IST; for both exchanges and all segments."""

    name: str
    stretches: tuple[tuple[time, time], ...] = ((time(9, 15), time(15, 30)),)
    """Opening and closing of each part; empty where a source states the day but not the hours."""
    source: str


HOURS: Final = (
    Hours(
        valid_from=COVERED[0],
        segment=Segment.CASH,
        closes=time(15, 30),
        source="nseindia.com/market-data/market-timings",
    ),
    Hours(
        valid_from=date(2026, 8, 3),
        segment=Segment.CASH,
        closes=time(15, 30),
        auction_from=time(15, 15),
        source="SEBI circular HO/47/11/11(3)2025-MRD-POD2/I/2765/2026, 16 January 2026, 4.2.1: auction 15:15-15:35",
    ),
    Hours(
        valid_from=date(2026, 9, 7),
        segment=Segment.CASH,
        closes=time(15, 30),
        pre_open=None,
        auction_from=time(15, 15),
        source="as before; NSE changed its pre-open session on this day, and no source known here states its times",
    ),
    Hours(
        valid_from=date(2026, 12, 7),
        segment=Segment.CASH,
        closes=time(15, 30),
        pre_open=None,
        source="SEBI circular HO/47/11/11(3)2025-MRD-POD2/I/23843/2026, 15 October 2026, 4.2.1, as quoted by "
        "aion-indian-market-calendar 1.6.0: closing auction 15:30-15:40",
    ),
    Hours(
        valid_from=COVERED[0],
        segment=Segment.DERIVATIVES,
        closes=time(15, 30),
        pre_open=None,
        source="nseindia.com/market-data/market-timings",
    ),
    Hours(
        valid_from=date(2025, 12, 8),
        segment=Segment.DERIVATIVES,
        closes=time(15, 30),
        source="NSE on the pre-open session of futures, 3 November 2025, as reported by Mint, 4 November 2025",
    ),
    Hours(
        valid_from=date(2026, 8, 3),
        segment=Segment.DERIVATIVES,
        closes=time(15, 40),
        source="SEBI circular HO/47/11/11(3)2025-MRD-POD2/I/2765/2026, 16 January 2026, 4.2.3; NSE, 29 May 2026",
    ),
    Hours(
        valid_from=date(2026, 12, 7),
        segment=Segment.DERIVATIVES,
        closes=time(15, 45),
        source="SEBI circular HO/47/11/11(3)2025-MRD-POD2/I/23843/2026, 15 October 2026, 4.2.4 and 4.2.5, as quoted by "
        "aion-indian-market-calendar 1.6.0; expiring index contracts stop at 15:30",
    ),
)

CLOSED_DAYS: Final[Mapping[int, str]] = MappingProxyType(
    {
        2015: "0126 0217 0306 0402 0403 0414 0501 0917 0925 1002 1022 1111 1112 1125 1225",
        2016: "0126 0307 0324 0325 0414 0415 0419 0706 0815 0905 0913 1011 1012 1031 1114",
        2017: "0126 0224 0313 0404 0414 0501 0626 0815 0825 1002 1019 1020 1225",
        2018: "0126 0213 0302 0329 0330 0501 0815 0822 0913 0920 1002 1018 1107 1108 1123 1225",
        2019: "0304 0321 0417 0419 0429 0501 0605 0812 0815 0902 0910 1002 1008 1021 1028 1112 1225",
        2020: "0221 0310 0402 0406 0410 0414 0501 0525 1002 1116 1130 1225",
        2021: "0126 0311 0329 0402 0414 0421 0513 0721 0819 0910 1015 1104 1105 1119",
        2022: "0126 0301 0318 0414 0415 0503 0809 0815 0831 1005 1024 1026 1108",
        2023: "0126 0307 0330 0404 0407 0414 0501 0629 0815 0919 1002 1024 1114 1127 1225",
        2024: "0122 0126 0308 0325 0329 0411 0417 0501 0520 0617 0717 0815 1002 1101 1115 1120 1225",
        2025: "0226 0314 0331 0410 0414 0418 0501 0815 0827 1002 1021 1022 1105 1225",
        2026: "0115 0126 0303 0326 0331 0403 0414 0501 0528 0626 0914 1002 1020 1110 1124 1225",
    }
)
"""Weekdays without regular trading, as month and day, by year."""


def _muhurat(opens: time, closes: time, source: str) -> SpecialSession:
    return SpecialSession(name="Muhurat", stretches=((opens, closes),), source=source)


_SWITCH = ((time(9, 15), time(10, 0)), (time(11, 30), time(12, 30)))

SPECIAL_SESSIONS: Final[Mapping[date, SpecialSession]] = MappingProxyType(
    {
        date(2015, 2, 28): SpecialSession(name="Union Budget", source="zerodha.com/marketintel/bulletin/52900"),
        date(2015, 11, 11): _muhurat(time(17, 45), time(18, 45), "thehindubusinessline.com article7829620"),
        date(2016, 10, 30): _muhurat(time(18, 30), time(19, 30), "hindupad.com/diwali-muhurat-trading"),
        date(2017, 10, 19): _muhurat(time(18, 30), time(19, 30), "upcomingipocalendar.com, quoting NSE"),
        date(2018, 11, 7): _muhurat(time(17, 30), time(18, 30), "moneycontrol.com 3126511"),
        date(2019, 10, 27): _muhurat(time(18, 15), time(19, 15), "moneycontrol.com 4558391"),
        date(2020, 2, 1): SpecialSession(name="Union Budget", source="indianexpress.com 6229844, quoting BSE"),
        date(2020, 11, 14): _muhurat(time(18, 15), time(19, 15), "ndtv.com 2325145, quoting NSE"),
        date(2021, 11, 4): _muhurat(time(18, 15), time(19, 15), "livemint.com 11635920919667"),
        date(2022, 10, 24): _muhurat(time(18, 15), time(19, 15), "livemint.com 11666575790132"),
        date(2023, 11, 12): _muhurat(
            time(18, 15), time(19, 15), "angelone.in/announcements/market/muhurat-trading-session-12-nov"
        ),
        date(2024, 1, 20): SpecialSession(name="Full Saturday in place of 22 January", source="latestly.com 5706457"),
        date(2024, 3, 2): SpecialSession(
            name="Disaster-recovery switch", stretches=_SWITCH, source="zeenews.india.com 2721738"
        ),
        date(2024, 5, 18): SpecialSession(
            name="Disaster-recovery switch", stretches=_SWITCH, source="zerodha.com/marketintel/bulletin/377895"
        ),
        date(2024, 11, 1): _muhurat(time(18, 0), time(19, 0), "ndtvprofit.com, quoting BSE and NSE, 20 October 2024"),
        date(2025, 2, 1): SpecialSession(name="Union Budget", source="hindustantimes.com 101738066365677, quoting NSE"),
        date(2025, 10, 21): _muhurat(time(13, 45), time(14, 45), "millenniumpost.in 628358, quoting NSE and BSE"),
        date(2026, 2, 1): SpecialSession(
            name="Union Budget", source="NSE circulars CMTR72349 and FAOP72352, BSE notices 20260116-33 and -34"
        ),
        date(2026, 11, 8): SpecialSession(
            name="Muhurat", stretches=(), source="NSE circular CMTR71775: the day only, hours to be notified separately"
        ),
    }
)
