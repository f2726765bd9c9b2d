"""Subscribing, with what was missed fetched from the deck's tape.

Each message names the seq before it on its topic (``prev``). When that is not the last one seen, the
subscriber asks the deck for what lies between and hands it over first; what arrives meanwhile waits in
the socket (``high_water`` messages), so the order of a topic is kept. The deck's heartbeat tells the
last seq of each topic once a second, so that a miss at the end is seen too.
"""

import itertools
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import zmq

from .messages import Message, decode_payload, make
from .ports import REQUESTS, endpoints, matches, normal
from .replay import Refused, ReplayError, Requests

HEARTBEAT = b"heartbeat"
#: Tries to get a missing range before it is given up and counted as lost.
TRIES = 5
#: Holes that are remembered one by one.
HOLES = 1000
#: How often a waiting subscriber looks whether it was closed.
LOOK_MS = 200

#: Where a subscriber stands: topic to (tape, seq).
Position = Dict[str, Tuple[Optional[str], int]]


class Curve:
    """Keys for an encrypted bus, as ZeroMQ's 40-character text: the deck's public one, and a pair of one's own.

    Without a pair of its own the client makes one; a deck that admits only known clients needs theirs.
    """

    def __init__(
        self,
        server: Union[str, bytes],
        public: Union[str, bytes, None] = None,
        secret: Union[str, bytes, None] = None,
    ) -> None:
        if (public is None) != (secret is None):
            raise ValueError("public and secret belong together: give both, or neither")
        self.server = _key("server", server)
        if public is None or secret is None:
            self.public, self.secret = zmq.curve_keypair()
        else:
            self.public, self.secret = _key("public", public), _key("secret", secret)

    @classmethod
    def load(cls, server: str, own: Optional[str] = None) -> "Curve":
        """From the files that `tapedeck keys` writes: ``server.key``, and ``NAME.key_secret`` of this client."""
        from zmq.auth import load_certificate

        public, secret = load_certificate(own) if own is not None else (None, None)
        return cls(load_certificate(server)[0], public, secret)

    def apply(self, socket: zmq.Socket) -> None:
        socket.curve_serverkey = self.server
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret

    def __repr__(self) -> str:
        return "Curve(server={!r}, secret=***)".format(self.server)


def _key(name: str, text: Union[str, bytes]) -> bytes:
    key = text.encode("ascii") if isinstance(text, str) else text
    if len(key) != 40:
        raise ValueError("{}: a key has 40 characters, this has {}".format(name, len(key)))
    return key


class Hole(NamedTuple):
    """Messages of a topic that could not be had any more."""

    topic: str
    from_seq: int
    to_seq: int
    reason: str


