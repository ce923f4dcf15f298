"""The shape of the package is a promise too."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hybridbroker

HEAVY = ["httpx", "websockets", "pydantic", "google.protobuf", "typer", "rich", "sqlite3", "msgspec"]


@pytest.mark.parametrize("module", HEAVY)
def test_importing_the_package_does_not_import(module: str) -> None:
    code = f"import hybridbroker, sys; sys.exit({module!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


@pytest.mark.parametrize("broker", ["upstox", "dhan"])
def test_finding_a_broker_imports_none_of_its_machinery(broker: str) -> None:
    code = (
        f"import sys; from hybridbroker import find_broker; find_broker({broker!r});"
        "sys.exit(any(m in sys.modules for m in ('httpx', 'websockets', 'pydantic', 'google.protobuf')))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


def test_every_exported_name_exists_and_the_list_is_sorted() -> None:
    assert sorted(hybridbroker.__all__) == list(hybridbroker.__all__)
    assert all(hasattr(hybridbroker, name) for name in hybridbroker.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = hybridbroker.nothing_of_the_kind
