import os
import tempfile
import threading
import time
import unittest
from decimal import Decimal

import msgpack
import zmq
import zmq.auth

import tapedeck
from tests.fakes import FakeBus

TICK = "kraken_tick"


class Subscribing(unittest.TestCase):
    def setUp(self):
        self.bus = FakeBus()
        self.addCleanup(self.bus.close)

    def subscribe(self, topics=TICK, **options):
        sub = tapedeck.subscribe(topics, connect=self.bus.address, requests=self.bus.requests, **options)
        self.addCleanup(sub.close)
        names = [topics] if isinstance(topics, str) else topics
        self.bus.wait_for(*[tapedeck.ports.normal(name) for name in names])
        return sub

    def take(self, sub, count):
        got = []
        while len(got) < count:
            message = sub.get(timeout=20)
            self.assertIsNotNone(message, "{} of {}".format(len(got), count))
            got.append(message)
        return got

    def test_a_tick_has_typed_fields(self):
        sub = self.subscribe()
        self.bus.publish(TICK, bid=62807.5, ask=62808.0, volume=12.25, trades=7)
        tick = next(sub)
        self.assertIsInstance(tick, tapedeck.Tick)
        self.assertEqual((tick.bid, tick.ask, tick.volume, tick.trades), (62807.5, 62808.0, 12.25, 7))
        self.assertEqual((tick.instrument, tick.seq, tick.prev, tick.tape), ("BTC/USD", 3, None, self.bus.tape))
        self.assertIsNone(tick.vwap, "what is unknown is not invented")
        self.assertEqual(tick.ts_event, 1_700_000_000_000_000_003)

    def test_numbers_are_decimals_on_wish_exact_where_text_is_sent(self):
        sub = self.subscribe(decimals=True)
        self.bus.publish(TICK, bid="62807.10", ask=62808.1)
        tick = next(sub)
        self.assertEqual((str(tick.bid), tick.ask), ("62807.10", Decimal("62808.1")))

    def test_books_trades_and_candles_are_what_their_topic_says(self):
        sub = self.subscribe(["kr_depth", "trade.*", "candle.1m"])
        self.bus.publish("kr_depth", bids=[[1.5, 2.0]], asks=[[1.6, 3.0], [1.7, 1.0]])
        self.bus.publish("trade.kraken", price=1.5, size=0.1, side="buy", id="77")
        self.bus.publish("candle.1m", open=1.0, high=2.0, low=0.5, close=1.5, start=60, revision=1)
        book, trade, candle = self.take(sub, 3)
        self.assertEqual((book.bids, book.asks), ([(1.5, 2.0)], [(1.6, 3.0), (1.7, 1.0)]))
        self.assertEqual((trade.price, trade.size, trade.side, trade.id), (1.5, 0.1, "buy", "77"))
        self.assertEqual((candle.open, candle.high, candle.low, candle.close, candle.revision), (1.0, 2.0, 0.5, 1.5, 1))

    def test_a_topic_is_not_its_longer_neighbour(self):
        sub = self.subscribe()
        self.bus.publish("kraken_tick_test", bid=1.0)
        self.bus.publish(TICK, bid=2.0)
        self.assertEqual(next(sub).bid, 2.0)

    def test_missed_messages_are_fetched_and_stand_in_their_place(self):
        sub = self.subscribe()
        for n in range(100):
            self.bus.publish(TICK, drop=n % 10 in (3, 4, 5), n=n)
        got = self.take(sub, 100)
        self.assertEqual([message["n"] for message in got], list(range(100)))
        self.assertEqual([message["n"] for message in got if message.replayed][:4], [3, 4, 5, 13])
        self.assertEqual((sub.missed, sub.replayed, sub.lost, sub.received), (30, 30, 0, 70))

    def test_what_arrives_during_a_replay_waits_for_its_turn(self):
        sub = self.subscribe()
        holding, held = threading.Event(), threading.Event()

        def hold(request, send):
            holding.set()
            held.wait(20)
            return False

        self.bus.misbehave = hold
        got = []
        reader = threading.Thread(target=lambda: got.extend(self.take(sub, 80)))
        reader.start()
        for n in range(60):
            self.bus.publish(TICK, drop=10 <= n < 50, n=n)
        self.assertTrue(holding.wait(20))
        for n in range(60, 80):
            self.bus.publish(TICK, n=n)
        held.set()
        reader.join(20)
        self.assertEqual([message["n"] for message in got], list(range(80)))
        self.assertEqual((len(self.bus.asked), sub.replayed), (1, 40))

    def test_an_answer_that_was_cut_is_continued(self):
        self.bus.cut = 7
        sub = self.subscribe()
        for n in range(52):
            self.bus.publish(TICK, drop=0 < n < 51, n=n)
        self.assertEqual([message["n"] for message in self.take(sub, 52)], list(range(52)))
        self.assertEqual(len(self.bus.asked), 8)

    def test_a_miss_at_the_end_is_seen_by_the_heartbeat(self):
        sub = self.subscribe()
        self.bus.publish(TICK, n=0)
        self.bus.publish(TICK, drop=True, n=1)
        self.bus.publish(TICK, drop=True, n=2)
        self.bus.beat()
        self.assertEqual([message["n"] for message in self.take(sub, 3)], [0, 1, 2])
        self.bus.beat()
        self.bus.publish(TICK, n=3)
        self.assertEqual(self.take(sub, 1)[0]["n"], 3)
        self.assertEqual((sub.replayed, sub.lost, len(self.bus.asked)), (2, 0, 1))

    def test_a_first_heartbeat_is_where_a_new_subscriber_stands(self):
        for n in range(5):
            self.bus.publish(TICK, n=n)
        sub = self.subscribe()
        self.bus.beat()
        self.bus.publish(TICK, drop=True, n=5)
        self.bus.publish(TICK, n=6)
        self.assertEqual([message["n"] for message in self.take(sub, 2)], [5, 6])

    def test_a_subscriber_goes_on_where_an_earlier_one_stood(self):
        first = self.subscribe()
        for n in range(3):
            self.bus.publish(TICK, n=n)
        self.take(first, 3)
        position = first.position
        first.close()
        for n in range(3, 10):
            self.bus.publish(TICK, drop=True, n=n)
        second = self.subscribe(resume=position)
        self.bus.publish(TICK, n=10)
        self.assertEqual([message["n"] for message in self.take(second, 8)], list(range(3, 11)))
        self.assertEqual((second.replayed, second.lost), (7, 0))

    def test_what_is_gone_from_the_tape_is_lost_and_named(self):
        sub = self.subscribe()
        self.bus.publish(TICK, n=0)
        for n in range(1, 6):
            self.bus.publish(TICK, drop=True, n=n)
        # Seqs 3, 6, 9 … : the first two dropped ones go.
        self.bus.forget_below(12)
        self.bus.publish(TICK, n=6)
        self.assertEqual([message["n"] for message in self.take(sub, 5)], [0, 3, 4, 5, 6])
        self.assertEqual((sub.replayed, sub.lost, sub.missed), (3, 1, 4))
        self.assertEqual(sub.holes, [tapedeck.Hole(TICK, 4, 9, "gone from the tape")])

    def test_all_of_it_gone_is_one_hole(self):
        sub = self.subscribe()
        self.bus.publish(TICK, n=0)
        self.bus.publish(TICK, drop=True, n=1)
        self.bus.forget_below(7)
        self.bus.publish(TICK, n=2)
        self.assertEqual([message["n"] for message in self.take(sub, 2)], [0, 2])
        self.assertEqual((sub.lost, [hole[1:3] for hole in sub.holes]), (1, [(4, 6)]))

    def test_a_message_dropped_from_an_answer_is_asked_for_again(self):
        lame = []

        def drop_one(request, send):
            if lame:
                return False
            lame.append(request)
            self.bus.answer(request, lambda frames: None if msgpack.unpackb(frames[1]).get("n") == 3 else send(frames))
            return True

        self.bus.misbehave = drop_one
        sub = self.subscribe()
        for n in range(7):
            self.bus.publish(TICK, drop=0 < n < 6, n=n)
        self.assertEqual([message["n"] for message in self.take(sub, 7)], list(range(7)))
        self.assertEqual((sub.replayed, sub.lost), (5, 0))

    def test_a_refusal_is_a_loss_with_the_decks_words(self):
        self.bus.misbehave = lambda request, send: send(
            [b"error", msgpack.packb({"error": "no such topic", "id": request[-1]})]
        ) or True
        sub = self.subscribe()
        for n in range(3):
            self.bus.publish(TICK, drop=n == 1, n=n)
        self.assertEqual([message["n"] for message in self.take(sub, 2)], [0, 2])
        self.assertEqual(sub.holes, [tapedeck.Hole(TICK, 4, 6, "no such topic")])

    def test_silence_instead_of_an_answer_is_asked_again(self):
        silent = []
        self.bus.misbehave = lambda request, send: len(silent) < 2 and not silent.append(request)
        sub = self.subscribe()
        sub._requests.timeout = 0.1
        for n in range(3):
            self.bus.publish(TICK, drop=n == 1, n=n)
        self.assertEqual([message["n"] for message in self.take(sub, 3)], [0, 1, 2])
        self.assertEqual((len(self.bus.asked), sub.lost), (3, 0))

    def test_a_new_tape_starts_afresh(self):
        sub = self.subscribe()
        for n in range(50):
            self.bus.publish(TICK, n=n)
        self.take(sub, 50)
        self.bus.new_tape()
        self.bus.publish(TICK, drop=True, n=50)
        self.bus.publish(TICK, n=51)
        self.assertEqual(self.take(sub, 1)[0]["n"], 51)
        self.assertEqual((sub.new_tapes, sub.missed, self.bus.asked), (1, 0, []))

    def test_a_recording_that_is_played_again_may_go_back(self):
        sub = self.subscribe()
        for n in range(3):
            self.bus.publish(TICK, n=n)
        self.bus.seq, self.bus.last = 0, {}
        self.bus.publish(TICK, n=0, replayed=True)
        self.bus.publish(TICK, n=1, replayed=True)
        self.assertEqual([message["n"] for message in self.take(sub, 5)], [0, 1, 2, 0, 1])
        self.assertEqual((sub.missed, sub.duplicates), (0, 0))

    def test_what_comes_twice_is_handed_over_once(self):
        sub = self.subscribe()
        payload = self.bus.message(TICK, n=0)
        for _ in range(3):
            self.bus.pub.send_multipart([TICK.encode(), payload])
        self.bus.publish(TICK, n=1)
        self.assertEqual([message["n"] for message in self.take(sub, 2)], [0, 1])
        self.assertEqual(sub.duplicates, 2)

    def test_without_replay_a_miss_is_counted(self):
        sub = tapedeck.subscribe(TICK, connect=self.bus.address, replay=False)
        self.addCleanup(sub.close)
        self.bus.wait_for(TICK)
        for n in range(3):
            self.bus.publish(TICK, drop=n == 1, n=n)
        self.assertEqual([message["n"] for message in self.take(sub, 2)], [0, 2])
        self.assertEqual((sub.missed, sub.lost), (1, 1))

    def test_a_publisher_of_somebody_else_is_read_too(self):
        sub = self.subscribe("custom_prices")
        self.bus.pub.send_multipart([b"custom_prices", msgpack.packb({"timestamp": 1.5, "value": 42})])
        self.bus.pub.send_multipart([b"custom_prices", b'{"value": 43}'])
        self.bus.pub.send_multipart([b"custom_prices", b"\xc1 no MessagePack"])
        self.bus.pub.send(b"custom_prices 1\x012")
        first, second, third, fourth = self.take(sub, 4)
        self.assertEqual((first["value"], first.timestamp, second["value"]), (42, 1.5, 43))
        self.assertEqual((third.payload, fourth.payload, sub.undecoded), (b"\xc1 no MessagePack", b"1\x012", 2))

    def test_json_is_read_as_maps_are(self):
        sub = self.subscribe()
        self.bus.pub.send_multipart([TICK.encode(), b'{"seq": 1, "prev": null, "tape": "t", "bid": 1.5}'])
        tick = next(sub)
        self.assertEqual((tick.seq, tick.bid, sub.position), (1, 1.5, {TICK: ["t", 1]}))

    def test_it_ends_when_it_is_stopped_from_another_thread(self):
        sub = self.subscribe()
        threading.Timer(0.1, sub.stop).start()
        self.assertEqual(list(sub), [])

    def test_nothing_within_the_timeout_is_none(self):
        sub = self.subscribe()
        begun = time.monotonic()
        self.assertIsNone(sub.get(timeout=0.05))
        self.assertGreaterEqual(time.monotonic() - begun, 0.05)
        self.assertIsNone(sub.get(timeout=0))

    def test_the_last_message_is_had_on_request(self):
        for n in range(3):
            self.bus.publish(TICK, n=n, bid=float(n))
        tick = tapedeck.last(TICK, connect=self.bus.requests)
        self.assertEqual((tick.bid, tick["n"]), (2.0, 2))
        self.assertIsNone(tapedeck.last("oanda_tick", connect=self.bus.requests))

    def test_who_does_not_answer_is_an_error(self):
        socket = self.bus.context.socket(zmq.ROUTER)
        self.addCleanup(socket.close, 0)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with self.assertRaises(tapedeck.ReplayError):
            tapedeck.last(TICK, connect="tcp://127.0.0.1:{}".format(port), timeout=0.1)


