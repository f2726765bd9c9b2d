//! What each table's columns are: one function a body, which is schema, writer and reader at once (`columns.rs`).
//!
//! Columns are only ever added, at the end of a body's own, so that files of different ages are read together.

use tapedeck_market::{
    Body, BookUpdate, Candle, CandleFlags, CandleInput, Event, Flags, Gap, GapCause, GapState, Instrument, Kind, Level,
    LevelPriceSize, Odds, Order, Origin, Point, Position, Post, PriceSize, Quote, Raw, Record, Sentiment, Side,
    SmolStr, Stats, Status, Synthetic, TapeEvent, TapeNote, Ticker, Trade, UnixNanos, Unknown, Uuid, wire,
};

use crate::columns::{Column, Columns, Rung, Shape};
use crate::json;
use crate::table::Table;

/// A whole event of a kind that this version has no columns for.
const WHOLE_EVENT: &str = "event";

/// Walks the columns of one row: writers take it from them, readers get it back.
pub fn row<C: Columns>(c: &mut C, table: Table, tape: &str, seq: u64, event: &Event) -> Record {
    let Event { source, venue, symbol, ts_event, ts_recv, flags, origin, body } = event;
    let seq =
        c.count(("seq", "place on the tape, dense, from 1; with `tape_id` the identity of the record"), Some(seq));
    c.uuid(("tape_id", "the tape it is on"), Some(tape));
    let ts_event = c.time(("ts_event", "the venue's clock (UTC); NULL where it told none"), *ts_event);
    let ts_recv = c.time(("ts_recv", "our clock (UTC), taken when the bytes arrived"), Some(*ts_recv));
    let source = word(c, ("source", "name of the config table that recorded it"), source);
    let venue = word(c, ("venue", "kind of venue"), venue);
    let symbol = word(c, ("symbol", "the venue's own spelling; empty for what concerns no symbol"), symbol);
    let flags =
        c.u32(("flags", "bits: 1 backfilled, 2 absurd_time, 4 snapshot, 8 derived, 16 replayed"), Some(flags.0));
    let origin = self::origin(c, *origin);
    let body = self::body(c, table, event, body);
    let event = Event {
        source,
        venue,
        symbol,
        ts_event,
        ts_recv: ts_recv.unwrap_or_default(),
        flags: Flags(flags.unwrap_or_default()),
        origin,
        body,
    };
    Record { seq: seq.unwrap_or_default(), event }
}

/// A record of the table's kind, for walks that need one and do not look at it.
#[must_use]
pub fn prototype(table: Table) -> Record {
    let body = match table {
        Table::Trades => {
            Body::Trade(Trade { price: Default::default(), size: Default::default(), side: None, id: None })
        }
        Table::Quotes => Body::Quote(Quote::default()),
        Table::Tickers => Body::Ticker(Box::default()),
        Table::Books => Body::Book(BookUpdate::default()),
        Table::Candles => Body::Candle(Box::new(Candle {
            interval_ns: 0,
            start: UnixNanos::default(),
            open: Default::default(),
            high: Default::default(),
            low: Default::default(),
            close: Default::default(),
            volume: None,
            vwap: None,
            trades: None,
            flags: CandleFlags::default(),
            revision: 0,
            input: CandleInput::default(),
        })),
        Table::Odds => Body::Odds(Box::default()),
        Table::Orders => Body::Order(Box::default()),
        Table::Posts => Body::Post(Box::default()),
        Table::Points => Body::Point(Box::default()),
        Table::Synthetics => Body::Synthetic(Box::default()),
        Table::Instruments => Body::Instrument(Box::default()),
        Table::Positions => Body::Position(Position::default()),
        Table::Status => Body::Status(Status::default()),
        Table::Gaps => Body::Gap(Box::new(Gap {
            id: 0,
            state: GapState::Open,
            cause: GapCause::Session,
            channel: SmolStr::default(),
            from: UnixNanos::default(),
            to: None,
            missing: None,
            detail: SmolStr::default(),
        })),
        Table::Tape => Body::Tape(Box::new(TapeNote {
            what: TapeEvent::Hole,
            from_seq: None,
            to_seq: None,
            bytes: 0,
            detail: SmolStr::default(),
        })),
        Table::Raw => Body::Raw(Raw::default()),
    };
    let event = Event {
        source: SmolStr::default(),
        venue: SmolStr::default(),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv: UnixNanos::default(),
        flags: Flags::NONE,
        origin: None,
        body,
    };
    Record { seq: 0, event }
}

