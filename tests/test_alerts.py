"""Telling a person."""

from __future__ import annotations

import logging
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from hybridbroker import AppriseNotifier, ConfigurationError, LogNotifier


async def test_without_anything_else_an_alert_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await LogNotifier().notify("daily loss limit reached")

    assert caplog.record_tuples == [("hybridbroker.alerts", logging.WARNING, "daily loss limit reached")]


def test_a_missing_extra_is_said_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(ConfigurationError, match=r"pip install .hybridbroker\[alerts\]"):
        AppriseNotifier(["json://localhost"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own, on its import
def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    pytest.importorskip("apprise", reason="needs pip install 'hybridbroker[alerts]'")

    with pytest.raises(ConfigurationError) as refused:
        AppriseNotifier(["nonsense://secret-token"])

    assert "secret-token" not in str(refused.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_alert_arrives_and_a_dead_channel_leaves_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("apprise", reason="needs pip install 'hybridbroker[alerts]'")
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.handle_request, daemon=True).start()
        notifier = AppriseNotifier([f"json://127.0.0.1:{server.server_port}"])
        await notifier.notify("bought six")
    await notifier.notify("nobody hears this")

    assert b"bought six" in bodies[0]
    assert "nobody hears this" in caplog.text