class Curve(unittest.TestCase):
    def test_an_encrypted_bus_is_read(self):
        if not zmq.has("curve"):
            self.skipTest("this pyzmq has no CURVE")
        public, secret = zmq.curve_keypair()
        context = zmq.Context()
        pub = context.socket(zmq.XPUB)
        pub.curve_secretkey, pub.curve_publickey, pub.curve_server = secret, public, True
        port = pub.bind_to_random_port("tcp://127.0.0.1")
        try:
            curve = tapedeck.Curve(public.decode())
            self.assertNotIn(secret.decode(), repr(curve))
            sub = tapedeck.subscribe(TICK, connect="tcp://127.0.0.1:{}".format(port), curve=curve)
            with sub:
                self.assertTrue(pub.poll(20000), "nobody came in")
                pub.recv()
                pub.send_multipart([TICK.encode(), msgpack.packb({"bid": 1.0})])
                self.assertEqual(sub.get(timeout=20).bid, 1.0)
        finally:
            pub.close(0)
            context.term()

    def test_keys_are_read_from_files(self):
        with tempfile.TemporaryDirectory() as folder:
            zmq.auth.create_certificates(folder, "server")
            own, _ = zmq.auth.create_certificates(folder, "own")
            curve = tapedeck.Curve.load(os.path.join(folder, "server.key"), own + "_secret")
            self.assertEqual((curve.public, curve.secret), zmq.auth.load_certificate(own + "_secret"))

    def test_keys_are_checked(self):
        with self.assertRaises(ValueError):
            tapedeck.Curve("too short")
        with self.assertRaises(ValueError):
            tapedeck.Curve("x" * 40, public="x" * 40)


class Ports(unittest.TestCase):
    def test_topics_find_their_port(self):
        port = tapedeck.ports.port_of
        self.assertEqual([port("kraken_tick"), port("kraken_depth"), port("trade.kraken"), port("trade.*")], [5558, 5560, 5568, 5568])
        self.assertEqual([port("candle.5m"), port("gap"), port("custom"), port("*")], [5570, 5570, 5572, 5572])

    def test_topics_of_one_port_share_a_connection(self):
        self.assertEqual(
            tapedeck.endpoints(["gap", "candle.1m", "kraken_tick"], "h"),
            [("tcp://h:5570", ["gap", "candle.1m"]), ("tcp://h:5558", ["kraken_tick"])],
        )


if __name__ == "__main__":
    unittest.main()
