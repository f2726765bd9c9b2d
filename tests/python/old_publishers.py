"""Publishers as the predecessors had them, with what their bridge lost.

    old_publishers.py ADDRESS kraken|oanda|nan COUNT

Waits until everything is subscribed, sends COUNT messages as fast as it can, and stays until its standard input ends.
The number of a message is in its bid: 100000 and it for Kraken, 1 and it for OANDA. With `nan` the bid in the middle is none.
"""

import sys

import zmq

address, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = zmq.Context()
pub = context.socket(zmq.XPUB)
pub.setsockopt(zmq.SNDHWM, 0)
pub.setsockopt(zmq.LINGER, 0)
pub.bind(address)
while pub.recv() != b"\x01":
    pass

for number in range(count):
    if what == "oanda":
        fields = ["EUR_USD", "2026-01-05T10:00:00.{:09d}Z".format(number * 7 + 1), "1.{:05d}".format(number), "2.5"]
        pub.send_string("oanda_tick " + "\x01".join(fields))
        continue
    bid = "nan" if what == "nan" and number == count // 2 else "{}.5".format(100000 + number)
    # The bid is the fourth of the numbers; the whole lots behind it are what their bridge took for it.
    fields = ["XXBTZUSD", "52609.6", "1", "1.000", bid, "2", "3.000", "52609.6", "0.0042", "1920.8", "7954.0", "52389.9"]
    fields += ["51513.9", "23329", "80463", "51513.9", "51513.9", "53219.9", "57200.0", "52280.4"]
    pub.send_string("kraken_tick " + "\x01".join(fields))

print("sent", flush=True)
sys.stdin.read()
