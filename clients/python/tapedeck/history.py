"""History: SQL over the tape and its archive, through the deck's PostgreSQL port.

Needs a driver: ``pip install "tapedeck[sql]"`` (psycopg 3), or psycopg2.
"""

import os
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

#: Where the deck answers SQL, unless `TAPEDECK_SQL` names another address.
ADDRESS = "127.0.0.1:5433"
USER = DATABASE = "tapedeck"
PASSWORD_FILE = "sql.password"

#: An instant: a datetime (without a zone it is UTC), text such as "2026-01-05" or "2026-01-05T10:00:00Z", or ns since 1970.
When = Union[datetime, str, int]

_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


class NoPassword(Exception):
    """The password of the SQL port was not found."""


def query(
    sql: str,
    params: Optional[Sequence[Any]] = None,
    frame: Optional[str] = None,
    address: Optional[str] = None,
    password: Optional[str] = None,
    dir: Optional[str] = None,
    timeout: float = 10.0,
) -> Any:
    """Runs one statement; ``%s`` in it stands for the next of ``params``.

    ``frame`` is ``"pandas"``, ``"polars"`` or ``"dicts"`` (a list with a dict for each row, prices as
    ``Decimal``); without it the first of the three that is installed. ``dir`` is the deck's folder, where
    ``sql.password`` lies; else ``TAPEDECK_SQL_PASSWORD``, ``TAPEDECK_DIR`` and ``./tape`` are tried.
    ``timeout`` is for connecting: the deck itself limits how long a query may take.
    """
    frame = frame or _best_frame()
    if frame not in ("pandas", "polars", "dicts"):
        raise ValueError("frame is {!r}: write pandas, polars or dicts".format(frame))
    names, rows = _run(sql, params, address, password, dir, timeout)
    if frame == "pandas":
        import pandas

        return pandas.DataFrame(rows, columns=names)
    if frame == "polars":
        import polars

        return polars.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return [dict(zip(names, row)) for row in rows]


def candles(
    symbol: str,
    interval: str = "1m",
    start: Optional[When] = None,
    end: Optional[When] = None,
    venue: Optional[str] = None,
    input: Optional[str] = None,
    **options: Any
) -> Any:
    """Candles of a symbol in ``[start, end)``, the newest revision of each, in order of time.

    ``interval`` is as in ``[candles] intervals``: ``"1m"``, ``"5m"``, ``"1h"``. ``input`` picks ``trades``,
    ``bid``, ``ask``, ``mid`` or ``venue`` where there are several. ``options`` are those of :func:`query`.
    """
    sql, params = candles_sql(symbol, interval, start, end, venue, input)
    return query(sql, params, **options)


def candles_sql(
    symbol: str,
    interval: str,
    start: Optional[When] = None,
    end: Optional[When] = None,
    venue: Optional[str] = None,
    input: Optional[str] = None,
) -> Tuple[str, List[Any]]:
    """The statement behind :func:`candles`, with its parameters."""
    where = ["symbol = %s", "interval_ns = %s"]
    params: List[Any] = [symbol, interval_ns(interval)]
    if venue is not None:
        where.append("venue = %s")
        params.append(venue)
    if input is not None:
        where.append("input = %s")
        params.append(input)
    for sign, when in ((">=", start), ("<", end)):
        if when is not None:
            where.append("start {} timestamp '{}'".format(sign, _instant(when)))
    newest = (
        "row_number() over (partition by venue, symbol, input, start order by revision desc, seq desc) as newest"
    )
    columns = (
        "start, open, high, low, close, volume, vwap, trades, complete, partial, gap, revised, backfilled, "
        "revision, venue, symbol, input"
    )
    sql = "select {0} from (select {0}, {1} from candles where {2}) as c where newest = 1 order by start, venue".format(
        columns, newest, " and ".join(where)
    )
    return sql, params


