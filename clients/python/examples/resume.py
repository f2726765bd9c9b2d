"""Go on where the last run ended: nothing is missed and nothing comes twice, however long the pause was."""

import argparse
import json
import os

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--connect", help="address of the bus; default: by the register of ports")
args.add_argument("--requests", help="address of the requests port")
args.add_argument("--count", type=int, help="end after so many")
args.add_argument("--state", default="position.json", help="file that holds where it stands")
args = args.parse_args()


def load():
    try:
        with open(args.state, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def save(position):
    with open(args.state + ".new", "w", encoding="utf-8") as file:
        json.dump(position, file)
    os.replace(args.state + ".new", args.state)


with tapedeck.subscribe("kraken_tick", connect=args.connect, requests=args.requests, resume=load()) as ticks:
    for number, tick in enumerate(ticks, 1):
        print(tick.seq, tick.instrument, tick.bid, "(from the tape)" if tick.replayed else "", flush=True)
        # After the work is done, never before.
        save(ticks.position)
        if number == args.count:
            break
