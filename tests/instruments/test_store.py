"""A built file is put in place whole, opened read-only, and refused when it is anything else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments import store, writer
from hybridbroker.instruments.builtin import builtin_masters
from hybridbroker.instruments.join import join
from hybridbroker.instruments.registry import InstrumentRegistry

MASTERS = builtin_masters()
NOW = datetime(2026, 9, 15, 3, 0, tzinfo=UTC)


def build(path: Path) -> Path:
    writer.write(path, join(MASTERS), MASTERS, built_at=NOW)
    return path


def test_written_file_opens_and_answers(tmp_path: Path) -> None:
    market = InstrumentRegistry.open(build(tmp_path / "deep" / "down" / "today.sqlite"))

    assert list(market) == list(InstrumentRegistry.builtin())


def test_same_masters_give_the_same_file(tmp_path: Path) -> None:
    assert build(tmp_path / "one").read_bytes() == build(tmp_path / "two").read_bytes()


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    build(tmp_path / "today.sqlite")

    assert [path.name for path in tmp_path.iterdir()] == ["today.sqlite"]


def test_reader_of_the_old_file_keeps_reading_it(tmp_path: Path) -> None:
    market = InstrumentRegistry.open(build(tmp_path / "today.sqlite"))

    writer.write(tmp_path / "today.sqlite", join([]), [], built_at=NOW)

    assert market["NSE:TCS"].symbol == "TCS"
    assert len(InstrumentRegistry.open(tmp_path / "today.sqlite")) == 0


def test_failed_build_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(tmp_path / "today.sqlite")
    before = path.read_bytes()
    monkeypatch.setattr(writer, "_TABLES", "CREATE TABLE nonsense (")

    with pytest.raises(ConfigurationError, match=r"today\.sqlite: cannot be written"):
        build(path)

    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["today.sqlite"]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot be written"):
        build(tmp_path / "file" / "today.sqlite")


def test_open_file_cannot_be_changed(tmp_path: Path) -> None:
    with closing(store.open_readonly(build(tmp_path / "today.sqlite"))) as connection, pytest.raises(sqlite3.Error):
        connection.execute("DELETE FROM instrument")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "no such instrument registry", id="missing"),
        pytest.param(b"", "no instrument registry", id="empty"),
        pytest.param(b"this is text" * 200, "not an instrument registry", id="text"),
    ],
)
def test_file_that_is_no_registry_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "today.sqlite"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=words) as refusal:
        InstrumentRegistry.open(path)

    assert "hybridbroker instruments build" in str(refusal.value)


def test_truncated_registry_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "today.sqlite")
    path.write_bytes(path.read_bytes()[:-4096])

    with pytest.raises(ConfigurationError, match="build one with"):
        InstrumentRegistry.open(path)


def test_registry_damaged_inside_is_refused_when_it_shows(tmp_path: Path) -> None:
    path = build(tmp_path / "today.sqlite")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    with pytest.raises(ConfigurationError, match=r"today\.sqlite: damaged"):
        InstrumentRegistry.open(path)["NSE:TCS"]


def test_registry_of_another_version_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "today.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")

    with pytest.raises(ConfigurationError, match="another version"):
        InstrumentRegistry.open(path)


def test_other_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")

    with pytest.raises(ConfigurationError, match="no instrument registry"):
        InstrumentRegistry.open(path)


def test_path_with_odd_characters_opens(tmp_path: Path) -> None:
    assert len(InstrumentRegistry.open(build(tmp_path / "50% off? #1 &co.sqlite"))) == 7


def test_closed_registry_lets_the_file_go(tmp_path: Path) -> None:
    market = InstrumentRegistry.open(build(tmp_path / "today.sqlite"))

    market.close()

    with pytest.raises(sqlite3.ProgrammingError):
        market["NSE:TCS"]
