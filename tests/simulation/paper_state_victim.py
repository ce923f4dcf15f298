"""A process that trades on paper as fast as it can, tells each fill, and is killed."""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from simulated import ACME, MONDAY, ZETA, tick

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.testing.clock import ManualClock

BY_NAME = {each.id: each for each in (ACME, ZETA)}


class Listed:
    def __getitem__(self, name: str) -> Instrument:
        return BY_NAME[name]

    def key(self, instrument: Instrument, broker: str) -> Any:
        raise AssertionError(broker)

    def by_key(self, broker: str, key: str) -> Any:
        raise AssertionError(key)


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def main(path: Path) -> None:
    source: Any = None
    async with PaperBroker(
        source, cash=Decimal(10_000_000), clock=ManualClock(MONDAY), state=path, instruments=Listed()
    ) as broker:
        say(trades=[{"id": each.id} for each in broker.exchange.all_trades()])
        broker.feed(tick(100))
        told = len(broker.exchange.all_trades())
        for count in range(100_000):
            await broker.place_order(LimitOrder(ACME, Side.BUY, quantity=1 + count % 3, price=99))
            broker.feed(tick(98 if count % 2 else 100))
            trades = broker.exchange.all_trades()
            for each in trades[told:]:
                say(trade=each.id)
            told = len(trades)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
