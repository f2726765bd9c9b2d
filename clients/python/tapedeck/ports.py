"""Which topic is published where: the deck's register of ports (`tapedeck ports` prints the same)."""

from typing import Dict, List, Tuple

#: Everything, on one port.
EVERYTHING = 5572
#: Replay requests and last values.
REQUESTS = 5571

#: Topic, or family of topics (with a dot at its end), to the port that a client uses.
TOPICS: Dict[str, int] = {
    "kraken_tick": 5558,
    "kr_eurusd_tick": 5559,
    "kr_depth": 5560,
    "kraken_orders": 5561,
    "oanda_tick": 5562,
    "oanda_orders": 5563,
    "betfair_stream": 5564,
    "twitter_sentiment": 5565,
    "kr_eurusd_depth": 5566,
    "kite_tick": 5567,
    "trade.": 5568,
    "point.": 5568,
    "candle.": 5570,
    "gap": 5570,
    "status": 5570,
}

#: Other names of the predecessors, to the topic that the deck publishes.
ALIASES: Dict[str, str] = {
    "kraken_depth": "kr_depth",
    "kr_order_book": "kr_depth",
}


def normal(topic: str) -> str:
    """The topic as it is asked for: aliases become the real name, `trade.*` becomes the family `trade.`."""
    topic = topic.strip()
    if topic in ("", "*"):
        return ""
    topic = topic[:-1] if topic.endswith("*") else topic
    topic = ALIASES.get(topic, topic)
    return topic + "." if topic + "." in TOPICS else topic


def matches(wanted: str, topic: str) -> bool:
    """Whether a topic that arrives is one that was asked for: equal, or of the family."""
    return wanted == topic or wanted == "" or (wanted.endswith(".") and topic.startswith(wanted))


def port_of(topic: str) -> int:
    """Port of a topic; what has none of its own is on the port that carries everything."""
    topic = normal(topic)
    if topic in TOPICS:
        return TOPICS[topic]
    for family, port in TOPICS.items():
        if family.endswith(".") and topic.startswith(family):
            return port
    return EVERYTHING


def endpoints(topics: List[str], host: str = "127.0.0.1", port_offset: int = 0) -> List[Tuple[str, List[str]]]:
    """Addresses for these topics, each with the topics that are found there."""
    found: Dict[str, List[str]] = {}
    for topic in topics:
        address = "tcp://{}:{}".format(host, port_of(topic) + port_offset)
        found.setdefault(address, []).append(normal(topic))
    return list(found.items())
