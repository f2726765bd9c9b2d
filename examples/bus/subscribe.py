"""A subscriber that misses nothing: it sees a hole in `prev`, asks for what is missing, and prints all of it in order.

    python subscribe.py [topic] [port] [count]

Needs pyzmq and msgpack, and a deck with `[bus]` in its config.
"""

import sys

import msgpack
import zmq

topic = sys.argv[1] if len(sys.argv) > 1 else "kraken_tick"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 5558
count = int(sys.argv[3]) if len(sys.argv) > 3 else 0
offset = port - 5558 if topic == "kraken_tick" else 0

context = zmq.Context()
socket = context.socket(zmq.SUB)
socket.connect("tcp://127.0.0.1:%d" % port)
socket.setsockopt_string(zmq.SUBSCRIBE, topic)

requests = context.socket(zmq.DEALER)
requests.setsockopt(zmq.RCVHWM, 200000)
requests.connect("tcp://127.0.0.1:%d" % (5571 + offset))


def missed(first, last):
    """The messages of the topic from one seq to another, from the tape."""
    requests.send(msgpack.packb([topic, first, last]))
    while True:
        head, payload = requests.recv_multipart()
        if head in (b"end", b"error"):
            return
        yield msgpack.unpackb(payload)


last = None
printed = 0
while count == 0 or printed < count:
    head, payload = socket.recv_multipart()
    if head.decode() != topic:
        continue
    message = msgpack.unpackb(payload)
    if last is not None and message["prev"] != last:
        for found in missed(last + 1, message["prev"]):
            print("missed", found, flush=True)
    print(message, flush=True)
    last = message["seq"]
    printed += 1

context.destroy(0)
