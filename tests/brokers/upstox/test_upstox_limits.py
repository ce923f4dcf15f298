"""Key limits of the feed, as documented by plan and mode."""

from __future__ import annotations

import pytest

from hybridbroker.brokers.upstox.limits import FEED_LIMITS, LIMITS, Plan, check_subscription
from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import SubscriptionLimit
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.limits import RateLimiter


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({FeedMode.LTP: 5000}, id="ltp alone"),
        pytest.param({FeedMode.OPTION_GREEKS: 3000}, id="greeks alone"),
        pytest.param({FeedMode.FULL: 2000}, id="full alone"),
        pytest.param({FeedMode.LTP: 2000, FeedMode.FULL: 1500, FeedMode.OPTION_GREEKS: 2000}, id="mixed"),
        pytest.param({FeedMode.FULL: 2000, FeedMode.LTP: 0}, id="none of another mode"),
    ],
)
def test_what_the_plan_allows_passes(counts: dict[FeedMode, int]) -> None:
    check_subscription(counts, plan="normal")


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        pytest.param({FeedMode.LTP: 5001}, "allows 5000 instruments in mode ltp alone, this makes 5001", id="ltp"),
        pytest.param({FeedMode.FULL: 2001}, "allows 2000 instruments in mode full alone", id="full"),
        pytest.param(
            {FeedMode.FULL: 1501, FeedMode.LTP: 1},
            "allows 1500 instruments in mode full beside other modes",
            id="mixed",
        ),
        pytest.param({FeedMode.DEPTH_30: 1}, "allows 0 instruments in mode depth-30", id="no depth"),
    ],
)
def test_one_more_is_refused_in_words(counts: dict[FeedMode, int], told: str) -> None:
    with pytest.raises(SubscriptionLimit, match=told):
        check_subscription(counts, plan="normal")


def test_plus_has_thirty_levels_for_fifty_instruments() -> None:
    check_subscription({FeedMode.DEPTH_30: 50}, plan="plus")

    with pytest.raises(SubscriptionLimit):
        check_subscription({FeedMode.DEPTH_30: 51}, plan="plus")


@pytest.mark.parametrize("plan", FEED_LIMITS)
def test_every_mode_has_its_limits(plan: Plan) -> None:
    limits = FEED_LIMITS[plan]

    assert set(limits.alone) == set(limits.mixed) == set(FeedMode)


@pytest.mark.parametrize("family", ["read", "feed", "order"])
async def test_the_rate_table_can_be_used_as_it_stands(family: str) -> None:
    clock = ManualClock()

    await RateLimiter(LIMITS, clock=clock).acquire(family)

    assert clock.monotonic() == 0