fn origin<C: Columns>(c: &mut C, origin: Option<Origin>) -> Option<Origin> {
    let tape = origin.map(|origin| origin.tape.to_string());
    let tape = c.uuid(("origin_tape", "the tape it was first recorded on, when that is another"), tape.as_deref());
    let seq = c.count(("origin_seq", "its seq there"), origin.map(|origin| origin.seq));
    Some(Origin { tape: Uuid::parse_str(&tape?).ok()?, seq: seq? })
}

fn body<C: Columns>(c: &mut C, table: Table, event: &Event, body: &Body) -> Body {
    match body {
        Body::Trade(body) => Body::Trade(trade(c, body)),
        Body::Quote(body) => Body::Quote(quote(c, body)),
        Body::Ticker(body) => Body::Ticker(Box::new(ticker(c, body))),
        Body::Book(body) => Body::Book(book(c, body)),
        Body::Candle(body) => Body::Candle(Box::new(candle(c, body))),
        Body::Odds(body) => Body::Odds(Box::new(odds(c, body))),
        Body::Order(body) => Body::Order(Box::new(order(c, body))),
        Body::Post(body) => Body::Post(Box::new(post(c, body))),
        Body::Point(body) => Body::Point(Box::new(point(c, body))),
        Body::Synthetic(body) => Body::Synthetic(Box::new(synthetic(c, body))),
        Body::Instrument(body) => Body::Instrument(Box::new(instrument(c, body))),
        Body::Position(body) => Body::Position(Position {
            key: word(c, ("key", "what the position is of"), &body.key),
            value: text(c, ("value", "the position, in the source's own words"), &body.value),
        }),
        Body::Status(body) => Body::Status(Status {
            topic: word(c, ("topic", "what it is about"), &body.topic),
            state: word(c, ("state", ""), &body.state),
            detail: pairs(c, ("detail", "texts by name, as JSON"), &body.detail),
        }),
        Body::Gap(body) => Body::Gap(Box::new(gap(c, body))),
        Body::Tape(body) => Body::Tape(Box::new(note(c, body))),
        body => {
            debug_assert_eq!(table, Table::Raw);
            raw(c, event, body)
        }
    }
}

fn trade<C: Columns>(c: &mut C, Trade { price, size, side, id }: &Trade) -> Trade {
    Trade {
        price: c.price(("price", "price of one unit"), Some(*price)).unwrap_or_default(),
        size: c.size(("size", "units of the base asset"), Some(*size)).unwrap_or_default(),
        side: self::side(c, ("side", "`buy` or `sell`: who took"), *side),
        id: c.text(("id", "the venue's id, unique per symbol"), id.as_deref()),
    }
}

fn quote<C: Columns>(c: &mut C, Quote { bid, bid_size, ask, ask_size }: &Quote) -> Quote {
    Quote {
        bid: c.price(("bid", "best bid"), *bid),
        bid_size: c.size(("bid_size", "volume on it"), *bid_size),
        ask: c.price(("ask", "best ask"), *ask),
        ask_size: c.size(("ask_size", "volume on it"), *ask_size),
    }
}

