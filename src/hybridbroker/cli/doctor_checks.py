"""What `hybridbroker doctor` can tell without asking a broker's slice: clock, calendar, registry, journal, disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from hybridbroker.clock import IST, Clock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Segment
from hybridbroker.errors import ConfigurationError, HybridBrokerError
from hybridbroker.execution.account import AccountFiles
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.killswitch import KillSwitch
from hybridbroker.execution.records import OrderState
from hybridbroker.plugins import Check, CheckStatus

__all__ = [
    "check_clock",
    "check_disk",
    "check_dotenv",
    "check_journal",
    "check_kill_switch",
    "check_registry",
    "check_session",
]

_SKEW_WARNING: Final = 2.0
_SKEW_FATAL: Final = 30.0
_LITTLE: Final = 1 << 30
_NOTHING: Final = 50 << 20
_STALE_DAYS: Final = 1


async def check_clock(base_url: str, *, clock: Clock) -> Check:
    """Compare this machine's clock with the date of the server's answer, whatever it answers."""
    from hybridbroker.transport.http import HttpClient, RetryPolicy

    async with HttpClient(base_url=base_url, headers={}, clock=clock, retry=RetryPolicy(attempts=1)) as http:
        before = clock.now()
        try:
            response = await http.get("/")
        except HybridBrokerError as exc:
            return Check(
                subject="clock",
                status=CheckStatus.FAILED,
                message=f"{base_url} does not answer: {exc}",
                fix="check the network, the firewall and the address",
            )
        middle = before + (clock.now() - before) / 2
    told = _date(response.headers.get("date"))
    if told is None:
        return Check(
            subject="clock", status=CheckStatus.UNKNOWN, message=f"{base_url} answers, but does not say what time it is"
        )
    # The header has whole seconds: half a second in the middle is the best guess.
    skew = (middle - told).total_seconds() - 0.5
    return _judge_skew(skew)


def _judge_skew(skew: float) -> Check:
    status = CheckStatus.OK
    if abs(skew) > _SKEW_WARNING:
        status = CheckStatus.FAILED if abs(skew) > _SKEW_FATAL else CheckStatus.WARNING
    relation = "ahead of" if skew > 0 else "behind"
    return Check(
        subject="clock",
        status=status,
        message=f"this machine's clock is {abs(skew):.1f} s {relation} the broker's",
        fix="" if status is CheckStatus.OK else "synchronise it: timedatectl set-ntp true",
    )


def _date(header: str | None) -> datetime | None:
    try:
        return None if header is None else parsedate_to_datetime(header)
    except ValueError:
        return None


def check_session(calendar: TradingCalendar, *, now: datetime) -> Sequence[Check]:
    """Say whether NSE trades now and when it does next; a closed market is no fault."""
    found = []
    for segment in (Segment.CASH, Segment.DERIVATIVES):
        try:
            session = calendar.session(now.astimezone(IST).date(), segment=segment)
            is_open = session is not None and now in session
            opens = calendar.next_open(now, segment=segment)
        except ConfigurationError as exc:
            found.append(Check(subject="session", status=CheckStatus.WARNING, message=str(exc), fix="upgrade"))
            continue
        until = f"open until {session.closes:%H:%M} IST, then again" if is_open and session else "closed, opens"
        found.append(
            Check(
                subject="session",
                status=CheckStatus.OK,
                message=f"NSE {segment.value} is {until} on {opens.astimezone(IST):%a %d %b %Y at %H:%M} IST",
            )
        )
    return found


def check_registry(path: Path | None, *, now: datetime) -> Check:
    """Say how old the instrument registry is and what it covers; ``path=None`` is the cached one."""
    from hybridbroker.instruments.refresh import cache_folder, newest_build
    from hybridbroker.instruments.registry import InstrumentRegistry

    build = path or newest_build(cache_folder())
    if build is None:
        return Check(
            subject="registry",
            status=CheckStatus.WARNING,
            message="no instrument registry has been built on this machine yet; connect() will download one",
            fix="hybridbroker instruments build",
        )
    try:
        registry = InstrumentRegistry.open(build)
    except HybridBrokerError as exc:
        return Check(
            subject="registry", status=CheckStatus.FAILED, message=str(exc), fix="hybridbroker instruments build"
        )
    try:
        day = now.astimezone(IST).date()
        age = registry.age(day)
        masters = ", ".join(f"{each.broker} of {each.latest or 'an unknown day'}" for each in registry.masters)
        message = f"{build.name} holds {len(registry):,} instruments (masters: {masters})"
    finally:
        registry.close()
    if age is None or age > _STALE_DAYS:
        return Check(
            subject="registry",
            status=CheckStatus.WARNING,
            message=f"{message}; it is {'of unknown age' if age is None else f'{age} days old'}",
            fix="hybridbroker instruments build",
        )
    return Check(subject="registry", status=CheckStatus.OK, message=message)


def check_journal(files: AccountFiles) -> Check:
    """Open the journal as a reader and say what is unsettled in it."""
    path = files.journal
    if not path.exists():
        return Check(subject="journal", status=CheckStatus.OK, message=f"none yet; the first order makes {path}")
    try:
        with OrderJournal(path, read_only=True) as journal:
            unfinished = journal.unfinished()
            orders = len(journal.entries())
    except ConfigurationError as exc:
        return Check(subject="journal", status=CheckStatus.FAILED, message=str(exc))
    open_questions = [each for each in unfinished if each.is_unresolved]
    absent = sum(1 for each in unfinished if each.state is OrderState.ABSENT)
    message = f"{path} is whole: {orders} orders, {len(open_questions)} unresolved, {absent} absent and watched"
    if open_questions:
        names = ", ".join(each.client_order_id for each in open_questions)
        return Check(
            subject="journal",
            status=CheckStatus.WARNING,
            message=f"{message} ({names})",
            fix="connect() asks the broker about them; entries on their instruments wait until then",
        )
    return Check(subject="journal", status=CheckStatus.OK, message=message)


def check_kill_switch(files: AccountFiles) -> Check:
    """Say whether the kill switch is thrown."""
    reason = KillSwitch(files.kill).reason
    if reason is None:
        return Check(subject="kill switch", status=CheckStatus.OK, message="not thrown")
    return Check(
        subject="kill switch",
        status=CheckStatus.FAILED,
        message=f"thrown, so entries are refused: {reason}",
        fix=f"when you are sure, delete {files.kill}",
    )


def check_disk(directory: Path) -> Check:
    """Say how much room there is where the journals are; no order is sent without its record."""
    place = directory
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    message = f"{free / (1 << 30):,.1f} GiB free at {directory}"
    if free > _LITTLE:
        return Check(subject="disk", status=CheckStatus.OK, message=message)
    status = CheckStatus.FAILED if free < _NOTHING else CheckStatus.WARNING
    return Check(subject="disk", status=status, message=message, fix="free some space: no order leaves unrecorded")


def check_dotenv(path: Path) -> Sequence[Check]:
    """Say whether others on this machine may read the file of settings, where there is one."""
    from hybridbroker.transport.vault import is_exposed

    if not path.exists():
        return []
    if is_exposed(path):
        message = f"{path.resolve()} can be read by others on this machine, and tokens may be in it"
        return [Check(subject="secrets", status=CheckStatus.WARNING, message=message, fix=f"chmod 600 {path}")]
    return [Check(subject="secrets", status=CheckStatus.OK, message=f"{path.resolve()} is yours alone")]
