"""What came of cancelling all orders or closing all positions: done and refused beside each other."""

from __future__ import annotations

import attrs

from hybridbroker.brokers.upstox.orders import wire

__all__ = ["Batch", "Refused", "batch_from_wire"]


@attrs.frozen(kw_only=True)
class Refused:
    """One order or position of a batch that is not known to be done; ``reason`` says so where nobody can tell."""

    order_id: str | None
    key: str | None
    """Upstox's key of the instrument."""
    reason: str
    code: str | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """The outcome of one call about many orders."""

    order_ids: tuple[str, ...] = ()
    """Of the orders whose cancellation was taken, or of the orders that close positions."""
    refused: tuple[Refused, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Say whether nothing was refused."""
        return not self.refused


def batch_from_wire(answer: wire.BatchAnswer) -> Batch:
    """Read the answer to cancel-all or exit-all."""
    errors = answer.errors or ()
    return Batch(
        order_ids=answer.data.order_ids if answer.data is not None else (),
        refused=tuple(
            Refused(
                order_id=each.order_id,
                key=each.instrument_key,
                reason=each.message or each.code or "no reason given",
                code=each.code or None,
            )
            for each in errors
        ),
    )
