"""The ``hybridbroker`` command at an instant given in ISO form as the first argument, from which time goes on."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

from hybridbroker.cli import main
from hybridbroker.clock import SystemClock

START, BEGUN = sys.argv[1], time.monotonic()


def now(_: SystemClock) -> datetime:
    return datetime.fromisoformat(START) + timedelta(seconds=time.monotonic() - BEGUN)


if __name__ == "__main__":
    del sys.argv[1]
    SystemClock.now = now  # type: ignore[assignment, method-assign]
    main()
