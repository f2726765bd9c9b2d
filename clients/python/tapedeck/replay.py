"""Asking the deck for messages that were missed: a DEALER to the requests port.

    ->  [topic, from_seq, to_seq, id]  |  ["last", topic, id]
    <-  [topic, payload] ...           byte for byte as they were published, in order
        [b"end", {topic, from_seq, to_seq, count, id, next?, first?}]
        [b"error", {error, id}]
"""

import itertools
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import msgpack
import zmq

from .messages import Message, decode_payload, make
from .ports import REQUESTS, normal

#: Silence within an answer after which it is asked for again.
ANSWER_S = 5.0
#: Messages of one answer that may wait here.
ANSWER_MESSAGES = 200000


class ReplayError(Exception):
    """The deck refused a request, or did not answer."""


class Refused(ReplayError):
    """The deck's own words."""


class Requests:
    """A connection to the requests port. Not thread-safe: one for each thread.

    ``curve`` is a :class:`tapedeck.Curve` where the deck asks for encryption.
    """

    def __init__(
        self,
        connect: Optional[str] = None,
        curve: Any = None,
        context: Optional[zmq.Context] = None,
        timeout: float = ANSWER_S,
    ) -> None:
        self.address = connect or "tcp://127.0.0.1:{}".format(REQUESTS)
        self.timeout = timeout
        self._curve = curve
        self._context = context or zmq.Context.instance()
        self._socket: Optional[zmq.Socket] = None
        self._ids = itertools.count(1)

    def range(self, topic: str, from_seq: int, to_seq: int) -> Iterator[Tuple[bytes, Dict[str, Any]]]:
        """Payloads of one answer, each with its map; the generator's value is the end marker's map."""
        return self._ask([topic, from_seq, to_seq])

    def last(self, topic: str) -> Optional[Tuple[bytes, Dict[str, Any]]]:
        """The newest message of a topic."""
        found = None
        for found in self._ask(["last", topic]):
            pass
        return found

    def _ask(self, request: List[Any]) -> Iterator[Tuple[bytes, Dict[str, Any]]]:
        asked = next(self._ids)
        socket = self._open()
        try:
            socket.send(msgpack.packb(request + [asked], use_bin_type=True), zmq.NOBLOCK)
        except zmq.Again:
            self.close()
            raise ReplayError("{} cannot be reached".format(self.address))
        wanted = request[1] if request[0] == "last" else request[0]
        finished = False
        try:
            while True:
                if not socket.poll(int(self.timeout * 1000)):
                    raise ReplayError("{} does not answer".format(self.address))
                frames = socket.recv_multipart()
                if len(frames) != 2:
                    continue
                head, payload = frames
                if head in (b"end", b"error"):
                    marker = decode_payload(payload) or {}
                    # Of an earlier request that was given up.
                    if marker.get("id") not in (asked, None):
                        continue
                    finished = True
                    if head == b"error":
                        raise Refused(str(marker.get("error", "refused")))
                    return marker
                data = decode_payload(payload)
                if data is not None and head.decode("utf-8", "replace") == wanted:
                    yield payload, data
        finally:
            # What would still come belongs to nobody: a new socket has an empty queue.
            if not finished:
                self.close()

    def _open(self) -> zmq.Socket:
        if self._socket is None:
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            # One answer at a time, and the deck cuts long ones: room for all of it, or it would drop messages.
            socket.setsockopt(zmq.RCVHWM, ANSWER_MESSAGES)
            if self._curve is not None:
                self._curve.apply(socket)
            socket.connect(self.address)
            self._socket = socket
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def __enter__(self) -> "Requests":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def last(
    topic: str, connect: Optional[str] = None, curve: Any = None, decimals: bool = False, timeout: float = ANSWER_S
) -> Optional[Message]:
    """The newest message of a topic, from the tape; ``None`` when there is none yet."""
    topic = normal(topic)
    deadline = time.monotonic() + timeout
    with Requests(connect, curve, timeout=max(0.05, deadline - time.monotonic())) as requests:
        found = requests.last(topic)
    return None if found is None else make(topic, found[1], found[0], False, decimals)
