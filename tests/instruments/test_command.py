"""``hybridbroker instruments``: what it prints, where it writes, and one line for a mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from master_files import (
    COMPACT_COLUMNS,
    dhan_contract,
    dhan_share,
    upstox_contract,
    upstox_share,
    write_csv,
    write_upstox,
)

from hybridbroker.cli import main
from hybridbroker.clock import Clock
from hybridbroker.errors import NotSent
from hybridbroker.instruments import refresh
from hybridbroker.instruments.listings import MasterFile, Progress
from hybridbroker.instruments.registry import InstrumentRegistry

ISIN, OTHER = "INE111A01011", "INE222A01019"
Command = Callable[..., "Done"]


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("HYBRIDBROKER_CACHE", str(tmp_path / "cache"))

    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["hybridbroker", "instruments", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        code = left.value.code
        return Done(code if isinstance(code, int) else 0, told.out, told.err)

    return command


@pytest.fixture
def upstox(tmp_path: Path) -> Path:
    rows = [
        upstox_share("ALPHA", ISIN, "1"),
        upstox_contract("ALPHA", "9", "CE", 100),
        upstox_contract("BROKEN", "8", "CE", 100),
        {"segment": "MCX_FO"},
    ]
    return write_upstox(tmp_path / "NSE.json.gz", rows)


@pytest.fixture
def dhan(tmp_path: Path) -> Path:
    rows = [
        dhan_share("ALPHA", ISIN, "1", TICK_SIZE="10.0000"),
        dhan_contract("ALPHA", "9", "CE", 100),
        dhan_contract("BROKEN", "8", "CE", 200),
    ]
    return write_csv(tmp_path / "detailed.csv", rows)


@pytest.fixture
def built(run: Command, upstox: Path, dhan: Path, tmp_path: Path) -> Path:
    run("build", "--upstox", upstox, "--dhan", dhan, "--out", tmp_path / "today.sqlite")
    return tmp_path / "today.sqlite"


def test_build_reports_rows_mapped_and_why_not(run: Command, upstox: Path, dhan: Path, tmp_path: Path) -> None:
    out = tmp_path / "today.sqlite"

    report = run(
        "build", "--upstox", upstox, "--dhan", dhan, "--out", out,
        "--upstox-date", "2026-09-15", "--dhan-date", "2026-09-13", "--json",
    ).json  # fmt: skip

    assert report["path"] == str(out)
    assert report["masters"]["upstox"]["published"] == "2026-09-15"
    assert report["days_apart"] == 2
    assert report["read"]["dhan"] == {"NSE E": 1, "NSE D": 2}
    assert report["mapped"]["upstox"] == {"NSE cash": 1, "NSE derivatives": 1}
    assert report["unmapped"]["upstox"] == {"segment not carried: MCX_FO": 1, "quarantined: terms": 1}
    assert report["conflicts"]["terms"]["count"] == 1
    assert "NSE:ALPHA: upstox 0.05, dhan 0.10" in report["disagreements"]["tick size"]["examples"]
    assert report["seconds"] >= 0
    assert report["peak_mb"] > 0


def test_build_says_the_same_in_a_table(run: Command, upstox: Path, dhan: Path, tmp_path: Path) -> None:
    done = run("build", "--upstox", upstox, "--dhan", dhan, "--out", tmp_path / "today.sqlite")

    assert done.code == 0
    for words in ("not after 2026-11-24", "mapped: NSE cash", "segment not carried: MCX_FO", "conflict: terms: 1"):
        assert words in done.out


def test_build_without_out_goes_to_the_cache(run: Command, dhan: Path, tmp_path: Path) -> None:
    report = run("build", "--dhan", dhan, "--json").json

    assert Path(report["path"]).parent == tmp_path / "cache" / "instruments"


def test_built_registry_carries_the_days_it_was_told(run: Command, upstox: Path, dhan: Path, tmp_path: Path) -> None:
    out = tmp_path / "today.sqlite"
    run("build", "--upstox", upstox, "--dhan", dhan, "--out", out, "--upstox-date", "2026-09-15")

    market = InstrumentRegistry.open(out)

    assert [each.published for each in market.masters] == [date(2026, 9, 15), None]
    assert not market.is_of(date(2026, 9, 15))


def test_compact_file_lends_tickers(run: Command, tmp_path: Path) -> None:
    detailed = write_csv(tmp_path / "detailed.csv", [dhan_share("", ISIN, "1")])
    short = {
        "SEM_EXM_EXCH_ID": "NSE", "SEM_SEGMENT": "E", "SEM_SMST_SECURITY_ID": "1", "SEM_TRADING_SYMBOL": "ALPHA",
    }  # fmt: skip
    compact = write_csv(tmp_path / "compact.csv", [short], columns=COMPACT_COLUMNS)
    out = tmp_path / "today.sqlite"

    run("build", "--dhan", detailed, "--dhan-compact", compact, "--out", out)

    assert list(InstrumentRegistry.open(out)) == ["NSE:ALPHA"]


def test_master_of_another_broker_is_given_by_name(run: Command, dhan: Path, tmp_path: Path) -> None:
    done = run("build", "--master", f"dhan={dhan}", "--out", tmp_path / "today.sqlite", "--json")

    assert done.json["read"].keys() == {"dhan"}


@pytest.mark.parametrize("name", ["NSE:ALPHA", "ALPHA", ISIN, "dhan/NSE_EQ:1", f"upstox/NSE_EQ|{ISIN}"])
def test_find_takes_every_kind_of_name(run: Command, built: Path, name: str) -> None:
    (found,) = run("find", name, "--instruments", built, "--json").json

    assert found["id"] == "NSE:ALPHA"
    assert found["keys"] == {"upstox": f"NSE_EQ|{ISIN}", "dhan": "NSE_EQ:1"}


def test_find_shows_every_instrument_a_ticker_may_mean(run: Command, tmp_path: Path) -> None:
    both = [dhan_share("ALPHA", ISIN, "1"), dhan_share("ALPHA", ISIN, "500111", EXCH_ID="BSE", SERIES="A")]
    out = tmp_path / "today.sqlite"
    run("build", "--dhan", write_csv(tmp_path / "dhan.csv", both), "--out", out)

    done = run("find", "ALPHA", "--instruments", out)

    assert "NSE:ALPHA" in done.out
    assert "BSE:ALPHA" in done.out


def test_find_knows_the_built_in_shares(run: Command) -> None:
    done = run("find", "NSE:RELIANCE", "--instruments", "builtin")

    assert "NSE_EQ:2885" in done.out


def test_search_prints_the_best_first(run: Command, built: Path) -> None:
    found = run("search", "alhpa", "--instruments", built, "--json").json

    assert found[0]["id"] == "NSE:ALPHA"


def test_search_without_a_hit_says_so_on_stderr(run: Command, built: Path) -> None:
    done = run("search", "zzz", "zzz", "--instruments", built)

    assert (done.code, done.out) == (0, "")
    assert "nothing resembles" in done.err


def test_diff_tells_what_changed(run: Command, built: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.sqlite"
    rows = [dhan_share("ALPHA", ISIN, "1"), dhan_share("BETA", OTHER, "2")]
    run("build", "--dhan", write_csv(tmp_path / "dhan.csv", rows), "--out", later)

    told = run("diff", built, later, "--json").json

    assert told["counts"]["new"] == 1
    assert {"kind": "tick size", "id": "NSE:ALPHA", "before": "0.10", "after": "0.05"} in told["changes"]
    assert "new: 1\n  NSE:BETA" in run("diff", built, later).out
    assert run("diff", built, built).out == "nothing changed\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'{"status":"error","errors":[{"errorCode":"UDAPI100012"}]}', "UDAPI100012", id="error body"),
        pytest.param(b"<html><title>Moved</title></html>", "web page titled 'Moved'", id="page"),
        pytest.param(b"\x1f\x8b\x08\x00", "cut short", id="truncated"),
        pytest.param(b"", "empty", id="empty"),
    ],
)
@pytest.mark.parametrize("option", ["--upstox", "--dhan", "--dhan-compact"])
def test_bad_file_is_one_clear_line(run: Command, tmp_path: Path, option: str, content: bytes, words: str) -> None:
    path = tmp_path / "NSE.json.gz"
    path.write_bytes(content)
    out = tmp_path / "today.sqlite"

    done = run("build", option, path, "--out", out)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "NSE.json.gz" in done.err
    assert words in done.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["build", "--upstox", "no-such-file.gz"], "no-such-file.gz"),
        (["build", "--upstox-date", "2026-09-15"], "give the file too"),
        (["build", "--dhan", "x", "--dhan-date", "yesterday"], "write it as 2026-09-15"),
        (["build", "--master", "nobody=x"], "no broker is called 'nobody'"),
        (["build", "--master", "x"], "NAME=FILE"),
        (["find", "NSE:NOPE", "--instruments", "builtin"], "NSE:NOPE"),
        (["find", "dhan/NSE_EQ:1", "--instruments", "builtin"], "NSE_EQ:1"),
        (["find", "NSE:TCS", "--instruments", "no-such.db"], "no-such.db"),
        (["diff", "no-such.db", "other.db"], "no such instrument registry"),
    ],
)
def test_mistake_is_one_line_with_the_fix(run: Command, words: list[str], fix: str) -> None:
    done = run(*words)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert fix in done.err


class Server:
    """Both brokers' masters, when they can be had."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reachable = True

    async def download(self, folder: Path, *, clock: Clock, progress: Progress | None = None) -> list[MasterFile]:
        if not self.reachable:
            raise NotSent("no route to the server")
        assert progress is not None
        progress("detailed.csv", 10, None)
        progress("detailed.csv", 20, 20)
        path = folder / "detailed.csv"
        path.write_bytes(self.file.read_bytes())
        return [MasterFile(path=path, published=date(2026, 9, 15))]

    def read(self, files: list[Path], *, published: date | None = None) -> object:
        source = refresh.source_of("dhan")
        assert source is not None
        return source.read(files, published=published)


@pytest.fixture
def server(dhan: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(dhan)
    monkeypatch.setattr(refresh, "installed_sources", lambda: {"dhan": server})
    return server


def test_build_without_files_downloads_into_the_cache_and_out(run: Command, server: Server, tmp_path: Path) -> None:
    out = tmp_path / "today.sqlite"

    report = run("build", "--out", out, "--json").json

    assert report["masters"]["dhan"]["published"] == "2026-09-15"
    assert "NSE:ALPHA" in InstrumentRegistry.open(out)
    assert server.reachable


def test_failed_download_keeps_and_names_the_last_build(run: Command, server: Server) -> None:
    path = run("build", "--json").json["path"]
    server.reachable = False

    done = run("build")

    assert done.code == 1
    assert f"the last build is kept: {path}" in done.err
    assert "no route to the server" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["build", "find", "search", "diff"])
def test_every_command_has_help_with_an_example(run: Command, command: str) -> None:
    done = run(command, "--help")

    assert done.code == 0
    assert f"Example: hybridbroker instruments {command}" in " ".join(done.out.split())
