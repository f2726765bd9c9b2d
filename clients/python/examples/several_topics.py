"""Follow ticks, trades and the gap ledger at once, and say what was missed on the way."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--connect", help="address of the bus; default: by the register of ports")
args.add_argument("--requests", help="address of the requests port")
args.add_argument("--count", type=int, help="end after so many")
args = args.parse_args()

topics = ["kraken_tick", "trade.*", "gap"]
with tapedeck.subscribe(topics, connect=args.connect, requests=args.requests) as sub:
    for number, message in enumerate(sub, 1):
        if isinstance(message, tapedeck.Tick):
            print("tick ", message.instrument, message.bid, message.ask, flush=True)
        elif isinstance(message, tapedeck.Trade):
            print("trade", message.instrument, message.side, message.size, "at", message.price, flush=True)
        elif isinstance(message, tapedeck.Gap):
            print("gap  ", message.instrument, message.state, message.cause, flush=True)
        if number == args.count:
            break
    print("missed {}: {} came from the tape, {} are lost".format(sub.missed, sub.replayed, sub.lost))
