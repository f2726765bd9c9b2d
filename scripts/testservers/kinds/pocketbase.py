"""PocketBase, built once from its Go module (scripts/pocketbase) and kept in the home cache: nobody packages it."""

import json
import os
import re
import shutil
import subprocess

from .. import Failed, Unavailable, install
from . import Kind, environment, request

_SOURCES = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "pocketbase")
_EMAIL = "tapedeck@example.com"
_PASSWORD = "tapedeck-password"


class PocketBase(Kind):
    name = "pocketbase"

    def find(self):
        version = _pinned("github.com/pocketbase/pocketbase v")
        program = _program(version)
        if not os.path.exists(program):
            raise Unavailable("not built: scripts/servers install pocketbase (a minute or two), as make test does")
        return program, version

    def install(self):
        needed, found = _pinned("go "), _go()
        if found is None or _numbers(found) < _numbers(needed):
            has = f"this is {found}" if found else "there is none here"
            raise Unavailable(f"not built: that needs Go {needed} or newer, and {has}")
        program = _program(_pinned("github.com/pocketbase/pocketbase v"))
        # What it is built of is pinned by go.sum; nothing of the environment may change that.
        env = {**os.environ, "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
        go = ["nice", "-n", "10", shutil.which("go")]
        try:
            install.run("downloading the sources of PocketBase", [*go, "mod", "download"], env, _SOURCES)
        except Failed as error:
            raise Unavailable(f"its sources cannot be had: {error}") from None
        os.makedirs(os.path.dirname(program), exist_ok=True)
        try:
            argv = [*go, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program + ".new", "."]
            install.run("building PocketBase (about 80 s on two cores)", argv, env, _SOURCES)
            os.replace(program + ".new", program)
        finally:
            if os.path.exists(program + ".new"):
                os.remove(program + ".new")

    def prepare(self, server, program):
        data = os.path.join(server.folder, "data")
        if os.path.exists(os.path.join(data, "data.db")):
            return
        argv = [program, "superuser", "upsert", _EMAIL, _PASSWORD, "--dir", data, "--dev=false"]
        out = subprocess.run(argv, cwd=server.folder, env=environment(server), capture_output=True, text=True)
        if out.returncode != 0:
            raise Failed(f"pocketbase: making the superuser: {(out.stderr or out.stdout).strip()}")

    def command(self, server, program):
        argv = [
            *(program, "serve", "--http", f"127.0.0.1:{server.ports['http']}"),
            # It turns the mode of its developers on by itself when it is run from a folder for temporary files or caches.
            *("--dir", os.path.join(server.folder, "data"), "--dev=false"),
        ]
        return argv, environment(server)

    def answers(self, server, program):
        return request(self._url(server) + "/api/health")[0] == 200

    def first_ready(self, server):
        # batch.enabled=true is {"batch": {"enabled": true}} there.
        wanted = {}
        for key, value in server.settings.items():
            *path, last = key.split(".")
            place = wanted
            for name in path:
                place = place.setdefault(name, {})
            try:
                place[last] = json.loads(value)
            except ValueError:
                place[last] = value
        if wanted:
            who = {"identity": _EMAIL, "password": _PASSWORD}
            answer = self._ask(server, "POST", "/api/collections/_superusers/auth-with-password", who)
            self._ask(server, "PATCH", "/api/settings", wanted, answer["token"])

    def addresses(self, server):
        return {"url": self._url(server), "user": _EMAIL, "password": _PASSWORD}

    def create(self, server, name, program):
        raise Failed("pocketbase has one database: use collections of names of your own, or a server of your own")

    def _ask(self, server, method, path, body, token=""):
        headers = {"Content-Type": "application/json", "Authorization": token}
        status, text = request(self._url(server) + path, method, body, headers, seconds=30)
        if status != 200:
            raise Failed(f"pocketbase: {method} {path}: {status} {text.strip()}")
        return json.loads(text)

    def _url(self, server):
        return f"http://127.0.0.1:{server.ports['http']}"


def _program(version):
    return os.path.join(install.cache(), f"pocketbase-{version}", "pocketbase")


def _pinned(before):
    """The version that stands behind those words in go.mod."""
    with open(os.path.join(_SOURCES, "go.mod")) as file:
        return re.search(rf"^(?:require )?{re.escape(before)}(\S+)", file.read(), re.MULTILINE)[1]


def _go():
    """The version of the Go that is here; `None` when there is none."""
    if not shutil.which("go"):
        return None
    out = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, cwd="/").stdout
    version = re.search(r"go(\d+(?:\.\d+)*)", out)
    return version and version[1]


def _numbers(version):
    return [int(part) for part in version.split(".")]
