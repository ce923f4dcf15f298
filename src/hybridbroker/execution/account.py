"""Where the files of one account live."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import platformdirs

__all__ = ["AccountFiles", "account_name"]

_STATE_DIR = "HYBRIDBROKER_STATE_DIR"


@attrs.frozen(kw_only=True)
class AccountFiles:
    """The journal, the rate ledger, the kill file and the log of one account."""

    journal: Path
    rate: Path
    """Shared by all processes of the account, whatever their journals."""
    kill: Path
    """While this file exists, entries are refused."""
    log: Path

    @classmethod
    def of(cls, account: str, *, journal: Path | None = None, directory: Path | None = None) -> AccountFiles:
        """Return where the files of ``account`` are; nothing is created.

        ``journal`` moves the journal alone: the others stay where every process of the account
        finds them. ``directory`` is, unless given, ``$HYBRIDBROKER_STATE_DIR`` or the
        platform's place for state (``~/.local/state/hybridbroker`` on Linux).
        """
        chosen = os.environ.get(_STATE_DIR)
        home = directory or (Path(chosen) if chosen else platformdirs.user_state_path("hybridbroker"))
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", account) or "account"
        return cls(
            journal=journal or home / f"{name}.journal.db",
            rate=home / f"{name}.rate",
            kill=home / f"{name}.kill",
            log=home / f"{name}.log",
        )


def account_name(broker: str, settings: object = None) -> str:
    """Return the name of the account that a broker's settings open: ``dhan-1100000001``.

    Settings without a client id give the broker's name alone. A broker on this machine (an
    emulator) is an account of its own by its port, so that play never meets the real thing.
    """
    client = str(getattr(settings, "client_id", "") or "")
    address = urlsplit(str(getattr(settings, "base_url", "") or ""))
    here = address.hostname in {"127.0.0.1", "localhost", "::1"}
    parts = [broker, client, f"port{address.port}" if here else ""]
    return "-".join(part for part in parts if part)
