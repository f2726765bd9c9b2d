"""One kind of server a file: a class below `Kind` and a row in `all_kinds`."""

import json
import os
import signal
import ssl
import urllib.error
import urllib.request


class Kind:
    """How a server of this kind is found, installed, started and asked.

    The `server` that the methods get is `instance.Server`: its `folder`, `ports`, `settings`, and `kept`, what the
    kind wants to keep about it. The instance does the rest: ports, the record, signals, the end.
    """

    name = ""
    #: What each port is for, the first is the one that people use.
    ports = ("http",)
    #: Seconds from the start to ready. Long: machines of tests are slow and shared.
    ready_within = 60
    #: Ends it in order, its data kept.
    stop_signal = signal.SIGTERM
    #: Ends it when its data is thrown away.
    end_signal = signal.SIGKILL
    #: The image's service in deploy/compose/servers.yml; each port as the container has it.
    container_ports = {}

    def find(self):
        """Where its program is and which version: `(path, version)`. Raises `Unavailable` with what to do."""
        raise NotImplementedError

    def install(self):
        """Gets what `find` misses. Called under the lock of installing; raises `Unavailable` where that cannot be."""
        raise NotImplementedError

    def user(self):
        """The user that it must run as, where we are root and it refuses that."""
        return None

    def prepare(self, server, program):
        """Writes its config and data; called before each start, also on the folder of an earlier one."""

    def command(self, server, program):
        """`(argv, environment)` of a start."""
        raise NotImplementedError

    def answers(self, server, program):
        """Whether it takes requests."""
        raise NotImplementedError

    def first_ready(self, server):
        """Once, when it answers for the first time: users, tokens."""

    def addresses(self, server):
        """What a client needs: URL or DSN, user, token."""
        raise NotImplementedError

    def create(self, server, name, program):
        """Makes an empty database of that name; what a client needs for it."""
        raise NotImplementedError

    def clean(self, server):
        """Removes what a killed server leaves outside its folder."""


def all_kinds():
    from .grafana import Grafana
    from .influxdb import InfluxDb
    from .influxdb2 import InfluxDb2
    from .mosquitto import Mosquitto
    from .pocketbase import PocketBase
    from .postgres import Postgres
    from .prometheus import Prometheus
    from .questdb import QuestDb

    every = (Grafana(), InfluxDb(), InfluxDb2(), Mosquitto(), PocketBase(), Postgres(), Prometheus(), QuestDb())
    return {kind.name: kind for kind in every}


def environment(server, **more):
    """The environment of a server: nothing of ours but the path, home and temporary files in its own folder."""
    scratch = os.path.join(server.folder, "tmp")
    os.makedirs(scratch, exist_ok=True)
    base = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": server.folder, "TMPDIR": scratch}
    base.update(more)
    return base


def request(url, method="GET", body=None, headers=None, seconds=2):
    """`(status, body)`; status 0: nobody answered."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    # Never through a proxy: the server is on this machine.
    # What its certificate is worth is for the tests to say.
    https = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    try:
        with opener.open(asked, timeout=seconds) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError):
        return 0, ""
