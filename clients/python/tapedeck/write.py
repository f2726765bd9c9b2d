"""Points to the deck, over HTTP line protocol: when :func:`write` returns, they are on the tape."""

import http.client
import math
import os
import random
import socket
import time as clock
from base64 import b64encode
from decimal import Decimal
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Union
from urllib.parse import urlsplit

#: The deck's HTTP address, unless `TAPEDECK_URL` names another.
URL = "http://127.0.0.1:7373"
#: Lines of one request.
LINES = 5000
#: The longest wait between two tries.
LONGEST_WAIT_S = 5.0


class WriteError(Exception):
    """The deck refused the points, or could not be reached in time. ``status`` is 0 in the latter case."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("{}: {}".format(status, message) if status else message)
        self.status = status
        self.message = message


class Point(NamedTuple):
    """A measurement: a name, fields, tags, and a time in ns (the present when it is left out)."""

    name: str
    fields: Mapping[str, Any]
    tags: Mapping[str, Any] = {}
    time: Optional[int] = None


def write(
    points: Union[str, Point, Iterable[Point]],
    fields: Optional[Mapping[str, Any]] = None,
    tags: Optional[Mapping[str, Any]] = None,
    time: Optional[int] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
    timeout: float = 30.0,
) -> int:
    """Writes one point (``write("spread", {"value": 1.5}, {"pair": "EURUSD"})``) or many (``write(points)``).

    Returns how many, when all of them are durable on the tape. A deck that is away or busy is tried again
    until ``timeout`` seconds are over.
    """
    if isinstance(points, str):
        if not fields:
            raise ValueError("a point needs at least one field: write(name, {\"value\": 1.5})")
        points = [Point(points, fields, tags or {}, time)]
    elif isinstance(points, Point):
        points = [points]
    lines = [to_line(point) for point in points]
    send_lines(lines, url=url, token=token, timeout=timeout)
    return len(lines)


def to_line(point: Point) -> str:
    """A point in InfluxDB line protocol; its time is filled with the present.

    Raises ``ValueError`` for what the protocol has no words for: no field, a line break in a name, NaN, infinity.
    """
    if not point.fields:
        raise ValueError("{}: a point needs at least one field".format(point.name))
    parts = [_escape(point.name, ", ")]
    for key in sorted(point.tags):
        value = point.tags[key]
        # An empty tag cannot be written, and says nothing.
        if value is not None and str(value) != "":
            parts.append("{}={}".format(_escape(key, ",= "), _escape(str(value), ",= ")))
    fields = ["{}={}".format(_escape(key, ",= "), _field(key, value)) for key, value in point.fields.items()]
    time = clock.time_ns() if point.time is None else int(point.time)
    return "{} {} {}".format(",".join(parts), ",".join(fields), time)


def _escape(text: str, special: str) -> str:
    if not text:
        raise ValueError("a name is empty")
    if "\n" in text or "\r" in text:
        raise ValueError("{!r}: a name cannot hold a line break".format(text))
    for char in special:
        text = text.replace(char, "\\" + char)
    # A backslash at the end would escape what follows it.
    if text.endswith("\\"):
        raise ValueError("{!r}: a name cannot end in a backslash".format(text))
    return text


def _field(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "{}i".format(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("{}: {} is no number".format(key, value))
        return format(value, "f")
    if isinstance(value, str):
        return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("{}: {} is no number".format(key, number))
    return repr(number)


def send_lines(
    lines: List[str], url: Optional[str] = None, token: Optional[str] = None, timeout: float = 30.0, db: str = "tick"
) -> None:
    """Sends lines of ns precision, in order, in requests of 5,000."""
    sender = _Sender(url or os.environ.get("TAPEDECK_URL") or URL, token or os.environ.get("TAPEDECK_TOKEN"), db)
    deadline = clock.monotonic() + timeout
    try:
        for start in range(0, len(lines), LINES):
            sender.send("\n".join(lines[start : start + LINES]).encode("utf-8"), deadline)
    finally:
        sender.close()


class _Sender:
    def __init__(self, url: str, token: Optional[str], db: str) -> None:
        parts = urlsplit(url if "://" in url else "http://" + url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("{!r} is no address: write http://127.0.0.1:7373".format(url))
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = "{}/write?db={}&precision=ns".format(parts.path.rstrip("/"), db)
        self._headers = {"Content-Type": "text/plain; charset=utf-8"}  # type: Dict[str, str]
        if token:
            self._headers["Authorization"] = "Token " + token
        elif parts.username:
            login = "{}:{}".format(parts.username, parts.password or "")
            self._headers["Authorization"] = "Basic " + b64encode(login.encode("utf-8")).decode("ascii")
        self._shown = "{}://{}:{}".format(parts.scheme, self._host, self._port or (443 if self._tls else 80))
        self._http = None  # type: Optional[http.client.HTTPConnection]

    def send(self, body: bytes, deadline: float) -> None:
        wait, why = 0.1, "no time was given"
        while clock.monotonic() < deadline:
            try:
                status, text = self._post(body, deadline - clock.monotonic())
            except (OSError, http.client.HTTPException, socket.timeout) as error:
                self.close()
                why = "{} cannot be reached: {}".format(self._shown, error)
            else:
                if status in (200, 204):
                    return
                if status < 500 and status != 429:
                    raise WriteError(status, text)
                why = "{} answers {}: {}".format(self._shown, status, text)
            clock.sleep(max(0.0, min(wait * random.uniform(0.5, 1.0), deadline - clock.monotonic())))
            wait = min(2 * wait, LONGEST_WAIT_S)
        raise WriteError(0, why)

    def _post(self, body: bytes, left: float) -> Any:
        if self._http is None:
            kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
            self._http = kind(self._host, self._port, timeout=max(0.05, left))
        self._http.request("POST", self._path, body, self._headers)
        answer = self._http.getresponse()
        return answer.status, answer.read(65536).decode("utf-8", "replace").strip()

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None