class Subscriber:
    """An endless iterator over messages; see :func:`subscribe`.

    Counters: ``received`` from the bus, ``missed`` that did not come by themselves, of them ``replayed``
    from the tape and ``lost`` for good (at least one for each hole in ``holes``), ``duplicates`` dropped,
    ``undecoded`` handed over without fields.
    """

    def __init__(
        self,
        topics: Union[str, Iterable[str]],
        connect: Union[str, Sequence[str], None] = None,
        host: str = "127.0.0.1",
        port_offset: int = 0,
        requests: Optional[str] = None,
        curve: Optional[Curve] = None,
        decimals: bool = False,
        replay: bool = True,
        resume: Optional[Mapping[str, Sequence[Any]]] = None,
        high_water: int = 100000,
        context: Optional[zmq.Context] = None,
    ) -> None:
        names = [topics] if isinstance(topics, str) else list(topics)
        if not names:
            raise ValueError("which topic? Name at least one, or \"*\" for all")
        self.topics = [normal(name) for name in names]
        self.decimals = decimals
        self.received = self.missed = self.replayed = self.lost = 0
        self.duplicates = self.undecoded = 0
        #: Tapes that came to an end: the deck began a new one.
        self.new_tapes = 0
        self.holes: List[Hole] = []
        #: ``time.monotonic()`` of the last message or heartbeat.
        self.last_heard: Optional[float] = None
        self._position: Position = {normal(name): (at[0], int(at[1])) for name, at in (resume or {}).items()}
        self._context = context or zmq.Context.instance()
        self._closed = threading.Event()
        self._ahead: Optional[Iterator[Message]] = None
        self._poller = zmq.Poller()
        self._sockets: Dict[zmq.Socket, List[str]] = {}
        if connect is None:
            places = endpoints(names, host, port_offset)
        else:
            places = [(address, self.topics) for address in ([connect] if isinstance(connect, str) else connect)]
        for address, wanted in places:
            self._open(address, wanted, curve, high_water)
        self._requests: Optional[Requests] = None
        if replay:
            address = requests or _beside(places[0][0], port_offset)
            self._requests = Requests(address, curve, self._context)

    def _open(self, address: str, wanted: List[str], curve: Optional[Curve], high_water: int) -> None:
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, high_water)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
        if curve is not None:
            curve.apply(socket)
        for topic in wanted:
            socket.setsockopt(zmq.SUBSCRIBE, topic.encode("utf-8"))
        socket.setsockopt(zmq.SUBSCRIBE, HEARTBEAT)
        socket.connect(address)
        self._sockets[socket] = wanted
        self._poller.register(socket, zmq.POLLIN)

    @property
    def position(self) -> Dict[str, List[Any]]:
        """Where it stands, fit for JSON: hand it to ``resume=`` of the next subscriber, and nothing is missed between."""
        return {topic: [tape, seq] for topic, (tape, seq) in self._position.items()}

    def get(self, timeout: Optional[float] = None) -> Optional[Message]:
        """The next message; ``None`` when none came within ``timeout`` seconds, or when it was closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed.is_set():
            if self._ahead is not None:
                message = next(self._ahead, None)
                if message is not None:
                    return message
                self._ahead = None
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                # Once at least, so that a timeout of 0 takes what is there.
                left = 0.0
            taken = self._receive(left)
            if taken is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                continue
            message = self._take(*taken)
            if message is not None:
                return message
        return None

    def _receive(self, left: Optional[float]) -> Optional[Tuple[List[bytes], List[str]]]:
        wait = LOOK_MS if left is None else min(LOOK_MS, int(left * 1000))
        for socket, _ in self._poller.poll(wait):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                continue
            return frames, self._sockets[socket]
        return None

    def _take(self, frames: List[bytes], wanted: List[str]) -> Optional[Message]:
        self.last_heard = time.monotonic()
        if len(frames) != 2:
            return self._without_fields(frames, wanted)
        topic, payload = frames[0].decode("utf-8", "replace"), frames[1]
        if frames[0] == HEARTBEAT and HEARTBEAT.decode() not in wanted:
            self._heartbeat(decode_payload(payload) or {}, wanted)
            return None
        if not any(matches(name, topic) for name in wanted):
            return None
        data = decode_payload(payload)
        if data is None:
            return self._without_fields(frames, wanted)
        return self._judge(topic, data, payload)

    def _without_fields(self, frames: List[bytes], wanted: List[str]) -> Optional[Message]:
        """The forms `array` and `soh` carry no names, and so no `prev`: they are handed over as they are."""
        head = frames[0].split(b" ", 1)
        topic = head[0].decode("utf-8", "replace")
        if not any(matches(name, topic) for name in wanted):
            return None
        payload = frames[1] if len(frames) > 1 else (head[1] if len(head) > 1 else b"")
        self.received += 1
        self.undecoded += 1
        return make(topic, {}, payload, False, self.decimals)

    def _judge(self, topic: str, data: Dict[str, Any], payload: bytes) -> Optional[Message]:
        message = make(topic, data, payload, False, self.decimals)
        seq, prev, tape = data.get("seq"), data.get("prev"), data.get("tape")
        self.received += 1
        # Somebody else's publisher.
        if not isinstance(seq, int):
            return message
        known = self._position.get(topic)
        if known is not None and known[0] not in (tape, None):
            self.new_tapes += 1
            known = None
        if known is None:
            self._position[topic] = (tape, seq)
            return message
        last = known[1]
        if seq <= last and data.get("replayed"):
            # A recording that is played again, from an earlier place.
            self._position[topic] = (tape, seq)
            return message
        if seq <= last:
            self.duplicates += 1
            return None
        to_seq = prev if isinstance(prev, int) else seq - 1
        if to_seq <= last:
            self._position[topic] = (tape, seq)
            return message
        missing = self._refetch(topic, to_seq, isinstance(prev, int))
        self._ahead = itertools.chain(missing, self._then(message, tape, seq))
        return None

    def _then(self, message: Message, tape: Optional[str], seq: int) -> Iterator[Message]:
        self._position[message.topic] = (tape, seq)
        yield message

    def _heartbeat(self, beat: Dict[str, Any], wanted: List[str]) -> None:
        tape, last = beat.get("tape"), beat.get("last")
        if not isinstance(last, dict):
            return
        missing: List[Iterator[Message]] = []
        for topic, seq in last.items():
            if not isinstance(topic, str) or not isinstance(seq, int):
                continue
            if not any(matches(name, topic) for name in wanted):
                continue
            known = self._position.get(topic)
            if known is None or known[0] not in (tape, None):
                if known is not None:
                    self.new_tapes += 1
                self._position[topic] = (tape, seq)
            elif seq > known[1]:
                missing.append(self._refetch(topic, seq, True))
        if missing:
            self._ahead = itertools.chain(*missing)

    def _refetch(self, topic: str, to_seq: int, exact: bool) -> Iterator[Message]:
        """What lies behind the last one seen, up to `to_seq`; with `exact` there is a message of that seq."""
        tape, last = self._position[topic]
        ask_from, tries, seen_hole, reason = last + 1, 0, None, "replay is off"
        while self._requests is not None and last < to_seq and ask_from <= to_seq and not self._closed.is_set():
            answer = self._requests.range(topic, ask_from, to_seq)
            marker: Dict[str, Any] = {}
            broken = False
            try:
                while True:
                    try:
                        payload, data = next(answer)
                    except StopIteration as end:
                        marker = end.value or {}
                        break
                    seq, prev = data.get("seq"), data.get("prev")
                    if not isinstance(seq, int) or seq <= last or data.get("tape", tape) not in (tape, None):
                        continue
                    tape = data.get("tape", tape)
                    if isinstance(prev, int) and prev > last:
                        # Dropped on the way, or gone from the tape: asked again, the second time says which.
                        if seen_hole != seq:
                            seen_hole, broken = seq, True
                            break
                        self._lose(topic, last + 1, prev, "gone from the tape")
                    last, tries = seq, 0
                    self._position[topic] = (tape, seq)
                    self.missed += 1
                    self.replayed += 1
                    yield make(topic, data, payload, True, self.decimals)
                if broken:
                    answer.close()
                    ask_from = last + 1
                    continue
            except Refused as error:
                reason = str(error)
                break
            except ReplayError as error:
                reason, tries = str(error), tries + 1
                if tries >= TRIES or self._closed.wait(0.1 * 2 ** tries):
                    break
                ask_from = last + 1
                continue
            following = marker.get("next")
            if not isinstance(following, int) or following <= ask_from:
                reason = "gone from the tape"
                break
            ask_from = following
        if exact and last < to_seq:
            self._lose(topic, last + 1, to_seq, reason)
            self._position[topic] = (tape, to_seq)

    def _lose(self, topic: str, from_seq: int, to_seq: int, reason: str) -> None:
        self.missed += 1
        self.lost += 1
        if len(self.holes) < HOLES:
            self.holes.append(Hole(topic, from_seq, to_seq, reason))

    def stop(self) -> None:
        """Ends the iteration; may be called from another thread or a signal handler."""
        self._closed.set()

    def close(self) -> None:
        """Closes the sockets: from the thread that reads, after :meth:`stop` from any other."""
        self._closed.set()
        for socket in self._sockets:
            if not socket.closed:
                self._poller.unregister(socket)
                socket.close(0)
        self._sockets = {}
        if self._requests is not None:
            self._requests.close()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        message = self.get()
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def for_each(self, handler: Callable[[Message], Any]) -> None:
        """Calls ``handler`` for each message until it is stopped."""
        for message in self:
            handler(message)


def subscribe(topics: Union[str, Iterable[str]], **options: Any) -> Subscriber:
    """Subscribes one topic or several, and returns the iterator over their messages.

    ``"kraken_tick"`` is one topic, ``"trade.*"`` a family, ``"*"`` everything. The port comes from the
    register; ``host`` is where the deck runs, ``port_offset`` its ``[bus] port_offset``, ``connect`` names addresses instead. ``resume`` is the
    ``position`` of an earlier subscriber. ``curve`` has the keys of an encrypted bus.
    """
    return Subscriber(topics, **options)


def _beside(address: str, port_offset: int) -> str:
    """The requests port on the host of an address."""
    host, _, _ = address.rpartition(":")
    return "{}:{}".format(host, REQUESTS + port_offset)
