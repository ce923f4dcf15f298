"""One client of the Upstox feed: what it asked for, and which of its requests are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from starlette.websockets import WebSocket

from hybridbroker.testing.emulators.messages import MODES
from hybridbroker.testing.emulators.outbox import Outbox

__all__ = ["FeedSocket"]

_METHODS: Final = frozenset({"sub", "unsub", "change_mode"})


class FeedSocket(Outbox):
    """Reads requests as documented (JSON in binary frames) and refuses the others with a text frame.

    Text requests are not the documented form, and are refused; the refusal's shape is
    reported by one integrator (unconfirmed).
    """

    def __init__(self, websocket: WebSocket, *, on_request: Callable[[FeedSocket, str, list[str], str], None]) -> None:
        super().__init__(websocket)
        self.modes: dict[str, str] = {}
        """Subscribed keys and their modes."""
        self._on_request = on_request

    def read(self, message: bytes | str) -> None:
        """Carry out a request, or refuse it."""
        if isinstance(message, str):
            self._refuse(None, "requests are binary frames of JSON")
            return
        try:
            request = json.loads(message)
            method, wanted = request["method"], request["data"]
            keys, mode = list(wanted["instrumentKeys"]), wanted.get("mode")
        except (ValueError, TypeError, KeyError, AttributeError):
            self._refuse(None, "the request is no JSON object with method and data.instrumentKeys")
            return
        if method not in _METHODS:
            self._refuse(method, "unknown method")
        elif mode is not None and mode not in MODES:
            self._refuse(method, f"unknown mode {mode}")
        elif method == "change_mode" and mode is None:
            self._refuse(method, "mode is required")
        else:
            self._on_request(self, method, [str(key) for key in keys], mode or "ltpc")

    def _refuse(self, method: Any, reason: str) -> None:
        self.put(json.dumps({"status": "failed", "method": method, "error": reason}))
