import datetime
import os
import sys
import tempfile
import types
import unittest
from unittest import mock

from tapedeck import history


class FakeCursor:
    description = [("symbol",), ("price",)]

    def __init__(self, log):
        self.log = log

    def execute(self, sql, params):
        self.log.append((sql, params))

    def fetchall(self):
        return [("BTC/USD", 1), ("ETH/USD", 2)]


class FakeDriver(types.ModuleType):
    """psycopg as far as it is used."""

    ClientCursor = "client cursor"

    def __init__(self):
        super().__init__("psycopg")
        self.log = []
        self.logins = []

    def connect(self, **login):
        self.logins.append(login)
        driver = self

        class Connection:
            def cursor(self):
                return FakeCursor(driver.log)

            def close(self):
                driver.log.append("closed")

        return Connection()


class Queries(unittest.TestCase):
    def setUp(self):
        self.driver = FakeDriver()
        for change in (
            mock.patch.dict(sys.modules, {"psycopg": self.driver}),
            mock.patch.dict(os.environ, {"TAPEDECK_SQL_PASSWORD": "hunter2"}),
        ):
            change.start()
            self.addCleanup(change.stop)

    def test_rows_are_dicts_where_that_is_asked(self):
        rows = history.query("select 1", frame="dicts")
        self.assertEqual(rows, [{"symbol": "BTC/USD", "price": 1}, {"symbol": "ETH/USD", "price": 2}])
        self.assertEqual(self.driver.log, [("select 1", None), "closed"])
        login = self.driver.logins[0]
        self.assertEqual(
            (login["host"], login["port"], login["user"], login["dbname"], login["password"]),
            ("127.0.0.1", 5433, "tapedeck", "tapedeck", "hunter2"),
        )

    def test_the_password_lies_in_the_decks_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "sql.password"), "w") as file:
                file.write("from the file\n")
            history.query("select 1", frame="dicts", dir=folder)
            self.assertEqual(self.driver.logins[0]["password"], "from the file")

    def test_no_password_says_where_it_is_looked_for(self):
        with mock.patch.dict(os.environ, clear=True), self.assertRaises(history.NoPassword) as error:
            history.query("select 1", frame="dicts", dir="/no/such/folder")
        self.assertIn("TAPEDECK_SQL_PASSWORD", str(error.exception))

    def test_candles_ask_for_the_newest_revision_of_an_interval(self):
        history.candles("BTC/USD", "5m", "2026-01-05", "2026-01-06T00:00:00+01:00", venue="kraken", frame="dicts")
        sql, params = self.driver.log[0]
        self.assertEqual(params, ("BTC/USD", 300 * 10**9, "kraken"))
        self.assertIn("start >= timestamp '2026-01-05T00:00:00.000000000'", sql)
        self.assertIn("start < timestamp '2026-01-05T23:00:00.000000000'", sql)

    def test_a_frame_that_does_not_exist_is_named(self):
        with self.assertRaises(ValueError):
            history.query("select 1", frame="arrow")


class Instants(unittest.TestCase):
    def test_every_digit_of_an_instant_counts(self):
        ns = history.instant_ns
        self.assertEqual(ns("2026-01-05T10:00:00.123456789Z"), 1767607200123456789)
        self.assertEqual(ns("2026-01-05T10:00:00.1Z"), 1767607200100000000)
        self.assertEqual(ns("2026-01-05"), 1767571200000000000)
        self.assertEqual(ns(datetime.datetime(2026, 1, 5, 10, 0, 0, 123456)), 1767607200123456000)
        self.assertEqual(ns("1969-12-31T23:59:59.999999999Z"), -1)

    def test_what_is_no_instant_is_refused(self):
        for text in ("", "yesterday", "2026-13-01"):
            with self.assertRaises(ValueError, msg=text):
                history.instant_ns(text)

    def test_intervals(self):
        self.assertEqual([history.interval_ns(text) for text in ("1s", "5m", "1h", "1d")],
                         [10**9, 300 * 10**9, 3600 * 10**9, 86400 * 10**9])
        for text in ("5", "0m", "1w", "-5m"):
            with self.assertRaises(ValueError, msg=text):
                history.interval_ns(text)


if __name__ == "__main__":
    unittest.main()
