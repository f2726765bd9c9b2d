"""Ask the tape and its archive in SQL: how many trades of each symbol, and at which prices."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--dir", help="the deck's folder, where sql.password lies")
args = args.parse_args()

rows = tapedeck.query(
    "select symbol, count(*) as trades, min(price) as low, max(price) as high from trades group by symbol order by symbol",
    frame="dicts",
    dir=args.dir,
)
for row in rows:
    print(row["symbol"], row["trades"], row["low"], row["high"])