fn ticker<C: Columns>(c: &mut C, it: &Ticker) -> Ticker {
    const DAY: [Column; 6] = [
        ("open", "price 24 hours ago"),
        ("high", "highest of 24 hours"),
        ("low", "lowest of 24 hours"),
        ("volume", "volume of 24 hours"),
        ("vwap", "volume-weighted price of 24 hours"),
        ("trades", "trades of 24 hours"),
    ];
    const TODAY: [Column; 6] = [
        ("open_today", "since the venue's midnight or session start"),
        ("high_today", ""),
        ("low_today", ""),
        ("volume_today", ""),
        ("vwap_today", ""),
        ("trades_today", ""),
    ];
    Ticker {
        last: c.price(("last", "price of the last trade"), it.last),
        last_size: c.size(("last_size", "its size"), it.last_size),
        bid: c.price(("bid", "best bid"), it.bid),
        bid_size: c.size(("bid_size", "volume on it"), it.bid_size),
        bid_whole_lots: c.size(("bid_whole_lots", "the same in whole lots"), it.bid_whole_lots),
        ask: c.price(("ask", "best ask"), it.ask),
        ask_size: c.size(("ask_size", "volume on it"), it.ask_size),
        ask_whole_lots: c.size(("ask_whole_lots", "the same in whole lots"), it.ask_whole_lots),
        day: stats(c, DAY, &it.day),
        today: stats(c, TODAY, &it.today),
        prev_close: c.price(("prev_close", "close of the session before"), it.prev_close),
        change: c.decimal(("change", "over 24 hours, in units of price"), it.change),
        change_pct: c.decimal(("change_pct", "over 24 hours, in per cent"), it.change_pct),
        avg_price: c.price(("avg_price", "volume-weighted price of the session so far"), it.avg_price),
        buy_size: c.size(("buy_size", "pending volume on all bid levels"), it.buy_size),
        sell_size: c.size(("sell_size", "pending volume on all ask levels"), it.sell_size),
        oi: c.size(("oi", "open interest"), it.oi),
        oi_high: c.size(("oi_high", "its high of the day"), it.oi_high),
        oi_low: c.size(("oi_low", "its low of the day"), it.oi_low),
        last_trade_time: c.time(("last_trade_time", "UTC"), it.last_trade_time),
        refused: pairs(c, ("refused", "fields of more than 18 digits, with the venue's text, as JSON"), &it.refused),
    }
}

fn stats<C: Columns>(c: &mut C, names: [Column; 6], it: &Stats) -> Stats {
    let [open, high, low, volume, vwap, trades] = names;
    Stats {
        open: c.price(open, it.open),
        high: c.price(high, it.high),
        low: c.price(low, it.low),
        volume: c.size(volume, it.volume),
        vwap: c.price(vwap, it.vwap),
        trades: c.count(trades, it.trades),
    }
}

fn book<C: Columns>(c: &mut C, BookUpdate { snapshot, bids, asks, checksum, depth }: &BookUpdate) -> BookUpdate {
    let snapshot = c.flag(("snapshot", "the levels are the whole book, not a change"), Some(*snapshot));
    let mut levels = |column: Column, levels: &[Level]| -> Vec<Level> {
        let mut rungs =
            levels.iter().map(|level| Rung { level: 0, price: level.price, size: level.size, orders: level.orders });
        let read = c.rungs(column, Shape::Counted, &mut rungs).into_iter();
        read.map(|rung| Level { price: rung.price, size: rung.size, orders: rung.orders }).collect()
    };
    BookUpdate {
        snapshot: snapshot.unwrap_or_default(),
        bids: levels(("bids", "levels in the order sent; size zero removes the level"), bids),
        asks: levels(("asks", "likewise"), asks),
        checksum: c.u32(("checksum", "the venue's, of the book after this update"), *checksum),
        depth: c.u32(("depth", "levels a side, as subscribed; NULL = all"), *depth),
    }
}

