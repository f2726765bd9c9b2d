"""The subscriber of that pipeline: what it hears goes to InfluxDB, PostgreSQL and QuestDB by their own clients, 500 at a time.

usage: stores_subscriber.py ADDRESS NAME COUNT INFLUX_PORT POSTGRES_DSN QUESTDB_ADDRESS
"""

import datetime
import sys

import msgpack
import psycopg
import zmq
from influxdb import InfluxDBClient
from questdb import Sender, TimestampNanos

BATCH = 500
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def main():
    address, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    influx = InfluxDBClient("127.0.0.1", int(sys.argv[4]))
    influx.create_database(name)
    influx.switch_database(name)
    postgres = psycopg.connect(sys.argv[5])
    questdb = Sender.from_conf(f"http::addr={sys.argv[6]};auto_flush=off;")
    questdb.establish()
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.setsockopt(zmq.RCVHWM, 1_000_000)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"trade.kraken")
    subscriber.connect(address)
    sql = f"INSERT INTO {name} VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
    heard, ticks = 0, []
    while heard < count:
        ticks.append(msgpack.unpackb(subscriber.recv_multipart()[1]))
        heard += 1
        if len(ticks) < BATCH and heard < count:
            continue
        influx.write_points(
            [
                {
                    "measurement": "trade",
                    "tags": {"exchange": "kraken", "instrument": tick["instrument"], "side": tick["side"]},
                    "fields": {"price": tick["price"], "size": tick["size"], "id": tick["id"]},
                    "time": tick["ts_event"],
                }
                for tick in ticks
            ],
            time_precision="n",
        )
        rows = [
            (
                EPOCH + datetime.timedelta(microseconds=tick["ts_event"] // 1000),
                tick["instrument"], tick["id"], tick["price"], tick["size"], tick["side"],
            )
            for tick in ticks
        ]
        with postgres.cursor() as cursor:
            cursor.executemany(sql, rows)
        postgres.commit()
        for tick in ticks:
            questdb.row(
                name,
                symbols={"instrument": tick["instrument"], "side": tick["side"]},
                columns={"price": tick["price"], "size": tick["size"], "id": tick["id"]},
                at=TimestampNanos(tick["ts_event"]),
            )
        questdb.flush()
        ticks.clear()
    questdb.close()


main()
