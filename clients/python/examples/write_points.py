"""Write measurements of one's own: when `write` returns, they are durable on the tape."""

import argparse

import tapedeck

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--url", help="the deck's HTTP address; default: TAPEDECK_URL, else http://127.0.0.1:7373")
args = args.parse_args()

tapedeck.write("model_signal", {"score": 0.75, "side": "buy"}, tags={"instrument": "BTC/USD"}, url=args.url)

points = [tapedeck.Point("model_signal", {"score": n / 10}, {"instrument": "ETH/USD"}) for n in range(10)]
print(1 + tapedeck.write(points, url=args.url), "points are on the tape")
