"""The command line: one module per command, one place that turns mistakes into one clear line.

Exit codes: 0 done, 1 something outside went wrong, 2 the input or a setting is wrong.
Progress and errors go to stderr, so stdout can be piped.
"""

from __future__ import annotations

import sys

from hybridbroker.errors import ConfigurationError, HybridBrokerError, InstrumentError, InvalidOrder, Unsupported

__all__ = ["main"]

_USERS_MISTAKE = (ConfigurationError, InstrumentError, InvalidOrder, Unsupported)


def main() -> None:
    """Run the ``hybridbroker`` command."""
    from hybridbroker.cli.app import app

    try:
        app()
    except HybridBrokerError as exc:
        print(f"hybridbroker: {exc}", file=sys.stderr)
        sys.exit(2 if isinstance(exc, _USERS_MISTAKE) else 1)
    except KeyboardInterrupt:
        sys.exit(0)
