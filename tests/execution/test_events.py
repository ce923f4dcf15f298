"""Log records of orders: words for people, data for machines, no secrets for anybody."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.account import AccountFiles
from hybridbroker.execution.events import JsonLines, rotating_log, tell
from hybridbroker.execution.metrics import Metrics

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJkaGFuQ2xpZW50SWQiOiIxIn0.c2lnbmF0dXJl"


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("hybridbroker.orders", logging.INFO, __file__, 1, "order-sent", None, None)
    made.fields = fields
    return made


def test_a_line_holds_the_fields_as_data() -> None:
    line = json.loads(JsonLines().format(record(client_order_id="t-1", broker_ms=1.5)))

    assert (line["message"], line["client_order_id"], line["broker_ms"]) == ("order-sent", "t-1", 1.5)
    assert line["at"].endswith("+00:00")


def test_a_line_holds_no_secret_and_nothing_that_looks_like_a_token() -> None:
    text = JsonLines(secrets=["pin-1234"]).format(record(reason=f"bad header {TOKEN}, pin-1234"))

    assert "pin-1234" not in text
    assert TOKEN not in text


def test_an_event_is_told_in_words_and_as_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hybridbroker.orders")

    tell("order-sent", client_order_id="t-1", reason=None, detail=TOKEN)

    (told,) = caplog.records
    assert told.getMessage() == "order-sent client_order_id=t-1 detail=***"
    assert told.fields == {"client_order_id": "t-1", "detail": "***"}  # type: ignore[attr-defined]


def test_the_log_file_starts_anew_when_it_is_full(tmp_path: Path) -> None:
    handler = rotating_log(tmp_path / "logs" / "bot.log", size=2000, kept=2)
    for number in range(100):
        handler.emit(record(number=number))
    handler.close()

    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["bot.log", "bot.log.1", "bot.log.2"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"bot\.log"):
        rotating_log(tmp_path / "file" / "bot.log")


def test_latencies_are_summed_up_in_milliseconds() -> None:
    metrics = Metrics()
    for milliseconds in range(1, 101):
        metrics.took("journal", milliseconds / 1000)

    summary = metrics.latencies()["journal"]
    assert (summary.n, summary.p50, summary.p99, summary.longest) == (100, 51.0, 99.0, 100.0)


def test_the_files_of_an_account_are_found_by_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))

    files = AccountFiles.of("dhan-11/22")
    moved = AccountFiles.of("dhan-11/22", journal=tmp_path / "own.db")

    assert files.journal == tmp_path / "dhan-11_22.journal.db"
    assert (moved.journal.name, moved.rate, moved.kill) == ("own.db", files.rate, files.kill)
