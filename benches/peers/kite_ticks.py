"""The peer of bench-kite: the parser of kiteconnect, fed with a frame that is ready.

Usage: kite_ticks.py FILE. For each line N on standard input parses as many frames as hold N packets, and says `done`.
"""

import sys

from kiteconnect import KiteTicker

with open(sys.argv[1], "rb") as file:
    frame = file.read()
# Its `__init__` only prepares a connection.
parse = KiteTicker("key", "token")._parse_binary
packets = len(parse(frame))
print("ready", flush=True)
for ask in sys.stdin:
    for _ in range(-(-int(ask) // packets)):
        parse(frame)
    print("done", flush=True)
