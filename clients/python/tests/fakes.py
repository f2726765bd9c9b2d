"""A bus and an HTTP port that behave like a deck's, and misbehave on demand."""

import gzip
import http.server
import threading
import time
import uuid
from typing import Any, Callable, Dict, List, Optional, Tuple

import msgpack
import zmq

PATIENCE_S = 30.0


def until(what: str, ask: Callable[[], Any]) -> Any:
    """Asks again and again until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError("waited for " + what)
        time.sleep(0.01)


class FakeBus:
    """One PUB and one ROUTER. `publish(..., drop=True)` puts a message on the tape and not on the wire."""

    def __init__(self, tape: Optional[str] = None, cut: int = 1000) -> None:
        self.context = zmq.Context()
        self.tape = tape or str(uuid.uuid4())
        #: Messages of one answer.
        self.cut = cut
        self.kept: List[Tuple[str, int, bytes]] = []
        self.last: Dict[str, int] = {}
        self.seq = 0
        self.asked: List[Any] = []
        #: Called with the request; True: it was answered (or not) there.
        self.misbehave: Optional[Callable[[Any, Callable[[List[bytes]], None]], bool]] = None
        self.pub = self.context.socket(zmq.XPUB)
        self.pub.setsockopt(zmq.LINGER, 0)
        self.pub.setsockopt(zmq.SNDHWM, 0)
        # Each subscription is told, also one that somebody else has already.
        self.pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.port = self.pub.bind_to_random_port("tcp://127.0.0.1")
        self.requests_port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.address = "tcp://127.0.0.1:{}".format(self.port)
        self.requests = "tcp://127.0.0.1:{}".format(self.requests_port)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait_for(self, *topics: str) -> None:
        """Until somebody subscribed the topics, and the heartbeat; they come in no order."""
        awaited = {topic.encode() for topic in topics} | {b"heartbeat"}
        while awaited:
            if not self.pub.poll(int(PATIENCE_S * 1000)):
                raise AssertionError("nobody subscribed {}".format(awaited))
            message = self.pub.recv()
            if message[:1] == b"\x01":
                awaited.discard(message[1:])

    def message(self, topic: str, **fields: Any) -> bytes:
        # The tape has records of other topics too.
        self.seq += 3
        data = {
            "seq": self.seq,
            "prev": self.last.get(topic),
            "tape": self.tape,
            "ts_event": 1_700_000_000_000_000_000 + self.seq,
            "ts_recv": 1_700_000_000_000_000_500 + self.seq,
            "timestamp": 1_700_000_000.0,
            "instrument": "BTC/USD",
        }
        data.update(fields)
        payload = msgpack.packb(data)
        self.kept.append((topic, self.seq, payload))
        self.last[topic] = self.seq
        return payload

    def publish(self, topic: str, drop: bool = False, **fields: Any) -> int:
        payload = self.message(topic, **fields)
        if not drop:
            self.pub.send_multipart([topic.encode(), payload])
        return self.seq

    def beat(self) -> None:
        self.pub.send_multipart(
            [b"heartbeat", msgpack.packb({"tape": self.tape, "ts": time.time_ns(), "last": self.last})]
        )

    def new_tape(self) -> None:
        self.tape, self.kept, self.last, self.seq = str(uuid.uuid4()), [], {}, 0

    def forget_below(self, seq: int) -> None:
        self.kept = [kept for kept in self.kept if kept[1] >= seq]

    def _serve(self) -> None:
        while not self._ending.is_set():
            if not self.router.poll(20):
                continue
            who, body = self.router.recv_multipart()
            request = msgpack.unpackb(body)
            self.asked.append(request)

            def send(frames: List[bytes], who: bytes = who) -> None:
                self.router.send_multipart([who] + frames)

            if self.misbehave is not None and self.misbehave(request, send):
                continue
            self.answer(request, send)

    def answer(self, request: Any, send: Callable[[List[bytes]], None]) -> None:
        if request[0] == "last":
            topic, asked = request[1:]
            found = [kept for kept in list(self.kept) if kept[0] == topic][-1:]
            more, low, high = [], 0, 0
        else:
            topic, low, high, asked = request
            found = [kept for kept in list(self.kept) if kept[0] == topic and low <= kept[1] <= high]
            found, more = found[: self.cut], found[self.cut :]
        for _, _, payload in found:
            send([topic.encode(), payload])
        end = {"topic": topic, "from_seq": low, "to_seq": high, "count": len(found), "id": asked}
        if more:
            end["next"] = more[0][1]
        if self.kept and request[0] != "last" and self.kept[0][1] > low:
            end["first"] = self.kept[0][1]
        send([b"end", msgpack.packb(end)])

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.pub.close(0)
        self.router.close(0)
        self.context.term()


class FakeDeck:
    """`POST /write`, `/ping` and `/query` of a deck."""

    def __init__(self, port: int = 0) -> None:
        self.lines: List[str] = []
        self.headers: List[Dict[str, str]] = []
        self.paths: List[str] = []
        #: (status, text) to answer with, one for each request, before it takes points.
        self.answers: List[Tuple[int, str]] = []
        #: A line that holds this is refused with all of its request.
        self.poison = "\0"
        self.result: Any = {"results": [{}]}
        deck = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.startswith("/ping"):
                    self.say(204, b"")
                else:
                    import json

                    self.say(200, json.dumps(deck.result).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                deck.paths.append(self.path)
                deck.headers.append(dict(self.headers))
                if deck.answers:
                    status, text = deck.answers.pop(0)
                    self.say(status, text.encode())
                    return
                lines = body.decode().split("\n")
                if any(deck.poison in line for line in lines):
                    self.say(400, b'{"error":"unable to parse"}')
                    return
                deck.lines.extend(lines)
                self.say(204, b"")

            def say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:{}".format(self.port)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
