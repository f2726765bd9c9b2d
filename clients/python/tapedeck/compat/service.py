"""`InfluxDBService` over the deck: the same calls, and a point that was flushed is on the tape."""

import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from datetime import datetime, timezone
from typing import Any, Deque, Dict, List, Optional, Union

from .. import history
from ..write import LINES, Point, WriteError, send_lines, to_line
from .config import InfluxDBConfig
from .models import BaseDataPoint

logger = logging.getLogger(__name__)

#: A point waits here no longer than this before it is sent by itself.
IDLE_FLUSH_S = 5.0
#: Points that wait while the deck is away; beyond, `write_point` says False.
BUFFERED = 100000


class InfluxDBService:
    """Takes points and brings them to the deck, in batches.

    ``write_point`` returns False, and counts an error, for a point that cannot be written (a NaN, no
    field): that one alone. ``flush(force=True)`` returns True when everything handed in before is on the
    tape. A background thread sends what waits longer than five seconds.
    """

    def __init__(self, config: Optional[InfluxDBConfig] = None) -> None:
        self.config = config or InfluxDBConfig()
        self.write_count = 0
        self.error_count = 0
        self.last_write_time = time.time()
        self._lines: Deque[str] = deque()
        self._lock = threading.Lock()
        # One sender at a time, so that points keep their order.
        self._sending = threading.Lock()
        self._ending = threading.Event()
        self._flusher: Optional[threading.Thread] = None
        self.client: Optional[_Client] = None
        self.reconnect()

    def reconnect(self) -> bool:
        """Whether the deck answers. Points are taken and kept also while it does not."""
        client = _Client(self.config)
        self.client = client if client.ping() else None
        if self.client is None:
            logger.warning("the deck at %s does not answer: points wait here", self.config.url)
        return self.client is not None

    def write_point(self, data_point: Union[BaseDataPoint, Dict[str, Any]]) -> bool:
        try:
            line = _line(data_point)
        except (KeyError, TypeError, ValueError) as error:
            self.error_count += 1
            logger.error("point not taken: %s", error)
            return False
        with self._lock:
            if len(self._lines) >= BUFFERED:
                self.error_count += 1
                full = True
            else:
                self._lines.append(line)
                full = False
            waiting = len(self._lines)
            if self._flusher is None and not self._ending.is_set():
                self._flusher = threading.Thread(target=self._flush_idle, name="tapedeck-flush", daemon=True)
                self._flusher.start()
        if full:
            logger.error("point not taken: %d wait already, the deck is away", BUFFERED)
            return False
        if waiting >= self.config.batch_size:
            self.flush()
        return True

    def write_points(self, data_points: List[Union[BaseDataPoint, Dict[str, Any]]]) -> bool:
        return all([self.write_point(point) for point in data_points])

    def flush(self, force: bool = False) -> bool:
        """Sends what waits: all of it with ``force``, else when a batch is full or old. True: it is on the tape."""
        with self._sending:
            while True:
                with self._lock:
                    due = force or len(self._lines) >= self.config.batch_size or self._is_old()
                    batch = [self._lines[at] for at in range(min(len(self._lines), LINES))] if due else []
                if not batch:
                    return True
                if not self._send(batch):
                    return False

    def _send(self, batch: List[str]) -> bool:
        try:
            send_lines(batch, url=self.config.url, timeout=self.config.timeout, db=self.config.database)
        except WriteError as error:
            self.error_count += 1
            if error.status == 0:
                logger.error("points wait: %s", error)
                return False
            logger.error("refused: %s", error)
            # The good ones of the batch are on the tape; or none, and then they must not wait for the bad one.
            if "partial write" not in error.message:
                return self._send_halves(batch)
        self._sent(len(batch))
        return True

    def _send_halves(self, batch: List[str]) -> bool:
        if len(batch) == 1:
            with self._lock:
                self._lines.popleft()
            return True
        half = len(batch) // 2
        return self._send(batch[:half]) and self._send(batch[half:])

    def _sent(self, count: int) -> None:
        with self._lock:
            for _ in range(count):
                self._lines.popleft()
            self.write_count += count
            self.last_write_time = time.time()

    def _is_old(self) -> bool:
        return bool(self._lines) and time.time() - self.last_write_time >= IDLE_FLUSH_S

    def _flush_idle(self) -> None:
        while not self._ending.wait(IDLE_FLUSH_S / 5):
            with self._lock:
                old = self._is_old()
            if old:
                self.flush()

    def query(self, query_str: str) -> Optional[List[Dict[str, Any]]]:
        """InfluxQL, answered by the InfluxDB that the deck writes to; None when there is none or it refuses.

        For SQL over the tape itself there is :func:`tapedeck.query`.
        """
        try:
            return _Client(self.config).query(query_str)
        except (OSError, ValueError) as error:
            self.error_count += 1
            logger.error("query not answered: %s", error)
            return None

    def get_latest_tick(self, instrument: str) -> Optional[Dict[str, Any]]:
        """The newest bid and ask of an instrument on the tape: recorded by a source, or written as a point."""
        rows = self._rows(history.latest_tick_sql(), [instrument] * 3)
        return rows[0] if rows else None

    def get_ohlc(self, instrument: str, hours: int = 24, interval: str = "1m") -> Optional[List[Dict[str, Any]]]:
        """Candles of the last hours, newest first."""
        start = time.time_ns() - hours * 3600 * 10**9
        rows = self._rows(*history.candles_sql(instrument, interval, start))
        return None if rows is None else rows[::-1]

    def _rows(self, sql: str, params: List[Any]) -> Optional[List[Dict[str, Any]]]:
        try:
            return history.query(sql, params, frame="dicts")
        except Exception as error:
            self.error_count += 1
            logger.error("query not answered: %s", error)
            return None

    def get_stats(self) -> Dict[str, Any]:
        with self._lock:
            return {
                "connected": self.client is not None,
                "database": self.config.database,
                "buffered_points": len(self._lines),
                "total_writes": self.write_count,
                "total_errors": self.error_count,
                "last_write": datetime.fromtimestamp(self.last_write_time).isoformat(),
            }

    def close(self) -> None:
        """Sends what waits and ends. Points that the deck did not take are counted and logged."""
        self._ending.set()
        self.flush(force=True)
        with self._lock:
            left = len(self._lines)
        if left:
            self.error_count += left
            logger.error("%d points were not taken by the deck and are lost with this process", left)
        self.client = None

    def __enter__(self) -> "InfluxDBService":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def create_service(config: Optional[InfluxDBConfig] = None) -> InfluxDBService:
    return InfluxDBService(config)