fn candle<C: Columns>(c: &mut C, it: &Candle) -> Candle {
    let interval_ns = c.int(("interval_ns", "length in nanoseconds"), Some(it.interval_ns));
    let start = c.time(("start", "it covers `[start, start + interval_ns)` (UTC)"), Some(it.start));
    let mut price = |name, doc, value| c.price((name, doc), Some(value)).unwrap_or_default();
    let open = price("open", "first price", it.open);
    let high = price("high", "highest price", it.high);
    let low = price("low", "lowest price", it.low);
    let close = price("close", "last price", it.close);
    let candle = Candle {
        interval_ns: interval_ns.unwrap_or_default(),
        start: start.unwrap_or_default(),
        open,
        high,
        low,
        close,
        volume: c.sum(("volume", "sum of the sizes"), it.volume),
        vwap: c.price(("vwap", "volume-weighted price, cut to the price's precision"), it.vwap),
        trades: c.count(("trades", "number of trades"), it.trades),
        flags: CandleFlags(
            c.u32(("candle_flags", "the five below as bits: 1, 2, 4, 8, 16"), Some(it.flags.0)).unwrap_or_default(),
        ),
        revision: c.u32(("revision", "0, then 1, 2 … for each correction"), Some(it.revision)).unwrap_or_default(),
        input: named(
            &CandleInput::NAMES,
            c.word(
                ("input", "`trades`, `bid`, `ask`, `mid`, or `venue`: sent by the venue itself"),
                Some(it.input.name()),
            ),
        )
        .unwrap_or_default(),
    };
    let docs = [
        "the bucket is over and was seen whole",
        "recording started or stopped inside it",
        "a gap of the instrument overlaps it",
        "a correction of an earlier one",
        "built from fetched history",
    ];
    for ((flag, name), doc) in CandleFlags::NAMES.into_iter().zip(docs) {
        c.flag((name, doc), Some(it.flags.contains(flag)));
    }
    candle
}

fn odds<C: Columns>(c: &mut C, it: &Odds) -> Odds {
    Odds {
        selection: c.int(("selection", "with `handicap` the runner's key"), Some(it.selection)).unwrap_or_default(),
        handicap: c.decimal(("handicap", "Asian handicap"), Some(it.handicap)).unwrap_or_default(),
        image: c.flag(("image", "replaces everything known of the runner"), Some(it.image)).unwrap_or_default(),
        last: c.price(("last", "last traded price"), it.last),
        volume: c.size(("volume", "total matched"), it.volume),
        sp_near: c.price(("sp_near", "near starting price"), it.sp_near),
        sp_far: c.price(("sp_far", "far starting price"), it.sp_far),
        available_to_back: ladder(
            c,
            ("available_to_back", "ladder by price; size zero removes"),
            &it.available_to_back,
        ),
        available_to_lay: ladder(c, ("available_to_lay", "likewise"), &it.available_to_lay),
        traded: ladder(c, ("traded", "likewise"), &it.traded),
        sp_back: ladder(c, ("sp_back", "likewise"), &it.sp_back),
        sp_lay: ladder(c, ("sp_lay", "likewise"), &it.sp_lay),
        best_to_back: best(c, ("best_to_back", "ladder by level, 0 is the best"), &it.best_to_back),
        best_to_lay: best(c, ("best_to_lay", "likewise"), &it.best_to_lay),
        best_display_to_back: best(c, ("best_display_to_back", "likewise"), &it.best_display_to_back),
        best_display_to_lay: best(c, ("best_display_to_lay", "likewise"), &it.best_display_to_lay),
        conflated: c.flag(("conflated", "the venue merged several updates"), Some(it.conflated)).unwrap_or_default(),
        market_volume: c.size(("market_volume", "total matched on the whole market"), it.market_volume),
    }
}

fn ladder<C: Columns>(c: &mut C, column: Column, rungs: &[PriceSize]) -> Vec<PriceSize> {
    let mut rungs = rungs.iter().map(|it| Rung { level: 0, price: it.price, size: it.size, orders: None });
    let read = c.rungs(column, Shape::Plain, &mut rungs).into_iter();
    read.map(|rung| PriceSize { price: rung.price, size: rung.size }).collect()
}

fn best<C: Columns>(c: &mut C, column: Column, rungs: &[LevelPriceSize]) -> Vec<LevelPriceSize> {
    let mut rungs = rungs.iter().map(|it| Rung { level: it.level, price: it.price, size: it.size, orders: None });
    let read = c.rungs(column, Shape::Numbered, &mut rungs).into_iter();
    read.map(|rung| LevelPriceSize { level: rung.level, price: rung.price, size: rung.size }).collect()
}

