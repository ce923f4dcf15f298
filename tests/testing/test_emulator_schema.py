"""The emulator's copy of the feed schema: generated, committed, and its own."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import pytest

from hybridbroker.testing import emulators

SOURCE = "hybridbroker/testing/emulators/feed.proto"


def test_the_generated_code_is_what_the_schema_generates(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs pip install 'hybridbroker[proto]', in an environment of its own")
    if not version("grpcio-tools").startswith("1.68."):
        pytest.skip("another compiler generates other code")
    package = resources.files(emulators)
    root = Path(str(package)).parents[2]

    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", SOURCE],
        cwd=root,
        check=True,
    )

    for name in ("feed_pb2.py", "feed_pb2.pyi"):
        generated = tmp_path / "hybridbroker/testing/emulators" / name
        assert generated.read_text() == package.joinpath(name).read_text()
