"""The Python client against a deck with its store: history by SQL, points by HTTP, the predecessors' snippets.

    client_history.py TRADES

The deck is where TAPEDECK_SQL, TAPEDECK_DIR and TAPEDECK_URL say. Prints how many points of each name must be on the tape.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import tapedeck
from tapedeck import compat

TRADES = int(sys.argv[1])
EXAMPLES = Path(tapedeck.__file__).resolve().parent.parent / "examples"
points = Counter()


def same(what, found, wanted):
    assert found == wanted, "{}: {!r} is not {!r}".format(what, found, wanted)


def until(what, ask):
    deadline = time.monotonic() + 60
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def history():
    rows = until("trades in SQL", lambda: [
        row for row in tapedeck.query("select count(*) as n, max(seq) as last from trades", frame="dicts") if row["n"] == TRADES
    ])
    same("count", rows, [{"n": TRADES, "last": TRADES}])
    one = "select seq, symbol, price, size, side, ts_event from trades where seq = %s"
    [row] = tapedeck.query(one, [2], frame="dicts")
    assert row["price"].__class__ is Decimal and row["symbol"] == "BTC/USD", row
    same("an instant", row["ts_event"], datetime(2026, 7, 19, 12, 0, 0, 200_000))
    same("parameters", tapedeck.query("select count(*) as n from trades where symbol = %s and seq <= %s", ["ETH/USD", 100], frame="dicts"), [{"n": 50}])
    same("a % without parameters", tapedeck.query("select count(*) as n from trades where symbol like 'BTC%'", frame="dicts"), [{"n": TRADES // 2}])
    same("no rows", tapedeck.query("select seq from trades where seq < 0", frame="dicts"), [])
    some = "select seq, symbol, price, ts_recv from trades where seq <= 1000 order by seq"
    pandas, polars = tapedeck.query(some, frame="pandas"), tapedeck.query(some, frame="polars")
    same("columns", (list(pandas.columns), polars.columns), (["seq", "symbol", "price", "ts_recv"],) * 2)
    same("rows of frames", (len(pandas), polars.height), (1000, 1000))
    same("prices of frames", list(pandas["price"]), polars["price"].to_list())
    same("what is installed", type(tapedeck.query("select 1 as one")), type(pandas))
    for wrong in ("delete from trades", "select nothing from nowhere", "not sql at all"):
        try:
            tapedeck.query(wrong)
            raise AssertionError("answered: " + wrong)
        except AssertionError:
            raise
        except Exception as error:
            assert type(error).__module__.startswith("psycopg"), error
    try:
        tapedeck.query("select 1", password="wrong")
        raise AssertionError("let in")
    except Exception as error:
        assert "password authentication failed" in str(error) or "28P01" in str(error) or "authentication" in str(error), error


def candles():
    bounds = ("2026-07-19T12:10:00Z", "2026-07-19T12:20:00Z")
    read = lambda: tapedeck.candles("BTC/USD", "1m", *bounds, venue="kraken", input="trades", frame="dicts")
    found = until("candles of the deck", lambda: (lambda rows: rows if len(rows) == 10 else None)(read()))
    wanted = tapedeck.query(
        "select start, open, high, low, close, volume, trades from ohlc('BTC/USD', '1m', '2026-07-19T12:10:00', "
        "'2026-07-19T12:20:00') order by start",
        frame="dicts",
    )
    same("candles", [{key: row[key] for key in wanted[0]} for row in found], wanted)
    same("their flags", {(row["complete"], row["partial"], row["gap"], row["revision"]) for row in found}, {(True, False, False, 0)})
    assert tapedeck.candles("BTC/USD", "1m", datetime(2026, 7, 19, 12, 10), "2026-07-19T12:11:00Z", frame="polars").height == 1


def visible(name, count):
    ask = "select count(*) as n from points where name = %s"
    until(name + " in SQL", lambda: tapedeck.query(ask, [name], frame="dicts")[0]["n"] == count)
    points[name] = count


def write():
    same("one", tapedeck.write("signal", {"score": Decimal("0.750"), "n": 3, "ok": True, "note": "a b"}, tags={"instrument": "BTC/USD"}), 1)
    many = [tapedeck.Point("signals", {"value": n / 4}, {"instrument": "ETH/USD"}, 1767607200000000000 + n) for n in range(12_000)]
    same("many, in several requests", tapedeck.write(many), 12_000)
    visible("signal", 1)
    visible("signals", 12_000)
    [row] = tapedeck.query("select symbol, field_names, field_texts from points where name = 'signal'", frame="dicts")
    fields = dict(zip(row["field_names"], row["field_texts"]))
    same("a point", (row["symbol"], fields["note"], fields["n"]), ("BTC/USD", "a b", "3"))
    try:
        tapedeck.write("odd", {"value": 1}, url=os.environ["TAPEDECK_URL"] + "/nowhere", timeout=5)
        raise AssertionError("written to nowhere")
    except tapedeck.WriteError as error:
        same("its words", error.status, 404)


def predecessors():
    """The snippets of their documentation."""
    service = compat.InfluxDBService()
    assert service.client, "the deck answers its ping"
    tick = compat.TickData(instrument="EURUSD", bid=1.0856, ask=1.0858, base_ccy="EUR", term_ccy="USD")
    assert service.write_point(tick)
    assert service.flush(force=True)
    visible("tick", 1)
    latest = service.get_latest_tick("EURUSD")
    same("get_latest_tick", (latest["instrument"], latest["bid"], latest["ask"]), ("EURUSD", 1.0856, 1.0858))
    same("of nobody", service.get_latest_tick("XXXYYY"), None)
    service.close()

    with compat.create_service(compat.InfluxDBConfig(database="market_data", batch_size=100, timeout=15)) as service:
        assert service.write_points([
            compat.DepthData("EURUSD", bid_prices=[1.08, 1.07], bid_volumes=[1.0, 2.0], ask_prices=[1.09], ask_volumes=[3.0]),
            compat.OHLCData(instrument="EURUSD", open=1.085, high=1.086, low=1.0845, close=1.0858, volume=1000000, trades=7),
            compat.SentimentData(source="twitter", instrument="EURUSD", sentiment_score=0.5, text="up, \"they\" say"),
            {"measurement": "own", "tags": {"instrument": "EURUSD"}, "fields": {"v": 1}, "time": "2026-01-05T10:00:00.123456789Z"},
        ])
        told = [service.write_point(compat.TickData("EURUSD", float("nan") if n == 150 else 1.1, 1.2)) for n in range(300)]
        same("a NaN is refused alone", told.count(False), 1)
        assert service.flush(force=True)
        stats = service.get_stats()
        same("stats", (stats["total_writes"], stats["total_errors"], stats["buffered_points"], stats["connected"]), (303, 1, 0, True))
        same("databases", [entry["name"] for entry in service.client.get_list_database()][:1], ["market_data"])
        same("a query without an InfluxDB behind", service.query("SELECT * FROM tick"), None)
        hours = (time.time() - 1784462400) / 3600 + 24
        bars = service.get_ohlc("BTC/USD", hours=int(hours), interval="1m")
        assert len(bars) > 90 and bars[0]["start"] > bars[-1]["start"], len(bars)
    for name, count in (("tick", 300), ("depth", 1), ("ohlc", 1), ("sentiment", 1), ("own", 1)):
        visible(name, count)
    [row] = tapedeck.query("select ts_event::bigint as at from points where name = 'own'", frame="dicts")
    same("every digit of a time", row["at"], 1767607200123456789)
    # The points were just written: the newest of them is the newest tick.
    with compat.create_service() as service:
        same("the newest", service.get_latest_tick("EURUSD")["bid"], 1.1)


def example(name, *args):
    out = subprocess.run([sys.executable, str(EXAMPLES / (name + ".py")), *args], capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    return out.stdout.splitlines()


def examples():
    same("sql.py", [line.split()[:2] for line in example("sql")], [["BTC/USD", str(TRADES // 2)], ["ETH/USD", str(TRADES // 2)]])
    lines = example("candles", "ETH/USD", "--start", "2026-07-19T12:10:00Z", "--end", "2026-07-19T12:15:00Z")
    same("candles.py", len(lines), 5)
    same("write_points.py", example("write_points"), ["11 points are on the tape"])
    assert "written: 2" in example("influxdb_service")
    visible("model_signal", 11)
    visible("tick", 301)
    visible("ohlc", 2)


for part in (history, candles, write, predecessors, examples):
    part()
    print(part.__name__, "ok", file=sys.stderr, flush=True)
print(json.dumps({"points": points}))
