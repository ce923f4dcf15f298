"""Prices from one broker, orders to another, in one process behind one typed interface.

Importing this package loads attrs and the standard library only; brokers, transports and
wire formats are imported when they are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridbroker.alerts import AppriseNotifier, LogNotifier, Notifier
from hybridbroker.bars import BarBuilder
from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import (
    Auction,
    Candle,
    Candles,
    Depth,
    DepthLevel,
    FeedMode,
    FeedState,
    Gap,
    Greeks,
    Interval,
    MarketEvent,
    MarketPhase,
    MarketStatus,
    Quote,
    Tick,
    TickDetails,
)
from hybridbroker.domain.options import OptionChain, OptionQuote, Strike
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Trade,
    Validity,
)
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Crossing,
    Gtt,
    GttOrder,
    Leg,
    LegRole,
    LegStatus,
    OcoOrder,
    Trigger,
)
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    FeedAuthenticationError,
    FeedError,
    HybridBrokerError,
    InstrumentAmbiguous,
    InstrumentConflict,
    InstrumentError,
    InstrumentNotFound,
    InstrumentUnmapped,
    InvalidOrder,
    NetworkError,
    NotSent,
    OrderError,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    ReplyLost,
    RiskRefused,
    ServiceUnavailable,
    StaticIpRequired,
    SubscriptionLimit,
    TokenExpired,
    Unsupported,
    WireFormatError,
)
from hybridbroker.exits import Exits, Held
from hybridbroker.plugins import BrokerPlugin, OpenContext, find_broker, installed_brokers
from hybridbroker.protocols import (
    BracketOrders,
    Broker,
    CandleSource,
    Capability,
    FeedHealth,
    GttOrders,
    InstrumentLookup,
    KillSwitchControl,
    Margins,
    MarketData,
    MarketSchedule,
    MarketStream,
    OptionChains,
    OrderBook,
    OrderExecution,
    Overflow,
    Portfolio,
    PositionConversion,
    QuoteSource,
    SlicedOrders,
    TickSource,
)
from hybridbroker.strategy import Strategy, TradingSession, run

if TYPE_CHECKING:
    from hybridbroker.execution import RiskLimits
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.session import Session, connect
    from hybridbroker.simulation.backtest import Remains, backtest, simulate
    from hybridbroker.simulation.fills import BarFill, FillModel
    from hybridbroker.simulation.paper import PaperBroker
    from hybridbroker.simulation.replay import ReplayMarketData
    from hybridbroker.simulation.result import BacktestResult
    from hybridbroker.simulation.tape import Tape, TapeWriter

__all__ = [
    "AppriseNotifier",
    "Auction",
    "AuthenticationError",
    "BacktestResult",
    "BarBuilder",
    "BarFill",
    "Bracket",
    "BracketOrder",
    "BracketOrders",
    "Broker",
    "BrokerKey",
    "BrokerPlugin",
    "Candle",
    "CandleSource",
    "Candles",
    "Capability",
    "Clock",
    "ConfigurationError",
    "Crossing",
    "Depth",
    "DepthLevel",
    "Exchange",
    "Exits",
    "FeedAuthenticationError",
    "FeedError",
    "FeedHealth",
    "FeedMode",
    "FeedState",
    "FillModel",
    "Funds",
    "Gap",
    "Greeks",
    "Gtt",
    "GttOrder",
    "GttOrders",
    "Held",
    "Holding",
    "HybridBrokerError",
    "IST",
    "Instrument",
    "InstrumentAmbiguous",
    "InstrumentConflict",
    "InstrumentError",
    "InstrumentKind",
    "InstrumentLookup",
    "InstrumentNotFound",
    "InstrumentRegistry",
    "InstrumentUnmapped",
    "Interval",
    "InvalidOrder",
    "KillSwitchControl",
    "Leg",
    "LegRole",
    "LegStatus",
    "LimitOrder",
    "LogNotifier",
    "Margin",
    "Margins",
    "MarketData",
    "MarketEvent",
    "MarketOrder",
    "MarketPhase",
    "MarketSchedule",
    "MarketStatus",
    "MarketStream",
    "NetworkError",
    "NotSent",
    "Notifier",
    "OcoOrder",
    "OpenContext",
    "OptionChain",
    "OptionChains",
    "OptionQuote",
    "OptionRight",
    "Order",
    "OrderBook",
    "OrderError",
    "OrderExecution",
    "OrderNotFound",
    "OrderOutcomeUnknown",
    "OrderRejected",
    "OrderRequest",
    "OrderStatus",
    "OrderType",
    "Overflow",
    "PaperBroker",
    "Portfolio",
    "Position",
    "PositionConversion",
    "Product",
    "Quote",
    "QuoteSource",
    "RateLimited",
    "Remains",
    "ReplayMarketData",
    "ReplyLost",
    "RiskLimits",
    "RiskRefused",
    "Segment",
    "ServiceUnavailable",
    "Session",
    "Side",
    "Sliced",
    "SlicedOrder",
    "SlicedOrders",
    "StaticIpRequired",
    "StopLimitOrder",
    "StopMarketOrder",
    "Strategy",
    "Strike",
    "SubscriptionLimit",
    "SystemClock",
    "Tape",
    "TapeWriter",
    "Tick",
    "TickDetails",
    "TickSource",
    "TokenExpired",
    "Trade",
    "TradingCalendar",
    "TradingSession",
    "Trigger",
    "Unsupported",
    "Validity",
    "WireFormatError",
    "backtest",
    "connect",
    "find_broker",
    "installed_brokers",
    "run",
    "simulate",
]

_LAZY = {
    "BacktestResult": "hybridbroker.simulation.result",
    "BarFill": "hybridbroker.simulation.fills",
    "FillModel": "hybridbroker.simulation.fills",
    "InstrumentRegistry": "hybridbroker.instruments.registry",
    "PaperBroker": "hybridbroker.simulation.paper",
    "Remains": "hybridbroker.simulation.backtest",
    "ReplayMarketData": "hybridbroker.simulation.replay",
    "RiskLimits": "hybridbroker.execution",
    "Session": "hybridbroker.session",
    "Tape": "hybridbroker.simulation.tape",
    "TapeWriter": "hybridbroker.simulation.tape",
    "backtest": "hybridbroker.simulation.backtest",
    "connect": "hybridbroker.session",
    "simulate": "hybridbroker.simulation.backtest",
}


def __getattr__(name: str) -> Any:
    """Import a public name that needs more than attrs when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
