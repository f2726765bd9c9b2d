"""Print the spread of every Kraken tick: the shortest subscriber there is."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--connect", help="address of the bus; default: by the register of ports")
args.add_argument("--requests", help="address of the requests port")
args.add_argument("--count", type=int, help="end after so many")
args = args.parse_args()

with tapedeck.subscribe("kraken_tick", connect=args.connect, requests=args.requests) as ticks:
    for number, tick in enumerate(ticks, 1):
        if tick.bid is not None and tick.ask is not None:
            print(tick.instrument, tick.bid, tick.ask, "spread", round(tick.ask - tick.bid, 10), flush=True)
        if number == args.count:
            break
