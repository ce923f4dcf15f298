"""Factories give valid values, and change what they are told to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.orders import OrderStatus
from hybridbroker.errors import InvalidOrder
from hybridbroker.testing import factories


@pytest.mark.parametrize("name", factories.__all__)
def test_every_factory_gives_a_value_by_default(name: str) -> None:
    make: Callable[[], Any] = getattr(factories, name)

    assert make() is not None


def test_a_factory_changes_what_it_is_told() -> None:
    order = factories.make_order(status=OrderStatus.FILLED, filled_quantity=10)

    assert order.is_final
    assert order.remaining == 0


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        factories.make_tick(colour="green")


def test_values_agree_with_each_other() -> None:
    tick, candle = factories.make_tick(), factories.make_candle()

    assert tick.instrument == candle.instrument == factories.make_instrument()
    assert tick.traded_ms == to_epoch_ms(candle.start)


def test_a_request_still_checks_itself() -> None:
    with pytest.raises(InvalidOrder):
        factories.make_limit_order(quantity=0)
