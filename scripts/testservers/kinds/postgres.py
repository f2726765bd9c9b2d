"""PostgreSQL, Debian's package. It refuses root, so that it runs as `postgres` where we are root."""

import glob
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess

from .. import Failed, Unavailable, install
from . import Kind, environment

#: A role that a test makes needs its password; `postgres` needs none.
_HBA = """\
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 trust
"""


class Postgres(Kind):
    name = "postgres"
    ports = ("sql",)
    stop_signal = signal.SIGINT  # fast: sessions end, everything is written
    end_signal = signal.SIGQUIT  # immediate: it still gives its shared memory back
    container_ports = {"sql": 5432}

    def find(self):
        """The folder of its programs."""
        folders = [*_by_version("/usr/lib/postgresql/*/bin"), *_by_version("/usr/pgsql-*/bin")]
        on_path = shutil.which("postgres")
        folders += [os.path.dirname(os.path.realpath(on_path))] if on_path else []
        for folder in folders:
            if all(os.path.exists(os.path.join(folder, name)) for name in ("postgres", "initdb", "psql")):
                out = subprocess.run([f"{folder}/postgres", "--version"], capture_output=True, text=True).stdout
                version = re.search(r"\d+(\.\d+)?", out)
                if version and int(version[0].split(".")[0]) >= 15:
                    self.user()
                    return folder, version[0]
        raise Unavailable("PostgreSQL 15 or newer is not installed: scripts/servers install postgres")

    def install(self):
        install.apt("postgresql-15" if install.apt_has("postgresql-15") else "postgresql")

    def user(self):
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres").pw_name
        except KeyError:
            raise Unavailable("PostgreSQL refuses root, and there is no user `postgres` to run it as") from None

    def prepare(self, server, program):
        data = os.path.join(server.folder, "data")
        user = self.user()
        if user:
            _check_reach(server.folder, user)
            shutil.chown(server.folder, user, user)
            os.makedirs(os.path.join(server.folder, "tmp"), exist_ok=True)
            shutil.chown(os.path.join(server.folder, "tmp"), user, user)
        if not os.path.exists(os.path.join(data, "PG_VERSION")):
            shutil.rmtree(data, ignore_errors=True)
            self._fill(server, data, program, user)

    def _fill(self, server, data, program, user):
        """initdb, or a copy of an earlier one: 0.1 s in place of a second."""
        template = os.path.join(install.cache(), f"postgres-{server.version}-{user or os.geteuid()}.template")
        with install.lock("postgres-template"):
            if not os.path.exists(template):
                self._initdb(server, data, program, user)
                shutil.rmtree(template + ".new", ignore_errors=True)
                _copy(data, template + ".new")
                os.rename(template + ".new", template)
                return
        _copy(template, data)

    def _initdb(self, server, data, program, user):
        argv = [f"{program}/initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        identity = {"user": user, "group": user, "extra_groups": []} if user else {}
        out = subprocess.run(argv, cwd="/", env=environment(server), capture_output=True, text=True, **identity)
        if out.returncode != 0:
            raise Failed(f"postgres: initdb ended with {out.returncode}: {out.stderr.strip()}")
        with open(os.path.join(data, "pg_hba.conf"), "w") as file:
            file.write(_HBA)

    def command(self, server, program):
        argv = [
            *(f"{program}/postgres", "-D", os.path.join(server.folder, "data"), "-p", str(server.ports["sql"])),
            # A socket's path has 107 bytes.
            *("-k", server.folder if len(server.folder) < 80 else ""),
            *("-c", "listen_addresses=127.0.0.1"),
            # In its own folder and not in /dev/shm, where a killed server would leave it.
            *("-c", "dynamic_shared_memory_type=mmap"),
        ]
        for key, value in server.settings.items():
            argv += ["-c", f"{key}={value}"]
        return argv, environment(server)

    def answers(self, server, program):
        port = str(server.ports["sql"])
        argv = [f"{program}/pg_isready", "-q", "-t", "2", "-h", "127.0.0.1", "-p", port]
        return subprocess.run(argv, capture_output=True).returncode == 0

    def addresses(self, server):
        return {"dsn": self._dsn(server, "postgres"), "user": "postgres"}

    def create(self, server, name, program):
        quoted = name.replace('"', '""')
        argv = [f"{program}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self._dsn(server, "postgres")]
        argv += ["-c", f'CREATE DATABASE "{quoted}"']
        out = subprocess.run(argv, env=environment(server), capture_output=True, text=True, timeout=60)
        if out.returncode != 0:
            raise Failed(f"postgres: CREATE DATABASE {name}: {out.stderr.strip()}")
        return {"name": name, "dsn": self._dsn(server, name), "user": "postgres"}

    def clean(self, server):
        """The piece of shared memory that a killed server leaves; its file of the PID names it (line 7: key, id)."""
        try:
            with open(os.path.join(server.folder, "data", "postmaster.pid")) as file:
                lines = file.read().splitlines()
        except OSError:
            return
        if len(lines) > 6 and len(lines[6].split()) == 2 and shutil.which("ipcrm"):
            subprocess.run(["ipcrm", "-m", lines[6].split()[1]], capture_output=True)

    def _dsn(self, server, database):
        return f"postgresql://postgres@127.0.0.1:{server.ports['sql']}/{database}"


def _by_version(pattern):
    """15 first, which is what the tests were made with; then the newest."""
    number = lambda path: int((re.findall(r"\d+", path) or ["0"])[-1])  # noqa: E731
    return sorted(glob.glob(pattern), key=lambda path: (number(path) != 15, -number(path)))


def _copy(source, target):
    out = subprocess.run(["cp", "-a", "--reflink=auto", source, target], capture_output=True, text=True)
    if out.returncode != 0:
        raise Failed(f"postgres: copying {source}: {out.stderr.strip()}")


def _check_reach(folder, user):
    """Every folder above must let that user through; better said here than by a program's `permission denied`."""
    found = pwd.getpwnam(user)
    above = os.path.dirname(folder)
    while True:
        mode = os.stat(above)
        bit = stat.S_IXUSR if mode.st_uid == found.pw_uid else stat.S_IXOTH
        if not mode.st_mode & bit:
            raise Failed(f"postgres runs as the user {user}, who cannot enter {above}: chmod o+x, or another --dir")
        if above == "/":
            return
        above = os.path.dirname(above)
