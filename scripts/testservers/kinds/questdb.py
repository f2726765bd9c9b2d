"""QuestDB, one jar from Maven Central, and a Java of 17 or newer."""

import functools
import os
import re
import shutil
import subprocess

from .. import Failed, Unavailable, install
from . import Kind, environment, request

_VERSION = "9.3.4"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_JAVA = 17


class QuestDb(Kind):
    name = "questdb"
    # `health` is its small second web server.
    ports = ("http", "health", "sql")
    ready_within = 180  # Java, and two start together on a busy machine
    container_ports = {"http": 9000, "health": 9003, "sql": 8812}

    def find(self):
        if not os.path.exists(self._jar()):
            raise Unavailable("not installed: scripts/servers install questdb")
        if not _java():
            raise Unavailable(f"it needs Java {_JAVA} or newer: scripts/servers install questdb")
        return self._jar(), _VERSION

    def install(self):
        wanted = []
        if not _java():
            wanted.append("openjdk-17-jre-headless" if install.apt_has("openjdk-17-jre-headless") else "default-jre-headless")
        if not os.path.exists(self._jar()) and not shutil.which("mvn"):
            wanted.append("maven")
        if wanted:
            install.apt(*wanted)
            _java.cache_clear()
        if os.path.exists(self._jar()):
            return
        folder = os.path.join(install.cache(), "questdb.new")
        shutil.rmtree(folder, ignore_errors=True)
        argv = [
            *("mvn", "-q", "-B", _PLUGIN, f"-Dartifact=org.questdb:questdb:{_VERSION}"),
            f"-DoutputDirectory={folder}",
        ]
        os.makedirs(folder)
        try:
            install.run("downloading QuestDB from Maven Central (30 MB)", argv, folder=folder)
            os.replace(os.path.join(folder, os.path.basename(self._jar())), self._jar())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _jar(self):
        return os.path.join(install.cache(), f"questdb-{_VERSION}.jar")

    def command(self, server, program):
        settings = dict(server.settings)
        # `heap` is Java's; benchmarks set it to `default`.
        heap = settings.pop("heap", "256m")
        argv = [
            *(_java(), "-XX:+UseSerialGC", *([] if heap == "default" else [f"-Xmx{heap}"]), "-XX:TieredStopAtLevel=1"),
            # Both would leave files in the common folder when it is killed.
            *("-XX:-UsePerfData", f"-Djava.io.tmpdir={server.folder}/tmp"),
            *("-p", program, "-m", "io.questdb/io.questdb.ServerMain", "-d", server.folder),
        ]
        ours = {
            "QDB_HTTP_BIND_TO": f"127.0.0.1:{server.ports['http']}",
            "QDB_HTTP_MIN_BIND_TO": f"127.0.0.1:{server.ports['health']}",
            "QDB_PG_NET_BIND_TO": f"127.0.0.1:{server.ports['sql']}",
            "QDB_LINE_TCP_ENABLED": "false",
            "QDB_TELEMETRY_ENABLED": "false",
            "QDB_METRICS_ENABLED": "true",
            "QDB_SHARED_WORKER_COUNT": "1",
            "QDB_CAIRO_DEFAULT_SEQUENCER_PART_TXN_COUNT": "100000",
            "QDB_DEV_MODE_ENABLED": "true",  # for SUSPEND WAL
            # 16 MiB by default, for each column of each open partition: many small tables filled a disk.
            **({} if heap == "default" else {"QDB_CAIRO_WRITER_DATA_APPEND_PAGE_SIZE": "65536"}),
        }
        # cairo.max.uncommitted.rows=10 is QDB_CAIRO_MAX_UNCOMMITTED_ROWS there.
        for key, value in settings.items():
            ours["QDB_" + re.sub(r"[^A-Z0-9]", "_", key.upper())] = value
        return argv, environment(server, **ours)

    def answers(self, server, program):
        # 401: a password was set, which is the tests' own.
        return request(self.addresses(server)["url"] + "/exec?query=select%201")[0] in (200, 401)

    def addresses(self, server):
        return {
            "url": f"http://127.0.0.1:{server.ports['http']}",
            "dsn": f"postgresql://admin:quest@127.0.0.1:{server.ports['sql']}/qdb",
        }

    def create(self, server, name, program):
        raise Failed("questdb has one database: use names of tables of your own, or a server of your own")


@functools.cache
def _java():
    """A Java that is new enough; `None` when there is none."""
    home = os.environ.get("JAVA_HOME")
    for path in (os.path.join(home, "bin", "java") if home else None, shutil.which("java")):
        if path and os.path.exists(path):
            out = subprocess.run([path, "-version"], capture_output=True, text=True).stderr
            version = re.search(r'version "(\d+)', out)
            if version and int(version[1]) >= _JAVA:
                return path
    return None