fn order<C: Columns>(c: &mut C, it: &Order) -> Order {
    Order {
        action: word(c, ("action", "the venue's word for what happened"), &it.action),
        id: c.text(("id", "the venue's id of the order"), it.id.as_deref()),
        client_id: c.text(("client_id", "ours"), it.client_id.as_deref()),
        side: side(c, ("side", "`buy` or `sell`"), it.side),
        order_type: c.word(("order_type", "in the venue's words"), it.order_type.as_deref()),
        status: c.word(("status", "in the venue's words"), it.status.as_deref()),
        price: c.price(("price", "limit price"), it.price),
        size: c.size(("size", "ordered size"), it.size),
        filled: c.size(("filled", "filled so far"), it.filled),
        avg_price: c.price(("avg_price", "at this average price"), it.avg_price),
        fill_price: c.price(("fill_price", "price of the fill that this row reports"), it.fill_price),
        fill_size: c.size(("fill_size", "size of that fill"), it.fill_size),
        trade_id: c.text(("trade_id", "id of that fill"), it.trade_id.as_deref()),
        fee: c.decimal(("fee", ""), it.fee),
        fee_asset: c.word(("fee_asset", ""), it.fee_asset.as_deref()),
        reason: c.text(("reason", "why it was refused or cancelled"), it.reason.as_deref()),
        raw: c.text(("raw", "the venue's message, where these columns do not hold all of it"), it.raw.as_deref()),
    }
}

fn post<C: Columns>(c: &mut C, it: &Post) -> Post {
    let metrics = |c: &mut C, column, metrics: &[(SmolStr, i64)]| {
        let text = (!metrics.is_empty()).then(|| json::ints(metrics));
        c.json(column, text.as_deref()).map(|text| json::parse_ints(&text)).unwrap_or_default()
    };
    Post {
        id: text(c, ("id", "the venue's id"), &it.id),
        author: c.text(("author", ""), it.author.as_deref()),
        text: text(c, ("text", ""), &it.text),
        lang: c.word(("lang", ""), it.lang.as_deref()),
        location: c.text(("location", ""), it.location.as_deref()),
        topics: c.texts(("topics", "names of the rules that matched"), &mut it.topics.iter().cloned()),
        sentiment: sentiment(c, it.sentiment),
        metrics: metrics(c, ("metrics", "counts that the venue gives, as JSON"), &it.metrics),
        edit_of: c.text(("edit_of", "id of the post that this one is an edit of"), it.edit_of.as_deref()),
    }
}

fn sentiment<C: Columns>(c: &mut C, it: Option<Sentiment>) -> Option<Sentiment> {
    let compound = c.decimal(("compound", "sentiment in [-1, 1]"), it.map(|it| it.compound));
    let positive = c.decimal(("positive", "share of the text"), it.map(|it| it.positive));
    let neutral = c.decimal(("neutral", "share of the text"), it.map(|it| it.neutral));
    let negative = c.decimal(("negative", "share of the text"), it.map(|it| it.negative));
    Some(Sentiment { compound: compound?, positive: positive?, neutral: neutral?, negative: negative? })
}

