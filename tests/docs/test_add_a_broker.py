"""The page that explains how to add a broker shows the package that was made by it, word by word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "add-a-broker.md"
PACKAGE = ROOT / "examples" / "custom_broker"
QUOTED = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("file", "text"), QUOTED, ids=[file for file, _ in QUOTED])
def test_what_the_page_shows_is_in_the_package(file: str, text: str) -> None:
    assert text in (PACKAGE / file).read_text()


def test_the_page_shows_every_module_of_the_package() -> None:
    modules = {f"src/hybridbroker_acme/{each.name}" for each in (PACKAGE / "src" / "hybridbroker_acme").glob("*.py")}

    assert modules - {file for file, _ in QUOTED} == {"src/hybridbroker_acme/wire.py"}
