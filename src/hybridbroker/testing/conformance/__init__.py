"""What every broker promises, as checks with ids: run them on your own plugin, with or without a test framework.

```python
report = await run_checks(BROKER_CHECKS, BrokerSubject(broker=broker, instrument=share, price=Decimal("1400")))
assert report.passed, report
```

The sentence of a promise is its docstring. Checks that need an ability the subject does not
name are left out; no test framework is imported here.
"""

from __future__ import annotations

from hybridbroker.testing.conformance.data import DATA_CHECKS
from hybridbroker.testing.conformance.kit import (
    BrokerSubject,
    Check,
    DataSubject,
    Outcome,
    Report,
    Result,
    Skipped,
    run_check,
    run_checks,
)
from hybridbroker.testing.conformance.orders import ORDER_CHECKS
from hybridbroker.testing.conformance.portfolio import PORTFOLIO_CHECKS
from hybridbroker.testing.conformance.standing import STANDING_CHECKS
from hybridbroker.testing.conformance.stream import STREAM_CHECKS

__all__ = [
    "BROKER_CHECKS",
    "DATA_CHECKS",
    "MARKET_DATA_CHECKS",
    "ORDER_CHECKS",
    "PORTFOLIO_CHECKS",
    "STANDING_CHECKS",
    "STREAM_CHECKS",
    "BrokerSubject",
    "Check",
    "DataSubject",
    "Outcome",
    "Report",
    "Result",
    "Skipped",
    "run_check",
    "run_checks",
]

BROKER_CHECKS = (*ORDER_CHECKS, *PORTFOLIO_CHECKS, *STANDING_CHECKS)
"""All promises of a `Broker`."""

MARKET_DATA_CHECKS = (*DATA_CHECKS, *STREAM_CHECKS)
"""All promises of a `MarketData`."""
