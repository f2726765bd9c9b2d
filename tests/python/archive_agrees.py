"""polars and DuckDB on the archive's files against `tapedeck query`, on one recording.

    archive_agrees.py PROGRAM DIR TRADES

What lies in files is compared as the three read it; what is only in the tail by yet, by `query` alone.
"""

import json
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl

program, deck, trades = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
FILES = str(deck / "archive" / "trades" / "**" / "*.parquet")
MINUTE_NS = 60_000_000_000
EXACT = pl.Decimal(38, 10)


def query(sql):
    """The answer as a frame, with its types: by way of a Parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "answer.parquet")
        command = [program, "query", "--dir", str(deck), "--format", "parquet", "--out", file, sql]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return pl.read_parquet(file)


def rows(frame):
    """Values as Python has them: exact decimals by value, instants in ns, text however it was encoded."""
    plain = frame.with_columns(
        pl.col(pl.Datetime).cast(pl.Datetime("ns")).cast(pl.Int64), pl.col(pl.Categorical).cast(pl.String)
    )
    return plain.rows()


def same(what, *found):
    for other in found[1:]:
        assert found[0] == other, "{}: {} rows and {}: {!r} is not {!r}".format(
            what, len(found[0]), len(other), *next(((a, b) for a, b in zip(found[0], other) if a != b), ("…", "…"))
        )
    assert found[0], what + ": nothing was compared"


files = pl.scan_parquet(FILES)
duck = duckdb.connect()
duck.sql("create view trades as from read_parquet('{}')".format(FILES))
last, in_files = files.select(pl.col("seq").max(), pl.len().alias("n")).collect().row(0)
assert query("select count(*) as n from trades").item() == trades, "files and tail"
assert in_files < trades, "there is a tail"

# Counts, sums, extremes.
SUMS = """select symbol, count(*) as n, sum(price) as prices, sum(size) as sizes, min(price) as low, max(price) as high,
          min(seq) as first, max(seq) as last, max(ts_event) as newest from trades where seq <= {} group by symbol order by symbol"""
by_query = query(SUMS.format(last))
by_polars = (
    files.group_by("symbol")
    .agg(
        pl.len().cast(pl.Int64).alias("n"),
        pl.col("price").cast(EXACT).sum().alias("prices"),
        pl.col("size").cast(EXACT).sum().alias("sizes"),
        pl.col("price").min().alias("low"),
        pl.col("price").max().alias("high"),
        pl.col("seq").min().alias("first"),
        pl.col("seq").max().alias("last"),
        pl.col("ts_event").max().alias("newest"),
    )
    .with_columns(pl.col("symbol").cast(pl.String))
    .sort("symbol")
    .collect()
)
by_duck = duck.sql(SUMS.format(last).replace("max(ts_event)", "epoch_ns(max(ts_event))")).fetchall()
same("sums", rows(by_query), rows(by_polars), by_duck)
assert by_query["n"].sum() == in_files

# Candles by time_bucket.
CANDLES = """select symbol, {time} as start, first(price {by}seq) as open, max(price) as high, min(price) as low,
             last(price {by}seq) as close, sum(size) as volume, count(*) as trades
             from trades where seq <= {last} group by 1, 2 order by 1, 2"""
by_query = query(CANDLES.format(time="time_bucket('1 minute', ts_event)", by="", last=last).replace("price seq", "price, seq"))
by_duck = duck.sql(
    CANDLES.format(time="epoch_ns(time_bucket(interval '1 minute', ts_event))", by="order by ", last=last)
).fetchall()


def candles(frame):
    return (
        frame.with_columns((pl.col("ts_event").cast(pl.Int64) // MINUTE_NS * MINUTE_NS).alias("start"))
        .sort("seq")
        .group_by("symbol", "start")
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("size").cast(EXACT).sum().alias("volume"),
            pl.len().cast(pl.Int64).alias("trades"),
        )
        .with_columns(pl.col("symbol").cast(pl.String))
        .sort("symbol", "start")
        .collect()
    )


by_polars = candles(files)
same("candles by time_bucket", rows(by_query), rows(by_polars), by_duck)

# Candles by ohlc, of the minutes that are in files as a whole.
compared = len(by_duck)
whole = max(start for _, start, *_ in by_duck)
for symbol in ("BTC/USD", "ETH/USD"):
    answer = query(
        "select start, open, high, low, close, volume, trades, vwap from ohlc('{}', '1m', '1970-01-01T00:00:00', "
        "to_timestamp_nanos({})) order by start".format(symbol, whole)
    )
    wanted = by_polars.filter((pl.col("symbol") == symbol) & (pl.col("start") < whole)).drop("symbol")
    same("ohlc of " + symbol, rows(answer.drop("vwap")), rows(wanted))
    notional = duck.sql(
        "select epoch_ns(time_bucket(interval '1 minute', ts_event)) as start, "
        "list(price order by seq), list(size order by seq) from trades where symbol = '{}' group by 1 order by 1".format(symbol)
    ).fetchall()
    exact = [
        sum(price * size for price, size in zip(prices, sizes)) / sum(sizes)
        for start, prices, sizes in notional
        if start < whole
    ]
    for told, computed in zip(answer["vwap"], exact):
        assert abs(told - computed) <= Decimal("0.0000000001"), (symbol, told, computed)
    compared += len(wanted)

print(json.dumps({"rows": in_files, "candles": compared}))
