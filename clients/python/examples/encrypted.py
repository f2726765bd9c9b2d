"""Read an encrypted bus on another host: the deck's public key, and a pair of one's own."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("server_key", help="the deck's public key, 40 characters")
args.add_argument("--host", default="127.0.0.1")
args.add_argument("--connect", help="address of the bus; default: by the register of ports")
args.add_argument("--public", help="public key of this client, where the deck admits only known ones")
args.add_argument("--secret", help="its secret key")
args.add_argument("--count", type=int, help="end after so many")
args = args.parse_args()

curve = tapedeck.Curve(args.server_key, args.public, args.secret)
with tapedeck.subscribe("kraken_tick", host=args.host, connect=args.connect, curve=curve) as ticks:
    for number, tick in enumerate(ticks, 1):
        print(tick.instrument, tick.bid, tick.ask, flush=True)
        if number == args.count:
            break
