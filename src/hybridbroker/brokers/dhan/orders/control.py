"""Dhan's own brakes: the kill switch, exit-all, and the exit at a day's profit or loss.

Documented: https://dhanhq.co/docs/v2/traders-control/ and /portfolio/.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.orders.account_wire import KillSwitchRow, PnlExitRow
from hybridbroker.brokers.dhan.orders.mapping import look_up
from hybridbroker.brokers.dhan.orders.terms import plain
from hybridbroker.domain.orders import Product, rupees
from hybridbroker.errors import InvalidOrder, OrderRejected, WireFormatError

__all__ = ["PnlExit", "TraderControl"]

_ON: Final = "ACTIVATE"
_OFF: Final = "DEACTIVATE"
_PRODUCT: Final = {Product.INTRADAY: "INTRADAY", Product.DELIVERY: "DELIVERY"}
_PRODUCT_READ: Final = {text: product for product, text in _PRODUCT.items()}


@attrs.frozen(kw_only=True)
class PnlExit:
    """A standing instruction: square off and cancel once the day's P&L reaches either amount; it ends with the day."""

    profit: Decimal | None
    """Rupees."""
    loss: Decimal | None
    """Rupees, positive."""
    products: frozenset[Product]
    kill_switch: bool
    """Whether Dhan then refuses further orders too."""


class TraderControl:
    """Implements `KillSwitchControl`, and what only Dhan has."""

    def __init__(self, client: DhanClient, *, client_id: str) -> None:
        self._client = client
        self._client_id = client_id

    async def switch(self, *, on: bool) -> None:
        """Turn the kill switch; Dhan answers with a sentence, and its status call decides where that is not clear.

        Raises:
            OrderRejected: Dhan did not do it, for instance because of an open position or order.
        """
        word = _ON if on else _OFF
        payload = await self._client.write(
            "POST",
            "/killswitch",
            params={"killSwitchStatus": word},
            what=f"the kill switch ({word})",
            subject="killswitch",
            urgent=True,
            family="read",
        )
        said = KillSwitchRow.read(payload, what="the kill switch's answer").kill_switch_status
        clear = "success" in said.lower() or said.strip().upper() == word
        if not clear and await self.is_on() is not on:
            raise OrderRejected(said[:200])

    async def is_on(self) -> bool:
        """Say whether Dhan refuses orders now."""
        row = KillSwitchRow.read(await self._client.read("/killswitch"), what="GET /killswitch")
        return look_up({_ON: True, _OFF: False}, row.kill_switch_status.strip().upper(), what="GET /killswitch")

    async def exit_all(self) -> None:
        """Close every position and cancel every open order.

        One page says that pending orders stay (unconfirmed); assume both, and read the book.
        """
        what = "closing all positions"
        await self._client.write("DELETE", "/positions", what=what, subject="positions", urgent=True)

    async def set_pnl_exit(
        self,
        *,
        profit: Decimal | str | int,
        loss: Decimal | str | int,
        products: Collection[Product],
        kill_switch: bool,
    ) -> None:
        """Have Dhan close positions of ``products`` once the day's P&L reaches either amount; at once if it has."""
        amounts = {"profitValue": rupees(profit), "lossValue": rupees(loss)}
        for name, amount in amounts.items():
            if amount <= 0:
                raise InvalidOrder(f"{name} must be above zero, was {amount}")
        if not products or not set(products) <= set(_PRODUCT):
            raise InvalidOrder("a P&L exit is for Product.INTRADAY, Product.DELIVERY, or both")
        body = {
            # Missing from the documentation's sample, but refused without it (reported).
            "dhanClientId": self._client_id,
            **{name: plain(amount) for name, amount in amounts.items()},
            "productType": [_PRODUCT[each] for each in sorted(products)],
            "enableKillSwitch": kill_switch,
        }
        await self._client.write("POST", "/pnlExit", body, what="the P&L exit", subject="pnlExit", family="read")

    async def cancel_pnl_exit(self) -> None:
        """End the instruction."""
        what = "the end of the P&L exit"
        await self._client.write("DELETE", "/pnlExit", what=what, subject="pnlExit", family="read")

    async def pnl_exit(self) -> PnlExit | None:
        """Return the instruction in force, or None; documented in two spellings, with text and with numbers."""
        row = PnlExitRow.read(await self._client.read("/pnlExit"), what="GET /pnlExit")
        status = row.pnl_exit_status.strip().upper()
        if status != "ACTIVE":
            if status in {"DISABLED", "INACTIVE"}:
                return None
            raise WireFormatError(f"GET /pnlExit: {status[:40]!r} is no status that is documented")
        what = "GET /pnlExit"
        return PnlExit(
            profit=row.profit,
            loss=row.loss,
            products=frozenset(look_up(_PRODUCT_READ, text, what=what) for text in row.product_type or ()),
            kill_switch=bool(row.enable_kill_switch),
        )
