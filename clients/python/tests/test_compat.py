"""The predecessors' documented snippets, with the import changed and nothing else."""

import datetime
import decimal
import json
import os
import threading
import time
import unittest
from unittest import mock

import zmq

from tapedeck import compat
from tests.fakes import FakeDeck, free_port, until


class Registry(unittest.TestCase):
    def test_ports_are_found_by_service(self):
        self.assertEqual(compat.get_port("kraken_tick_pub"), 5558)
        self.assertEqual(compat.get_port("KRAKEN_TICK_PUB"), 5558)
        self.assertIsNone(compat.get_port("no_such"))
        config = compat.get_port_config("kraken_tick_pub")
        self.assertEqual((config.port, config.service_type, config.topic_filter), (5558, "PUB", "kraken_tick"))
        self.assertIs(config, compat.KRAKEN_TICK_PUB)

    def test_the_register_is_whole_and_no_port_is_there_twice(self):
        self.assertEqual(len(compat.list_ports()), 18)
        self.assertTrue(compat.validate_port_uniqueness())
        self.assertEqual((len(compat.get_ports_by_type("PUB")), len(compat.get_ports_by_type("SUB"))), (11, 7))
        for name, port in (
            ("kraken_depth_pub", 5560),
            ("kraken_eurusd_tick_pub", 5559),
            ("kraken_orders_pub", 5561),
            ("oanda_tick_pub", 5562),
            ("oanda_orders_pub", 5563),
            ("betfair_stream_pub", 5564),
            ("twitter_sentiment_pub", 5565),
            ("kraken_influxdb_tick_sub", 5578),
        ):
            self.assertEqual(compat.PORT_REGISTRY[name].port, port)

    def test_an_entry_is_a_dict_on_wish(self):
        entry = compat.PortConfig(5600, "my_pub", "PUB", "My publisher", "my_topic")
        self.assertEqual(entry.to_dict()["topic_filter"], "my_topic")

    def test_a_changed_copy_does_not_change_the_register(self):
        compat.list_ports().clear()
        self.assertEqual(len(compat.list_ports()), 18)


class Serialization(unittest.TestCase):
    data = {"instrument": "EURUSD", "bid": 1.08234, "ask": 1.08245, "timestamp": 1234567890, "nested": {"value": 42}}

    def test_there_and_back(self):
        self.assertEqual(compat.MessagePackCodec.unpack(compat.MessagePackCodec.pack(self.data)), self.data)
        self.assertEqual(compat.convert_msgpack_to_json(compat.convert_json_to_msgpack(self.data)), self.data)
        self.assertEqual(compat.convert_msgpack_to_json(compat.convert_json_to_msgpack(json.dumps(self.data))), self.data)

    def test_the_bytes_are_the_predecessors(self):
        packed = compat.MessagePackCodec.pack({"instrument": "EURUSD", "bid": 1.08234})
        self.assertEqual(packed.hex(), "82aa696e737472756d656e74a6455552555344a3626964cb3ff15143bf727137")

    def test_dates_and_decimals_become_text(self):
        data = {"at": datetime.datetime(2026, 1, 5, 10), "price": decimal.Decimal("1.50")}
        unpacked = compat.MessagePackCodec.unpack(compat.MessagePackCodec.pack(data))
        self.assertEqual(unpacked, {"at": "2026-01-05 10:00:00", "price": "1.50"})

    def test_both_forms_of_a_message(self):
        parts = compat.ZMQMessageHandler.serialize_multipart("test_topic", self.data)
        self.assertEqual(len(parts), 2)
        self.assertEqual(compat.ZMQMessageHandler.deserialize_multipart(parts), ("test_topic", self.data))
        whole = compat.ZMQMessageHandler.serialize_message("test_topic", self.data)
        self.assertEqual(compat.ZMQMessageHandler.deserialize_message(whole), ("test_topic", self.data))

    def test_what_is_no_message_is_refused(self):
        with self.assertRaises(ValueError):
            compat.ZMQMessageHandler.deserialize_multipart([b"one"])
        with self.assertRaises(ValueError):
            compat.ZMQMessageHandler.deserialize_message(b"nospace")


