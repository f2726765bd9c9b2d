"""InfluxDB 1.x, Debian's package."""

import os
import re
import shutil
import subprocess
import urllib.parse

from .. import Failed, Unavailable, install
from . import Kind, environment, request

_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{dir}/meta"
[data]
dir = "{dir}/data"
wal-dir = "{dir}/wal"
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{http}"
auth-enabled = false
max-body-size = 25000000
log-enabled = false
"""


class InfluxDb(Kind):
    name = "influxdb"
    # The second is for backups, and taken from 8088 when it is not set.
    ports = ("http", "rpc")
    container_ports = {"http": 8086}

    def find(self):
        program = shutil.which("influxd") or "/usr/bin/influxd"
        if not os.path.exists(program):
            raise Unavailable("not installed: scripts/servers install influxdb")
        out = subprocess.run([program, "version"], capture_output=True, text=True).stdout
        version = re.search(r"v?(\d+\.\d+\.\d+)", out)
        if not version or not version[1].startswith("1."):
            raise Unavailable(f"{program} is not InfluxDB 1.x but `{out.strip()}`")
        return program, version[1]

    def install(self):
        install.apt("influxdb")

    def prepare(self, server, program):
        with open(os.path.join(server.folder, "influxdb.conf"), "w") as file:
            file.write(_CONFIG.format(dir=server.folder, **server.ports))

    def command(self, server, program):
        config = os.path.join(server.folder, "influxdb.conf")
        # http.auth-enabled=true is INFLUXDB_HTTP_AUTH_ENABLED there.
        settings = {
            "INFLUXDB_" + re.sub(r"[^A-Z0-9]", "_", key.upper()): value for key, value in server.settings.items()
        }
        return [program, "-config", config], environment(server, **settings)

    def answers(self, server, program):
        return request(self.addresses(server)["url"] + "/ping")[0] == 204

    def addresses(self, server):
        scheme = "https" if server.settings.get("http.https-enabled") == "true" else "http"
        return {"url": f"{scheme}://127.0.0.1:{server.ports['http']}"}

    def create(self, server, name, program):
        query = urllib.parse.urlencode({"q": f'CREATE DATABASE "{name}"'})
        status, body = request(f"{self.addresses(server)['url']}/query?{query}", "POST", b"", seconds=30)
        if status != 200 or '"error"' in body:
            raise Failed(f"influxdb: CREATE DATABASE {name}: {status} {body.strip()}")
        return {"name": name, **self.addresses(server)}
