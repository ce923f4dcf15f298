"""What stands between a strategy and a real order: limits, a journal, and an answer to every lost reply.

```python
broker = guarded(DhanBroker(...), account="dhan-1100000001", limits=RiskLimits(max_order_value=20_000))
async with broker:
    await broker.place_order(LimitOrder(...))
```
"""

from __future__ import annotations

import signal
from pathlib import Path

from hybridbroker.alerts import Notifier
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.execution.account import AccountFiles, account_name
from hybridbroker.execution.guard import RiskLimits
from hybridbroker.execution.guarded import GuardedBroker
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.killswitch import KillSwitch, default_signal
from hybridbroker.execution.prices import LastPrices
from hybridbroker.execution.rate import WriteRate
from hybridbroker.execution.reconcile import Patience
from hybridbroker.protocols import Broker, Capability, QuoteSource

__all__ = [
    "AccountFiles",
    "GuardedBroker",
    "JournalledBroker",
    "KillSwitch",
    "LastPrices",
    "OrderJournal",
    "Patience",
    "RiskLimits",
    "account_name",
    "guarded",
]


def guarded(
    broker: Broker,
    *,
    account: str | None = None,
    journal: Path | str | None = None,
    directory: Path | None = None,
    limits: RiskLimits | None = None,
    clock: Clock | None = None,
    calendar: TradingCalendar | None = None,
    prices: LastPrices | None = None,
    quotes: QuoteSource | None = None,
    patience: Patience | None = None,
    notifier: Notifier | None = None,
    kill_signal: signal.Signals | None = None,
) -> GuardedBroker:
    """Build the journal and the guard around a broker; the caller enters ``broker`` first, then the answer.

    Args:
        broker: What takes the orders in the end.
        account: Names the account's files (`account_name` makes it from settings); the broker's
            name unless given. Two accounts at one broker need two names, and so does an
            emulator beside the real thing.
        journal: File of the order journal; unless given, the account's own place
            (`AccountFiles`) for real money, and memory for simulated money.
        directory: Where the account's files are, in place of the platform's place for state.
        limits: What is refused.
        clock: What time it is.
        calendar: When the exchange is open; without it the guard does not know.
        prices: Last prices of the streams, from `LastPrices.watch`.
        quotes: Where to ask for a price that no stream has.
        patience: How long to look for a lost order.
        notifier: Where alerts go.
        kill_signal: Signal that throws the kill switch; SIGUSR1 for real money unless given.
    """
    clock = clock or SystemClock()
    limits = limits or RiskLimits()
    live = Capability.LIVE_MONEY in broker.capabilities
    path = None if journal is None else Path(journal)
    files = AccountFiles.of(account or broker.name, journal=path, directory=directory)
    kept = path is not None or live
    journalled = JournalledBroker(
        broker,
        journal=OrderJournal(files.journal if kept else None, clock=clock),
        rate=WriteRate(files.rate if live else None, clock=clock, limit=limits.writes_per_second),
        clock=clock,
        patience=patience,
        notifier=notifier,
    )
    return GuardedBroker(
        journalled,
        bare=broker,
        limits=limits,
        clock=clock,
        calendar=calendar,
        prices=prices,
        quotes=quotes,
        kill=KillSwitch(files.kill if live else None),
        kill_signal=kill_signal or (default_signal() if live else None),
    )
