"""The verbs of scripts/servers."""

import argparse
import json
import os
import signal
import sys

from . import Failed, Unavailable, docker, install, instance, process
from .instance import Instance
from .kinds import all_kinds

_HELP = """\
Real servers on free ports of this machine, their data in a temporary folder.

  scripts/servers install postgres influxdb    get what is missing (Debian packages need root)
  scripts/servers up postgres influxdb         start them; prints addresses and what ends them
  scripts/servers status                       PID, ports, memory, ready or not
  scripts/servers down                         end them and remove their data

Exit codes: 0, 1 something failed, 2 usage, 3 a server cannot be had here (it is named, with the reason).
"""
_UNAVAILABLE = 3
#: What `install` gets where nothing is named: the others take minutes to build.
_USUAL = ["influxdb", "mosquitto", "pocketbase", "postgres", "prometheus", "questdb"]


class Usage(Exception):
    """Words that are not understood."""


def main(argv):
    options = _parser().parse_args(argv)
    # An end from outside runs the clean-up, too.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return options.verb(options)
    except Usage as error:
        print(f"servers: {error}", file=sys.stderr)
        return 2
    except (Failed, Unavailable, OSError) as error:
        if getattr(options, "json", False):
            print(json.dumps({"error": str(error)}))
        print(f"servers: {error}", file=sys.stderr)
        return _UNAVAILABLE if isinstance(error, Unavailable) else 1


def _parser():
    names = list(all_kinds())
    parser = argparse.ArgumentParser(
        prog="scripts/servers", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name, function, text):
        one = verbs.add_parser(name, help=text, description=text)
        one.set_defaults(verb=function)
        one.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
        one.add_argument("--json", action="store_true", help="one line of JSON in place of words")
        if name != "install":
            one.add_argument("--dir", help="the folder (default: one in the temporary folder)")
        return one

    verb("install", _install, "get the servers that are missing; what is there is left alone")
    up = verb("up", _up, "start servers; those that run are left alone")
    up.add_argument("--until-eof", action="store_true", help="stay, obey lines on standard input, end all at its end")
    up.add_argument("--set", action="append", default=[], metavar="NAME.KEY=VALUE", help="a setting of that server")
    up.add_argument("--docker", action="store_true", help="as containers, by deploy/compose/servers.yml")
    down = verb("down", _down, "end servers and remove their data")
    down.add_argument("--docker", action="store_true", help="the containers of `up --docker`")
    down.add_argument("--all", action="store_true", help="every instance of this user that was given no --dir")
    verb("status", _status, "what runs where")
    return parser


def _kinds(names):
    known = all_kinds()
    for name in names:
        if name not in known:
            raise Usage(f"no server `{name}`: {', '.join(known)}")
    return {name: known[name] for name in names}


def _install(options):
    report = {}
    for name, kind in _kinds(options.names or _USUAL).items():
        try:
            report[name] = {"installed": _install_one(name, kind)}
            install.say(f"{name}: {report[name]['installed']} is installed")
        except Unavailable as reason:
            report[name] = {"unavailable": str(reason)}
            install.say(f"{name}: {reason}")
    if options.json:
        print(json.dumps(report))
    return _UNAVAILABLE if any("unavailable" in one for one in report.values()) else 0


def _install_one(name, kind):
    try:
        return kind.find()[1]
    except Unavailable:
        pass
    with install.lock("install", f"{name}: waiting for another installation"):
        try:
            return kind.find()[1]  # by the one that we waited for
        except Unavailable:
            install.say(f"{name}:")
            kind.install()
            return kind.find()[1]


def _up(options):
    kinds = _kinds(options.names)
    if not kinds:
        raise Usage("up NAME…")
    instance.sweep()
    if options.docker:
        return _up_docker(options, kinds)
    held, settings = options.until_eof, _settings(options.set, kinds)
    folder = os.path.realpath(options.dir) if options.dir else None
    made = not (folder and os.path.isdir(folder))
    folder = folder or (instance.new_folder() if held else instance.default_folder())
    if made and not os.path.isdir(folder):
        os.makedirs(folder, mode=0o711, exist_ok=True)
    with instance.locked(folder):
        one = Instance.load(folder)
        if one and one.is_held():
            raise Failed(f"{folder} is held by process {one.holder.pid}")
        one = one or Instance(folder, made)
        one.holder = process.Process.of(os.getpid()) if held else None
        one.save()
        running = set(one.servers)
        try:
            missing = one.start(kinds, settings)
        except BaseException:
            _quietly()
            one.remove([name for name in list(one.servers) if held or name not in running])
            raise
    if not held:
        _tell(options, one, kinds, missing)
        if not one.servers:
            instance.end(folder)
        return _UNAVAILABLE if missing else 0
    try:
        _tell(options, one, kinds, missing)
        if not missing:
            _obey(one)
    except BrokenPipeError:
        pass  # whoever asked is gone
    finally:
        _quietly()
        with instance.locked(folder):
            one.remove()
        # What could not be written to a closed pipe is not tried again at exit.
        sys.stdout = open(os.devnull, "w")
    return _UNAVAILABLE if missing else 0


