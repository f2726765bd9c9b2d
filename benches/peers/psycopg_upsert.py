"""psycopg: rows that are ready, COPY into a temporary table and an upsert from there, 5,000 a transaction.

usage: psycopg_upsert.py ROWS DSN TAPE. The answer to `go` is how many seconds it took.
"""

import datetime
import decimal
import json
import sys
import time
import uuid

import psycopg

BATCH = 5_000
COLUMNS = (
    "seq, tape_id, ts_event, ts_event_ns, ts_recv, ts_recv_ns, source, venue, symbol, flags, price, size, side, id"
)
SET = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ") if name not in ("ts_recv", "tape_id", "seq"))
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def instant(ns):
    return EPOCH + datetime.timedelta(microseconds=ns // 1000), ns % 1000 or None


def ready(line, tape):
    seq, symbol, price, size, side, trade, ts_event, ts_recv = json.loads(line)
    price, size = decimal.Decimal(price), decimal.Decimal(size)
    return (seq, tape, *instant(ts_event), *instant(ts_recv), "kraken", "kraken", symbol, 0, price, size, side, trade)


def main():
    path, dsn, tape = sys.argv[1:]
    with open(path) as lines:
        rows = [ready(line, uuid.UUID(tape)) for line in lines]
    db = psycopg.connect(dsn)
    db.execute("CREATE TEMP TABLE staged (LIKE peer INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
    db.commit()
    for line in sys.stdin:
        if line.strip() == "ready":
            print("yes", flush=True)
            continue
        begun = time.perf_counter()
        for at in range(0, len(rows), BATCH):
            with db.cursor() as cursor:
                with cursor.copy(f"COPY staged ({COLUMNS}) FROM STDIN") as copy:
                    for row in rows[at : at + BATCH]:
                        copy.write_row(row)
                cursor.execute(
                    f"INSERT INTO peer ({COLUMNS}) SELECT {COLUMNS} FROM staged "
                    f"ON CONFLICT (ts_recv, tape_id, seq) DO UPDATE SET {SET}"
                )
            db.commit()
        print(time.perf_counter() - begun, flush=True)


main()
