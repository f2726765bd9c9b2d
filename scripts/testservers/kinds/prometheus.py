"""Prometheus and its promtool, of Debian's package, unpacked into the home cache: no service is installed, and nothing starts."""

import json
import os
import re
import shutil
import subprocess
import tempfile

from .. import Failed, Unavailable, install
from . import Kind, environment, request

_PROGRAMS = ("prometheus", "promtool")
_DEFAULTS = {"target": "", "job": "tapedeck", "interval": "1s", "rules": ""}


class Prometheus(Kind):
    name = "prometheus"

    def find(self):
        program = shutil.which("prometheus") or os.path.join(_folder(), "prometheus")
        if not os.path.exists(program):
            raise Unavailable("not installed: scripts/servers install prometheus")
        try:
            done = subprocess.run([program, "--version"], capture_output=True, text=True)
        except OSError as error:
            raise Unavailable(f"{program} does not run here: {error}") from None
        version = re.search(r"version (\d+\.\d+\.\d+)", done.stdout + done.stderr)
        if done.returncode != 0 or not version:
            raise Unavailable(f"{program} does not run here")
        return program, version[1]

    def install(self):
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Unavailable("not installed, and there is no apt-get here: it is in Debian's prometheus")
        with tempfile.TemporaryDirectory(dir=install.cache()) as work:
            _download(work)
            package = next(name for name in os.listdir(work) if name.endswith(".deb"))
            install.run("unpacking it", ["dpkg-deb", "-x", package, "."], folder=work)
            os.makedirs(_folder(), exist_ok=True)
            for name in _PROGRAMS:
                os.replace(os.path.join(work, "usr", "bin", name), os.path.join(_folder(), name))

    def prepare(self, server, program):
        """Settings: `target` (HOST:PORT, more with commas), `job`, `interval` of scrapes and rules, `rules` (a file)."""
        unknown = sorted(set(server.settings) - set(_DEFAULTS))
        if unknown:
            raise Failed(f"prometheus has no setting {', '.join(unknown)}: {', '.join(_DEFAULTS)}")
        asked = {**_DEFAULTS, **server.settings}
        targets = [target.strip() for target in asked["target"].split(",") if target.strip()]
        # JSON is YAML, too.
        config = {
            "global": {"scrape_interval": asked["interval"], "evaluation_interval": asked["interval"]},
            "rule_files": [os.path.realpath(asked["rules"])] if asked["rules"] else [],
            "scrape_configs": [{"job_name": asked["job"], "static_configs": [{"targets": targets}]}],
        }
        with open(self._config(server), "w") as file:
            json.dump(config, file, indent=1)

    def command(self, server, program):
        argv = [
            *(program, f"--config.file={self._config(server)}"),
            *(f"--storage.tsdb.path={os.path.join(server.folder, 'data')}", "--log.level=warn"),
            f"--web.listen-address=127.0.0.1:{server.ports['http']}",
        ]
        return argv, environment(server)

    def answers(self, server, program):
        return request(self._url(server) + "/-/ready")[0] == 200

    def addresses(self, server):
        return {"url": self._url(server)}

    def create(self, server, name, program):
        raise Failed("prometheus has no databases: name a target when it starts")

    def _config(self, server):
        return os.path.join(server.folder, "prometheus.yml")

    def _url(self, server):
        return f"http://127.0.0.1:{server.ports['http']}"


def _folder():
    return os.path.join(install.cache(), "prometheus")


def _download(work):
    download = ["apt-get", "-qq", "download", "prometheus"]
    try:
        install.run("downloading Debian's package", download, folder=work)
    except Failed:
        # The list of packages may be missing or old; only root may renew it.
        try:
            install.run("asking Debian for its list of packages", ["apt-get", "-qq", "update"], folder=work)
            install.run("downloading Debian's package", download, folder=work)
        except Failed as error:
            raise Unavailable(f"Debian's package prometheus cannot be fetched: {error}") from None
