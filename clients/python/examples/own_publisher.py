"""A publisher of one's own, as the predecessors documented it; a deck records it with a source of kind `zmq`."""

import argparse
import time

from tapedeck.compat import BasePublisher, PortConfig

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--port", type=int, default=5600)
args.add_argument("--count", type=int, help="end after so many")
args.add_argument("--interval", type=float, default=1.0, help="seconds between two")
args = args.parse_args()


class MyPublisher(BasePublisher):
    def run(self):
        self.running = True
        number = 0
        while self.running and number != args.count:
            self.publish_json("my_topic", {"timestamp": time.time(), "value": 42})
            number += 1
            time.sleep(args.interval)


config = PortConfig(
    port=args.port, service_name="my_pub", service_type="PUB", description="My publisher", topic_filter="my_topic"
)
with MyPublisher(config) as publisher:
    publisher.run()