class Sockets(unittest.TestCase):
    def config(self, port=None, topic="custom_prices"):
        return compat.PortConfig(
            port=port or free_port(),
            service_name="custom_publisher",
            service_type="PUB",
            description="Custom market data publisher",
            topic_filter=topic,
        )

    def test_a_publisher_of_ones_own_in_ten_lines(self):
        """Their README: a class with a `run`, publishing JSON."""
        done = threading.Event()

        class MyPublisher(compat.BasePublisher):
            def run(self):
                while not done.is_set():
                    self.publish_json("my_topic", {"value": 42})
                    time.sleep(0.01)

        config = self.config(topic="my_topic")
        with MyPublisher(config) as pub, compat.BaseSubscriber(config, host="localhost") as sub:
            publishing = threading.Thread(target=pub.run)
            publishing.start()
            try:
                self.assertTrue(sub.socket.poll(20000))
                self.assertEqual(sub.recv_msgpack(), ("my_topic", {"value": 42}))
            finally:
                done.set()
                publishing.join()

    def test_a_subscriber_of_ones_own_with_a_handler(self):
        config = self.config()
        got = []
        with compat.BasePublisher(config) as pub:
            sub = compat.BaseSubscriber(config)

            def handle(topic, data):
                got.append((topic, data))
                if len(got) == 1:
                    raise RuntimeError("a handler that fails does not end the loop")
                sub.stop()

            sub.set_message_handler(handle)
            loop = threading.Thread(target=sub.run)
            loop.start()
            deadline = time.monotonic() + 20
            while loop.is_alive() and time.monotonic() < deadline:
                pub.publish_msgpack("custom_prices", {"prices": {"EURUSD": 1.08}})
                time.sleep(0.01)
            loop.join(1)
            self.assertFalse(loop.is_alive())
        self.assertEqual((got[0], len(got), sub.errors), (("custom_prices", {"prices": {"EURUSD": 1.08}}), 2, 1))

    def test_raw_bytes_pass_as_they_are(self):
        config = self.config(topic="raw")
        with compat.BasePublisher(config) as pub, compat.BaseSubscriber(config) as sub:

            def received():
                pub.publish_raw("raw", b"\x00\xff")
                return sub.recv_raw() if sub.socket.poll(10) else None

            self.assertEqual(until("a raw message", received), [b"raw", b"\x00\xff"])

    def test_a_taken_port_is_an_error_that_names_it(self):
        config = self.config()
        with compat.BasePublisher(config):
            with self.assertRaises(zmq.ZMQError) as taken:
                compat.BasePublisher(config)
        self.assertIn(str(config.port), str(taken.exception))

    def test_cleaning_up_twice_is_harmless_and_frees_the_port(self):
        config = self.config()
        for _ in range(2):
            publisher = compat.BasePublisher(config)
            publisher.cleanup()
            publisher.cleanup()


class Models(unittest.TestCase):
    def test_a_tick(self):
        tick = compat.TickData("EURUSD", bid=1.0856, ask=1.0858, base_ccy="EUR", term_ccy="USD", volume=0, timestamp=5)
        self.assertEqual(
            tick.to_influx_json(),
            {
                "measurement": "tick",
                "tags": {"instrument": "EURUSD", "base_ccy": "EUR", "term_ccy": "USD"},
                "fields": {"bid": 1.0856, "ask": 1.0858, "volume": 0.0},
                "time": 5,
            },
        )

    def test_depth_keeps_all_levels(self):
        depth = compat.DepthData("EURUSD", bid_prices=[3, 2, 1], bid_volumes=[1, 1, 1], ask_prices=[4], ask_volumes=[9])
        fields = depth.to_influx_json()["fields"]
        self.assertEqual((fields["bid_price_3"], fields["ask_volume_1"], len(fields)), (1.0, 9.0, 8))

    def test_candles_and_sentiment(self):
        ohlc = compat.OHLCData(instrument="EURUSD", open=1.0, high=2.0, low=0.5, close=1.5, volume=10, trades=5000)
        self.assertEqual(ohlc.to_influx_json()["fields"]["trades"], 5000)
        sentiment = compat.SentimentData("twitter", "EURUSD", 0.75, text="strengthening", location="global", language="en")
        point = sentiment.to_influx_json()
        self.assertEqual(point["tags"]["language"], "en")
        self.assertEqual(point["fields"], {"sentiment_score": 0.75, "text": "strengthening"})


