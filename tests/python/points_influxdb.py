"""The package `influxdb` (1.x) as people use it: create the database, write points, batches, gzip; be told what is wrong."""

import sys

from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError

port = int(sys.argv[1])
client = InfluxDBClient(host="127.0.0.1", port=port, username="zmq", password="zmq", database="tick", timeout=30)
assert client.ping()
client.create_database("tick")
client.switch_database("tick")
assert {"name": "tick"} in client.get_list_database(), client.get_list_database()

base = 1_784_483_680
for unit, scale in (("s", 1), ("ms", 1_000), ("u", 1_000_000)):
    fields = {"bid": 62807.1, "count": 7, "open": True, "note": 'a "b", c=d é'}
    point = {
        "measurement": "tick",
        "tags": {"symbol": "BTC/USD", "unit": unit},
        # Seven units behind a thousand of them.
        "time": base * scale // 1_000 * 1_000 + 7,
        "fields": fields,
    }
    assert client.write_points([point], time_precision=unit)

many = [
    {"measurement": "tick", "tags": {"symbol": "ETH/USD"}, "time": base * 1_000 + n, "fields": {"n": n}}
    for n in range(1_000)
]
assert client.write_points(many, time_precision="ms", batch_size=300)

packed = InfluxDBClient(host="127.0.0.1", port=port, username="zmq", password="zmq", database="tick", gzip=True)
assert packed.write_points([dict(point, measurement="packed") for point in many[:500]], time_precision="ms")

try:
    client.write(["bad f=x", "tick2 f=1"], {"db": "tick"}, protocol="line")
    raise SystemExit("a bad line was taken")
except InfluxDBClientError as error:
    assert error.code == 400, error
    assert "partial write: unable to parse 'bad f=x': invalid boolean dropped=0" in str(error), error

try:
    client.query("SELECT * FROM tick")
    raise SystemExit("nobody answers queries")
except InfluxDBClientError as error:
    assert "no InfluxDB behind it" in str(error), error

stranger = InfluxDBClient(host="127.0.0.1", port=port, username="zmq", password="wrong", database="tick")
try:
    stranger.write_points(many[:1])
    raise SystemExit("a wrong password was taken")
except InfluxDBClientError as error:
    assert error.code == 401, error
print("done")
