"""What every test module shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of real masters, candles and recordings; absent on a user's machine."""
    path = Path(os.environ.get("HYBRIDBROKER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real market data is not here ({path}); set HYBRIDBROKER_SHARED_DATA")
    return path


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests away from the journals, kill files and stored tokens of whoever runs them."""
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
