"""Secrets on disk: whole, private from the first instant, and one program at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hybridbroker.errors import ConfigurationError, ServiceUnavailable
from hybridbroker.transport.vault import Vault, is_exposed

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are not Windows' way")
RECORD = {"secret": "very-secret", "made_at": "2026-09-15"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_record_is_read_back_by_another_vault(tmp_path: Path) -> None:
    Vault(tmp_path / "a").write("dhan-1.access", RECORD)

    assert Vault(tmp_path / "a").read("dhan-1.access") == RECORD
    assert Vault(tmp_path / "a").read("dhan-2.access") is None


def test_a_record_that_changed_is_read_anew(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.write("a", RECORD)
    before = vault.read("a")

    Vault(tmp_path).write("a", {"secret": "newer"})

    assert before == RECORD
    assert vault.read("a") == {"secret": "newer"}


def test_an_unchanged_record_is_the_same_object(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.write("a", RECORD)

    assert vault.read("a") is vault.read("a")


@posix
def test_nobody_else_can_read_a_record_at_any_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    replace = Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen.append(mode(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    before = os.umask(0)
    try:
        path = Vault(tmp_path / "tokens").write("a", RECORD)
    finally:
        os.umask(before)

    assert (seen, mode(path), mode(path.parent)) == ([0o600], 0o600, 0o700)


@posix
def test_a_record_others_can_read_is_made_private_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Vault(tmp_path).write("a", RECORD)
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        read = Vault(tmp_path).read("a")

    assert (read, mode(path)) == (RECORD, 0o600)
    assert "others could read it" in caplog.text
    assert "very-secret" not in caplog.text


@posix
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text('{"secret": "planted"}')
    (tmp_path / "a.json").symlink_to(target)

    with pytest.raises(ConfigurationError, match="delete it"):
        Vault(tmp_path).read("a")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"secret": 1}', b"\xff", b"[" * 60_000, b'{"a": "' + b"x" * 70_000 + b'"}']
)
def test_a_damaged_record_says_what_to_do_and_nothing_of_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError, match=r"damaged; delete it and log in again") as caught:
        Vault(tmp_path).read("a")

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(tmp_path)
    vault.write("a", RECORD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        vault.write("a", {"secret": "newer"})

    assert vault.read("a") == RECORD
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_removed_record_is_gone(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.write("a", RECORD)

    assert [vault.remove("a"), vault.remove("a"), vault.read("a")] == [True, False, None]


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    assert Vault(tmp_path).path("../../etc/passwd").parent == tmp_path


def test_the_folder_is_chosen_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))

    assert Vault().directory == tmp_path / "tokens"


async def test_only_one_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    async def hold(name: str) -> None:
        async with Vault(tmp_path).locked("a"):
            order.append(f"{name} in")
            await asyncio.sleep(0.02)
            order.append(f"{name} out")

    await asyncio.gather(hold("one"), hold("two"))

    assert [each.split()[1] for each in order] == ["in", "out", "in", "out"]


async def test_a_lock_of_another_process_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from hybridbroker.transport.vault import Vault\n"
        "async def main():\n"
        f"    async with Vault(Path({str(tmp_path)!r})).locked('a'):\n"
        "        print('held', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs here
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ServiceUnavailable, match="another program"):
            async with Vault(tmp_path).locked("a", patience=0.1):
                pass
        process.kill()  # the lock dies with its process
    async with Vault(tmp_path).locked("a", patience=60):
        pass


@posix
def test_exposure_is_seen(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1")
    path.chmod(0o640)
    loose = is_exposed(path)
    path.chmod(0o600)

    assert (loose, is_exposed(path), is_exposed(tmp_path / "none")) == (True, False, False)