class Service(unittest.TestCase):
    def setUp(self):
        self.deck = FakeDeck()
        self.addCleanup(self.deck.close)
        change = mock.patch.dict(os.environ, {"TAPEDECK_URL": self.deck.url})
        change.start()
        self.addCleanup(change.stop)

    def test_the_first_snippet_of_their_readme(self):
        from tapedeck.compat import InfluxDBService, TickData

        service = InfluxDBService()
        tick = TickData(instrument="EURUSD", bid=1.0856, ask=1.0858, base_ccy="EUR", term_ccy="USD")
        self.assertTrue(service.write_point(tick))
        self.assertEqual(self.deck.lines, [], "it waits")
        self.assertTrue(service.flush(force=True))
        self.assertEqual(len(self.deck.lines), 1)
        line, _, at = self.deck.lines[0].rpartition(" ")
        self.assertEqual(line, "tick,base_ccy=EUR,instrument=EURUSD,term_ccy=USD bid=1.0856,ask=1.0858")
        self.assertAlmostEqual(int(at), time.time_ns(), delta=60 * 10**9)
        self.assertTrue(service.client)
        service.close()

    def test_their_config_is_taken_and_the_deck_gets_the_points(self):
        config = compat.InfluxDBConfig(host="192.168.0.33", port=8086, database="market_data", batch_size=1000, timeout=15)
        with compat.create_service(config) as service:
            service.write_points([compat.TickData("A", 1.0, 2.0), {"measurement": "own", "fields": {"v": 1}}])
        self.assertEqual([line.split(" ")[0] for line in self.deck.lines], ["tick,instrument=A", "own"])
        self.assertIn("db=market_data", self.deck.paths[0])
        self.assertNotIn("zmq", repr(config).replace("username='zmq'", ""), "no password is printed")

    def test_times_are_milliseconds_or_text_with_all_its_digits(self):
        with compat.create_service() as service:
            service.write_point(compat.TickData("A", 1.0, 2.0, timestamp=1767607200123))
            service.write_point(compat.TickData("A", 1.0, 2.0, timestamp="2026-01-05T10:00:00.123456789Z"))
        self.assertEqual([line.rsplit(" ", 1)[1] for line in self.deck.lines], ["1767607200123000000", "1767607200123456789"])

    def test_a_full_batch_goes_by_itself(self):
        with compat.create_service(compat.InfluxDBConfig(batch_size=10)) as service:
            for n in range(25):
                service.write_point(compat.TickData("A", float(n), 2.0))
            self.assertEqual((len(self.deck.lines), service.get_stats()["buffered_points"]), (20, 5))
        self.assertEqual(len(self.deck.lines), 25)

    def test_one_nan_in_three_thousand_is_left_out_alone(self):
        with compat.create_service() as service:
            told = [service.write_point(compat.TickData("A", float("nan") if n == 1500 else 1.0, 2.0)) for n in range(3000)]
        stats = service.get_stats()
        self.assertEqual((told.count(False), stats["total_errors"], stats["total_writes"]), (1, 1, 2999))
        self.assertEqual(len(self.deck.lines), 2999)

    def test_a_point_that_the_deck_refuses_takes_no_other_with_it(self):
        self.deck.poison = "tick,instrument=BAD"
        with compat.create_service() as service:
            for n in range(100):
                service.write_point(compat.TickData("BAD" if n == 37 else "A", float(n), 2.0, timestamp=n))
            self.assertTrue(service.flush(force=True))
        self.assertEqual(len(self.deck.lines), 99)
        self.assertEqual([line.rsplit(" ", 1)[1] for line in self.deck.lines],
                         [str(n * 10**6) for n in range(100) if n != 37], "in order, each once")

    def test_a_deck_that_is_away_loses_nothing(self):
        port = free_port()
        config = compat.InfluxDBConfig(url="http://127.0.0.1:{}".format(port), timeout=1)
        service = compat.InfluxDBService(config)
        self.assertIsNone(service.client)
        for n in range(10):
            self.assertTrue(service.write_point(compat.TickData("A", float(n), 2.0)))
        self.assertFalse(service.flush(force=True))
        deck = FakeDeck(port)
        try:
            self.assertTrue(service.reconnect())
            self.assertTrue(service.flush(force=True))
            self.assertEqual(len(deck.lines), 10)
        finally:
            service.close()
            deck.close()

    def test_points_that_wait_are_sent_by_themselves(self):
        with mock.patch.object(compat.service, "IDLE_FLUSH_S", 0.05), compat.create_service() as service:
            service.write_point(compat.TickData("A", 1.0, 2.0))
            until("the idle flush", lambda: self.deck.lines)

    def test_a_query_answers_rows_and_an_error_is_none(self):
        self.deck.result = {"results": [{"series": [{"columns": ["time", "bid"], "values": [[1, 2.5]], "tags": {"t": "x"}}]}]}
        with compat.create_service() as service:
            self.assertEqual(service.query("SELECT 1"), [{"time": 1, "bid": 2.5, "t": "x"}])
            self.deck.result = {"results": [{"error": "no InfluxDB is configured"}]}
            self.assertIsNone(service.query("SELECT 1"))

    def test_types_of_ones_own(self):
        class Funding(compat.BaseDataPoint):
            def to_influx_json(self):
                return {"measurement": "funding", "tags": {"instrument": "A"}, "fields": {"rate": 0.0001}}

        with compat.create_service() as service:
            service.write_point(Funding())
        self.assertTrue(self.deck.lines[0].startswith("funding,instrument=A rate=0.0001 "))

    def test_stats_have_their_names(self):
        with compat.create_service() as service:
            self.assertEqual(
                sorted(service.get_stats()),
                ["buffered_points", "connected", "database", "last_write", "total_errors", "total_writes"],
            )


