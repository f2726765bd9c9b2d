"""What the kinds install with: one run at a time, progress on standard error, the whole output in a log."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time

from . import Failed, Unavailable
from .process import Process

_POLICY = "/usr/sbin/policy-rc.d"
_POLICY_BEFORE = _POLICY + ".before-tapedeck"
_POLICY_TEXT = "#!/bin/sh\n# tapedeck: packages that are being installed start nothing\nexit 101\n"


def cache():
    """The folder for what is downloaded and built, kept between runs."""
    base = os.environ.get("TAPEDECK_CACHE") or os.path.expanduser("~/.cache/tapedeck")
    folder = os.path.join(base, "servers")
    os.makedirs(folder, exist_ok=True)
    return folder


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(name, shared_word=None):
    """One run at a time; a second waits, and then finds the work done."""
    with open(os.path.join(cache(), name + ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if shared_word:
                say(shared_word)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(label, argv, env=None, folder=None):
    """Runs one step. Its output is kept in a log, of which the end is shown when it fails."""
    log = os.path.join(cache(), "install.log")
    say(f"  {label} …")
    began = time.monotonic()
    with open(log, "ab") as out:
        out.write(f"\n$ {' '.join(argv)}\n".encode())
        out.flush()
        start = out.tell()
        child = subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            told = began
            while True:
                try:
                    child.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() - told >= 30:
                        told = time.monotonic()
                        say(f"  {label}: {told - began:.0f} s")
        except BaseException:
            family = Process.of(child.pid)
            if family:
                family.kill()  # with the compilers that it has started
            child.wait()
            raise
    if child.returncode != 0:
        with open(log, "rb") as file:
            file.seek(start)
            tail = file.read().decode(errors="replace").strip().splitlines()[-12:]
        raise Failed(f"{label}: {argv[0]} ended with {child.returncode}\n    " + "\n    ".join(tail))
    say(f"  {label}: done in {time.monotonic() - began:.0f} s")


def apt(*packages):
    """Installs Debian packages. They start nothing, now or with the machine."""
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise Unavailable(f"not installed, and there is no apt-get here: it is in Debian's {names}")
    if os.geteuid() != 0:
        raise Unavailable(f"not installed: as root, apt-get install --no-install-recommends {names}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    units = _units()
    with _nothing_starts():
        run("asking Debian for its list of packages", ["apt-get", "-qq", *wait, "update"], env)
        argv = ["apt-get", "-y", "-qq", *wait, "install", "--no-install-recommends", *packages]
        run(f"installing {names} from Debian", argv, env)
    added = sorted(_units() - units)
    if added and shutil.which("systemctl"):  # also where it does not run, as in a container's image
        run("keeping them from starting with the machine", ["systemctl", "disable", *added])


def apt_has(package):
    """Whether apt could install the package."""
    if not shutil.which("apt-cache"):
        return False
    out = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True).stdout
    return "Candidate:" in out and "Candidate: (none)" not in out


def _units():
    """The services that packages have brought."""
    folder = "/lib/systemd/system"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {name for name in names if name.endswith(".service") and "@" not in name}


@contextlib.contextmanager
def _nothing_starts():
    """While it lasts, packages start no service; afterwards the policy is as it was."""
    _restore_policy()  # an installation that was killed may have left ours
    if _read(_POLICY) is not None:
        os.rename(_POLICY, _POLICY_BEFORE)
    with open(_POLICY, "w") as file:
        file.write(_POLICY_TEXT)
    os.chmod(_POLICY, 0o755)
    try:
        yield
    finally:
        _restore_policy()


def _restore_policy():
    if _read(_POLICY) == _POLICY_TEXT:
        os.remove(_POLICY)
    if os.path.exists(_POLICY_BEFORE) and not os.path.exists(_POLICY):
        os.rename(_POLICY_BEFORE, _POLICY)


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
