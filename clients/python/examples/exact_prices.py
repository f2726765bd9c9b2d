"""Sum traded value in exact decimals instead of floats."""

import argparse
from decimal import Decimal

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--connect", help="address of the bus; default: by the register of ports")
args.add_argument("--requests", help="address of the requests port")
args.add_argument("--count", type=int, help="end after so many")
args = args.parse_args()

total = Decimal(0)
with tapedeck.subscribe("trade.*", connect=args.connect, requests=args.requests, decimals=True) as trades:
    for number, trade in enumerate(trades, 1):
        total += trade.price * trade.size
        print(trade.instrument, trade.price, "x", trade.size, "total", total, flush=True)
        if number == args.count:
            break
