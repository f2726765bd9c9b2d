"""The publisher of a pipeline as people write it: a venue's JSON, unpacked, packed as MessagePack, published.

usage: stores_publisher.py PORT ADDRESS
"""

import json
import sys

import msgpack
import zmq
from venue_socket import due_ns, frames, subscribed

TOPIC = b"trade.kraken"


def main():
    port, address = int(sys.argv[1]), sys.argv[2]
    publisher = zmq.Context().socket(zmq.XPUB)
    publisher.setsockopt(zmq.SNDHWM, 1_000_000)
    publisher.bind(address)
    publisher.recv()  # somebody has subscribed
    sock, buffer = subscribed(port)
    while True:
        received = sock.recv(1 << 20)
        if not received:
            break
        buffer += received
        for text in frames(buffer):
            message = json.loads(text)
            if message.get("channel") != "trade":
                continue
            for trade in message["data"]:
                out = {
                    "instrument": trade["symbol"], "price": trade["price"], "size": trade["qty"],
                    "side": trade["side"], "id": trade["trade_id"], "ts_event": due_ns(trade["timestamp"]),
                }
                publisher.send_multipart([TOPIC, msgpack.packb(out)])
    # Until it is ended: what is in the queues goes out.
    publisher.recv()


main()
