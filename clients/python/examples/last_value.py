"""Ask for the newest message of a topic, without waiting for the next one."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("topic", nargs="?", default="kraken_tick")
args.add_argument("--requests", help="address of the requests port")
args = args.parse_args()

message = tapedeck.last(args.topic, connect=args.requests)
print("nothing yet" if message is None else message.data)
