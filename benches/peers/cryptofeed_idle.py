"""cryptofeed's Kraken feed on the venue of the benches: python3 cryptofeed_idle.py PORT

The feed as its users run it, with two things replaced: its list of pairs, which it would ask the real
venue for, and the address. cryptofeed refuses an address without TLS before it connects, so the address is
changed in the hook that it offers for authentication.
"""

import asyncio
import sys

from cryptofeed import FeedHandler
from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Kraken
from cryptofeed.symbols import Symbols


class OnTheBench(Kraken):
    websocket_endpoints = [WebsocketEndpoint("wss://127.0.0.1", authentication=True)]

    async def _ws_authentication(self, _address, options):
        return f"ws://127.0.0.1:{sys.argv[1]}", options


async def traded(_trade, _received):
    pass


Symbols.set(Kraken.id, {"BTC-USD": "XBT/USD"}, {"instrument_type": {"BTC-USD": "spot"}})
handler = FeedHandler()
# The loop that it installed, uvloop, no longer makes one by itself.
asyncio.set_event_loop(asyncio.new_event_loop())
handler.add_feed(OnTheBench(symbols=["BTC-USD"], channels=[TRADES], callbacks={TRADES: traded}))
handler.run()
