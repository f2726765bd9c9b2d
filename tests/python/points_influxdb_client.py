"""The package `influxdb-client` (2.x) as people use it: synchronous writes, batches in the background, errors, health."""

import sys

from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.write_api import SYNCHRONOUS

url = f"http://127.0.0.1:{sys.argv[1]}"
failed = []
with InfluxDBClient(url=url, token="my-token", org="desk", enable_gzip=True) as client:
    assert client.ping()
    assert client.health().status == "pass"
    write = client.write_api(write_options=SYNCHRONOUS)
    write.write(bucket="tick", record=Point("sync").tag("symbol", "BTC/USD").field("bid", 62807.1).time(1, WritePrecision.S))
    write.write(bucket="tick", record="sync,symbol=ETH/USD bid=1845.27 2", write_precision=WritePrecision.MS)
    write.write(bucket="tick", record={"measurement": "sync", "tags": {}, "fields": {"n": 1}, "time": 3})
    try:
        write.write(bucket="tick", record="sync bid=NaN")
        raise SystemExit("a bad line was taken")
    except InfluxDBError as error:
        assert error.response.status == 400, error
        assert "unable to parse 'sync bid=NaN': invalid number" in error.message, error.message

    options = WriteOptions(batch_size=700, flush_interval=200)
    with client.write_api(write_options=options, error_callback=lambda *error: failed.append(error)) as batching:
        for n in range(5_000):
            batching.write(bucket="tick", record=Point("batch").field("n", n).time(n, WritePrecision.NS))
assert not failed, failed

with InfluxDBClient(url=url, token="wrong", org="desk") as stranger:
    try:
        stranger.write_api(write_options=SYNCHRONOUS).write(bucket="tick", record="sync bid=1")
        raise SystemExit("a wrong token was taken")
    except InfluxDBError as error:
        assert error.response.status == 401, error
print("done")
