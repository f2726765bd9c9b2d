"""Bridges of the predecessors: a ZeroMQ publisher's messages become points.

A deck does the same without a script, with a source of kind `zmq`. These classes are for scripts that
have parsers of their own.
"""

import logging
import threading
from typing import Any, Callable, Dict, List, Optional

import zmq

from .config import InfluxDBConfig
from .models import TickData
from .serialization import MessagePackCodec
from .service import InfluxDBService

logger = logging.getLogger(__name__)

#: How often the loop looks whether it was stopped, and whether points are due.
LOOK_MS = 100
#: What separates the fields of a legacy message.
SOH = "\x01"

Parser = Callable[[str], Any]


def parse_kraken_tick_message(message: str) -> TickData:
    """The 20 fields of a legacy Kraken tick: the ask is the second, the bid the fifth."""
    fields = message.split(SOH)
    base, term = split_base_term(fields[0])
    return TickData(fields[0], bid=float(fields[4]), ask=float(fields[1]), base_ccy=base, term_ccy=term)


def parse_oanda_tick_message(message: str) -> TickData:
    """Instrument, time, bid, ask; the time is RFC 3339 with all its digits, or milliseconds."""
    instrument, when, bid, ask = message.split(SOH)
    return TickData(instrument, float(bid), float(ask), timestamp=int(when) if when.isdigit() else when)


def split_base_term(name: str) -> Any:
    """`XXBTZUSD` and `EURUSD` to their currencies, by the predecessors' two rules; else (None, None)."""
    if len(name) >= 5 and name[0] == "X" and name[-4] == "Z":
        return name[1:4], name[-3:]
    if len(name) == 6 and "_" not in name:
        return name[:3], name[3:]
    return None, None


def _tick_of_map(data: Any) -> Optional[TickData]:
    """The map that a deck or an `nbpy.zmq` publisher sends."""
    if not isinstance(data, dict) or data.get("bid") is None or data.get("ask") is None:
        return None
    base, term = split_base_term(str(data.get("instrument", "")))
    when = data.get("ts_event") or data.get("ts_recv")
    timestamp = data.get("timestamp")
    if isinstance(when, int):
        milliseconds: Any = when / 10**6
    else:
        milliseconds = timestamp * 1000.0 if isinstance(timestamp, (int, float)) else None
    return TickData(
        str(data.get("instrument", "")),
        float(data["bid"]),
        float(data["ask"]),
        timestamp=milliseconds,
        base_ccy=base,
        term_ccy=term,
        volume=data.get("volume"),
        vwap=data.get("vwap"),
    )


class ZMQInfluxDBBridge:
    """Receives, parses, writes. A message that cannot be parsed is counted and skipped."""

    def __init__(
        self,
        zmq_host: str = "localhost",
        zmq_port: int = 5556,
        topic_filter: str = "",
        influxdb_config: Optional[InfluxDBConfig] = None,
        service_name: str = "zmq_influxdb_bridge",
    ) -> None:
        self.zmq_host = zmq_host
        self.zmq_port = zmq_port
        self.topic_filter = topic_filter
        self.service_name = service_name
        self.influxdb_service = InfluxDBService(influxdb_config)
        self.message_parser: Optional[Parser] = None
        self.running = False
        self.messages_received = 0
        self.messages_written = 0
        self.errors = 0
        self.stop_event = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def set_message_parser(self, parser: Parser) -> None:
        """``parser`` takes the whole text of a message, topic included, and returns a point or None."""
        self.message_parser = parser

    def parse_frames(self, frames: List[bytes]) -> Any:
        """One frame is text; of two, the second is MessagePack."""
        if len(frames) == 1:
            if self.message_parser is None:
                raise ValueError("no parser is set")
            return self.message_parser(frames[0].decode("utf-8"))
        return _tick_of_map(MessagePackCodec.unpack(frames[1]))

    def run(self, blocking: bool = True) -> None:
        self.running = True
        if blocking:
            self._run()
        else:
            self._thread = threading.Thread(target=self._run, name=self.service_name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, 100000)
            socket.setsockopt(zmq.SUBSCRIBE, self.topic_filter.encode("utf-8"))
            host = "127.0.0.1" if self.zmq_host == "localhost" else self.zmq_host
            socket.connect("tcp://{}:{}".format(host, self.zmq_port))
            while not self.stop_event.is_set():
                if socket.poll(LOOK_MS):
                    self._take(socket.recv_multipart())
        except KeyboardInterrupt:
            pass
        finally:
            self.running = False
            socket.close(0)
            context.term()
            self.influxdb_service.close()

    def _take(self, frames: List[bytes]) -> None:
        self.messages_received += 1
        try:
            point = self.parse_frames(frames)
        except Exception as error:
            self.errors += 1
            logger.error("%s: message not parsed: %s", self.service_name, error)
            return
        if point is None:
            self.errors += 1
        elif self.influxdb_service.write_point(point):
            self.messages_written += 1
        else:
            self.errors += 1

    def stop(self) -> None:
        """Ends the loop and brings what waits to the deck; returns when that is done."""
        self.stop_event.set()
        if not self.running and self._thread is None:
            self.influxdb_service.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None

    def get_stats(self) -> Dict[str, Any]:
        return {
            "service_name": self.service_name,
            "running": self.running,
            "zmq_host": self.zmq_host,
            "zmq_port": self.zmq_port,
            "topic_filter": self.topic_filter,
            "messages_received": self.messages_received,
            "messages_written": self.messages_written,
            "errors": self.errors,
            "influxdb": self.influxdb_service.get_stats(),
        }

    def log_stats(self) -> None:
        logger.info("%s: %s", self.service_name, self.get_stats())


def _behind_topic(parser: Parser) -> Parser:
    def parse(message: str) -> Any:
        _, space, payload = message.partition(" ")
        if not space:
            raise ValueError("no space between topic and payload")
        return parser(payload)

    return parse


class KrakenTickBridge(ZMQInfluxDBBridge):
    def __init__(self, zmq_port: int = 5558, influxdb_config: Optional[InfluxDBConfig] = None) -> None:
        super().__init__("localhost", zmq_port, "kraken_tick", influxdb_config, "kraken_tick_bridge")
        self.set_message_parser(_behind_topic(parse_kraken_tick_message))


class OandaTickBridge(ZMQInfluxDBBridge):
    def __init__(self, zmq_port: int = 5556, influxdb_config: Optional[InfluxDBConfig] = None) -> None:
        super().__init__("localhost", zmq_port, "oanda_tick", influxdb_config, "oanda_tick_bridge")
        self.set_message_parser(_behind_topic(parse_oanda_tick_message))


class GenericZMQBridge(ZMQInfluxDBBridge):
    """With a parser of one's own, which gets what stands behind the topic."""

    def __init__(
        self,
        zmq_port: int,
        topic_filter: str,
        parser_func: Parser,
        service_name: str = "generic_zmq_bridge",
        influxdb_config: Optional[InfluxDBConfig] = None,
    ) -> None:
        super().__init__("localhost", zmq_port, topic_filter, influxdb_config, service_name)
        self.set_message_parser(_behind_topic(parser_func))


def create_kraken_bridge(zmq_port: int = 5558) -> KrakenTickBridge:
    return KrakenTickBridge(zmq_port)


def create_oanda_bridge(zmq_port: int = 5556) -> OandaTickBridge:
    return OandaTickBridge(zmq_port)


def create_generic_bridge(
    zmq_port: int, topic_filter: str, parser_func: Parser, service_name: str = "generic_bridge"
) -> GenericZMQBridge:
    return GenericZMQBridge(zmq_port, topic_filter, parser_func, service_name)
