"""What arrives: a message is the deck's map, and its fields by name.

Numbers are floats, or ``Decimal`` when the subscriber was made with ``decimals=True``: then each is
the shortest text of the float that was sent, or the exact text where the deck sends text
(``[bus.topics.NAME] decimals = "text"``). What is unknown is ``None``, never invented.
"""

import json
from decimal import Decimal
from typing import Any, Dict, List, Optional, Tuple, Type

import msgpack


class _Number:
    """A field that is a number: float, or Decimal on wish."""

    def __init__(self, key: Optional[str] = None) -> None:
        self.key = key

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = self.key or name

    def __get__(self, message: Any, owner: type) -> Any:
        if message is None:
            return self
        return message._number(message.data.get(self.key))


class _Plain:
    """A field that is passed on as it came."""

    def __init__(self, key: Optional[str] = None, default: Any = None) -> None:
        self.key = key
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = self.key or name

    def __get__(self, message: Any, owner: type) -> Any:
        if message is None:
            return self
        return message.data.get(self.key, self.default)


def _number() -> Any:
    return _Number()


def _plain(default: Any = None) -> Any:
    return _Plain(default=default)


class Message:
    """One message of the bus.

    ``data`` is the map as it came; a key of it that has no field of its own is ``message["key"]``.
    """

    __slots__ = ("topic", "data", "payload", "replayed", "decimals")

    def __init__(
        self, topic: str, data: Dict[str, Any], payload: bytes = b"", replayed: bool = False, decimals: bool = False
    ) -> None:
        self.topic = topic
        self.data = data
        #: The bytes as they came.
        self.payload = payload
        #: It was missed, and fetched from the tape.
        self.replayed = replayed
        self.decimals = decimals

    #: Place on the tape.
    seq: Optional[int] = _plain()
    #: The seq before it on this topic.
    prev: Optional[int] = _plain()
    #: Id of the tape.
    tape: Optional[str] = _plain()
    #: The venue's spelling.
    instrument: str = _plain("")
    #: The venue's clock, ns; ``None`` where it told none.
    ts_event: Optional[int] = _plain()
    #: When the deck received it, ns.
    ts_recv: Optional[int] = _plain()
    #: Seconds, as the predecessors had it.
    timestamp: Optional[float] = _plain()

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.data.get(key, default)

    def __repr__(self) -> str:
        return "{}({!r}, {!r})".format(type(self).__name__, self.topic, self.data)

    def _number(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return None
        if self.decimals:
            return Decimal(str(value))
        return float(value)


class Tick(Message):
    """Best bid and ask, last trade, and the venue's statistics over 24 hours."""

    __slots__ = ()

    bid: Optional[float] = _number()
    ask: Optional[float] = _number()
    bid_size: Optional[float] = _number()
    ask_size: Optional[float] = _number()
    last: Optional[float] = _number()
    last_size: Optional[float] = _number()
    volume: Optional[float] = _number()
    vwap: Optional[float] = _number()
    trades: Optional[int] = _plain()
    low: Optional[float] = _number()
    high: Optional[float] = _number()
    open: Optional[float] = _number()


class Book(Message):
    """The best levels of an order book, whole."""

    __slots__ = ()

    @property
    def bids(self) -> List[Tuple[float, float]]:
        return self._levels("bids")

    @property
    def asks(self) -> List[Tuple[float, float]]:
        return self._levels("asks")

    def _levels(self, key: str) -> List[Tuple[float, float]]:
        return [(self._number(level[0]), self._number(level[1])) for level in self.data.get(key) or []]


class Trade(Message):
    __slots__ = ()

    price: float = _number()
    size: float = _number()
    #: ``buy`` or ``sell``: who took.
    side: Optional[str] = _plain()
    id: Optional[str] = _plain()


class Candle(Message):
    """Half-open: ``[start, start + interval)``. ``flags`` say how complete it is."""

    __slots__ = ()

    interval: Any = _plain()
    start: int = _plain()
    open: float = _number()
    high: float = _number()
    low: float = _number()
    close: float = _number()
    volume: Optional[float] = _number()
    vwap: Optional[float] = _number()
    trades: Optional[int] = _plain()
    flags: Any = _plain()
    revision: int = _plain(0)


class Gap(Message):
    """Known missing data: opened by one message, closed by another with the same ``id``."""

    __slots__ = ()

    id: Any = _plain()
    state: Optional[str] = _plain()
    cause: Optional[str] = _plain()
    channel: Optional[str] = _plain()


_KINDS: Dict[str, Type[Message]] = {
    "kraken_tick": Tick,
    "oanda_tick": Tick,
    "kite_tick": Tick,
    "kr_depth": Book,
    "gap": Gap,
}
_FAMILIES: List[Tuple[str, Type[Message]]] = [("trade.", Trade), ("candle.", Candle)]


def kind_of(topic: str) -> Type[Message]:
    kind = _KINDS.get(topic)
    if kind is not None:
        return kind
    for family, kind in _FAMILIES:
        if topic.startswith(family):
            return kind
    return Message


def decode_payload(payload: bytes) -> Optional[Dict[str, Any]]:
    """The map of a payload in the forms `map` and `json`; ``None`` for anything else."""
    try:
        if payload[:1] == b"{":
            data = json.loads(payload.decode("utf-8"))
        else:
            data = msgpack.unpackb(payload, raw=False)
    except (ValueError, UnicodeDecodeError, msgpack.exceptions.UnpackException):
        return None
    return data if isinstance(data, dict) else None


def make(topic: str, data: Dict[str, Any], payload: bytes, replayed: bool, decimals: bool) -> Message:
    return kind_of(topic)(topic, data, payload, replayed, decimals)
