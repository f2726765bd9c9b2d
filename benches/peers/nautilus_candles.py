"""The peer of bench-candles: NautilusTrader's TimeBarAggregator, fed with trade ticks that are ready.

Usage: nautilus_candles.py INSTRUMENTS SECONDS... Says `ready`, then for each line N on standard input takes N ticks and
says `done`. The clock is advanced once a second of ticks, less often than an engine would: in the peer's favour.
"""

import random
import sys

from nautilus_trader.common.component import TestClock
from nautilus_trader.data.aggregation import TimeBarAggregator
from nautilus_trader.model.data import BarType, TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import TradeId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider

UNITS = [(86_400, "DAY"), (3_600, "HOUR"), (60, "MINUTE"), (1, "SECOND")]
BEGIN = 1_767_571_200_000_000_000
STEP = 1_000_000
READY = 100_000



def step_of(seconds):
    length, unit = next((length, unit) for length, unit in UNITS if seconds % length == 0)
    return f"{seconds // length}-{unit}"


instruments = int(sys.argv[1])
steps = [step_of(int(seconds)) for seconds in sys.argv[2:]]
instrument = TestInstrumentProvider.btcusdt_binance()
dice = random.Random(7)
side = AggressorSide.BUYER
places = [dice.randrange(instruments) for _ in range(READY)]
ticks = [
    TradeTick(
        instrument.id,
        Price(64500 + dice.randrange(1000) / 10, 2),
        Quantity((1 + dice.randrange(1_000_000)) / 1e6, 6),
        side,
        TradeId("1"),
        BEGIN + n * STEP,
        BEGIN + n * STEP,
    )
    for n in range(READY)
]
bars = 0


def count(_bar):
    global bars
    bars += 1


def fresh():
    """A clock and aggregators for each instrument: timers of one clock go by the name of the bar type."""
    clocks, made = [], []
    for _ in range(instruments):
        clock = TestClock()
        clock.set_time(BEGIN - 1)
        clocks.append(clock)
        made.append([aggregator(BarType.from_str(f"{instrument.id}-{step}-LAST-INTERNAL"), clock) for step in steps])
    return clocks, made, [BEGIN] * instruments


def aggregator(bar_type, clock):
    one = TimeBarAggregator(instrument, bar_type, count, clock)
    # Later versions are started; this one starts itself.
    if hasattr(one, "start_timer"):
        one.start_timer()
    return one


clocks, made, due = fresh()
at = 0
print("ready", flush=True)
for line in sys.stdin:
    left = int(line)
    while left:
        if at == READY:
            clocks, made, due = fresh()
            at = 0
        until = min(at + left, READY)
        left -= until - at
        for n in range(at, until):
            tick, place = ticks[n], places[n]
            now = BEGIN + n * STEP
            if now >= due[place]:
                due[place] = now + 1_000_000_000
                for event in clocks[place].advance_time(now):
                    event.handle()
            for one in made[place]:
                one.handle_trade_tick(tick)
        at = until
    print("done", flush=True)
