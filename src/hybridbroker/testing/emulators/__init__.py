"""Upstox and Dhan on the loopback interface: real HTTP and WebSocket servers, one market behind both.

```python
market = EmulatedMarket.random_walk(seed=7)
async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
    ...  # point clients at upstox.rest_url and dhan.rest_url
```
"""

from __future__ import annotations

from hybridbroker.errors import ConfigurationError

try:
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as exc:
    raise ConfigurationError("the emulators need their extra: pip install 'hybridbroker[emulators]'") from exc

from hybridbroker.testing.emulators.base import ReceivedRequest
from hybridbroker.testing.emulators.dhan.emulator import DhanEmulator
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.login import DhanLogin
from hybridbroker.testing.emulators.faults import Ending, Fault, Faults
from hybridbroker.testing.emulators.listed import LISTED, ListedInstrument, invent, listed_from
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.proxy import TcpProxy
from hybridbroker.testing.emulators.recording import Recording
from hybridbroker.testing.emulators.series import option_series
from hybridbroker.testing.emulators.upstox.emulator import UpstoxEmulator

__all__ = [
    "LISTED",
    "DhanEmulator",
    "DhanHabits",
    "DhanLogin",
    "EmulatedMarket",
    "Ending",
    "Fault",
    "Faults",
    "ListedInstrument",
    "ReceivedRequest",
    "Recording",
    "TcpProxy",
    "UpstoxEmulator",
    "invent",
    "listed_from",
    "option_series",
]