def _obey(one):
    """`{"do": "kill", "server": "postgres"}` a line; an answer a line; until the end of standard input."""
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            server = one.servers[asked["server"]]
            answer = {"ok": _DEEDS[asked["do"]](one, server, asked)}
        except (Failed, Unavailable, OSError) as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"not understood: {line.strip()}: {error!r}"}
        print(json.dumps(answer), flush=True)


def _deed(function):
    """What is done to a server; the answer describes it afterwards."""

    def deed(one, server, asked):
        with instance.locked(one.folder):
            function(one, server)
            one.save()
        return server.describe()

    return deed


_DEEDS = {
    "kill": _deed(lambda one, server: one.kill(server)),
    "stop": _deed(lambda one, server: one.stop(server)),
    "restart": _deed(lambda one, server: one.restart(server)),
    "pause": _deed(lambda one, server: server.process.pause()),
    "resume": _deed(lambda one, server: server.process.resume()),
    "create": lambda one, server, asked: server.create(asked["name"]),
}


def _settings(words, kinds):
    """`{name: {key: value}}` of NAME.KEY=VALUE."""
    settings = {}
    for word in words:
        path, equals, value = word.partition("=")
        name, dot, key = path.partition(".")
        if not equals or not dot or name not in kinds:
            raise Usage(f"--set NAME.KEY=VALUE with a NAME that is started, not `{word}`")
        settings.setdefault(name, {})[key] = value
    return settings


def _tell(options, one, kinds, missing):
    servers = {name: one.servers[name].describe() for name in kinds if name not in missing}
    if options.json:
        report = {"folder": one.folder, "pid": os.getpid(), "servers": servers, "unavailable": missing}
        print(json.dumps(report), flush=True)
        return
    for name, server in servers.items():
        print(f"{name} {server['version']}, process {server['pid']}")
        for key in ("url", "dsn", "user", "password", "org", "bucket", "token"):
            if key in server:
                print(f"  {key:8} {server[key]}")
        print(f"  log      {server['log']}")
    for name, reason in missing.items():
        print(f"{name} cannot be had here: {reason}")
    if servers:
        where = f" --dir {options.dir}" if options.dir else ""
        how = "end of input (Ctrl-D)" if options.until_eof else f"scripts/servers down{where}"
        print(f"what ends them: {how}", flush=True)


def _up_docker(options, kinds):
    folder = options.dir or instance.default_folder()
    ports = docker.up(folder, kinds)
    if options.json:
        print(json.dumps({"folder": folder, "servers": {name: {"ports": one} for name, one in ports.items()}}))
    else:
        for name, one in ports.items():
            print(f"{name}: " + ", ".join(f"{port} 127.0.0.1:{number}" for port, number in one.items()))
    try:
        if options.until_eof:
            sys.stdin.read()
        else:
            where = f" --dir {options.dir}" if options.dir else ""
            print(f"what ends them: scripts/servers down --docker{where}", file=sys.stderr)
    finally:
        if options.until_eof:
            docker.down(folder)
    return 0


def _down(options):
    _kinds(options.names)
    if options.docker:
        docker.down(options.dir or instance.default_folder())
        return 0
    folders = instance.known() if options.all else [options.dir or instance.default_folder()]
    found = [folder for folder in folders if instance.end(folder, options.names or None)]
    if options.json:
        print(json.dumps({"ended": found}))
    elif not found:
        print("nothing runs there")
    return 0


def _status(options):
    _kinds(options.names)
    report = []
    for folder in [options.dir] if options.dir else instance.known():
        one = Instance.load(folder)
        for name, server in sorted(one.servers.items() if one else []):
            if not options.names or name in options.names:
                alive = server.is_alive()
                report.append(
                    {
                        **{"server": name, "folder": one.folder, "holder": one.holder and one.holder.pid},
                        **server.describe(),
                        **{"alive": alive, "ready": alive and server.answers()},
                        "resident_bytes": server.process.resident_bytes() if alive else 0,
                    }
                )
    if options.json:
        print(json.dumps(report))
        return 0
    for one in report:
        state = "ready" if one["ready"] else "not ready" if one["alive"] else "dead"
        ports = " ".join(f"{port}:{number}" for port, number in one["ports"].items())
        held = f"  held by {one['holder']}" if one["holder"] else ""
        memory = one["resident_bytes"] / 2**20
        print(f"{one['server']:10} {state:9} pid {one['pid']:<8} {ports:36} {memory:5.0f} MiB  {one['folder']}{held}")
    if not report:
        print("nothing runs")
    return 0


def _end(number, _frame):
    print(f"servers: ended by signal {number}", file=sys.stderr)
    raise SystemExit(128 + number)


def _quietly():
    """From here on nothing interrupts the clean-up."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
