"""The back end of a Grafana, built once from its Go module and kept in the home cache: nobody packages it, and its pages need
a build of their own. Files of provisioning, the HTTP API and every data source work; a page is empty."""

import os
import shutil
import stat
import subprocess

from .. import Unavailable, install
from . import Kind, environment, request

# The last version whose module can be built as it is: of June 2023.
_VERSION = "10.0.0-preview"
_MODULE = "github.com/grafana/grafana@v1.9.2-0.20230609164553-81d85ce8028d"
_WIRE = "github.com/google/wire/cmd/wire@v0.7.0"
# What the server reads at its start, of a folder of 400 MB.
_HOME = ("conf", "public/app/plugins", "public/emails", "public/views")
_USER, _PASSWORD = "admin", "tapedeck-password"


class Grafana(Kind):
    name = "grafana"
    container_ports = {"http": 3000}

    def find(self):
        program = self._program()
        if not os.path.exists(program):
            raise Unavailable("not built: scripts/servers install grafana (about 6 minutes), as make test-all does")
        return program, _VERSION

    def install(self):
        if not shutil.which("go"):
            raise Unavailable("not built: that needs go")
        build = os.path.join(install.cache(), "build-grafana")
        _remove(build)
        os.makedirs(build)
        try:
            self._build(build)
        finally:
            _remove(build)

    def _build(self, build):
        env = {**os.environ, "GOFLAGS": "-mod=mod", "GOBIN": os.path.join(build, "bin")}
        go = ["nice", "-n", "10", shutil.which("go")]
        install.run("downloading the sources of Grafana", [*go, "mod", "download", _MODULE], env, build)
        cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
        sources = os.path.join(build, "grafana")
        shutil.copytree(os.path.join(cache, _MODULE), sources)
        # The cache is read-only, and the code that is made here stands beside the rest.
        for folder, _, _ in os.walk(sources):
            os.chmod(folder, 0o755)
        install.run("building wire", [*go, "install", _WIRE], env, build)
        wire = ["nice", "-n", "10", os.path.join(build, "bin", "wire"), "gen", "-tags", "oss", "./pkg/server"]
        install.run("wiring Grafana together", wire, env, sources)
        program = os.path.join(sources, "grafana")
        flags = f"-s -w -X main.version={_VERSION}"
        install.run(
            "building Grafana (about 5 minutes on two cores)",
            [*go, "build", "-tags", "oss", "-ldflags", flags, "-o", program, "./pkg/cmd/grafana"],
            env,
            sources,
        )
        home = os.path.join(build, "home")
        for part in _HOME:
            source = os.path.join(sources, part)
            if os.path.exists(source):
                shutil.copytree(source, os.path.join(home, part))
        shutil.move(program, os.path.join(home, "grafana"))
        final = os.path.dirname(self._program())
        _remove(final)
        os.rename(home, final)

    def _program(self):
        return os.path.join(install.cache(), f"grafana-{_VERSION}", "grafana")

    def prepare(self, server, program):
        folder = {name: os.path.join(server.folder, name) for name in ("data", "logs", "plugins", "provisioning")}
        for path in folder.values():
            os.makedirs(path, exist_ok=True)
        paths = "\n".join(f"{name} = {path}" for name, path in folder.items())
        with open(self._config(server), "w") as file:
            file.write(
                f"[paths]\n{paths}\n"
                f"[server]\nhttp_addr = 127.0.0.1\nhttp_port = {server.ports['http']}\n"
                f"[security]\nadmin_user = {_USER}\nadmin_password = {_PASSWORD}\n"
                "[analytics]\nreporting_enabled = false\ncheck_for_updates = false\ncheck_for_plugin_updates = false\n"
                "[log]\nmode = console\nlevel = warn\n"
            )

    def command(self, server, program):
        argv = [program, "server", "--homepath", os.path.dirname(program), "--config", self._config(server)]
        return argv, environment(server)

    def answers(self, server, program):
        return request(self._url(server) + "/api/health")[0] == 200

    def addresses(self, server):
        provisioning = os.path.join(server.folder, "provisioning")
        return {"url": self._url(server), "user": _USER, "password": _PASSWORD, "provisioning": provisioning}

    def create(self, server, name, program):
        return {"name": name, **self.addresses(server)}

    def _config(self, server):
        return os.path.join(server.folder, "grafana.ini")

    def _url(self, server):
        return f"http://127.0.0.1:{server.ports['http']}"


def _remove(folder):
    """Whatever the modes are of what lies in it."""
    for path, folders, _ in os.walk(folder):
        for one in folders:
            child = os.path.join(path, one)
            if not os.path.islink(child):
                os.chmod(child, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
