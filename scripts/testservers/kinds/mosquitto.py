"""Mosquitto, Debian's package: an MQTT broker, 3.1.1 and 5."""

import os
import pwd
import re
import shutil
import socket
import subprocess

from .. import Failed, Unavailable, install
from . import Kind, environment

#: CONNECT of MQTT 3.1.1, a clean session of the client `ready`: whoever speaks the protocol answers with CONNACK.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready"


class Mosquitto(Kind):
    name = "mosquitto"
    ports = ("mqtt", "tls")

    def find(self):
        # Debian has it where only root looks.
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not os.path.exists(program):
            raise Unavailable("not installed: scripts/servers install mosquitto")
        if not shutil.which("mosquitto_passwd") or not shutil.which("mosquitto_sub"):
            raise Unavailable("mosquitto_passwd or mosquitto_sub is missing: apt-get install mosquitto mosquitto-clients")
        out = subprocess.run([program, "-h"], capture_output=True, text=True).stdout
        version = re.search(r"version (\d+\.\d+\.\d+)", out)
        if not version or not version[1].startswith("2."):
            raise Unavailable(f"{program} is not Mosquitto 2 but `{out.splitlines()[:1]}`")
        return program, version[1]

    def install(self):
        install.apt("mosquitto", "mosquitto-clients")

    def prepare(self, server, program):
        """Settings: `user` and `password` that it asks for, `cert`, `key` and `ca` of its second port."""
        asked, folder = server.settings, server.folder
        lines = ["persistence false", "log_dest stdout", "log_type all", f"listener {server.ports['mqtt']} 127.0.0.1"]
        if os.geteuid() == 0:
            # It reads private files then; as another user it could not reach the folder of a test.
            lines.append(f"user {pwd.getpwuid(0).pw_name}")
        if "cert" in asked:
            lines += [f"listener {server.ports['tls']} 127.0.0.1"]
            lines += [f"certfile {asked['cert']}", f"keyfile {asked['key']}"]
        if "user" in asked:
            passwords = os.path.join(folder, "passwords")
            argv = ["mosquitto_passwd", "-b", "-c", passwords, asked["user"], asked["password"]]
            out = subprocess.run(argv, capture_output=True, text=True)
            if out.returncode != 0:
                raise Failed(f"mosquitto_passwd: {(out.stderr or out.stdout).strip()}")
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines.append("allow_anonymous true")
        with open(os.path.join(folder, "mosquitto.conf"), "w") as file:
            file.write("\n".join(lines) + "\n")

    def command(self, server, program):
        return [program, "-c", os.path.join(server.folder, "mosquitto.conf")], environment(server)

    def answers(self, server, program):
        try:
            with socket.create_connection(("127.0.0.1", server.ports["mqtt"]), 2) as one:
                one.settimeout(2)
                one.sendall(_CONNECT)
                return one.recv(1) == b"\x20"
        except OSError:
            return False

    def addresses(self, server):
        return {"url": f"mqtt://127.0.0.1:{server.ports['mqtt']}"}

    def create(self, server, name, program):
        raise Failed("mosquitto has topics, no databases: use some of your own")
