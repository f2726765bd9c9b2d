import unittest
from decimal import Decimal

import tapedeck
from tapedeck import Point, WriteError, to_line
from tests.fakes import FakeDeck, free_port


class Lines(unittest.TestCase):
    def test_a_point_is_a_line(self):
        point = Point("spread", {"value": 1.5, "n": 2, "ok": True, "text": 'a "b" \\'}, {"pair": "EUR/USD"}, 7)
        self.assertEqual(to_line(point), 'spread,pair=EUR/USD value=1.5,n=2i,ok=true,text="a \\"b\\" \\\\" 7')

    def test_what_separates_is_escaped(self):
        line = to_line(Point("my point,x", {"a=b c": 1}, {"t g": "v,w=x y"}, 1))
        self.assertEqual(line, "my\\ point\\,x,t\\ g=v\\,w\\=x\\ y a\\=b\\ c=1i 1")

    def test_decimals_keep_their_digits(self):
        self.assertEqual(to_line(Point("p", {"v": Decimal("62807.10")}, {}, 1)), "p v=62807.10 1")
        self.assertEqual(to_line(Point("p", {"v": Decimal("1E+3")}, {}, 1)), "p v=1000 1")

    def test_an_empty_tag_is_left_out(self):
        self.assertEqual(to_line(Point("p", {"v": 1}, {"a": "", "b": None, "c": 0}, 1)), "p,c=0 v=1i 1")

    def test_what_has_no_words_is_refused(self):
        for point in (
            Point("p", {}),
            Point("", {"v": 1}),
            Point("p\nq", {"v": 1}),
            Point("p", {"v": float("nan")}),
            Point("p", {"v": Decimal("Infinity")}),
            Point("p", {"v": 1}, {"t": "ends in \\"}),
            Point("p", {"v": object()}),
        ):
            with self.assertRaises((ValueError, TypeError), msg=repr(point)):
                to_line(point)


class Writing(unittest.TestCase):
    def setUp(self):
        self.deck = FakeDeck()
        self.addCleanup(self.deck.close)

    def test_one_point_and_many(self):
        self.assertEqual(tapedeck.write("a", {"v": 1}, {"t": "x"}, 5, url=self.deck.url), 1)
        self.assertEqual(tapedeck.write([Point("b", {"v": n}, time=n) for n in range(3)], url=self.deck.url), 3)
        self.assertEqual(self.deck.lines, ["a,t=x v=1i 5", "b v=0i 0", "b v=1i 1", "b v=2i 2"])
        self.assertIn("precision=ns", self.deck.paths[0])

    def test_many_points_go_in_requests_of_five_thousand(self):
        tapedeck.write([Point("b", {"v": n}, time=n) for n in range(12001)], url=self.deck.url)
        self.assertEqual((len(self.deck.paths), len(self.deck.lines)), (3, 12001))
        self.assertEqual(self.deck.lines[-1], "b v=12000i 12000")

    def test_a_busy_deck_is_tried_again(self):
        self.deck.answers = [(503, "the disk is full"), (429, "slower")]
        tapedeck.write("a", {"v": 1}, time=5, url=self.deck.url)
        self.assertEqual(self.deck.lines, ["a v=1i 5"])

    def test_a_refusal_is_told_in_the_decks_words_and_not_repeated(self):
        self.deck.answers = [(400, "unable to parse")]
        with self.assertRaises(WriteError) as refused:
            tapedeck.write("a", {"v": 1}, url=self.deck.url)
        self.assertEqual((refused.exception.status, refused.exception.message), (400, "unable to parse"))
        self.assertEqual(len(self.deck.paths), 1)

    def test_a_deck_that_is_away_is_an_error_when_the_time_is_over(self):
        with self.assertRaises(WriteError) as away:
            tapedeck.write("a", {"v": 1}, url="http://127.0.0.1:{}".format(free_port()), timeout=0.3)
        self.assertEqual(away.exception.status, 0)
        self.assertIn("cannot be reached", str(away.exception))

    def test_a_token_is_sent(self):
        tapedeck.write("a", {"v": 1}, url=self.deck.url, token="t0k")
        self.assertEqual(self.deck.headers[0]["Authorization"], "Token t0k")


if __name__ == "__main__":
    unittest.main()
