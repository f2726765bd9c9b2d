"""Publish to receive as people write it: pyzmq and msgpack, a process a subscriber. Prints messages a second."""

import multiprocessing
import sys
import time

import msgpack
import zmq

COUNT = 100_000
TOPIC = b"trade.kraken"
MESSAGE = {
    "seq": 1, "prev": 0, "tape": "00000000-0000-0000-0000-000000000000", "ts_event": 1784483703207891000,
    "ts_recv": 1784483703258123456, "timestamp": 1784483703.207891, "instrument": "BTC/USD", "source": "kraken",
    "venue": "kraken", "price": 64528.1, "size": 0.0012344, "side": "buy", "id": "100320028",
}


def subscriber(address, ready, ended):
    socket = zmq.Context().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(address)
    socket.setsockopt(zmq.SUBSCRIBE, TOPIC)
    left = COUNT
    while left:
        _, payload = socket.recv_multipart()
        if not payload:
            ready.set()
        else:
            msgpack.unpackb(payload)
            left -= 1
    ended.put(time.time())


if __name__ == "__main__":
    subscribers, address = int(sys.argv[1]), sys.argv[2]
    socket = zmq.Context().socket(zmq.PUB)
    socket.setsockopt(zmq.SNDHWM, 1_000_000)
    socket.bind(address)
    ended = multiprocessing.Queue()
    ready = [multiprocessing.Event() for _ in range(subscribers)]
    processes = [multiprocessing.Process(target=subscriber, args=(address, event, ended)) for event in ready]
    for process in processes:
        process.start()
    while not all(event.is_set() for event in ready):
        socket.send_multipart([TOPIC, b""])
        time.sleep(0.001)
    start = time.time()
    for n in range(COUNT):
        MESSAGE["seq"], MESSAGE["prev"] = n + 2, n + 1
        socket.send_multipart([TOPIC, msgpack.packb(MESSAGE)])
    print(COUNT / (max(ended.get() for _ in processes) - start))
    for process in processes:
        process.join()
