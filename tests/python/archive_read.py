"""Reads an archive as its users do, with polars and with DuckDB, and compares with what is on the tape.

usage: archive_read.py ARCHIVE EXPECTED.json
"""

import json
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl

archive, expected = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
MINUTE_NS = 60_000_000_000


def glob(table):
    return str(archive / table / "**" / "*.parquet")


def same(what, found, wanted):
    assert found == wanted, f"{what}: {found!r} is not {wanted!r}"


def number(text):
    """Decimals by value: a column has ten places, the tape as many as the venue wrote."""
    return None if text is None else Decimal(text)


def with_polars():
    for table, rows in expected["rows"].items():
        frame = pl.read_parquet(glob(table))
        same(f"polars: rows of {table}", frame.height, rows)
        same(f"polars: seqs of {table}", frame["seq"].n_unique(), rows)
    trades = pl.scan_parquet(glob("trades"))
    sums = trades.group_by("symbol").agg(pl.len().alias("rows"), pl.col("size").sum()).collect()
    found = {row["symbol"]: (row["rows"], row["size"]) for row in sums.iter_rows(named=True)}
    same("polars: sums", found, {symbol: (rows, number(size)) for symbol, rows, size in expected["sums"]})
    candles = (
        trades.with_columns((pl.col("ts_event").cast(pl.Int64) // MINUTE_NS * MINUTE_NS).alias("start"))
        .sort("seq")
        .group_by("symbol", "start")
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("size").sum().alias("volume"),
        )
        .collect()
    )
    same("polars: candles", by_key(candles.rows()), wanted_candles())
    exact = pl.read_parquet(glob("trades")).filter(pl.col("exact").is_not_null())
    found = [(seq, price, json.loads(text)["price"]) for seq, price, text in exact.select("seq", "price", "exact").rows()]
    same("polars: what does not fit", found, [(seq, None, text) for seq, text in expected["exact"]])
    book = pl.read_parquet(glob("books")).sort("seq").row(0, named=True)
    levels = [[str(level["price"].normalize()), str(level["size"].normalize())] for level in book["bids"]]
    same("polars: levels of a book", levels, expected["bids"])
    point = pl.read_parquet(glob("points")).sort("seq").row(0, named=True)
    same("polars: a point", dict(zip(point["field_names"], point["field_texts"])), expected["point"])


def with_duckdb():
    db = duckdb.connect()
    for table, rows in expected["rows"].items():
        # Every column is read, whatever is in it.
        counts = db.sql(f"select count(*), count(distinct seq), count(columns(*)) from read_parquet('{glob(table)}')")
        counts = counts.fetchall()[0]
        same(f"duckdb: rows of {table}", counts[:2], (rows, rows))
    db.sql(f"create view trades as from read_parquet('{glob('trades')}', hive_partitioning = true)")
    sums = db.sql("select symbol, count(*), sum(size) from trades group by symbol").fetchall()
    found = {symbol: (rows, size) for symbol, rows, size in sums}
    same("duckdb: sums", found, {symbol: (rows, number(size)) for symbol, rows, size in expected["sums"]})
    candles = db.sql(
        f"""select symbol, epoch_ns(ts_event) // {MINUTE_NS} * {MINUTE_NS} as start, first(price order by seq),
                   max(price), min(price), last(price order by seq), sum(size)
            from trades group by symbol, start"""
    )
    same("duckdb: candles", by_key(candles.fetchall()), wanted_candles())
    days = db.sql("select distinct date::varchar from trades order by 1").fetchall()
    same("duckdb: days", [day for (day,) in days], expected["days"])
    buckets = db.sql("select count(distinct time_bucket(interval '1 minute', ts_event)) from trades").fetchall()[0]
    same("duckdb: time_bucket works on the times", buckets[0], len({start for _, start, *_ in expected["candles"]}))
    bids = db.sql(f"select unnest(bids, recursive := true) from read_parquet('{glob('books')}') order by seq limit 1")
    same("duckdb: a level of a book", bids.fetchall()[0][0].normalize(), Decimal(expected["bids"][0][0]))


def by_key(rows):
    return {(symbol, start): tuple(rest) for symbol, start, *rest in rows}


def wanted_candles():
    return {(symbol, start): tuple(number(text) for text in rest) for symbol, start, *rest in expected["candles"]}


with_polars()
with_duckdb()
print(f"{sum(expected['rows'].values())} rows agree")
