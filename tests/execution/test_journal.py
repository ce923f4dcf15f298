"""The order journal on disk: what is durable, and what it says when it cannot be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from execution_support import ABC, START, buy

from hybridbroker.clock import Clock
from hybridbroker.domain.orders import OrderStatus, Product, Side, Trade
from hybridbroker.errors import ConfigurationError, InvalidOrder
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.records import Entry, OrderState, describe_request
from hybridbroker.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "orders.db"


def entry(name: str = "t-1", *, clock: Clock) -> Entry:
    return Entry.of(buy(name=name), at=clock.now(), value=Decimal(1000))


def test_an_intent_is_read_back_as_it_was_written(path: Path, clock: ManualClock) -> None:
    written = entry(clock=clock)

    with OrderJournal(path, clock=clock) as journal:
        journal.begin(written, describe_request(buy(name="t-1")))
    with OrderJournal(path, clock=clock) as journal:
        read = journal.entry("t-1")

    assert read == written


def test_every_field_survives_the_disk(path: Path, clock: ManualClock) -> None:
    whole = attrs.evolve(
        entry(clock=clock),
        trigger_price=Decimal("99.95"),
        state=OrderState.FINAL,
        order_id="B1",
        status=OrderStatus.CANCELLED,
        filled_quantity=4,
        average_price=Decimal("100.05"),
        reason="why not",
        sent_at=START + timedelta(microseconds=7),
        updated_at=START,
        delivered="x|y",
        overridden=True,
    )

    with OrderJournal(path, clock=clock) as journal:
        journal.begin(entry(clock=clock), "")
        journal.save(whole, "final")
        read = journal.entries()

    assert list(read) == [whole]


def test_an_id_is_never_used_twice(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        journal.begin(entry(clock=clock), "")

        with pytest.raises(InvalidOrder, match="used before"):
            journal.begin(entry(clock=clock), "")


def test_the_history_tells_request_and_reply(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        journal.begin(entry(clock=clock), describe_request(buy(name="t-1")))
        journal.save(attrs.evolve(entry(clock=clock), state=OrderState.SENT), "sent")
        history = journal.history("t-1")

    assert [event.kind for event in history] == ["intent", "sent"]
    assert '"quantity": 10' in history[0].detail


def test_a_token_in_an_error_text_does_not_reach_the_disk(path: Path, clock: ManualClock) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJkaGFuQ2xpZW50SWQiOiIxIn0.c2lnbmF0dXJl"

    with OrderJournal(path, clock=clock) as journal:
        journal.begin(entry(clock=clock), "")
        journal.save(entry(clock=clock), "rejected", f"bad header access-token: {token}")

    assert all(token.encode() not in file.read_bytes() for file in path.parent.iterdir())


def test_fills_are_kept_once(path: Path, clock: ManualClock) -> None:
    trade = Trade(
        id="T1",
        order_id="B1",
        instrument=ABC,
        side=Side.BUY,
        product=Product.DELIVERY,
        quantity=4,
        price=Decimal("100.05"),
        traded_at=START,
    )

    with OrderJournal(path, clock=clock) as journal:
        added = [journal.add_fills([trade]), journal.add_fills([trade])]
        fills = journal.fills("B1")

    assert added == [1, 0]
    assert list(fills) == [("T1", 4, Decimal("100.05"))]


def test_one_synced_commit_per_intent_and_none_after(path: Path, clock: ManualClock) -> None:
    statements: list[str] = []
    with OrderJournal(path, clock=clock) as journal:
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL, left over from opening
        journal._db.set_trace_callback(statements.append)
        journal.begin(entry(clock=clock), "")
        journal.save(entry(clock=clock), "sent")
        journal.save(entry(clock=clock), "accepted")

    told = [each.removeprefix("PRAGMA synchronous=") for each in statements if "sync" in each or each == "COMMIT"]
    assert told == ["COMMIT", "NORMAL", "COMMIT", "COMMIT"]
    assert len(journal.sync_seconds) == 1


def test_what_was_written_survives_a_killed_process(path: Path) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from typing import Any
from decimal import Decimal
import attrs
from execution_support import buy, START
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.records import Entry, OrderState
journal = OrderJournal(Path({str(path)!r})).__enter__()
intent = Entry.of(buy(name="t-1"), at=START, value=None)
journal.begin(intent, "")
journal.save(attrs.evolve(intent, state=OrderState.SENT), "sent")
os.kill(os.getpid(), signal.SIGKILL)
"""

    done = subprocess.run([sys.executable, "-c", script], check=False)

    assert done.returncode == -9
    with OrderJournal(path) as journal:
        assert [each.state for each in journal.unfinished()] == [OrderState.SENT]


