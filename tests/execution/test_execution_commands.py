"""The commands a person reaches for when something is wrong: doctor, orders, gauntlet."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from execution_support import buy

from hybridbroker.cli import doctor_checks
from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.execution.account import AccountFiles, account_name
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.killswitch import KillSwitch
from hybridbroker.execution.records import Entry, OrderState, describe_request
from hybridbroker.plugins import CHECKED_BY_BROKERS, CheckStatus
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket


def run(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DHAN_", "UPSTOX_"))}
    command = [sys.executable, "-m", "hybridbroker", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**clean, **env}, cwd=cwd, timeout=120, check=False
    )


@pytest.fixture
async def dhan() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still()) as emulator:
        yield emulator


def variables(emulator: DhanEmulator, directory: Path) -> dict[str, str]:
    return {
        "DHAN_CLIENT_ID": emulator.client_id,
        "DHAN_ACCESS_TOKEN": emulator.access_token,
        "DHAN_BASE_URL": emulator.rest_url,
        "DHAN_ORDER_UPDATES_URL": emulator.order_updates_url,
        "HYBRIDBROKER_STATE_DIR": str(directory),
    }


async def command(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *arguments, env=env, cwd=cwd)


def subjects(report: dict[str, Any], about: str) -> dict[str, str]:
    return {each["subject"]: each["status"] for each in report["checks"] if each["about"] == about}


async def test_doctor_asks_a_configured_broker_everything(dhan: DhanEmulator, tmp_path: Path) -> None:
    done = await command("doctor", "dhan", "--json", env=variables(dhan, tmp_path), cwd=tmp_path)

    report = json.loads(done.stdout)
    assert set(CHECKED_BY_BROKERS) <= set(subjects(report, "dhan"))
    assert {"settings", "clock", "journal", "kill switch"} <= set(subjects(report, "dhan"))
    assert {"session", "registry", "disk"} <= set(subjects(report, "this machine"))
    assert done.returncode == (0 if report["ok"] else 1)
    assert dhan.access_token not in done.stdout + done.stderr


async def test_doctor_fails_when_the_kill_switch_is_thrown(dhan: DhanEmulator, tmp_path: Path) -> None:
    env = variables(dhan, tmp_path)
    account = f"dhan-{dhan.client_id}-port{dhan.port}"
    KillSwitch(AccountFiles.of(account, directory=tmp_path).kill).engage("enough")

    done = await command("doctor", "dhan", "--json", env=env, cwd=tmp_path)

    assert done.returncode == 1
    assert subjects(json.loads(done.stdout), "dhan")["kill switch"] == "failed"


def test_doctor_fails_with_a_plain_sentence_when_nothing_is_configured(tmp_path: Path) -> None:
    done = run("doctor", "dhan", env={"HYBRIDBROKER_STATE_DIR": str(tmp_path)}, cwd=tmp_path)

    assert done.returncode == 1
    assert "DHAN_CLIENT_ID" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_does_not_know_a_broker_that_is_not_there(tmp_path: Path) -> None:
    done = run("doctor", "nobody", env={}, cwd=tmp_path)

    assert done.returncode == 2
    assert "nobody" in done.stderr


@pytest.mark.parametrize(
    ("skew", "status"),
    [(0.3, CheckStatus.OK), (-5.0, CheckStatus.WARNING), (31.0, CheckStatus.FAILED)],
)
def test_a_clock_that_is_off_is_told_by_how_much(skew: float, status: CheckStatus) -> None:
    check = doctor_checks._judge_skew(skew)

    assert check.status is status
    assert f"{abs(skew):.1f} s" in check.message


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (datetime(2026, 10, 6, 11, 0, tzinfo=IST), "open until 15:30 IST"),
        (datetime(2026, 10, 10, 11, 0, tzinfo=IST), "closed, opens on Mon 12 Oct 2026 at 09:15 IST"),
    ],
)
def test_the_session_is_told_with_the_next_opening(now: datetime, told: str) -> None:
    cash, _ = doctor_checks.check_session(TradingCalendar(), now=now)

    assert (cash.status, told in cash.message) == (CheckStatus.OK, True)


def test_a_date_no_calendar_knows_is_a_warning() -> None:
    checks = doctor_checks.check_session(TradingCalendar(), now=datetime(2090, 1, 1, tzinfo=UTC))

    assert {check.status for check in checks} == {CheckStatus.WARNING}


def test_unresolved_orders_are_named(tmp_path: Path) -> None:
    files = AccountFiles.of("any", directory=tmp_path)
    journal_with(files.journal, ["t-1", "t-2"])

    check = doctor_checks.check_journal(files)

    assert check.status is CheckStatus.WARNING
    assert "t-1, t-2" in check.message


def test_a_damaged_journal_fails(tmp_path: Path) -> None:
    files = AccountFiles.of("any", directory=tmp_path)
    files.journal.write_bytes(b"nonsense" * 1000)

    assert doctor_checks.check_journal(files).status is CheckStatus.FAILED


def journal_with(path: Path, names: Sequence[str]) -> None:
    with OrderJournal(path) as journal:
        for name in names:
            request = buy(name=name)
            journal.begin(Entry.of(request, at=datetime.now(UTC), value=None), describe_request(request))


def test_the_journal_is_listed_as_json(tmp_path: Path) -> None:
    journal_with(tmp_path / "orders.db", ["t-1"])

    done = run("orders", "--journal", str(tmp_path / "orders.db"), "--json", env={}, cwd=tmp_path)

    (row,) = json.loads(done.stdout)
    assert (row["client_order_id"], row["state"]) == ("t-1", OrderState.INTENT)


def test_the_history_of_one_order_is_listed(tmp_path: Path) -> None:
    journal_with(tmp_path / "orders.db", ["t-1"])

    done = run("orders", str(tmp_path / "orders.db"), "--order", "t-1", "--json", env={}, cwd=tmp_path)

    assert [each["kind"] for each in json.loads(done.stdout)] == ["intent"]


async def test_the_brokers_book_is_listed_where_no_journal_is_asked_for(dhan: DhanEmulator, tmp_path: Path) -> None:
    env = variables(dhan, tmp_path)

    done = await command("orders", "--instruments", "builtin", "--json", env=env, cwd=tmp_path)

    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_a_journal_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    done = run("orders", "--journal", str(tmp_path / "none.db"), env={}, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_gauntlet_prints_its_rows_as_json(tmp_path: Path) -> None:
    done = run("gauntlet", "--json", "--fault", "reply lost", env={}, cwd=tmp_path)

    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(report["rows"][0]) == {"client", "fault", "call", "posts", "orders", "answer", "truth", "ok"}


def test_the_gauntlet_knows_its_faults(tmp_path: Path) -> None:
    done = run("gauntlet", "--fault", "nonsense", env={}, cwd=tmp_path)

    assert done.returncode == 2
    assert "reply lost" in done.stderr


def test_an_emulator_is_an_account_of_its_own() -> None:
    class Settings:
        client_id = "11"
        base_url = "http://127.0.0.1:8123/v2"

    class Real(Settings):
        base_url = "https://api.dhan.co/v2"

    assert account_name("dhan", Settings()) == "dhan-11-port8123"
    assert account_name("dhan", Real()) == "dhan-11"
    assert account_name("upstox") == "upstox"
