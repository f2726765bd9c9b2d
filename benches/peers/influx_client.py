"""The Python client `influxdb`: points that are ready, 5,000 a request.

usage: influx_client.py ROWS PORT. A line on standard input is a database; the answer is how many seconds it took.
"""

import json
import sys
import time

from influxdb import InfluxDBClient


def point(row):
    seq, symbol, price, size, side, trade, ts_event, ts_recv = row
    return {
        "measurement": "kraken_trade",
        "tags": {"exchange": "kraken", "instrument": symbol, "side": side},
        "fields": {"price": float(price), "size": float(size), "id": trade, "seq": seq, "ts_event_ns": ts_event},
        "time": ts_event + seq % 1000,
    }


def main():
    with open(sys.argv[1]) as rows:
        points = [point(json.loads(row)) for row in rows]
    client = InfluxDBClient("127.0.0.1", int(sys.argv[2]))
    for line in sys.stdin:
        if line.strip() == "ready":
            print("yes", flush=True)
            continue
        client.switch_database(line.strip())
        begun = time.perf_counter()
        client.write_points(points, time_precision="n", batch_size=5_000)
        print(time.perf_counter() - begun, flush=True)


main()
