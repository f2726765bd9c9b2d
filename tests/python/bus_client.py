"""Subscribers of the bus for the tests, as people write them: pyzmq, msgpack, and nothing of ours.

    bus_client.py subscribe ADDRESS TOPIC COUNT       prints each message as a line of JSON
    bus_client.py keep ADDRESS REQUESTS TOPIC FILE     appends every seq of a topic to FILE, asks for what it missed
    bus_client.py slow ADDRESS REQUESTS TOPIC          reads one message, waits for a line of input, reads on
    bus_client.py ask REQUESTS JSON                    sends a request, prints the answer
    bus_client.py curve ADDRESS TOPIC SERVER CERTIFICATE   subscribes with keys
"""

import json
import sys

import msgpack
import zmq

CONTEXT = zmq.Context.instance()


def say(**values):
    print(json.dumps(values, default=lambda value: value.hex() if isinstance(value, bytes) else str(value)), flush=True)


def subscriber(address, topic):
    socket = CONTEXT.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(address)
    socket.setsockopt_string(zmq.SUBSCRIBE, topic)
    return socket


def decoded(frames):
    """A payload in whatever form it has."""
    if len(frames) == 1:
        return frames[0].decode("utf-8").partition(" ")[2].split("\x01")
    if frames[1][:1] == b"{":
        return json.loads(frames[1].decode("utf-8"))
    return msgpack.unpackb(frames[1], raw=False, strict_map_key=False)


def subscribe(address, topic, count):
    socket = subscriber(address, topic)
    say(ready=True)
    for _ in range(int(count)):
        frames = socket.recv_multipart()
        say(frames=len(frames), topic=frames[0].decode("utf-8").partition(" ")[0], payload=frames[-1].hex(), data=decoded(frames))


def ask(requests, request):
    """The messages of an answer, as maps, and its end."""
    requests.send(msgpack.packb(request, use_bin_type=True))
    messages = []
    while True:
        head, payload = requests.recv_multipart()
        if head in (b"end", b"error"):
            return messages, (head.decode(), msgpack.unpackb(payload, raw=False))
        messages.append((head.decode(), payload))


def dealer(address):
    socket = CONTEXT.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(address)
    return socket


def seq_of(payload):
    return msgpack.unpackb(payload, raw=False)["seq"]


def fetch(requests, topic, first, last):
    """Every seq of a topic in a range, in as many answers as it takes."""
    seqs = []
    while True:
        messages, (head, end) = ask(requests, [topic, first, last])
        assert head == "end", end
        assert end["count"] == len(messages), end
        seqs += [seq_of(payload) for _, payload in messages]
        if "next" not in end:
            return seqs
        first = end["next"]


def keep(address, requests_address, topic, path):
    try:
        with open(path) as file:
            seqs = [int(line) for line in file.read().splitlines()]
    except FileNotFoundError:
        seqs = []
    last = seqs[-1] if seqs else None
    socket, requests = subscriber(address, topic), dealer(requests_address)
    socket.setsockopt_string(zmq.SUBSCRIBE, "heartbeat")
    with open(path, "a") as file:
        while True:
            head, payload = socket.recv_multipart()
            data = msgpack.unpackb(payload, raw=False)
            if head == b"heartbeat":
                prev = data["last"].get(topic)
                seq = None
            elif head.decode() == topic:
                prev, seq = data["prev"], data["seq"]
            else:
                continue
            missed = []
            if last is not None and prev is not None and prev > last:
                missed = fetch(requests, topic, last + 1, prev)
                say(missed=len(missed), after=last, before=prev)
            for found in missed + ([seq] if seq is not None and (last is None or seq > last) else []):
                file.write("%d\n" % found)
                last = found
            file.flush()


def slow(address, requests_address, topic):
    socket = CONTEXT.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.connect(address)
    socket.setsockopt_string(zmq.SUBSCRIBE, topic)
    requests = dealer(requests_address)
    seqs = [seq_of(socket.recv_multipart()[1])]
    say(first=seqs[0])
    sys.stdin.readline()
    while True:
        data = msgpack.unpackb(socket.recv_multipart()[1], raw=False)
        if data["prev"] != seqs[-1]:
            missed = fetch(requests, topic, seqs[-1] + 1, data["prev"])
            say(seqs=seqs + missed + [data["seq"]], missed=len(missed))
            return
        seqs.append(data["seq"])


def asked(requests_address, request):
    messages, (head, end) = ask(dealer(requests_address), json.loads(request))
    for topic, payload in messages:
        say(topic=topic, payload=payload.hex(), data=decoded([topic.encode(), payload]))
    say(head=head, end=end)


def curve(address, topic, server, certificate):
    import zmq.auth

    public, secret = zmq.auth.load_certificate(certificate)
    socket = CONTEXT.socket(zmq.SUB)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = server.encode()
    socket.connect(address)
    socket.setsockopt_string(zmq.SUBSCRIBE, topic)
    say(ready=True)
    frames = socket.recv_multipart()
    say(topic=frames[0].decode(), data=decoded(frames))


if __name__ == "__main__":
    verbs = {"subscribe": subscribe, "keep": keep, "slow": slow, "ask": asked, "curve": curve}
    verbs[sys.argv[1]](*sys.argv[2:])
    CONTEXT.destroy(0)
