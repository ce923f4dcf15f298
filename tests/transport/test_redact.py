"""Redact: no secret reaches a handler, whoever logged it and however."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from hybridbroker.transport.redact import Redact, install, scrub

SECRET = "s3cr3t+/value"


@pytest.fixture
def named() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    logger = logging.getLogger("redact-test")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, stream
    logger.handlers.clear()
    for each in (logger, logging.getLogger("redact-test.child")):
        each.filters.clear()


def test_known_secrets_are_masked_in_message_and_arguments(named: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = named
    install(["redact-test"], [SECRET])

    logger.info(f"one {SECRET}")  # noqa: G004 - that is what is tested
    logger.info("two %s %d", SECRET, 5)
    logger.info("three %(x)s", {"x": SECRET})

    assert stream.getvalue().splitlines() == ["one ***", "two *** 5", "three ***"]


def test_secrets_are_masked_in_tracebacks(named: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = named
    install(["redact-test"], [SECRET])

    try:
        raise ValueError(SECRET)  # noqa: TRY301 - its traceback is the point
    except ValueError:
        logger.exception("failed")

    assert SECRET not in stream.getvalue()
    assert "ValueError: ***" in stream.getvalue()


def test_other_tracebacks_stay_as_they_are() -> None:
    try:
        raise ValueError("harmless")  # noqa: TRY301 - its traceback is the point
    except ValueError as exc:
        record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, (type(exc), exc, exc.__traceback__))

    Redact([SECRET]).filter(record)

    assert record.exc_info is not None


def test_loggers_below_are_covered(named: tuple[logging.Logger, io.StringIO]) -> None:
    child = logging.getLogger("redact-test.child")
    _, stream = named
    install(["redact-test"], [SECRET])

    child.info(SECRET)

    assert stream.getvalue() == "***\n"


def test_a_fresh_token_is_masked_from_then_on(named: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = named
    redact = install(["redact-test"], ["old"])

    redact.add("fresh")
    redact.add("")
    logger.info("old fresh none")

    assert stream.getvalue() == "*** *** none\n"
    assert "old" not in repr(redact)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /feed?requestId=1&code=abc HTTP/1.1", "GET /feed?*** HTTP/1.1"),
        ("wss://api-feed.dhan.co?version=2&token=abc&clientId=1", "wss://api-feed.dhan.co?***"),
        ("> Authorization: Bearer abc.def", "> Authorization: Bearer ***"),
        ("access-token: abc", "access-token: ***"),
        ("{'access-token': 'abc', 'x': 1}", "{'access-token': '***', 'x': 1}"),
        ('{"access_token":"abc","email":"x"}', '{"access_token":"***","email":"x"}'),
        ('{"Token":"eyJhbGciOiJIUzI1NiJ9.e30.sig', '{"Token":"***'),
        ("eyJhbGciOiJI", "***"),
        (f"pct {'s3cr3t%2B%2Fvalue'}", "pct ***"),
        ("Invalid token supplied?", "Invalid token supplied?"),
        ("Token can be generated once every 2 minutes.", "Token can be generated once every 2 minutes."),
        ("really? a = b", "really? a = b"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, expected: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, text, None, None)

    Redact([SECRET]).filter(record)

    assert record.getMessage() == expected


def test_scrubbing_twice_changes_nothing_more() -> None:
    once = scrub('access-token: abc; GET /x?y=z {"token": "abc"}')

    assert scrub(once) == once
