"""SQL over an archive: tapedeck-store as its users ask it, beside DuckDB and polars on the same files, alternately.

usage: sql.py TAPEDECK_STORE DIR [QUERY …]     DIR as `scripts/bench sql` makes it

Each side is a process of its own. Ours is asked over the PostgreSQL protocol by libpq; what is sent back is a line or 18, so
that the time is the engine's and not a client's. The answers of all sides must be equal. `rows` is ours alone: two million
rows to a client that looks at none of them.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from decimal import Decimal

ROUNDS = 5
SYMBOL = "ETH/XBT"
DAY = ("2026-07-20T00:00:00", "2026-07-21T00:00:00")
IN_DAY = f"symbol = '{SYMBOL}' and ts_recv >= timestamp '{DAY[0]}' and ts_recv < timestamp '{DAY[1]}'"
OHLC = (
    "select count(*), sum(open), sum(high), sum(low), sum(close), sum(volume) from (select symbol, "
    "date_trunc('minute', ts_event) as start, {first} as open, max(price) as high, min(price) as low, {last} as close, "
    "sum(size) as volume from trades {where} group by 1, 2) as candles"
)
LAST = "select symbol, {last}, max(seq) from trades group by symbol order by symbol"
QUERIES = {
    "day": f"select count(*), sum(size), min(price), max(price) from trades where {IN_DAY}",
    "ohlc_day": OHLC.replace("{where}", f"where {IN_DAY}"),
    "ohlc": OHLC.replace("{where}", ""),
    "last": LAST,
}
OURS = {"first": "first(price, seq)", "last": "last(price, seq)"}
DUCKDB = {"first": "arg_min(price, seq)", "last": "arg_max(price, seq)"}


def peak_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def plain(rows):
    """Numbers of any side as the same words."""
    def word(value):
        if value is None or isinstance(value, str):
            return value
        return f"{Decimal(str(value)):.10f}"
    return [[word(value) for value in row] for row in rows]


def duckdb_side(folder, threads):
    import duckdb

    db = duckdb.connect()
    if threads:
        db.execute(f"set threads = {threads}")
    db.execute(f"create view trades as select * from read_parquet('{folder}/archive/trades/*/*.parquet', hive_partitioning = false)")
    return lambda query: db.execute(QUERIES[query].format(**DUCKDB)).fetchall()


def polars_side(folder):
    import polars as pl

    trades = pl.scan_parquet(f"{folder}/archive/trades/*/*.parquet", hive_partitioning=False)
    bounds = [pl.lit(day).str.to_datetime(time_unit="ns") for day in DAY]
    in_day = (pl.col("symbol") == SYMBOL) & (pl.col("ts_recv") >= bounds[0]) & (pl.col("ts_recv") < bounds[1])
    price, size = pl.col("price"), pl.col("size")

    def ohlc(rows):
        candles = rows.group_by("symbol", pl.col("ts_event").dt.truncate("1m").alias("start")).agg(
            price.min_by("seq").alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.max_by("seq").alias("close"), size.sum().alias("volume"),
        )
        return candles.select(pl.len(), *(pl.col(name).sum() for name in ("open", "high", "low", "close", "volume")))

    plans = {
        "day": trades.filter(in_day).select(pl.len(), size.sum(), price.min().alias("min"), price.max().alias("max")),
        "ohlc_day": ohlc(trades.filter(in_day)),
        "ohlc": ohlc(trades),
        "last": trades.group_by("symbol").agg(price.max_by("seq"), pl.col("seq").max())
        .with_columns(pl.col("symbol").cast(pl.String)).sort("symbol"),
    }
    return lambda query: plans[query].collect(engine="streaming").rows()


def serve_side(name, folder):
    """A peer's process: a query's name in, seconds and answer out."""
    ask = polars_side(folder) if name == "polars" else duckdb_side(folder, 1 if name == "duckdb, 1 thread" else 0)
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        rows = ask(line.strip())
        took = time.perf_counter() - begun
        print(json.dumps({"took": took, "rows": plain(rows), "mib": peak_mib(os.getpid())}), flush=True)


class Peer:
    def __init__(self, name, folder):
        self.name = name
        command = [sys.executable, __file__, "--side", name, folder]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.child.stdout.readline() == "ready\n", f"{name} did not start"

    def ask(self, query):
        self.child.stdin.write(query + "\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline())
        self.mib = answer["mib"]
        return answer["took"], answer["rows"]

    def end(self):
        self.child.stdin.close()
        self.child.wait()


class Store:
    """tapedeck-store, started as the deck starts it."""

    name = "tapedeck"

    def __init__(self, program, folder):
        import psycopg

        config = {
            "dir": folder, "archive": f"{folder}/archive", "listen": "127.0.0.1:15433", "keep": {"default": None},
            # As shipped, but for the deadline.
            "limits": {"timeout_ms": 600_000},
        }
        self.child = subprocess.Popen([program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.child.stdin.write(json.dumps(config) + "\n")
        self.child.stdin.flush()
        for line in self.child.stdout:
            if "ready" in json.loads(line)["sql"]:
                break
        with open(f"{folder}/sql.password") as password:
            self.db = psycopg.connect(
                host="127.0.0.1", port=15433, user="tapedeck", dbname="tapedeck", password=password.read().strip(), autocommit=True
            )

    def ask(self, query):
        begun = time.perf_counter()
        rows = self.db.execute(QUERIES[query].format(**OURS)).fetchall()
        took = time.perf_counter() - begun
        self.mib = peak_mib(self.child.pid)
        return took, plain(rows)

    def rows(self, sql):
        """Seconds until the first row is there, until the last, and how many."""
        pg = self.db.pgconn
        begun = time.perf_counter()
        pg.send_query(sql.encode())
        pg.set_single_row_mode()
        first, count = None, 0
        while (result := pg.get_result()) is not None:
            assert result.status in (2, 9), result.error_message
            first = first or time.perf_counter() - begun
            count += result.ntuples
        self.mib = peak_mib(self.child.pid)
        return first, time.perf_counter() - begun, count

    def end(self):
        self.db.close()
        self.child.stdin.close()
        self.child.wait()


def spread(values):
    return f"{statistics.median(values):.2f} [{min(values):.2f} … {max(values):.2f}]"


def main(program, folder, names):
    peers = ("duckdb", "duckdb, 1 thread", "polars")
    for query in names:
        # Fresh processes a query, so that the peak is this query's.
        store = Store(program, folder)
        if query == "rows":
            told = [store.rows(f"select seq, ts_event, price, size, side, id from trades where {IN_DAY} limit 2000000") for _ in range(ROUNDS)]
            firsts, totals, counts = zip(*told)
            print(f"rows      {counts[0]:,} rows: first {spread(firsts)} s, last {spread(totals)} s, peak {store.mib:.0f} MiB", flush=True)
            store.end()
            continue
        sides = [store, *(Peer(name, folder) for name in peers)]
        times = {side.name: [] for side in sides}
        for nth in range(ROUNDS + 1):
            answers = {}
            for side in sides:
                took, answers[side.name] = side.ask(query)
                # The first round reads the files into the page cache.
                if nth:
                    times[side.name].append(took)
            for name, answer in answers.items():
                assert answer == answers["tapedeck"], f"{query}: {name} says {answer[:3]}, tapedeck {answers['tapedeck'][:3]}"
        print(f"{query:<9} tapedeck {statistics.median(times['tapedeck']):.3f} s, peak {store.mib:.0f} MiB", flush=True)
        for side in sides[1:]:
            ratios = [ours / theirs for ours, theirs in zip(times["tapedeck"], times[side.name])]
            print(f"{'':<9} {side.name} {statistics.median(times[side.name]):.3f} s, peak {side.mib:.0f} MiB; ours over theirs {spread(ratios)}", flush=True)
        for side in sides:
            side.end()


if __name__ == "__main__":
    if sys.argv[1] == "--side":
        serve_side(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3:] or [*QUERIES, "rows"])
