"""Dashboards beside the models that Grafana publishes: what a model does not know, it drops, and is said here.

Ends with 3 where the models are not installed.
"""

import json
import pathlib
import re
import sys

try:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard
except ImportError as error:
    print(f"no models of Grafana's dashboards: {error}", file=sys.stderr)
    sys.exit(3)


# What Grafana itself writes there, and its models say nothing of: the query of a mark is its data source's, and each variable
# has its query twice.
UNTOLD = re.compile(
    r"\.annotations\.list\[\d+\]\.(target\.\w+|query|textColumn|tagsColumn|fromAnnotations)$"
    r"|\.templating\.list\[\d+\]\.definition$"
)


def member(value, theirs, key, path):
    if key in theirs:
        return lost(value, theirs[key], path)
    return [] if value in ({}, []) or UNTOLD.search(path) else [f"{path} is unknown"]


def lost(ours, theirs, path=""):
    """What of ours is not in theirs, or is another there."""
    if UNTOLD.search(path):
        return []
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [f"{path}: {ours!r} became {theirs!r}"]
        return [
            line
            for key, value in ours.items()
            if value is not None
            for line in member(value, theirs, key, f"{path}.{key}")
        ]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [f"{path}: {ours!r} became {theirs!r}"]
        return [line for nth, pair in enumerate(zip(ours, theirs)) for line in lost(*pair, f"{path}[{nth}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} became {theirs!r}"]


count, wrong = 0, []
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    ours = json.loads(file.read_text())
    read = Dashboard.from_json(ours)
    theirs = json.loads(JSONEncoder().encode(read))
    wrong += [f"{file.name}{line}" for line in lost(ours, theirs)]
    count += 1
print("\n".join(wrong) if wrong else count)
sys.exit(1 if wrong else 0)
