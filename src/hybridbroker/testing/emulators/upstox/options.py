"""Upstox's option contracts and chain, of the options that the emulated market lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, Final

from starlette.responses import Response

from hybridbroker.domain.instrument import InstrumentKind, OptionRight
from hybridbroker.testing.emulators.greeks import IMPLIED_VOLATILITY, greeks_of, underlying_of
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.gates import Need, Rule
from hybridbroker.testing.emulators.upstox.names import contract_row

__all__ = ["UpstoxOptions"]

_SIDES: Final = {OptionRight.CALL: "call_options", OptionRight.PUT: "put_options"}
_MARKET_DATA: Final = ("ltp", "volume", "oi", "close_price", "bid_price", "bid_qty", "ask_price", "ask_qty")
_KEYWORDS: Final = ("current_week", "next_week", "far_week", "current_month", "next_month", "far_month")
"""What stands for an expiry; which one is counted over the listed expiries, by week or by month."""


class UpstoxOptions:
    """Answers option calls."""

    def __init__(self, market: EmulatedMarket) -> None:
        self._market = market
        self._of: dict[str, list[ListedInstrument]] = {}
        for each in market.listed:
            if each.instrument.kind is not InstrumentKind.OPTION:
                continue
            underlying = underlying_of(market, each.instrument)
            if underlying is not None:
                self._of.setdefault(underlying.upstox_key, []).append(each)

    def rules(self) -> Iterator[Rule]:
        """Return the calls."""
        yield Rule("GET", "/v2/option/contract", self._contracts, Need.DATA)
        yield Rule("GET", "/v2/option/chain", self._chain, Need.DATA)

    def _contracts(self, call: Call) -> Response:
        underlying = self._underlying(call)
        wanted = call.query.get("expiry_date")
        expiry = None if wanted is None else self._expiry(underlying, wanted)
        return success([contract_row(each, underlying) for each in self._options(underlying, expiry)])

    def _chain(self, call: Call) -> Response:
        underlying = self._underlying(call)
        wanted = call.query.get("expiry_date")
        if not wanted:
            raise Refusal("UDAPI1088", "The expiry date is required", path="expiry_date")
        strikes: dict[Decimal, dict[OptionRight, ListedInstrument]] = {}
        for each in self._options(underlying, self._expiry(underlying, wanted)):
            option = each.instrument
            assert option.strike is not None  # noqa: S101 - an option has both
            assert option.right is not None  # noqa: S101
            strikes.setdefault(option.strike, {})[option.right] = each
        return success([self._row(underlying, strike, strikes[strike]) for strike in sorted(strikes)])

    def _row(
        self, underlying: ListedInstrument, strike: Decimal, sides: dict[OptionRight, ListedInstrument]
    ) -> dict[str, Any]:
        tick = self._market.tick(underlying)
        spot = 0.0 if tick is None else tick.last_price
        row: dict[str, Any] = {"strike_price": float(strike), "underlying_key": underlying.upstox_key}
        row |= {"underlying_spot_price": spot, "pcr": 0.0}
        interest = {}
        for right, name in _SIDES.items():
            listed = sides.get(right)
            if listed is None:
                continue
            assert listed.instrument.expiry is not None  # noqa: S101 - an option has one
            row["expiry"] = listed.instrument.expiry.isoformat()
            row[name] = {"instrument_key": listed.upstox_key, **self._side(listed, spot)}
            interest[right] = row[name]["market_data"]["oi"]
        if interest.get(OptionRight.CALL):
            row["pcr"] = round(interest.get(OptionRight.PUT, 0.0) / interest[OptionRight.CALL], 4)
        return row

    def _side(self, listed: ListedInstrument, spot: float) -> dict[str, Any]:
        feed = self._market.feed(listed.upstox_key)
        data: dict[str, float] = dict.fromkeys(_MARKET_DATA, 0)
        if feed is not None:
            market = feed.fullFeed.marketFF
            best = market.marketLevel.bidAskQuote
            data |= {"ltp": market.ltpc.ltp, "volume": market.vtt, "oi": market.oi, "close_price": market.ltpc.cp}
            if best:
                data |= {"bid_price": best[0].bidP, "bid_qty": best[0].bidQ}
                data |= {"ask_price": best[0].askP, "ask_qty": best[0].askQ}
        answer: dict[str, Any] = {"market_data": {**data, "prev_oi": data["oi"]}}
        if spot:
            greeks = greeks_of(listed.instrument, spot, self._market.now)
            answer["option_greeks"] = {
                "vega": greeks.vega,
                "theta": greeks.theta,
                "gamma": greeks.gamma,
                "delta": greeks.delta,
                "iv": round(100 * IMPLIED_VOLATILITY, 2),
                "pop": greeks.pop,
            }
        return answer

    def _underlying(self, call: Call) -> ListedInstrument:
        key = call.query.get("instrument_key", "")
        if "|" not in key:
            raise Refusal("UDAPI1011", path="instrument_key", invalid=key)
        listed = self._market.by_key(key)
        if listed is None or key.startswith("MCX"):
            raise Refusal("UDAPI100011", path="instrument_key", invalid=key)
        return listed

    def _options(self, underlying: ListedInstrument, expiry: date | None) -> list[ListedInstrument]:
        options = self._of.get(underlying.upstox_key, [])
        return [each for each in options if expiry is None or each.instrument.expiry == expiry]

    def _expiry(self, underlying: ListedInstrument, wanted: str) -> date:
        if wanted not in _KEYWORDS:
            try:
                return date.fromisoformat(wanted)
            except ValueError:
                raise Refusal("UDAPI1088", path="expiry_date", invalid=wanted) from None
        expiries = sorted({each.instrument.expiry or date.max for each in self._options(underlying, None)})
        ahead = [each for each in expiries if each >= self._market.now.date()]
        if wanted.endswith("month"):
            ahead = list({(each.year, each.month): each for each in ahead}.values())
        place = _KEYWORDS.index(wanted) % 3
        if place >= len(ahead):
            raise Refusal("UDAPI100011", path="expiry_date", invalid=wanted)
        return ahead[place]
