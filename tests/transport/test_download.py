"""A published file comes when it has changed, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from loopback import Answer, Cut, RawServer, Seen, reply

from hybridbroker.brokers.dhan.instruments import DhanListings
from hybridbroker.brokers.upstox.instruments import UpstoxListings
from hybridbroker.errors import ConfigurationError, NetworkError, WireFormatError
from hybridbroker.instruments.listings import ListingSource, Progress
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.download import Downloaded, download

BODY = b"\x1f\x8b" + b"packed" * 1000
STAMP = {"ETag": '"v1"', "Last_Modified": "Mon, 14 Sep 2026 20:15:00 GMT"}


def server_of(**headers: str) -> Callable[[Seen], Answer]:
    def answer(seen: Seen) -> Answer:
        if "ETag" in headers and seen.headers.get("if-none-match") == headers["ETag"]:
            return reply(304, b"")
        return reply(200, BODY, **headers)

    return answer


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def fetch(server: RawServer, to: Path, **options: object) -> Downloaded:
    return await download(f"{server.url}/master.gz", to=to, clock=ManualClock(), **options)  # type: ignore[arg-type]


async def test_file_comes_with_the_indian_day_it_is_of(tmp_path: Path) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        found = await fetch(server, tmp_path / "master.gz")

    assert found == Downloaded(path=tmp_path / "master.gz", published=date(2026, 9, 15), changed=True)
    assert found.path.read_bytes() == BODY


async def test_file_that_is_current_is_not_sent_again(tmp_path: Path) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        await fetch(server, tmp_path / "master.gz")
        again = await fetch(server, tmp_path / "master.gz")

    assert (again.changed, again.published) == (False, date(2026, 9, 15))
    assert server.seen[1].headers["if-modified-since"] == STAMP["Last_Modified"]


async def test_deleted_file_is_asked_for_unconditionally(tmp_path: Path) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        await fetch(server, tmp_path / "master.gz")
        (tmp_path / "master.gz").unlink()
        again = await fetch(server, tmp_path / "master.gz")

    assert again.changed
    assert "if-none-match" not in server.seen[1].headers


async def test_validators_of_another_address_are_not_used(tmp_path: Path) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        await fetch(server, tmp_path / "master.gz")
        await download(f"{server.url}/other.gz", to=tmp_path / "master.gz", clock=ManualClock())

    assert "if-none-match" not in server.seen[1].headers


@pytest.mark.parametrize("broken", [b"", b"not json", b"[]", b'{"url": 1}'])
async def test_unreadable_validators_count_as_none(tmp_path: Path, broken: bytes) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        await fetch(server, tmp_path / "master.gz")
        (tmp_path / "master.gz.validators.json").write_bytes(broken)
        again = await fetch(server, tmp_path / "master.gz")

    assert again.changed


@pytest.mark.parametrize("stamp", ["yesterday", "", "Mon, 99 Foo 2026"])
async def test_day_that_cannot_be_read_is_unknown(tmp_path: Path, stamp: str) -> None:
    async with RawServer(server_of(Last_Modified=stamp)) as server:
        found = await fetch(server, tmp_path / "master.gz")

    assert found.published is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(404, b"<html><title>Not Found</title></html>"), id="404"),
        pytest.param(reply(403, b"{}"), id="403"),
        pytest.param(reply(500, b""), id="500"),
        pytest.param(reply(200, b"<html><title>Just a moment...</title></html>"), id="page"),
        pytest.param(reply(304, b""), id="304 unasked"),
        pytest.param(reply(302, b"", Location="http://elsewhere.example/"), id="redirect"),
        pytest.param(Cut(reply(200, BODY)[:-10]), id="cut short"),
    ],
)
async def test_failed_download_leaves_the_file_that_was_there(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "master.gz").write_bytes(b"yesterday")

    async with RawServer(lambda _: answer) as server:
        with pytest.raises(NetworkError, match=r"127\.0\.0\.1"):
            await fetch(server, tmp_path / "master.gz")

    assert (tmp_path / "master.gz").read_bytes() == b"yesterday"
    assert names(tmp_path) == ["master.gz"]


async def test_download_that_is_too_large_is_given_up(tmp_path: Path) -> None:
    async with RawServer(server_of()) as server:
        with pytest.raises(WireFormatError, match="more than 1,000 bytes"):
            await fetch(server, tmp_path / "master.gz", limit=1_000)

    assert names(tmp_path) == []


async def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    progress: Progress = lambda *each: told.append(each)  # noqa: E731 - the shape is what is shown

    async with RawServer(server_of()) as server:
        await fetch(server, tmp_path / "master.gz", progress=progress)

    assert told[-1] == ("master.gz", len(BODY), len(BODY))


async def test_unencrypted_address_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not encrypted"):
        await download("http://example.com/master.gz", to=tmp_path / "x", clock=ManualClock())


@pytest.mark.parametrize("source", [UpstoxListings, DhanListings])
async def test_brokers_bring_their_master_into_the_folder(
    tmp_path: Path, source: Callable[[str], ListingSource]
) -> None:
    async with RawServer(server_of(**STAMP)) as server:
        (file,) = await source(f"{server.url}/master").download(tmp_path, clock=ManualClock())

    assert file.path.parent == tmp_path
    assert file.published == date(2026, 9, 15)
    assert json.loads((tmp_path / f"{file.path.name}.validators.json").read_text())["etag"] == '"v1"'
