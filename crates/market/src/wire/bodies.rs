//! The fields of every body, in the order of the wire.
//!
//! The format is frozen: a field is added at the end of its list, and only with a type that can
//! be absent. `tests/golden/schema1.txt` holds the bytes.

use super::WireError;
use super::field::{Field, next, positional, skip_rest};
use super::msgpack::{Reader, put_array, put_bin};
use crate::{
    BookUpdate, Candle, Gap, Instrument, Leg, Level, LevelPriceSize, Odds, Order, Point, Position, Post, PriceSize,
    Quote, Raw, Sentiment, Stats, Status, Synthetic, TapeNote, Ticker, Trade,
};

positional!(Trade, 1, [price, size, side, id]);
positional!(Quote, 1, [bid, bid_size, ask, ask_size]);
positional!(
    Ticker,
    1,
    [
        last,
        last_size,
        bid,
        bid_size,
        bid_whole_lots,
        ask,
        ask_size,
        ask_whole_lots,
        today,
        day,
        prev_close,
        change,
        change_pct,
        avg_price,
        buy_size,
        sell_size,
        oi,
        oi_high,
        oi_low,
        last_trade_time,
        refused,
    ]
);
positional!(Stats, 1, [open, high, low, volume, vwap, trades], absent: Stats::default());
positional!(BookUpdate, 1, [snapshot, bids, asks, checksum, depth]);
positional!(Level, 7, [price, size, orders]);
positional!(Candle, 1, [interval_ns, start, open, high, low, close, volume, vwap, trades, flags, revision, input]);
positional!(
    Odds,
    1,
    [
        selection,
        handicap,
        image,
        last,
        volume,
        sp_near,
        sp_far,
        available_to_back,
        available_to_lay,
        traded,
        sp_back,
        sp_lay,
        best_to_back,
        best_to_lay,
        best_display_to_back,
        best_display_to_lay,
        conflated,
        market_volume,
    ]
);
positional!(PriceSize, 7, [price, size]);
positional!(LevelPriceSize, 8, [level, price, size]);
positional!(
    Order,
    1,
    [
        action, id, client_id, side, order_type, status, price, size, filled, avg_price, fill_price, fill_size,
        trade_id, fee, fee_asset, reason, raw,
    ]
);
positional!(Post, 1, [id, author, text, lang, location, topics, sentiment, metrics, edit_of]);
positional!(Sentiment, 1, [compound, positive, neutral, negative]);
positional!(Point, 1, [name, tags, fields]);
positional!(Synthetic, 1, [legs, spread, spread_bid, spread_ask]);
// Seven fields take eight bytes: without that bound a list of empty legs would claim 84 times its bytes.
positional!(Leg, 8, [instrument, bid, ask, leg_bid, leg_bid_size, leg_ask, leg_ask_size]);
positional!(
    Instrument,
    1,
    [
        aliases,
        base,
        quote,
        status,
        price_precision,
        price_increment,
        size_precision,
        size_increment,
        size_min,
        multiplier,
        session,
        valid_from,
        valid_to,
        raw,
    ]
);
positional!(Position, 1, [key, value]);
positional!(Status, 1, [topic, state, detail]);
positional!(Gap, 1, [id, state, cause, channel, from, to, missing, detail]);
positional!(TapeNote, 1, [what, from_seq, to_seq, bytes, detail]);

/// By hand: the frame is bytes, not a list of numbers.
impl Field for Raw {
    fn put(&self, out: &mut Vec<u8>) {
        put_array(out, 2);
        self.format.put(out);
        put_bin(out, &self.frame);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut left = input.array()?;
        let format = next(&mut left, input)?;
        let frame = match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                input.bin()?.to_vec()
            }
            None => Vec::new(),
        };
        skip_rest(left, input)?;
        Ok(Raw { format, frame })
    }
}
