"""The predecessors' data models, with the tags and fields that they wrote.

``timestamp`` is in milliseconds, as theirs, or RFC 3339 text with all its digits; without one a point carries the moment it was handed in, in
nanoseconds, so that two points never fall on the same millisecond. Zero is a value and is written.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, List, Optional, Union

#: Milliseconds since 1970, or RFC 3339 text.
Timestamp = Union[int, str]


class DataType(Enum):
    TICK = "tick"
    DEPTH = "depth"
    ORDERS = "orders"
    SENTIMENT = "sentiment"
    TRADE = "trade"
    OHLC = "ohlc"


class BaseDataPoint(ABC):
    """Extend it for types of your own: a measurement, tags, fields."""

    @abstractmethod
    def to_influx_json(self) -> Dict[str, Any]:
        """``{"measurement": ..., "tags": {...}, "fields": {...}, "time": ms}``"""


def _point(kind: DataType, tags: Dict[str, Any], fields: Dict[str, Any], timestamp: Optional[Timestamp]) -> Dict[str, Any]:
    point: Dict[str, Any] = {
        "measurement": kind.value,
        "tags": {key: value for key, value in tags.items() if value},
        "fields": {key: value for key, value in fields.items() if value is not None},
    }
    if timestamp is not None:
        point["time"] = timestamp
    return point


def _float(value: Optional[float]) -> Optional[float]:
    return None if value is None else float(value)


@dataclass
class TickData(BaseDataPoint):
    instrument: str
    bid: float
    ask: float
    timestamp: Optional[Timestamp] = None
    base_ccy: Optional[str] = None
    term_ccy: Optional[str] = None
    volume: Optional[float] = None
    vwap: Optional[float] = None

    def to_influx_json(self) -> Dict[str, Any]:
        tags = {"instrument": self.instrument, "base_ccy": self.base_ccy, "term_ccy": self.term_ccy}
        fields = {
            "bid": _float(self.bid),
            "ask": _float(self.ask),
            "volume": _float(self.volume),
            "vwap": _float(self.vwap),
        }
        return _point(DataType.TICK, tags, fields, self.timestamp)


@dataclass
class DepthData(BaseDataPoint):
    """All levels that are given are written (the original kept two)."""

    instrument: str
    timestamp: Optional[Timestamp] = None
    bid_prices: Optional[List[float]] = None
    bid_volumes: Optional[List[float]] = None
    ask_prices: Optional[List[float]] = None
    ask_volumes: Optional[List[float]] = None
    base_ccy: Optional[str] = None
    term_ccy: Optional[str] = None

    def to_influx_json(self) -> Dict[str, Any]:
        fields: Dict[str, Any] = {}
        sides = (("bid", self.bid_prices, self.bid_volumes), ("ask", self.ask_prices, self.ask_volumes))
        for side, prices, volumes in sides:
            for level, (price, volume) in enumerate(zip(prices or [], volumes or []), 1):
                fields["{}_price_{}".format(side, level)] = float(price)
                fields["{}_volume_{}".format(side, level)] = float(volume)
        tags = {"instrument": self.instrument, "base_ccy": self.base_ccy, "term_ccy": self.term_ccy}
        return _point(DataType.DEPTH, tags, fields, self.timestamp)


@dataclass
class OHLCData(BaseDataPoint):
    instrument: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    timestamp: Optional[Timestamp] = None
    base_ccy: Optional[str] = None
    term_ccy: Optional[str] = None
    trades: Optional[int] = None

    def to_influx_json(self) -> Dict[str, Any]:
        fields: Dict[str, Any] = {
            name: _float(getattr(self, name)) for name in ("open", "high", "low", "close", "volume")
        }
        fields["trades"] = None if self.trades is None else int(self.trades)
        tags = {"instrument": self.instrument, "base_ccy": self.base_ccy, "term_ccy": self.term_ccy}
        return _point(DataType.OHLC, tags, fields, self.timestamp)


@dataclass
class SentimentData(BaseDataPoint):
    source: str
    instrument: str
    sentiment_score: float
    timestamp: Optional[Timestamp] = None
    text: Optional[str] = None
    location: Optional[str] = None
    language: Optional[str] = None

    def to_influx_json(self) -> Dict[str, Any]:
        tags = {
            "source": self.source,
            "instrument": self.instrument,
            "location": self.location,
            "language": self.language,
        }
        fields = {"sentiment_score": _float(self.sentiment_score), "text": self.text or None}
        return _point(DataType.SENTIMENT, tags, fields, self.timestamp)
