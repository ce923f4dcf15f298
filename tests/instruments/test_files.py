"""A master file is read whole, or refused with what it is instead."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.files import read_master, what_it_is

PLAIN = b"a line of text that repeats itself\n" * 5_000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(gzip.compress(PLAIN), id="gzip"),
        pytest.param(gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]), id="two members"),
        pytest.param(gzip.compress(PLAIN) + b"\0" * 512, id="padded"),
        pytest.param(gzip.compress(PLAIN, compresslevel=0), id="stored"),
    ],
)
def test_contents_are_returned_whatever_the_name_says(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.bin"
    path.write_bytes(content)

    assert read_master(path) == PLAIN


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(gzip.compress(PLAIN)[:-20], "cut short", id="truncated"),
        pytest.param(gzip.compress(PLAIN)[:15], "cut short", id="truncated early"),
        pytest.param(gzip.compress(PLAIN)[:-8] + b"\0" * 8, "damaged", id="wrong check sum"),
        pytest.param(gzip.compress(PLAIN) + b"more", "damaged", id="trailing noise"),
        pytest.param(b"\x1f\x8b" + b"noise" * 20, "damaged", id="noise"),
    ],
)
def test_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "master.json.gz"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=rf"master\.json\.gz: .*{fault}"):
        read_master(path)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.csv: cannot be read"):
        read_master(tmp_path / "nowhere.csv")


def test_file_that_unpacks_without_end_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0" * 10_000_000))

    with pytest.raises(ConfigurationError, match="more than 1,000,000 bytes"):
        read_master(path, limit=1_000_000)


@given(cut=st.integers(0, 400), noise=st.binary(max_size=40))
def test_no_damage_escapes_as_anything_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "master.gz"
    path.write_bytes(zlib.compress(PLAIN, wbits=31)[:cut] + noise)

    try:
        found = read_master(path)
    except ConfigurationError:
        return
    assert found is not None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"<html><head><title>Just a moment...</title>", "a web page titled 'Just a moment...'"),
        (b"<?xml version='1.0'?><Error>", "a web page"),
        (b'{"status":"error"}', "a JSON object"),
        (b"  \n", "nothing but white space"),
        (b"hello", "something that begins 'hello'"),
    ],
)
def test_what_stands_in_a_masters_place_is_described(head: bytes, words: str) -> None:
    assert what_it_is(head).startswith(words)
