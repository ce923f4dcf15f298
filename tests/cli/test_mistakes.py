"""A user's mistake is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hybridbroker import cli


class Done(NamedTuple):
    returncode: object
    stdout: str
    stderr: str


Command = Callable[..., Done]
ORDER = "order buy NSE:RELIANCE 1 --instruments builtin"
CUT_OFF = gzip.compress(b'{"status":"success","data":{"candles":[' + b" " * 9000)[:40]


@pytest.fixture
def hybridbroker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, run in this process."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["hybridbroker", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return Done(returncode=end.value.code, stdout=told.out, stderr=told.err)

    return run


def assert_one_clear_line(done: Done, fix: str) -> None:
    assert done.returncode == 2, done.stderr
    assert fix in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("order buy NSE:NOPE 1 --price 1 --instruments builtin", "NSE:NOPE"),
        (f"{ORDER} --price 1405.53", "nearest price is 1405.50"),
        ("order buy NSE:RELIANCE 0 --price 1 --instruments builtin", "at least 1"),
        ("order buy NSE:RELIANCE 1.5 --price 1 --instruments builtin", "whole number"),
        (f"{ORDER} --market --price 1405.50", "drop --market or --price"),
        (ORDER, "say --market"),
        (f"{ORDER} --price cheap", "no amount of rupees"),
        (f"{ORDER} --price 1405.50 --broker dhan", "--live"),
        ("demo --candles no-such-file.json", "no-such-file.json"),
        ("demo --candles a --ticks b", "give one"),
        ("demo --instruments no-such.db", "no-such.db"),
        ("demo --instrument NSE:NOPE", "NSE:NOPE"),
        ("watch NSE:RELIANCE --data nobody --instruments builtin", "installed"),
        ("watch NSE:RELIANCE --data dhan-sandbox --instruments builtin", "market data"),
    ],
)
def test_mistake_is_one_line_with_the_fix(hybridbroker: Command, line: str, fix: str) -> None:
    assert_one_clear_line(hybridbroker(*line.split()), fix)


def test_watch_without_a_token_names_the_variable(
    hybridbroker: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("UPSTOX_ACCESS_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)

    assert_one_clear_line(hybridbroker("watch", "NSE:RELIANCE", "--instruments", "builtin"), "UPSTOX_ACCESS_TOKEN")


@pytest.mark.parametrize("option", ["--candles", "--ticks"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("day.json.gz", CUT_OFF, id="truncated"),
        pytest.param("day.json.gz", b"this is not gzip", id="not gzip"),
        pytest.param("day.json", b"<html><title>Just a moment...</title></html>", id="html"),
        pytest.param("day.json", b'{"status":"error","errors":[{"errorCode":"UDAPI100050"}]}', id="error body"),
        pytest.param("day.json", b'{"status":"success","data":{"candles":[["2026-09-15",1]]}}', id="short row"),
        pytest.param("day.json", b"", id="empty"),
    ],
)
def test_unreadable_day_is_one_line_that_names_the_file(
    hybridbroker: Command, tmp_path: Path, option: str, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    assert_one_clear_line(hybridbroker("demo", option, path, "--instrument", "NSE:RELIANCE"), name)


@pytest.mark.parametrize("command", ["demo", "watch", "order", "orders", "doctor", "brokers", "emulate", "gauntlet"])
def test_every_command_has_help_with_an_example(hybridbroker: Command, command: str) -> None:
    done = hybridbroker(command, "--help")

    assert done.returncode == 0
    assert f"hybridbroker {command}" in done.stdout.replace("\n", " ")
    assert "Example" in done.stdout


def test_a_checked_order_is_shown_and_not_sent(hybridbroker: Command) -> None:
    done = hybridbroker(*ORDER.split(), "--price", "1405.50")

    assert done.returncode == 0
    assert "checked, not sent" in done.stdout


def test_a_mistake_shows_no_traceback_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "hybridbroker", "order", "buy", "NSE:NOPE", "1", "--price", "1", "--instruments"]

    done = subprocess.run([*command, "builtin"], capture_output=True, text=True, timeout=60, check=False)

    assert_one_clear_line(Done(done.returncode, done.stdout, done.stderr), "NSE:NOPE")
