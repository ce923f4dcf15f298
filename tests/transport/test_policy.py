"""RetryPolicy decides from the failure, the attempt and chance alone."""

from __future__ import annotations

import pytest

from hybridbroker.errors import (
    AuthenticationError,
    NotSent,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.transport.policy import KeepWarm, RetryPolicy


@pytest.mark.parametrize(
    ("failure", "attempt", "expected"),
    [
        pytest.param(NotSent("x"), 1, 0.125, id="first failure"),
        pytest.param(ReplyLost("x"), 3, 0.5, id="backs off"),
        pytest.param(ServiceUnavailable("x"), 2, 0.25, id="server error"),
        pytest.param(NotSent("x"), 4, None, id="attempts spent"),
        pytest.param(RateLimited("x", retry_after=7), 1, 7, id="obeys the server"),
        pytest.param(RateLimited("x"), 1, 0.125, id="server did not say"),
        pytest.param(RateLimited("x", retry_after=3600), 1, None, id="too long to obey"),
        pytest.param(AuthenticationError("x"), 1, None, id="log in again"),
        pytest.param(WireFormatError("x"), 1, None, id="will be the same again"),
    ],
)
def test_retry_delay(failure: Exception, attempt: int, expected: float | None) -> None:
    delay = RetryPolicy().delay(failure, attempt=attempt, jitter=lambda: 0.5)

    assert delay == expected


def test_retry_delay_is_capped() -> None:
    policy = RetryPolicy(attempts=10_000)

    assert policy.delay(NotSent("x"), attempt=9_999, jitter=lambda: 1.0) == 8.0


def test_keeping_warm_without_a_pause_is_refused() -> None:
    with pytest.raises(ValueError, match="every"):
        KeepWarm(path="/", every=0)
