"""Candles of ticks, by polars: the second opinion of tests/it/candles/polars.rs.

Reads `time_ns,price,size` lines in the order of arrival from standard input; prints
`interval_ns,start_ns,open,high,low,close,volume,trades` for each interval of the arguments.
"""

import io
import sys

import polars as pl

ticks = pl.read_csv(
    io.StringIO(sys.stdin.read()), has_header=False, new_columns=["time", "price", "size"], schema_overrides=[pl.Int64] * 3
)
for interval in map(int, sys.argv[1:]):
    start = pl.col("time") - pl.col("time") % interval
    candles = ticks.group_by(start.alias("start"), maintain_order=True).agg(
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"),
        pl.col("size").sum().alias("volume"),
        pl.len().alias("trades"),
    )
    for row in candles.sort("start").iter_rows():
        print(interval, *row, sep=",")
