"""What the system knows of a process. A PID alone says nothing: it is taken again; with the start time it is one process."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Process:
    """One process, told from a later one of the same number by its start time."""

    def __init__(self, pid, started):
        self.pid = pid
        self.started = started

    @classmethod
    def of(cls, pid):
        """The process that has this number now; `None` when there is none."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    def is_alive(self):
        return _start_time(self.pid) == self.started

    def send(self, number):
        """Sends a signal to this process and never to another that took its number. False: it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)

    def family(self):
        """The process and its descendants."""
        children = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                stat = _stat(int(name))
                if stat:
                    children.setdefault(int(stat[1]), []).append(int(name))
        found, queue = [self], [self.pid]
        while queue:
            for pid in children.get(queue.pop(), []):
                child = Process.of(pid)
                if child:
                    found.append(child)
                    queue.append(pid)
        return found

    def pause(self):
        """Stops the process and its descendants (PostgreSQL's connections are processes of their own)."""
        return self._freeze()

    def resume(self):
        for one in reversed(self.family()):
            one.send(signal.SIGCONT)

    def kill(self):
        """SIGKILL to the process and its descendants, as when the machine's memory is full; returns when all are gone."""
        family = self._freeze()
        for one in family:
            one.send(signal.SIGKILL)
        for one in family:
            one.wait(30)

    def wait(self, seconds):
        """Whether it is gone within that time."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _freeze(self):
        # The parent first: when it stands still, no child is added behind the list.
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while self.is_alive() and _stat(self.pid)[0] not in "Tt" and time.monotonic() < deadline:
            time.sleep(0.001)
        family = self.family()
        for one in family[1:]:
            one.send(signal.SIGSTOP)
        return family

    def resident_bytes(self):
        """Resident memory of the process and its descendants; pages that they share are counted for each."""
        total = 0
        for one in self.family():
            try:
                with open(f"/proc/{one.pid}/statm") as file:
                    total += int(file.read().split()[1])
            except OSError:
                pass  # it ended while we were counting
        return total * os.sysconf("SC_PAGE_SIZE")

    def listens_on(self, port):
        """Whether the process or a descendant listens on that port: an answer from the port may be another server's."""
        sockets = _listening(port)
        if not sockets:
            return False
        for one in self.family():
            try:
                for name in os.listdir(f"/proc/{one.pid}/fd"):
                    try:
                        if os.readlink(f"/proc/{one.pid}/fd/{name}") in sockets:
                            return True
                    except OSError:
                        pass  # closed meanwhile
            except OSError:
                pass  # ended meanwhile
        return False


def spawn(argv, env, folder, log, user=None, parent_death=None):
    """Starts a server in a session of its own, so that Ctrl-C reaches only us.

    `parent_death` is the signal that the kernel sends it when we die, however we die.
    """
    parent = os.getpid()

    def before_exec():
        # After the change of user, which clears it.
        if parent_death is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(parent_death))
            if os.getppid() != parent:
                os._exit(1)

    identity = {"user": user, "group": user, "extra_groups": []} if user else {}
    with open(log, "ab") as out:
        return subprocess.Popen(
            argv,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=before_exec,
            **identity,
        )


def free_ports(count, taken=()):
    """Ports on which nobody listens now, and none of those `taken`. Outside the range from which the system takes the ports of outgoing connections,
    so that a server that was killed finds its own port free when it starts again."""
    low = 32768
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            low = int(file.read().split()[0])
    except OSError:
        pass  # not every container has it
    ports = []
    for _ in range(1000):
        if len(ports) == count:
            return ports
        port = random.randrange(15000, low) if low > 16000 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = probe.getsockname()[1]
        if port not in ports and port not in taken:
            ports.append(port)
    raise OSError("no free ports")


def _stat(pid):
    """The fields of /proc/PID/stat from the state on; `None` when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _start_time(pid):
    """In ticks since the machine started. A zombie is gone: it only waits to be asked how it ended. Not yet, though, while
    threads of it still end: until then its files and ports are taken."""
    stat = _stat(pid)
    gone = not stat or stat[0] in "ZX" and int(stat[17]) <= 1
    return None if gone else int(stat[19])


def _listening(port):
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                for line in file.readlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                        found.add(f"socket:[{fields[9]}]")
        except OSError:
            pass  # no IPv6 here
    return found
