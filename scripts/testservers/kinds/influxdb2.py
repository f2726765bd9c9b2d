"""InfluxDB 2.x, built once from its Go module and kept in the home cache: nobody packages the server."""

import json
import os
import re
import secrets
import shutil
import subprocess

from .. import Failed, Unavailable, install
from . import Kind, environment, request

_VERSION = "2.7.12"
_GO_MOD = f"""\
module tapedeck.invalid/influxdb2

go 1.22

require (
	github.com/influxdata/influxdb/v2 v{_VERSION}
	github.com/influxdata/pkg-config v0.2.14
)
"""
_TOOLS_GO = """\
//go:build tools

package tools

import (
	_ "github.com/influxdata/influxdb/v2/cmd/influxd"
	_ "github.com/influxdata/pkg-config"
)
"""
# Its Rust part denies warnings that newer compilers have added.
_RUSTC = '#!/bin/sh\nr="$1"; shift; exec "$r" "$@" --cap-lints warn\n'


class InfluxDb2(Kind):
    name = "influxdb2"
    container_ports = {"http": 8086}

    def find(self):
        program = self._program()
        if not os.path.exists(program):
            raise Unavailable("not built: scripts/servers install influxdb2 (about 7 minutes), as make test-all does")
        return program, _VERSION

    def install(self):
        for tool in ("go", "cargo", "rustup"):
            if not shutil.which(tool):
                raise Unavailable(f"not built: that needs {tool}")
        build = os.path.join(install.cache(), "build-influxdb2")
        shutil.rmtree(build, ignore_errors=True)
        os.makedirs(os.path.join(build, "bin"))
        try:
            self._build(build)
            os.makedirs(os.path.dirname(self._program()), exist_ok=True)
            os.replace(os.path.join(build, "bin", "influxd2"), self._program())
        finally:
            shutil.rmtree(build, ignore_errors=True)

    def _build(self, build):
        pkg_config = os.path.join(build, "bin", "pkg-config")
        rustc = os.path.join(build, "bin", "rustc")
        for path, text in (("go.mod", _GO_MOD), ("tools.go", _TOOLS_GO), ("bin/rustc", _RUSTC)):
            with open(os.path.join(build, path), "w") as file:
                file.write(text)
        os.chmod(rustc, 0o755)
        # The toolchain of this repository: the module asks for one of its own, which rustup would download.
        active = subprocess.run(["rustup", "show", "active-toolchain"], capture_output=True, text=True)
        env = {
            **os.environ,
            "PKG_CONFIG": pkg_config,
            "RUSTC_WORKSPACE_WRAPPER": rustc,
            "GOFLAGS": "-mod=mod",
        }
        # Its Rust library is looked for in the folder of its sources: a target folder set for this repository hides it.
        env.pop("CARGO_TARGET_DIR", None)
        if active.returncode == 0 and active.stdout.strip():
            env["RUSTUP_TOOLCHAIN"] = active.stdout.split()[0]
        # Behind everything else: it takes long, and nobody waits for it but who asked.
        go = ["nice", "-n", "10", shutil.which("go")]
        run = lambda label, *argv: install.run(label, [*go, *argv], env, build)  # noqa: E731
        run("downloading the sources of InfluxDB 2", "mod", "tidy")
        run("building its pkg-config", "build", "-o", pkg_config, "github.com/influxdata/pkg-config")
        run(
            "building influxd (about 7 minutes on two cores)",
            *("build", "-tags", "sqlite_foreign_keys,sqlite_json", "-ldflags", "-s -w"),
            *("-o", os.path.join(build, "bin", "influxd2"), "github.com/influxdata/influxdb/v2/cmd/influxd"),
        )

    def _program(self):
        return os.path.join(install.cache(), f"influxdb2-{_VERSION}", "influxd2")

    def command(self, server, program):
        argv = [
            *(program, "--http-bind-address", f"127.0.0.1:{server.ports['http']}"),
            *("--bolt-path", os.path.join(server.folder, "i.bolt")),
            *("--sqlite-path", os.path.join(server.folder, "i.sqlite")),
            *("--engine-path", os.path.join(server.folder, "engine")),
            "--reporting-disabled",
        ]
        # storage-write-timeout=1s is INFLUXD_STORAGE_WRITE_TIMEOUT there.
        settings = {
            "INFLUXD_" + re.sub(r"[^A-Z0-9]", "_", key.upper()): value for key, value in server.settings.items()
        }
        return argv, environment(server, **settings)

    def answers(self, server, program):
        return request(self._url(server) + "/health")[0] == 200

    def first_ready(self, server):
        token = secrets.token_urlsafe(24)
        wanted = {
            **{"username": "tapedeck", "password": "tapedeck-password", "org": "tapedeck", "bucket": "tapedeck"},
            **{"token": token, "retentionPeriodSeconds": 0},
        }
        status, body = request(self._url(server) + "/api/v2/setup", "POST", wanted, seconds=30)
        if status != 201:
            raise Failed(f"influxdb2: setup: {status} {body.strip()}")
        server.kept.update(token=token, org_id=json.loads(body)["org"]["id"])

    def addresses(self, server):
        return {
            **{"url": self._url(server), "org": "tapedeck", "bucket": "tapedeck", "token": server.kept.get("token")},
            **{"org_id": server.kept.get("org_id"), "user": "tapedeck", "password": "tapedeck-password"},
        }

    def create(self, server, name, program):
        wanted = {"orgID": server.kept["org_id"], "name": name, "retentionRules": []}
        headers = {"Authorization": "Token " + server.kept["token"], "Content-Type": "application/json"}
        status, body = request(self._url(server) + "/api/v2/buckets", "POST", wanted, headers, seconds=30)
        if status != 201:
            raise Failed(f"influxdb2: bucket {name}: {status} {body.strip()}")
        return {"name": name, **self.addresses(server), "bucket": name}

    def _url(self, server):
        return f"http://127.0.0.1:{server.ports['http']}"
