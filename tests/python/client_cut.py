"""Misses more messages of a deck than it gives in one answer, and gets all of them.

    client_cut.py OFFSET COUNT

Prints, as JSON, how many messages each answer held, whether it said where to go on, and what a subscriber saw that resumes.
"""

import json
import sys

import tapedeck

offset, count = int(sys.argv[1]), int(sys.argv[2])
TOPIC = "point.spread"
address = "tcp://127.0.0.1:{}".format(tapedeck.REQUESTS + offset)

with tapedeck.subscribe(TOPIC, port_offset=offset) as sub:
    first = None
    while first is None:
        tapedeck.write("spread", {"n": -1})
        first = sub.get(timeout=1)
    while True:
        more = sub.get(timeout=1)
        if more is None:
            break
        first = more
    position = sub.position

# Nobody listens while these come.
tapedeck.write([tapedeck.Point("spread", {"n": n}) for n in range(count)], timeout=120)
last = tapedeck.last(TOPIC, connect=address).seq
while tapedeck.last(TOPIC, connect=address)["fields"]["n"] != count - 1:
    pass
last = tapedeck.last(TOPIC, connect=address).seq

answers, prev, asked, numbers = [], first.seq, first.seq + 1, []
with tapedeck.Requests(address, timeout=60) as requests:
    while True:
        answer = requests.range(TOPIC, asked, last)
        got = 0
        while True:
            try:
                _, data = next(answer)
            except StopIteration as end:
                marker = end.value
                break
            assert data["prev"] == prev, data
            prev, got = data["seq"], got + 1
            numbers.append(data["fields"]["n"])
        assert marker["count"] == got, marker
        answers.append([got, "next" in marker])
        if "next" not in marker:
            break
        asked = marker["next"]
assert numbers == list(range(count)), "in order, none missing"

numbers = []
with tapedeck.subscribe(TOPIC, port_offset=offset, resume=position) as sub:
    while len(numbers) < count:
        message = sub.get(timeout=60)
        assert message is not None, "{} messages, then silence".format(len(numbers))
        assert message.replayed, message
        numbers.append(message["fields"]["n"])
    resumed = [sub.replayed, sub.lost, sub.duplicates]
assert numbers == list(range(count)), "in order, none missing"

print(json.dumps({"answers": answers, "resumed": resumed}))
