"""The Python client against a running deck.

    client_deck.py OFFSET RECEIVE [KILL]

Subscribes trades and ticks, receives that many messages, and prints what came as one JSON line. With KILL, the pid of the
bus process, it kills that after a third of them, and goes on: nothing may be missing.
"""

import json
import os
import signal
import sys

import tapedeck

offset, wanted = int(sys.argv[1]), int(sys.argv[2])
victim = int(sys.argv[3]) if len(sys.argv) > 3 else None
seen = {}
prices = 0
with tapedeck.subscribe(["kraken_tick", "trade.*"], port_offset=offset, decimals=True) as sub:
    print(json.dumps({"state": "subscribed"}), flush=True)
    for number in range(wanted):
        message = sub.get(timeout=60)
        if message is None:
            raise SystemExit("{} of {} messages, then silence".format(number, wanted))
        seen.setdefault(message.topic, []).append(message.seq)
        if isinstance(message, tapedeck.Trade):
            prices += message.price > 0 and message.size > 0
        if victim is not None and number == wanted // 3:
            os.kill(victim, signal.SIGKILL)
    last = tapedeck.last("trade.kraken", connect="tcp://127.0.0.1:{}".format(tapedeck.REQUESTS + offset))
    print(
        json.dumps(
            {
                "seen": seen,
                "prices": prices,
                "missed": sub.missed,
                "replayed": sub.replayed,
                "lost": sub.lost,
                "duplicates": sub.duplicates,
                "holes": sub.holes,
                "last": last.seq,
            }
        ),
        flush=True,
    )
