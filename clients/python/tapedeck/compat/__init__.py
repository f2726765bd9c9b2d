"""The predecessors' names over tapedeck: their documented snippets run with only the import changed.

    from nbpy.zmq import BasePublisher, PortConfig      ->  from tapedeck.compat import BasePublisher, PortConfig
    from nbpy.db import InfluxDBService, TickData       ->  from tapedeck.compat import InfluxDBService, TickData

What differs, on purpose: points go to the deck, and ``flush(force=True)`` returns when they are on its
tape; nothing is dropped when the database is away; zero is a value; a failed point does not hold up others.
"""

from .bridges import (
    GenericZMQBridge,
    KrakenTickBridge,
    OandaTickBridge,
    ZMQInfluxDBBridge,
    create_generic_bridge,
    create_kraken_bridge,
    create_oanda_bridge,
    parse_kraken_tick_message,
    parse_oanda_tick_message,
)
from .config import ConfigManager, InfluxDBConfig, get_config_manager
from .models import BaseDataPoint, DataType, DepthData, OHLCData, SentimentData, TickData
from .ports import (
    BETFAIR_STREAM_PUB,
    KRAKEN_DEPTH_PUB,
    KRAKEN_EURUSD_DEPTH_PUB,
    KRAKEN_EURUSD_TICK_PUB,
    KRAKEN_INFLUXDB_DEPTH_SUB,
    KRAKEN_INFLUXDB_TICK_SUB,
    KRAKEN_ORDERS_PUB,
    KRAKEN_PGSQL_TICK_SUB,
    KRAKEN_TICK_PUB,
    OANDA_INFLUXDB_TICK_SUB,
    OANDA_ORDERS_PUB,
    OANDA_PGSQL_TICK_SUB,
    OANDA_PUB,
    OANDA_TICK_PUB,
    OANDAV20_TICK_PUB,
    PORT_REGISTRY,
    TWITTER_INFLUXDB_SUB,
    TWITTER_PGSQL_SUB,
    TWITTER_SENTIMENT_PUB,
    PortConfig,
    get_port,
    get_port_config,
    get_ports_by_type,
    list_ports,
    validate_port_uniqueness,
)
from .serialization import (
    MessagePackCodec,
    ZMQMessageHandler,
    convert_json_to_msgpack,
    convert_msgpack_to_json,
)
from .service import InfluxDBService, create_service
from .sockets import BasePublisher, BaseSubscriber, BaseZMQService

__all__ = [name for name in dir() if not name.startswith("_") and name not in
           ("bridges", "config", "models", "ports", "serialization", "service", "sockets")]