def test_a_second_writer_is_told_who_holds_it(path: Path) -> None:
    with OrderJournal(path), pytest.raises(ConfigurationError, match=f"id {os.getpid()}"):
        OrderJournal(path).__enter__()


def test_the_lock_dies_with_its_process(path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from typing import Any
from hybridbroker.execution.journal import OrderJournal
OrderJournal(Path({str(path)!r})).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)

    with OrderJournal(path) as journal:
        assert journal.entries() == []


def test_a_reader_looks_on_while_another_writes(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        journal.begin(entry(clock=clock), "")
        with OrderJournal(path, clock=clock, read_only=True) as reader:
            names = [each.client_order_id for each in reader.entries()]

    assert names == ["t-1"]


def test_reading_a_journal_that_is_not_there_makes_none(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unable to open"):
        OrderJournal(path, read_only=True).__enter__()

    assert not path.exists()


def test_a_full_disk_refuses_the_intent_and_leaves_the_journal_usable(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count={pages}")

        def fill_the_disk() -> None:
            for number in range(500):
                journal.begin(entry(f"t-{number}", clock=clock), "x" * 500)

        with pytest.raises(ConfigurationError, match="disk is full"):
            fill_the_disk()
        written = len(journal.entries())
        journal._db.execute("PRAGMA max_page_count=1000000")
        journal.begin(entry("t-after", clock=clock), "")

        assert len(journal.entries()) == written + 1


def test_a_disk_that_is_full_at_the_start_is_found_before_any_order(path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from typing import Any
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.journal import OrderJournal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    OrderJournal(Path({str(path)!r})).__enter__()
except ConfigurationError as exc:
    print(exc)
"""

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert str(path) in done.stdout


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "orders.db"

    with pytest.raises(ConfigurationError, match=r"orders\.db.*HYBRIDBROKER_STATE_DIR"):
        OrderJournal(path).__enter__()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigurationError, match="HYBRIDBROKER_STATE_DIR"):
        OrderJournal(tmp_path / "orders.db").__enter__()


def test_a_file_of_something_else_is_damaged(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"these are not the rows you are looking for" * 100)

    with pytest.raises(ConfigurationError, match="damaged"):
        OrderJournal(path).__enter__()


def test_a_damaged_page_is_found_when_opening(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        for number in range(200):
            journal.begin(entry(f"t-{number}", clock=clock), "x" * 200)
        journal.checkpoint()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    path.write_bytes(bytes(content))

    with pytest.raises(ConfigurationError, match="damaged"):
        OrderJournal(path).__enter__()


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()

    with pytest.raises(ConfigurationError, match="something else"):
        OrderJournal(path).__enter__()


def test_a_newer_schema_is_refused(path: Path) -> None:
    with OrderJournal(path) as journal:
        journal._db.execute("PRAGMA user_version=99")

    with pytest.raises(ConfigurationError, match="newer version"):
        OrderJournal(path).__enter__()


def test_a_journal_that_another_connection_holds_is_refused(path: Path, clock: ManualClock) -> None:
    with OrderJournal(path, clock=clock) as journal:
        journal._db.execute("PRAGMA busy_timeout=0")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(ConfigurationError, match="locked"):
            journal.begin(entry(clock=clock), "")

        other.close()


def test_a_journal_that_is_not_entered_says_so(path: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError, match="not open"):
        OrderJournal(path).begin(entry(clock=clock), "")


def test_net_fills_count_shares_of_today_and_derivatives_of_all_days(path: Path, clock: ManualClock) -> None:
    def filled(name: str, **changes: Any) -> Entry:
        return attrs.evolve(entry(name, clock=clock), **{"filled_quantity": 10, **changes})

    with OrderJournal(path, clock=clock) as journal:
        yesterday = START - timedelta(days=1)
        for each in (
            filled("old-shares", created_at=yesterday),
            filled("old-future", created_at=yesterday, product=Product.MARGIN),
            filled("old-amo", created_at=yesterday, after_market=True),
            filled("new-shares"),
            filled("new-sale", side=Side.SELL, filled_quantity=3),
        ):
            journal.begin(attrs.evolve(each, filled_quantity=0), "")
            journal.save(each, "final")
        net = journal.net_fills(since=START.replace(hour=0) - timedelta(hours=5, minutes=30))

    assert net == {(ABC.id, Product.DELIVERY): 17, (ABC.id, Product.MARGIN): 10}
