"""The peer of bench-betfair: betfairlightweight's listener with dictionaries, fed with lines that are ready.

Usage: betfair_dicts.py FILE. The first line begins; then, for each line N on standard input, takes N of the others, again
and again, and says `done`. What it puts into its queue is dropped.
"""

import logging
import sys

from betfairlightweight.streaming.listener import StreamListener

logging.disable(logging.CRITICAL)


class Nobody:
    def put(self, books):
        pass


with open(sys.argv[1]) as file:
    lines = file.read().splitlines()
listener = StreamListener(output_queue=Nobody(), max_latency=None, lightweight=True)
listener.register_stream(1, "marketSubscription")
listener.on_data(lines[0])
assert len(listener.snap()) == 1
print("ready", flush=True)
at = 0
for ask in sys.stdin:
    for _ in range(int(ask)):
        at = at + 1 if at + 1 < len(lines) else 1
        listener.on_data(lines[at])
    print("done", flush=True)
