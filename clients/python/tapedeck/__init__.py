"""Client of tapedeck, the flight recorder for live markets.

    for tick in tapedeck.subscribe("kraken_tick"):
        print(tick.instrument, tick.bid, tick.ask)

What a subscriber misses is seen in ``prev`` and fetched from the deck's tape before the loop goes on.
"""

from .history import candles, query
from .messages import Book, Candle, Gap, Message, Tick, Trade
from .ports import ALIASES, REQUESTS, TOPICS, endpoints
from .replay import ReplayError, Requests, last
from .subscriber import Curve, Hole, Subscriber, subscribe
from .write import Point, WriteError, to_line, write

__version__ = "0.1.0"

__all__ = [
    "ALIASES",
    "Book",
    "Candle",
    "Curve",
    "Gap",
    "Hole",
    "Message",
    "Point",
    "REQUESTS",
    "ReplayError",
    "Requests",
    "Subscriber",
    "TOPICS",
    "Tick",
    "Trade",
    "WriteError",
    "candles",
    "endpoints",
    "last",
    "query",
    "subscribe",
    "to_line",
    "write",
]
