"""The same servers as containers, where Docker runs: deploy/compose/servers.yml, ports chosen by Docker."""

import hashlib
import os
import subprocess

from . import Failed

_FILE = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "compose", "servers.yml")


def up(folder, kinds):
    """Starts them and waits until they are healthy. `{name: {port: number}}`."""
    _compose(folder, "up", "--detach", "--wait", *kinds)
    found = {}
    for name, kind in kinds.items():
        found[name] = {
            # "127.0.0.1:49153"
            port: int(_compose(folder, "port", name, str(inside)).strip().rpartition(":")[2])
            for port, inside in kind.container_ports.items()
        }
    return found


def down(folder):
    _compose(folder, "down", "--volumes", "--remove-orphans")


def _compose(folder, *words):
    # One project a folder, so that several may run at once.
    project = "tapedeck-" + hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:12]
    argv = ["docker", "compose", "--project-name", project, "--file", os.path.realpath(_FILE), *words]
    try:
        out = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failed("there is no docker here") from None
    if out.returncode != 0:
        raise Failed(f"docker compose {words[0]}: {out.stderr.strip()}")
    return out.stdout
