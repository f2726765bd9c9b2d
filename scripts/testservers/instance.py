"""A folder with servers in it.

    DIR/servers.json     who holds it, and of each server: PID, start time, ports, settings
    DIR/lock             held by whoever changes it
    DIR/NAME/            one server: its data, config, `log`, `tmp`

It is held by a process (`up --until-eof`), whose end is the servers' end, or by nobody (`up`), and then `down` ends it.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import tempfile
import time

from . import Failed, Unavailable, process
from .kinds import all_kinds
from .process import Process

#: Starts of one server on ever other ports, when it ends early.
_TRIES = 5
_RECORD = "servers.json"


class Server:
    """One server of an instance, running or not."""

    def __init__(self, instance, name, record=None):
        record = record or {}
        self.name = name
        self.kind = all_kinds()[name]
        self.folder = os.path.join(instance.folder, name)
        self.ports = record.get("ports", {})
        self.settings = record.get("settings", {})
        self.kept = record.get("kept", {})
        self.was_ready = record.get("was_ready", False)
        self.version = record.get("version")
        self.process = Process(record["pid"], record["started"]) if record.get("pid") else None
        self.child = None

    def record(self):
        return {
            **{"ports": self.ports, "settings": self.settings, "kept": self.kept, "was_ready": self.was_ready},
            **{"version": self.version, "pid": self.process and self.process.pid},
            **{"started": self.process and self.process.started},
        }

    def is_alive(self):
        return self.process is not None and self.process.is_alive()

    def log(self):
        return os.path.join(self.folder, "log")

    def describe(self):
        """What a client and a person need."""
        return {
            **{"version": self.version, "pid": self.process and self.process.pid, "ports": self.ports},
            **{"folder": self.folder, "log": self.log()},
            **self.kind.addresses(self),
        }

    @functools.cached_property
    def program(self):
        """What `Kind.find` found: that asks programs for their version, which takes a while."""
        return self.kind.find()[0]

    def create(self, name):
        return self.kind.create(self, name, self.program)

    def answers(self):
        """Ready: it lives, it is the one that listens on its port, and it answers."""
        if not self.is_alive() or not self.process.listens_on(self.ports[self.kind.ports[0]]):
            return False
        return self.kind.answers(self, self.program) and self.is_alive()

    def reap(self):
        """The exit code of our own child, when it has ended; it stays a zombie until then."""
        return self.child.poll() if self.child else None

    def finish(self, number):
        """Ends it with that signal, or, when it does not obey, with SIGKILL."""
        if self.is_alive():
            self.process.resume()
            self.process.send(number)
            if not self.process.wait(15):
                self.process.kill()
        self.reap()


class Instance:
    """The folder and its servers. Change it only under `locked()`."""

    def __init__(self, folder, made=False):
        self.folder = os.path.realpath(folder)
        #: Whether we made the folder, and may remove it.
        self.made = made
        self.holder = None
        self.servers = {}

    @classmethod
    def load(cls, folder):
        """The instance that lies there; `None` when none does."""
        try:
            with open(os.path.join(folder, _RECORD)) as file:
                record = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise Failed(f"{folder}: {error}") from None
        unknown = sorted(set(record["servers"]) - set(all_kinds()))
        if unknown:
            raise Failed(f"{folder}: {', '.join(unknown)}: made by a newer version of these scripts")
        instance = cls(folder, record["made"])
        instance.holder = Process(*record["holder"]) if record["holder"] else None
        instance.servers = {name: Server(instance, name, one) for name, one in record["servers"].items()}
        return instance

    def save(self):
        record = {
            "made": self.made,
            "holder": [self.holder.pid, self.holder.started] if self.holder else None,
            "servers": {name: server.record() for name, server in self.servers.items()},
        }
        path = os.path.join(self.folder, _RECORD)
        with open(path + ".new", "w") as file:
            json.dump(record, file, indent=1)
        os.replace(path + ".new", path)

    def is_held(self):
        return self.holder is not None and self.holder.is_alive()

    def start(self, names, settings):
        """Starts what does not run; several at once. What cannot be had: `{name: reason}`."""
        starts, missing = [], {}
        for name in names:
            server = self.servers.get(name) or Server(self, name)
            if server.is_alive():
                continue
            try:
                server.program, server.version = server.kind.find()
            except Unavailable as reason:
                missing[name] = str(reason)
                continue
            server.settings = settings.get(name, server.settings)
            self.servers[name] = server
            starts.append(_Start(self, server))
        waiting = starts
        while waiting:
            waiting = [start for start in waiting if not start.step()]
            if waiting:
                time.sleep(0.05)
        return missing

    def stop(self, server):
        """In order; the data stays."""
        server.finish(server.kind.stop_signal)

    def kill(self, server):
        if server.is_alive():
            server.process.kill()
        server.reap()

    def restart(self, server):
        """On the same folder and ports, as it was left: stopped in order here when it still runs."""
        self.stop(server)
        self.start([server.name], {})

    def remove(self, names=None):
        """Ends the servers and throws their data away; with the last one goes the folder, if it is ours."""
        for name in list(self.servers) if names is None else names:
            server = self.servers.get(name)
            if server is None:
                continue
            server.finish(server.kind.end_signal)
            server.kind.clean(server)
            shutil.rmtree(server.folder, ignore_errors=True)
            if os.path.exists(server.folder):
                shutil.rmtree(server.folder)  # what was being written as it was read; what is left now is an error
            del self.servers[name]
            self.save()
        if not self.servers:
            for name in (_RECORD, "lock"):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(self.folder, name))
            if self.made:
                with contextlib.suppress(OSError):
                    os.rmdir(self.folder)


class _Start:
    """One server on its way from nothing to ready."""

    def __init__(self, instance, server):
        self.instance = instance
        self.server = server
        self.same_ports = bool(server.ports)
        self.tries = 0
        self.deadline = time.monotonic() + server.kind.ready_within
        self._launch()

    def step(self):
        """Whether it is ready. A child that ended may have lost its port to another: it is started again."""
        server = self.server
        code = server.reap()
        if code is not None or not server.is_alive():
            if self.tries >= _TRIES:
                raise Failed(f"{server.name} ended with {code} when it was started\n{_tail(server.log())}")
            if self.same_ports:
                time.sleep(0.2)  # the system may hold the old port for a moment
            self._launch()
            return False
        if server.answers():
            if not server.was_ready:
                server.kind.first_ready(server)
                server.was_ready = True
            self.instance.save()
            return True
        if time.monotonic() > self.deadline:
            raise Failed(f"{server.name} was not ready within {server.kind.ready_within} s\n{_tail(server.log())}")
        return False

    def _launch(self):
        self.tries += 1
        server = self.server
        if not self.same_ports:
            server.ports = dict(zip(server.kind.ports, process.free_ports(len(server.kind.ports), ports_of_all())))
        os.makedirs(server.folder, exist_ok=True)
        server.kind.prepare(server, server.program)
        argv, env = server.kind.command(server, server.program)
        held = self.instance.is_held()
        server.child = process.spawn(
            *(argv, env, "/", server.log()),
            user=server.kind.user(),
            parent_death=server.kind.end_signal if held else None,
        )
        server.process = Process.of(server.child.pid)
        self.instance.save()


def root():
    """Where instances lie that were given no folder: this user's, entered by the users that servers run as."""
    path = os.path.join(tempfile.gettempdir(), f"tapedeck-servers-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, 0o711)
    found = os.lstat(path)
    if found.st_uid != os.geteuid() or not os.path.isdir(path) or os.path.islink(path):
        raise Failed(f"{path} belongs to somebody else")
    return path


def default_folder():
    """The instance of `up` without --dir."""
    return os.path.join(root(), "default")


def new_folder():
    folder = tempfile.mkdtemp(dir=root())
    os.chmod(folder, 0o711)
    return folder


def known():
    """The folders of all instances that were given none."""
    return [os.path.join(root(), name) for name in sorted(os.listdir(root()))]


def ports_of_all():
    """The ports of all servers of this user, also of those that were killed and will want theirs again."""
    ports = set()
    for folder in known():
        with contextlib.suppress(OSError, Failed):
            found = Instance.load(folder)
            for server in found.servers.values() if found else ():
                ports.update(server.ports.values())
    return ports


@contextlib.contextmanager
def locked(folder, wait=True):
    """The instance's lock, in a folder that is still there when we have it. Yields False when it is taken (`wait=False`)."""
    path = os.path.join(folder, "lock")
    while True:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            try:
                same = os.stat(path).st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                same = False
            if same:
                yield True
                return
        os.makedirs(folder, exist_ok=True)  # removed while we waited


def sweep():
    """Ends and removes instances whose holder died without doing so."""
    for folder in known():
        try:
            instance = Instance.load(folder)
            if instance is None or instance.holder is None or instance.is_held():
                continue
            with locked(folder, wait=False) as mine:
                if mine:
                    instance.remove()
        except (OSError, Failed):
            continue  # removed by its own holder meanwhile, or damaged: not ours to judge


def end(folder, names=None):
    """`down`: asks the holder where one lives, else ends the servers here. False: there is nothing."""
    instance = Instance.load(folder)
    if instance is None:
        return False
    if instance.is_held():
        if names:
            raise Failed(f"{folder} is held by process {instance.holder.pid}: it can only be ended as a whole")
        instance.holder.send(signal.SIGTERM)
        if instance.holder.wait(60):
            return True
    with locked(folder):
        instance = Instance.load(folder)
        if instance is not None:
            instance.remove(names)
    return True


def _tail(log):
    try:
        with open(log, errors="replace") as file:
            return "\n".join("    " + line.rstrip() for line in file.readlines()[-12:])
    except OSError:
        return ""