class Bridges(unittest.TestCase):
    def setUp(self):
        self.deck = FakeDeck()
        self.addCleanup(self.deck.close)
        change = mock.patch.dict(os.environ, {"TAPEDECK_URL": self.deck.url})
        change.start()
        self.addCleanup(change.stop)
        self.context = zmq.Context()
        self.addCleanup(self.context.term)
        self.pub = self.context.socket(zmq.XPUB)
        self.addCleanup(self.pub.close, 0)
        self.port = self.pub.bind_to_random_port("tcp://127.0.0.1")

    def feed(self, bridge, messages):
        bridge.run(blocking=False)
        self.assertTrue(self.pub.poll(20000))
        self.pub.recv()
        for message in messages:
            self.pub.send_multipart(message)
        until("all messages", lambda: bridge.messages_received == len(messages))
        bridge.stop()
        return bridge.get_stats()

    def test_the_bid_of_a_kraken_tick_is_the_bid(self):
        fields = "XXBTZUSD 52609.6 1 1.000 52609.5 3 3.000 52609.6 0.0042 1920.8 7954.0 52389.9 51513.9 23329 80463 51513.9 51513.9 53219.9 57200.0 52280.4"
        text = "kraken_tick " + fields.replace(" ", "\x01")
        stats = self.feed(compat.create_kraken_bridge(zmq_port=self.port), [[text.encode()]] * 600)
        self.assertEqual((stats["messages_received"], stats["messages_written"], stats["errors"]), (600, 600, 0))
        self.assertEqual(len(self.deck.lines), 600)
        self.assertTrue(self.deck.lines[0].startswith("tick,base_ccy=XBT,instrument=XXBTZUSD,term_ccy=USD bid=52609.5,ask=52609.6 "))
        self.assertEqual(len({line.rsplit(" ", 1)[1] for line in self.deck.lines}), 600, "each has a time of its own")

    def test_oanda_times_keep_their_nanoseconds(self):
        messages = [
            ["oanda_tick EUR_USD\x012026-01-05T10:00:00.{:09d}Z\x011.08230\x011.08245".format(n).encode()] for n in range(300)
        ]
        stats = self.feed(compat.create_oanda_bridge(zmq_port=self.port), messages + [[b"oanda_tick garbage"]])
        self.assertEqual((stats["messages_written"], stats["errors"]), (300, 1))
        self.assertEqual([int(line.rsplit(" ", 1)[1]) % 1000 for line in self.deck.lines], list(range(300)))

    def test_a_parser_of_ones_own(self):
        def custom_parser(message):
            fields = message.split(",")
            return compat.TickData(instrument=fields[0], bid=float(fields[1]), ask=float(fields[2]))

        bridge = compat.create_generic_bridge(
            zmq_port=self.port, topic_filter="custom_tick", parser_func=custom_parser, service_name="custom_bridge"
        )
        stats = self.feed(bridge, [[b"custom_tick EURUSD,1.5,1.6"], [b"custom_tick broken"]])
        self.assertEqual((stats["messages_written"], stats["errors"], stats["service_name"]), (1, 1, "custom_bridge"))

    def test_two_frames_are_understood_too(self):
        frames = compat.ZMQMessageHandler.serialize_multipart("kraken_tick", {"timestamp": 1767607200.5, "instrument": "EURUSD", "bid": 1.5, "ask": 1.6, "volume": 7})
        self.feed(compat.create_kraken_bridge(zmq_port=self.port), [frames])
        self.assertEqual(self.deck.lines, ["tick,base_ccy=EUR,instrument=EURUSD,term_ccy=USD bid=1.5,ask=1.6,volume=7.0 1767607200500000000"])


class Config(unittest.TestCase):
    def test_the_environment_fills_what_the_caller_does_not(self):
        with mock.patch.dict(os.environ, {"INFLUXDB_PORT": "9999", "INFLUXDB_SSL": "true"}):
            config = compat.InfluxDBConfig(batch_size=7)
        self.assertEqual((config.port, config.ssl, config.batch_size, config.database), (9999, True, 7, "tick"))

    def test_services_have_batches_of_their_own(self):
        with mock.patch.dict(os.environ, {"INFLUXDB_HOST": "h"}, clear=True):
            manager = compat.ConfigManager()
        self.assertEqual(manager.get_service_config("depth")["batch_size"], 250)
        self.assertEqual(manager.get_base_config()["host"], "h")
        manager.register_service_config("own", {"database": "own"})
        self.assertEqual(manager.get_service_config("own"), {"database": "own"})


if __name__ == "__main__":
    unittest.main()
