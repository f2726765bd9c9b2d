"""The predecessors' register of ports: their eighteen entries, numbers as in their code.

Where their documents disagree, the deck serves both readings (`tapedeck ports` prints all of it).
"""

from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional


@dataclass
class PortConfig:
    """A port, who is on it, and the topic prefix to subscribe."""

    port: int
    service_name: str
    service_type: str
    description: str
    topic_filter: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


#: Service id, port, topic, what it is.
_ENTRIES = [
    ("oanda_pub", 5556, "oanda", "OANDA data"),
    ("kraken_tick_pub", 5558, "kraken_tick", "Kraken ticks"),
    ("kraken_eurusd_tick_pub", 5559, "kr_eurusd_tick", "EUR/USD through Kraken's crypto crosses"),
    ("kraken_depth_pub", 5560, "kr_depth", "Kraken order books"),
    ("kraken_orders_pub", 5561, "kraken_orders", "Own orders on Kraken"),
    ("oanda_tick_pub", 5562, "oanda_tick", "OANDA ticks"),
    ("oanda_orders_pub", 5563, "oanda_orders", "Own orders on OANDA"),
    ("betfair_stream_pub", 5564, "betfair_stream", "Betfair exchange stream"),
    ("twitter_sentiment_pub", 5565, "twitter_sentiment", "Posts with sentiment"),
    ("kraken_eurusd_depth_pub", 5566, "kr_eurusd_depth", "Depth of the derived EUR/USD"),
    ("oandav20_tick_pub", 5567, "oandav20_tick", "OANDA v20 ticks"),
    ("kraken_influxdb_tick_sub", 5578, "kraken_tick", "Kraken ticks to InfluxDB"),
    ("kraken_influxdb_depth_sub", 5579, "kraken_depth", "Kraken order books to InfluxDB"),
    ("kraken_pgsql_tick_sub", 5580, "kraken_tick", "Kraken ticks to PostgreSQL"),
    ("oanda_influxdb_tick_sub", 5581, "oanda_tick", "OANDA ticks to InfluxDB"),
    ("oanda_pgsql_tick_sub", 5582, "oanda_tick", "OANDA ticks to PostgreSQL"),
    ("twitter_influxdb_sub", 5583, "twitter_sentiment", "Posts to InfluxDB"),
    ("twitter_pgsql_sub", 5584, "twitter_sentiment", "Posts to PostgreSQL"),
]


def _entry(name: str, port: int, topic: str, description: str) -> PortConfig:
    kind = name[-3:].upper()
    long_name = name[:-4] + ("_publisher" if kind == "PUB" else "_subscriber")
    return PortConfig(port, long_name, kind, description, topic)


PORT_REGISTRY: Dict[str, PortConfig] = {entry[0]: _entry(*entry) for entry in _ENTRIES}

OANDA_PUB = PORT_REGISTRY["oanda_pub"]
KRAKEN_TICK_PUB = PORT_REGISTRY["kraken_tick_pub"]
KRAKEN_EURUSD_TICK_PUB = PORT_REGISTRY["kraken_eurusd_tick_pub"]
KRAKEN_DEPTH_PUB = PORT_REGISTRY["kraken_depth_pub"]
KRAKEN_ORDERS_PUB = PORT_REGISTRY["kraken_orders_pub"]
OANDA_TICK_PUB = PORT_REGISTRY["oanda_tick_pub"]
OANDA_ORDERS_PUB = PORT_REGISTRY["oanda_orders_pub"]
BETFAIR_STREAM_PUB = PORT_REGISTRY["betfair_stream_pub"]
TWITTER_SENTIMENT_PUB = PORT_REGISTRY["twitter_sentiment_pub"]
KRAKEN_EURUSD_DEPTH_PUB = PORT_REGISTRY["kraken_eurusd_depth_pub"]
OANDAV20_TICK_PUB = PORT_REGISTRY["oandav20_tick_pub"]
KRAKEN_INFLUXDB_TICK_SUB = PORT_REGISTRY["kraken_influxdb_tick_sub"]
KRAKEN_INFLUXDB_DEPTH_SUB = PORT_REGISTRY["kraken_influxdb_depth_sub"]
KRAKEN_PGSQL_TICK_SUB = PORT_REGISTRY["kraken_pgsql_tick_sub"]
OANDA_INFLUXDB_TICK_SUB = PORT_REGISTRY["oanda_influxdb_tick_sub"]
OANDA_PGSQL_TICK_SUB = PORT_REGISTRY["oanda_pgsql_tick_sub"]
TWITTER_INFLUXDB_SUB = PORT_REGISTRY["twitter_influxdb_sub"]
TWITTER_PGSQL_SUB = PORT_REGISTRY["twitter_pgsql_sub"]


def get_port_config(service_name: str) -> Optional[PortConfig]:
    return PORT_REGISTRY.get(service_name.lower())


def get_port(service_name: str) -> Optional[int]:
    config = get_port_config(service_name)
    return None if config is None else config.port


def list_ports() -> Dict[str, PortConfig]:
    return dict(PORT_REGISTRY)


def get_ports_by_type(service_type: str) -> Dict[str, PortConfig]:
    return {name: config for name, config in PORT_REGISTRY.items() if config.service_type == service_type}


def validate_port_uniqueness() -> bool:
    return len({config.port for config in PORT_REGISTRY.values()}) == len(PORT_REGISTRY)