/// Tags and fields stand there twice: as JSON for people, and as lists in the same order for queries.
fn point<C: Columns>(c: &mut C, Point { name, tags, fields }: &Point) -> Point {
    let name = word(c, ("name", "the measurement"), name);
    let json = (!tags.is_empty()).then(|| json::texts(tags));
    c.json_to_ask(("tags", "as JSON"), json.as_deref());
    let names = c.texts(("tag_names", ""), &mut tags.iter().map(|(name, _)| name.clone()));
    let values =
        c.texts(("tag_values", "in the order of `tag_names`"), &mut tags.iter().map(|(_, value)| value.clone()));
    let tags = names.into_iter().zip(values).collect();
    let json = (!fields.is_empty()).then(|| json::fields(fields));
    c.json_to_ask(("fields", "as JSON"), json.as_deref());
    let names = c.texts(("field_names", ""), &mut fields.iter().map(|(name, _)| name.clone()));
    let types: String = fields.iter().map(|(_, value)| json::value_type(value)).collect();
    let types = c.word(
        ("field_types", "a letter a field: `i` and `u` integer, `d` decimal, `f` double, `b` flag, `t` text"),
        Some(&types),
    );
    let texts = c.texts(
        ("field_texts", "exact values, in the order of `field_names`"),
        &mut fields.iter().map(|(_, value)| json::value_text(value)),
    );
    c.floats(
        ("field_numbers", "nearest doubles, flags as 0 and 1, NULL for a text"),
        &mut fields.iter().map(|(_, value)| json::value_number(value)),
    );
    c.float(("value", "the field called `value`, else the only number, as a double"), one_number(fields));
    let types = types.unwrap_or_default();
    let fields = names.into_iter().zip(texts).zip(types.chars());
    let fields = fields.filter_map(|((name, text), of_type)| Some((name, json::parse_value(of_type, &text)?)));
    Point { name, tags, fields: fields.collect() }
}

fn one_number(fields: &[(SmolStr, tapedeck_market::Value)]) -> Option<f64> {
    let number = |(_, value): &(SmolStr, tapedeck_market::Value)| json::value_number(value);
    if let Some(named) = fields.iter().find(|(name, _)| name == "value") {
        return number(named);
    }
    let mut numbers = fields.iter().filter_map(number);
    let only = numbers.next();
    only.filter(|_| numbers.next().is_none())
}

fn synthetic<C: Columns>(c: &mut C, it: &Synthetic) -> Synthetic {
    Synthetic {
        legs: c.legs(
            ("legs", "the quote before, then this one: derived `bid` and `ask`, and the instrument's own top of book"),
            &it.legs,
        ),
        spread: c.price(("spread", "ask less bid"), it.spread),
        spread_bid: c.price(("spread_bid", "ask of the quote before, less bid"), it.spread_bid),
        spread_ask: c.price(("spread_ask", "ask, less bid of the quote before"), it.spread_ask),
    }
}

fn instrument<C: Columns>(c: &mut C, it: &Instrument) -> Instrument {
    Instrument {
        aliases: pairs(c, ("aliases", "other spellings by scheme, as JSON"), &it.aliases),
        base: c.word(("base", ""), it.base.as_deref()),
        quote: c.word(("quote", ""), it.quote.as_deref()),
        status: c.word(("status", "the venue's word"), it.status.as_deref()),
        price_precision: c.u8(("price_precision", "digits behind the point"), it.price_precision),
        price_increment: c.decimal(("price_increment", ""), it.price_increment),
        size_precision: c.u8(("size_precision", "digits behind the point"), it.size_precision),
        size_increment: c.decimal(("size_increment", ""), it.size_increment),
        size_min: c.size(("size_min", "smallest order"), it.size_min),
        multiplier: c.decimal(("multiplier", "units of the underlying a contract stands for"), it.multiplier),
        session: c.word(("session", "trading session; NULL = always open"), it.session.as_deref()),
        valid_from: c.time(("valid_from", "UTC"), it.valid_from),
        valid_to: c.time(("valid_to", "UTC"), it.valid_to),
        raw: c
            .text(("raw", "the venue's own definition, where these columns do not hold all of it"), it.raw.as_deref()),
    }
}

