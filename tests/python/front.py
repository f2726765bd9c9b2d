"""An application that writes points with a client of InfluxDB, and is told what became of them.

    front.py 1|2 PORT MEASUREMENT FROM COUNT [DATABASE [ORG TOKEN]]

Each point has its own time, in ns, and its number as `v`; they go in requests of 50. Prints how many were taken.
"""

import sys

client, port, measurement = sys.argv[1], int(sys.argv[2]), sys.argv[3]
first, count = int(sys.argv[4]), int(sys.argv[5])
database = sys.argv[6] if len(sys.argv) > 6 else "front"
base = 1_700_000_000_000_000_000
points = [
    {"measurement": measurement, "tags": {"host": "a"}, "time": base + n, "fields": {"v": n}}
    for n in range(first, first + count)
]
taken = 0
if client == "1":
    from influxdb import InfluxDBClient

    writer = InfluxDBClient(host="127.0.0.1", port=port, database=database, timeout=30, retries=1)
    write = lambda some: writer.write_points(some, time_precision="n")  # noqa: E731
else:
    from influxdb_client import InfluxDBClient
    from influxdb_client.client.write_api import SYNCHRONOUS

    org, token = sys.argv[7], sys.argv[8]
    writer = InfluxDBClient(url=f"http://127.0.0.1:{port}", token=token, org=org, timeout=30_000)
    writing = writer.write_api(write_options=SYNCHRONOUS)
    write = lambda some: writing.write(bucket=database, record=some)  # noqa: E731
for at in range(0, count, 50):
    try:
        write(points[at : at + 50])
        taken += len(points[at : at + 50])
    except Exception as error:  # noqa: BLE001: an application that goes on
        print(type(error).__name__, file=sys.stderr)
print(taken)
