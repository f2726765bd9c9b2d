"""Read a day's candles, and leave out those that a gap overlaps."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("symbol", nargs="?", default="BTC/USD")
args.add_argument("--interval", default="1m")
args.add_argument("--start", help="e.g. 2026-01-05 or 2026-01-05T10:00:00Z")
args.add_argument("--end")
args.add_argument("--dir", help="the deck's folder, where sql.password lies")
args = args.parse_args()

for candle in tapedeck.candles(args.symbol, args.interval, args.start, args.end, frame="dicts", dir=args.dir):
    if not candle["gap"]:
        print(candle["start"], candle["open"], candle["high"], candle["low"], candle["close"], candle["volume"])