def latest_tick_sql() -> str:
    """The newest bid and ask of one symbol, which is the parameter of each of the three tables that may hold it."""
    tables = [
        "select symbol as instrument, cast(bid as double) as bid, cast(ask as double) as ask, ts_event, ts_recv, seq "
        "from {} where symbol = %s".format(table)
        for table in ("quotes", "tickers")
    ]
    # What `write_point(TickData(...))` wrote.
    number = "field_numbers[cast(array_position(field_names, '{}') as bigint)]"
    instrument = "tag_values[cast(array_position(tag_names, 'instrument') as bigint)]"
    tables.append(
        "select {0} as instrument, {1} as bid, {2} as ask, ts_event, ts_recv, seq from points where name = 'tick' "
        "and {0} = %s".format(instrument, number.format("bid"), number.format("ask"))
    )
    return "select * from ({}) as t order by seq desc limit 1".format(" union all ".join(tables))


def interval_ns(text: str) -> int:
    """Nanoseconds of ``"90s"``, ``"5m"``, ``"1h"``, ``"1d"``."""
    found = re.match(r"^\s*([1-9][0-9]*)\s*([smhd])\s*$", text)
    if not found:
        raise ValueError("{!r} is no interval: write 30s, 5m, 1h or 1d".format(text))
    return int(found.group(1)) * _UNITS_NS[found.group(2)]


def _instant(when: When) -> str:
    """UTC text with nanoseconds, as the SQL engine reads it."""
    if not isinstance(when, int):
        when = instant_ns(when)
    seconds, nanos = divmod(when, 10**9)
    base = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return "{}.{:09d}".format(base.strftime("%Y-%m-%dT%H:%M:%S"), nanos)


def instant_ns(when: Union[datetime, str]) -> int:
    """Nanoseconds since 1970 of a datetime or of ISO text, to the last digit; without a zone it is UTC."""
    nanos = 0
    if isinstance(when, str):
        text = when.strip()
        # Python's own parser takes microseconds at most.
        fraction = re.search(r"[.,](\d+)", text)
        if fraction:
            nanos = int(fraction.group(1)[:9].ljust(9, "0"))
            text = text[: fraction.start()] + text[fraction.end() :]
        text = text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("{!r} is no instant: write 2026-01-05 or 2026-01-05T10:00:00Z".format(text)) from None
    else:
        nanos, when = when.microsecond * 1000, when.replace(microsecond=0)
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    since = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86400 + since.seconds) * 10**9 + nanos


def _best_frame() -> str:
    for name in ("pandas", "polars"):
        try:
            __import__(name)
        except ImportError:
            continue
        return name
    return "dicts"


def find_password(dir: Optional[str] = None) -> str:
    """From the environment, else from the deck's folder."""
    if dir is None and os.environ.get("TAPEDECK_SQL_PASSWORD"):
        return os.environ["TAPEDECK_SQL_PASSWORD"]
    folder = dir or os.environ.get("TAPEDECK_DIR") or "tape"
    path = os.path.join(folder, PASSWORD_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise NoPassword(
            "{}: set TAPEDECK_SQL_PASSWORD, or name the deck's folder with dir= or TAPEDECK_DIR".format(error)
        ) from error


def _run(
    sql: str,
    params: Optional[Sequence[Any]],
    address: Optional[str],
    password: Optional[str],
    dir: Optional[str],
    timeout: float,
) -> Tuple[List[str], List[Tuple[Any, ...]]]:
    host, _, port = (address or os.environ.get("TAPEDECK_SQL") or ADDRESS).rpartition(":")
    login: Dict[str, Any] = {
        "host": host.strip("[]") or "127.0.0.1",
        "port": int(port),
        "user": USER,
        "dbname": DATABASE,
        "password": password if password is not None else find_password(dir),
        "connect_timeout": max(1, int(timeout)),
    }
    connection = _connect(login)
    try:
        cursor = connection.cursor()
        # Without parameters a % in the statement is a %.
        cursor.execute(sql, tuple(params) if params else None)
        if cursor.description is None:
            return [], []
        return [column[0] for column in cursor.description], cursor.fetchall()
    finally:
        connection.close()


def _connect(login: Dict[str, Any]) -> Any:
    try:
        import psycopg
    except ImportError:
        try:
            import psycopg2
        except ImportError:
            raise ImportError('SQL needs a PostgreSQL driver: pip install "tapedeck[sql]"') from None
        connection = psycopg2.connect(**login)
        connection.autocommit = True
        return connection
    # Parameters are put into the text here: the types of an engine that only reads need no guessing then.
    return psycopg.connect(autocommit=True, cursor_factory=psycopg.ClientCursor, **login)
