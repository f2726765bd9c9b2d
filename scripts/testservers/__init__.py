"""Starts and ends real servers on loopback ports, with their data in a folder of their own.

    cli ──► instance ──► kinds ──► process
               │           └─────► install
               └─ docker

`kinds` has one file a server: how it is found, installed, started, asked whether it is ready. `instance` is a folder with
servers in it and the record of them; `process` is what the system knows of a process: is it still that one, what belongs to
it, who listens on a port. Nothing but Python's standard library is used, and Linux's /proc.
"""


class Unavailable(Exception):
    """A server that cannot be had here, with the reason."""


class Failed(Exception):
    """Something went wrong, in words for a person."""
