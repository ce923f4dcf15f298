"""One client of Dhan's order-update socket: silent until it has logged in, reset when it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable

from starlette.websockets import WebSocket

from hybridbroker.testing.emulators.outbox import Outbox

__all__ = ["OrderSocket"]


class OrderSocket(Outbox):
    """Reads the login frame; there is no acknowledgement, and a bad one is answered by a TCP reset (recorded)."""

    def __init__(
        self, websocket: WebSocket, *, accepts: Callable[[str, str], bool], refuse: Callable[[], object]
    ) -> None:
        super().__init__(websocket)
        self.logged_in = False
        self._accepts = accepts
        self.refuse = refuse
        """Resets the connection."""

    def read(self, message: bytes | str) -> None:
        """Take the login; later messages mean nothing."""
        if self.logged_in:
            return
        try:
            login = json.loads(message)["LoginReq"]
            code, client_id, token = login["MsgCode"], login["ClientId"], login["Token"]
        except (ValueError, TypeError, KeyError):
            self.refuse()
            return
        self.logged_in = str(code) == "42" and self._accepts(str(client_id), str(token))
        if not self.logged_in:
            self.refuse()
