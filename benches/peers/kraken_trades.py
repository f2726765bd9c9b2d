"""The past of a pair, page by page, into SQLite: what people write by hand.

    kraken_trades.py URL PAIR SINCE_NS UNTIL_NS FILE

Each page is durable before the next one is asked for, and a trade is stored once, as in the recorder beside it.
"""

import http.client
import json
import sqlite3
import sys
import urllib.parse


def main():
    url, pair, since, until, path = sys.argv[1:]
    since, until = int(since), int(until)
    address = urllib.parse.urlparse(url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE trade (id INTEGER PRIMARY KEY, ts REAL, price TEXT, qty TEXT, side TEXT, kind TEXT)")
    while since < until:
        connection.request("GET", f"/0/public/Trades?pair={pair}&since={since}")
        answer = json.loads(connection.getresponse().read())
        if answer["error"]:
            sys.exit(f"refused: {answer['error']}")
        result = answer["result"]
        last = int(result.pop("last"))
        rows = next(iter(result.values()))
        trades = [(row[6], row[2], row[0], row[1], row[3], row[4]) for row in rows if row[2] * 1e9 <= until]
        with db:
            db.executemany("INSERT OR IGNORE INTO trade VALUES (?, ?, ?, ?, ?, ?)", trades)
        if len(rows) < 1000 or last <= since:
            break
        since = last
    print(db.execute("SELECT count(*) FROM trade").fetchone()[0])


main()
