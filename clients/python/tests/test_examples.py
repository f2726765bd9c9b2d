"""Each example runs, against a fake deck."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import msgpack
import zmq

from tests.fakes import FakeBus, FakeDeck, free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: As much of a driver as the examples need.
DRIVER = '''
class ClientCursor: pass
class Cursor:
    def execute(self, sql, params):
        names = ["symbol", "trades", "low", "high", "start", "open", "close", "volume", "gap"]
        self.description = [(name,) for name in names]
    def fetchall(self):
        return [("BTC/USD", 7, "1.5", "2.5", "10:00", 1, 2, 3, False), ("X", 1, 1, 1, "10:01", 1, 1, 1, True)]
class Connection:
    def cursor(self): return Cursor()
    def close(self): pass
def connect(**login): return Connection()
'''


class Examples(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)

    def start(self, name, *args, **env):
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([self.home.name, str(ROOT)]), **env)
        command = [sys.executable, str(ROOT / "examples" / (name + ".py"))] + [str(arg) for arg in args]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=self.home.name, text=True
        )
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        return process

    def end(self, process):
        out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, out)
        return out.splitlines()

    def bus(self):
        bus = FakeBus()
        self.addCleanup(bus.close)
        return bus, ["--connect", bus.address, "--requests", bus.requests]

    def test_ticks(self):
        bus, places = self.bus()
        example = self.start("ticks", *places, "--count", 2)
        bus.wait_for("kraken_tick")
        bus.publish("kraken_tick", bid=1.5, ask=1.75)
        bus.publish("kraken_tick", bid=1.5, ask=2.0)
        self.assertEqual(self.end(example), ["BTC/USD 1.5 1.75 spread 0.25", "BTC/USD 1.5 2.0 spread 0.5"])

    def test_several_topics(self):
        bus, places = self.bus()
        example = self.start("several_topics", *places, "--count", 5)
        bus.wait_for("kraken_tick", "trade.", "gap")
        bus.publish("kraken_tick", bid=1.5, ask=1.75)
        bus.publish("kraken_tick", drop=True, bid=1.6, ask=1.75)
        bus.publish("kraken_tick", bid=1.7, ask=1.75)
        bus.publish("trade.kraken", price=1.5, size=2.0, side="buy")
        bus.publish("gap", state="open", cause="session")
        out = self.end(example)
        self.assertEqual([line.split()[0] for line in out[:5]], ["tick", "tick", "tick", "trade", "gap"])
        self.assertEqual(out[5], "missed 1: 1 came from the tape, 0 are lost")

    def test_resume(self):
        bus, places = self.bus()
        first = self.start("resume", *places, "--count", 1)
        bus.wait_for("kraken_tick")
        bus.publish("kraken_tick", bid=1.0)
        self.end(first)
        bus.publish("kraken_tick", drop=True, bid=2.0)
        second = self.start("resume", *places, "--count", 2)
        bus.wait_for("kraken_tick")
        bus.publish("kraken_tick", bid=3.0)
        self.assertEqual(self.end(second), ["6 BTC/USD 2.0 (from the tape)", "9 BTC/USD 3.0 "])

    def test_last_value(self):
        bus, _ = self.bus()
        bus.message("kraken_tick", bid=7.5)
        self.assertIn("'bid': 7.5", self.end(self.start("last_value", "--requests", bus.requests))[0])
        self.assertEqual(self.end(self.start("last_value", "gap", "--requests", bus.requests)), ["nothing yet"])

    def test_exact_prices(self):
        bus, places = self.bus()
        example = self.start("exact_prices", *places, "--count", 3)
        bus.wait_for("trade.")
        for _ in range(3):
            bus.publish("trade.kraken", price=0.1, size=1.0)
        self.assertTrue(self.end(example)[-1].endswith("total 0.30"))

    def test_encrypted(self):
        if not zmq.has("curve"):
            self.skipTest("this pyzmq has no CURVE")
        public, secret = zmq.curve_keypair()
        context = zmq.Context()
        pub = context.socket(zmq.XPUB)
        try:
            pub.curve_secretkey, pub.curve_publickey, pub.curve_server = secret, public, True
            port = pub.bind_to_random_port("tcp://127.0.0.1")
            example = self.start("encrypted", public.decode(), "--connect", "tcp://127.0.0.1:{}".format(port), "--count", 1)
            self.assertTrue(pub.poll(30000))
            pub.recv()
            pub.send_multipart([b"kraken_tick", msgpack.packb({"instrument": "A", "bid": 1.0, "ask": 2.0})])
            self.assertEqual(self.end(example), ["A 1.0 2.0"])
        finally:
            pub.close(0)
            context.term()

    def test_write_points(self):
        deck = FakeDeck()
        self.addCleanup(deck.close)
        self.assertEqual(self.end(self.start("write_points", "--url", deck.url)), ["11 points are on the tape"])
        self.assertEqual(len(deck.lines), 11)

    def test_influxdb_service(self):
        deck = FakeDeck()
        self.addCleanup(deck.close)
        self.assertIn("written: 2", self.end(self.start("influxdb_service", TAPEDECK_URL=deck.url)))
        self.assertEqual([line.split(",")[0] for line in deck.lines], ["tick", "ohlc"])

    def test_sql_and_candles(self):
        pathlib.Path(self.home.name, "psycopg.py").write_text(DRIVER)
        out = self.end(self.start("sql", TAPEDECK_SQL_PASSWORD="x"))
        self.assertEqual(out, ["BTC/USD 7 1.5 2.5", "X 1 1 1"])
        self.assertEqual(self.end(self.start("candles", TAPEDECK_SQL_PASSWORD="x")), ["10:00 1 2.5 1.5 2 3"])

    def test_own_publisher(self):
        port = free_port()
        context = zmq.Context()
        sub = context.socket(zmq.SUB)
        try:
            sub.setsockopt(zmq.SUBSCRIBE, b"my_topic")
            sub.connect("tcp://127.0.0.1:{}".format(port))
            example = self.start("own_publisher", "--port", port, "--interval", 0.05)
            self.assertTrue(sub.poll(30000))
            topic, payload = sub.recv_multipart()
            data = msgpack.unpackb(payload)
            self.assertEqual((topic, data["value"], sorted(data)), (b"my_topic", 42, ["timestamp", "value"]))
            example.terminate()
            self.end(example)
        finally:
            sub.close(0)
            context.term()

    def test_none_is_forgotten(self):
        names = {path.stem for path in (ROOT / "examples").glob("*.py")}
        tested = set()
        for name in dir(self):
            if name.startswith("test_"):
                tested.add(name[5:])
        tested |= {"sql", "candles"}
        self.assertEqual(names - tested, set())


if __name__ == "__main__":
    unittest.main()
