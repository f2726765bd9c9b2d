"""What people write by hand: read a WebSocket, parse, commit to SQLite with synchronous = FULL.

Standard library only. Everything that has arrived is one transaction, so the disk sets the pace and
not the number of rows. Prints the quantiles of (committed - due), the due time being in each frame.
"""

import json
import sqlite3
import sys
import time

from venue_socket import due_ns, frames, subscribed


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, price REAL, qty REAL, side TEXT, ts TEXT)")
    sock, buffer = subscribed(port)
    late = []
    while True:
        received = sock.recv(1 << 20)
        if not received:
            break
        buffer += received
        rows = []
        for text in frames(buffer):
            message = json.loads(text)
            if message.get("channel") == "trade":
                for t in message["data"]:
                    rows.append((t["trade_id"], t["symbol"], t["price"], t["qty"], t["side"], t["timestamp"]))
        if not rows:
            continue
        db.execute("BEGIN")
        db.executemany("INSERT OR IGNORE INTO trades VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        now = time.time_ns()
        late.extend(now - due_ns(row[5]) for row in rows)
    late.sort()

    def q(share):
        return late[min(len(late) - 1, int(len(late) * share))] / 1e6

    if late:
        print(f"p50 {q(0.5):.2f} ms  p99 {q(0.99):.2f} ms  p99.9 {q(0.999):.2f} ms  max {late[-1] / 1e6:.2f} ms  {len(late)} recorded")
    else:
        print("nothing recorded")


main()
