"""A bus on which everybody speaks his own form, with garbage between.

    client_mixed.py ADDRESS FIRST ROUNDS [TOPIC ...]

Waits until the topics are subscribed (without any: everything), sends the rounds, prints what it sent as one JSON line, and stays until its standard input ends.
Rounds are numbered from FIRST, and the number is in each price, so that what is missing can be named.
"""

import json
import sys

import msgpack
import zmq

address, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SOH = "\x01"
context = zmq.Context()
pub = context.socket(zmq.XPUB)
pub.setsockopt(zmq.SNDHWM, 0)
pub.setsockopt(zmq.LINGER, 0)
pub.bind(address)
awaited = {b"\x01" + topic.encode() for topic in sys.argv[4:] or [""]}
while awaited:
    awaited.discard(pub.recv())

sent = {"events": 0, "rejects": {}}


def send(frames, events=0, reject=None):
    pub.send_multipart(frames)
    sent["events"] += events
    if reject:
        sent["rejects"][reject] = sent["rejects"].get(reject, 0) + 1


def positional(bid):
    pair = [["52609.6", "1", "1.000"], [bid, "3", "3.000"], ["52609.6", "0.0042"], ["1920.8", "7954.0"]]
    pair += [["52389.9", "51513.9"], [23329, 80463], ["51513.9", "51513.9"], ["53219.9", "57200.0"], "52280.4"]
    return {"error": [], "result": {"XXBTZUSD": pair}}


def by_key(bid):
    pair = positional(bid)["result"]["XXBTZUSD"]
    return {"error": [], "result": {"XXBTZUSD": dict(zip("abcvptlho", pair))}}


def legacy(bid):
    fields = ["XXBTZUSD", "52609.6", "1", "1.000", bid, "3", "3.000", "52609.6", "0.0042", "1920.8", "7954.0", "52389.9"]
    fields += ["51513.9", "23329", "80463", "51513.9", "51513.9", "53219.9", "57200.0", "52280.4"]
    return ("kraken_tick " + SOH.join(fields)).encode()


def oanda(number, form):
    fields = ["EUR_USD", "2026-01-05T10:00:00.{:09d}Z".format(number * 10 + form), "1.08230", "1.08245"]
    return ("oanda_tick " + SOH.join(fields)).encode()


for number in range(first, first + rounds):
    # Each form has digits of its own behind the number.
    bid = ["{}.{}".format(number, form) for form in range(10)]
    send([legacy(bid[1])], 1)
    send([b"kraken_tick", msgpack.packb(positional(bid[2]))], 1)
    send([b"kraken_tick", msgpack.packb(by_key(bid[3]))], 1)
    send([b"kraken_tick " + msgpack.packb(by_key(bid[4]))], 1)
    # json.dumps of a body that was a JSON text already: one frame, no topic.
    send([json.dumps(json.dumps(by_key(bid[5]))).encode()], 1)
    send([b"kraken_tick", msgpack.packb({"instrument": "XBT/USD", "bid": float(bid[6]), "ask": 52609.6})], 1)
    send([oanda(number, 1)], 1)
    send([oanda(number, 1).replace(b"oanda_tick", b"EUR_USD")])
    send([b"kr_depth " + json.dumps({"error": [], "result": {"XXBTZUSD": {"asks": [["5.1", "1.106", 1]], "bids": [[bid[7], "0.3", 2]]}}}).encode()], 1)
    send([b"my_topic", msgpack.packb({"timestamp": 1767607200.5, "value": number})], 1)
    # A price that is none, and what is no message at all.
    send([legacy("nan")], reject="number")
    send([b"kraken_tick", msgpack.packb(positional("nan"))], reject="number")
    send([b"kraken_tick", b"\xc1\x00\xff"], reject="payload")
    send([b"kraken_tick", b'{"error":["EAPI:Rate limit exceeded"]}'], reject="venue error")
    send([b"\xff\xfe\x00", b"x"], reject="topic")
    send([b"kraken_tick a" + SOH.encode() + b"b"], reject="fields")
    send([b"a", b"b", b"c"], reject="frames")

print(json.dumps(sent), flush=True)
sys.stdin.read()