def _line(point: Union[BaseDataPoint, Dict[str, Any]]) -> str:
    raw = point.to_influx_json() if isinstance(point, BaseDataPoint) else point
    if not isinstance(raw, dict):
        raise TypeError("a point is a BaseDataPoint or a dict, not {}".format(type(point).__name__))
    fields = {key: value for key, value in raw["fields"].items() if value is not None}
    return to_line(Point(raw["measurement"], fields, raw.get("tags") or {}, time_ns(raw.get("time"))))


def time_ns(when: Union[None, int, float, str, datetime]) -> Optional[int]:
    """Nanoseconds of what the predecessors took for a time: milliseconds, RFC 3339 text, a datetime."""
    if when is None:
        return None
    if isinstance(when, (int, float)):
        return int(when) * 10**6 if isinstance(when, int) else round(when * 10**6)
    if isinstance(when, datetime):
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        since = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    return history.instant_ns(when)


class _Client:
    """The deck's HTTP port as far as the predecessors' snippets touch it."""

    def __init__(self, config: InfluxDBConfig) -> None:
        self._config = config

    def ping(self) -> bool:
        try:
            with self._open("/ping") as answer:
                return answer.status in (200, 204)
        except (OSError, ValueError):
            return False

    def query(self, statement: str) -> List[Dict[str, Any]]:
        words = {"db": self._config.database, "q": statement}
        with self._open("/query?" + urllib.parse.urlencode(words)) as answer:
            body = json.loads(answer.read().decode("utf-8"))
        rows: List[Dict[str, Any]] = []
        for result in body.get("results", []):
            if "error" in result:
                raise ValueError(result["error"])
            for series in result.get("series", []):
                tags = series.get("tags") or {}
                rows.extend(dict(zip(series["columns"], values), **tags) for values in series.get("values", []))
        return rows

    def get_list_database(self) -> List[Dict[str, str]]:
        return [{"name": row["name"]} for row in self.query("SHOW DATABASES")]

    def close(self) -> None:
        """Nothing is kept open."""

    def _open(self, path: str) -> Any:
        try:
            return urllib.request.urlopen(self._config.url.rstrip("/") + path, timeout=self._config.timeout)
        except urllib.error.HTTPError as error:
            text = error.read(4096).decode("utf-8", "replace")
            raise ValueError("{}: {}".format(error.code, text)) from error
