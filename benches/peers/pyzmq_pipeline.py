"""From a venue's socket to a subscriber as people write it: json, msgpack, pyzmq; nothing goes to a disk.

usage: pyzmq_pipeline.py PORT ADDRESS. Sends empty messages until a line on standard input says that they are heard.
"""

import json
import sys
import threading
import time

import msgpack
import zmq
from venue_socket import due_ns, frames, subscribed

TOPIC = b"trade.kraken"


def main():
    port, address = int(sys.argv[1]), sys.argv[2]
    publisher = zmq.Context().socket(zmq.PUB)
    publisher.setsockopt(zmq.SNDHWM, 1_000_000)
    publisher.bind(address)
    heard = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), heard.set()), daemon=True).start()
    while not heard.is_set():
        publisher.send_multipart([TOPIC, b""])
        time.sleep(0.001)
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
    # What is in the queues goes out.
    time.sleep(0.5)


main()