fn gap<C: Columns>(c: &mut C, it: &Gap) -> Gap {
    Gap {
        id: c.count(("id", "unique on its tape"), Some(it.id)).unwrap_or_default(),
        state: named(
            &GapState::NAMES,
            c.word(("state", "`open`, `closed`, `repaired`, `unrepairable`"), Some(it.state.name())),
        )
        .unwrap_or(GapState::Open),
        cause: named(
            &GapCause::NAMES,
            c.word(
                ("cause", "`session`, `stall`, `checksum`, `sequence`, `drop`, `down`, `overrun`, `disk`"),
                Some(it.cause.name()),
            ),
        )
        .unwrap_or(GapCause::Session),
        channel: word(c, ("channel", "what was being received; empty = everything of the symbol"), &it.channel),
        from: c
            .time(("from_ts", "the last moment the feed was known to be whole (UTC)"), Some(it.from))
            .unwrap_or_default(),
        to: c.time(("to_ts", "the ack or snapshot that ended it; NULL while open"), it.to),
        missing: c.count(("missing", "events known to be missing, where the venue numbers them"), it.missing),
        detail: text(c, ("detail", "in words"), &it.detail),
    }
}

fn note<C: Columns>(c: &mut C, it: &TapeNote) -> TapeNote {
    TapeNote {
        what: named(
            &TapeEvent::NAMES,
            c.word(
                ("what", "`torn_tail`, `hole`, `incarnation`, `stop`, `clock_step`, `poisoned`, `full`"),
                Some(it.what.name()),
            ),
        )
        .unwrap_or(TapeEvent::Hole),
        from_seq: c.count(("from_seq", "first record concerned"), it.from_seq),
        to_seq: c.count(("to_seq", "last record concerned"), it.to_seq),
        bytes: c.count(("bytes", ""), Some(it.bytes)).unwrap_or_default(),
        detail: text(c, ("detail", "in words"), &it.detail),
    }
}

fn raw<C: Columns>(c: &mut C, event: &Event, body: &Body) -> Body {
    let mut whole = Vec::new();
    let (kind, format, frame) = match body {
        Body::Raw(Raw { format, frame }) => (Kind::RAW, Some(format.as_str()), frame.as_slice()),
        Body::Unknown(Unknown { kind, payload }) => (*kind, None, payload.as_slice()),
        body => {
            wire::encode(event, &mut whole);
            (body.kind(), Some(WHOLE_EVENT), whole.as_slice())
        }
    };
    let kind =
        c.int(("kind_number", "16 for a frame; otherwise the number of the record's kind"), Some(i64::from(kind.0)));
    let format = c.word(("format", "`text`, `binary`, `undecodable` …; NULL for a body of a later version"), format);
    let frame = c.bytes(("frame", "the bytes as they came"), frame);
    let kind = Kind(kind.and_then(|kind| u16::try_from(kind).ok()).unwrap_or(Kind::RAW.0));
    match format {
        Some(format) if format == WHOLE_EVENT && kind != Kind::RAW => match wire::decode(&frame) {
            Ok(event) => event.body,
            Err(_) => Body::Raw(Raw { format, frame }),
        },
        Some(format) => Body::Raw(Raw { format, frame }),
        None => Body::Unknown(Unknown { kind, payload: frame }),
    }
}

fn word<C: Columns>(c: &mut C, column: Column, value: &SmolStr) -> SmolStr {
    c.word(column, Some(value)).unwrap_or_default()
}

fn text<C: Columns>(c: &mut C, column: Column, value: &SmolStr) -> SmolStr {
    c.text(column, Some(value)).unwrap_or_default()
}

fn side<C: Columns>(c: &mut C, column: Column, value: Option<Side>) -> Option<Side> {
    let read = c.word(column, value.map(Side::name))?;
    [Side::Buy, Side::Sell].into_iter().find(|side| side.name() == read)
}

/// Nothing is NULL: most rows have no pairs, and a NULL costs nothing.
fn pairs<C: Columns>(c: &mut C, column: Column, value: &[(SmolStr, SmolStr)]) -> Vec<(SmolStr, SmolStr)> {
    let text = (!value.is_empty()).then(|| json::texts(value));
    c.json(column, text.as_deref()).map(|text| json::parse_texts(&text)).unwrap_or_default()
}

fn named<T: Copy>(names: &[(T, &'static str)], name: Option<SmolStr>) -> Option<T> {
    let name = name?;
    names.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}
