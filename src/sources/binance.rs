//! Binance spot: trades, best prices and books over one WebSocket. `docs/new-venue.md` walks through it.

pub mod frame;
mod watch;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use schemars::JsonSchema;
use serde::Deserialize;
use tapedeck_market::{GapCause, SmolStr, UnixNanos};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::frame::{Depth, LEVELS, Message, parse, parse_book, parse_time};
use self::watch::{Watch, again};
use super::kraken::sequence::TradeIds;
use super::parsed::Ctx;
use super::socket::Socket;
use super::{Again, Kind, Outlet, Session, Setup, Source, Waiting, net};
use crate::config::Secret;

pub const KIND: Kind = Kind {
    name: "binance",
    about: "Binance spot: trades, best prices and books over WebSocket",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: None,
};

/// The venue pings every 20 s: without two of them the socket is dead.
const DEAD: Duration = Duration::from_secs(45);
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Between requests for books: each weighs 50 of the 6,000 that the venue allows in a minute.
const PACE: Duration = Duration::from_millis(600);
/// A book that could not be read is asked for again after this.
const UNREADABLE: Duration = Duration::from_secs(30);
/// How often streams are looked after.
const LOOK: Duration = Duration::from_secs(1);
/// Three streams each, and a connection has 1,024 at most.
const SYMBOLS: usize = 341;
/// Channels as the gap ledger names them.
const TRADE: SmolStr = SmolStr::new_static("trade");
const QUOTE: SmolStr = SmolStr::new_static("quote");
const BOOK: SmolStr = SmolStr::new_static("book");

/// `[source.NAME]` with `kind = "binance"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Symbols as the venue writes them, such as `BTCUSDT`. No default.
    pub symbols: Vec<String>,
    /// Key for requests; what is recorded needs none. Default: none; `BINANCE_API_KEY` fills it.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Where streams come from. Default: `wss://stream.binance.com:9443`.
    #[serde(default)]
    pub url: Option<String>,
    /// Where requests go. Default: `https://api.binance.com`.
    #[serde(default)]
    pub rest_url: Option<String>,
}

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config: Config = toml::Value::Table(setup.table).try_into()?;
    ensure!((1..=SYMBOLS).contains(&config.symbols.len()), "symbols: from one to {SYMBOLS} of them");
    for name in &config.symbols {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        ensure!(plain, "symbols: `{name}` is no symbol such as BTCUSDT");
    }
    ensure!(config.api_key.as_ref().is_none_or(net::is_token), "api_key holds what no key holds: copy it again");
    config.rest_url.as_deref().map_or(Ok(()), net::may_get_a_token).context("rest_url")?;
    let source = Box::new(Binance { config, ids: TradeIds::default(), watch: Watch::default(), told: HashSet::new() });
    Ok(vec![Session { name: setup.name, venue: SmolStr::new_static("binance"), source }])
}

struct Binance {
    config: Config,
    /// Outlives a session: what was missed between two shows in the ids.
    ids: TradeIds,
    watch: Watch,
    /// Symbols that the venue does not have, as they were told.
    told: HashSet<SmolStr>,
}

/// The venue does not have what is asked for, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoSuch(String);

#[async_trait]
impl Source for Binance {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let mut socket = self.connect().await?;
        let (config, http) = (&self.config, net::client(None, REQUEST_LIMIT)?);
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        self.ids.resume(&out.resume().last_trades);
        for (symbol, channel) in
            out.resume().subscriptions.iter().filter(|(it, _)| !config.symbols.iter().any(|own| own == it))
        {
            out.unsubscribed(symbol.clone(), channel.clone()).await?;
        }
        let mut books: HashMap<SmolStr, Depth> =
            config.symbols.iter().map(|it| (it.into(), Depth::default())).collect();
        // Streams have no acks: with the handshake they are open. A book is live with its snapshot.
        let began = Instant::now().into_std();
        for symbol in books.keys() {
            for channel in [TRADE, QUOTE, BOOK] {
                let key = (symbol.clone(), channel);
                if self.watch.begin(&key, began) && key.1 != BOOK {
                    out.live(key.0, key.1, UnixNanos::now()).await?;
                }
            }
        }
        let (mut snapshots, mut next) = (FuturesUnordered::new(), Instant::now());
        let http = &http;
        let mut ask = move |symbol: SmolStr, wait: Duration| {
            let at = next.max(Instant::now());
            next = at + PACE;
            async move {
                sleep_until(at + wait).await;
                let body = get(config, http, &format!("depth?limit={LEVELS}&symbol={symbol}")).await;
                (symbol, body)
            }
        };
        snapshots.extend(books.keys().cloned().map(|symbol| ask(symbol, Duration::ZERO)));
        let (mut last_frame, mut next_look) = (Instant::now(), Instant::now() + LOOK);
        loop {
            // What has come is read before anything is called silent.
            let frame = tokio::select! {
                biased;
                Some((symbol, body)) = snapshots.next() => {
                    let body = match body {
                        Err(error) if error.is::<NoSuch>() && books.len() > 1 => {
                            if self.told.insert(symbol.clone()) {
                                tracing::warn!(source = %out.source(), %symbol, "{error:#}: the other books go on");
                            }
                            books.remove(&symbol);
                            out.unsubscribed(symbol, BOOK).await?;
                            continue;
                        }
                        body => body.map_err(for_a_person)?,
                    };
                    let snapshot = match parse_book(&symbol, &body, UnixNanos::now(), &ctx) {
                        Ok(snapshot) => snapshot,
                        Err(error) => {
                            // The next one may be read; until then this book is missing, and no other.
                            out.reject(body.as_bytes(), UnixNanos::now(), error.reason, &error).await?;
                            snapshots.push(ask(symbol, UNREADABLE));
                            continue;
                        }
                    };
                    match books.get_mut(&symbol).and_then(|book| book.begin(snapshot)) {
                        Some(events) => {
                            if !self.watch.is_silent(&(symbol.clone(), BOOK)) {
                                out.live(symbol, BOOK, UnixNanos::now()).await?;
                            }
                            out.emit(events).await?;
                        }
                        // Older than the changes that are held: the next one is not.
                        None => snapshots.push(ask(symbol, Duration::ZERO)),
                    }
                    continue;
                }
                frame = timeout_at(last_frame + DEAD, socket.next()) => frame.context("not even a ping for 45 s")??,
                () = sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK;
                    let silent = self.watch.look(Instant::now().into_std());
                    for ((symbol, channel), silence) in &silent {
                        tracing::warn!(source = %out.source(), %symbol, %channel, silence_ms = silence.as_millis() as u64, "fell silent, subscribing again");
                        let (symbol, channel, since) = (symbol.clone(), channel.clone(), UnixNanos::now() - *silence);
                        out.lost(Some(symbol), Some(channel), GapCause::Stall, since, "fell silent").await?;
                    }
                    if !silent.is_empty() {
                        for text in again(&silent) {
                            socket.send(text).await?;
                        }
                    }
                    continue;
                }
            };
            last_frame = Instant::now();
            let now = last_frame.into_std();
            let ts_recv = UnixNanos::now();
            let bytes = frame.data().unwrap_or_default();
            out.heard(ts_recv, bytes.len());
            match parse(&bytes, ts_recv, &ctx) {
                _ if bytes.is_empty() => {}
                Ok(Message::Quote(event)) => {
                    if self.watch.heard(&(event.symbol.clone(), QUOTE), now) {
                        out.live(event.symbol.clone(), QUOTE, ts_recv).await?;
                    }
                    out.emit(vec![event]).await?;
                }
                Ok(Message::Trade(id, event)) => {
                    if self.watch.heard(&(event.symbol.clone(), TRADE), now) {
                        out.live(event.symbol.clone(), TRADE, ts_recv).await?;
                    }
                    let jump = self.ids.take(&event.symbol, id, event.earliest());
                    let hole = jump.map(|jump| {
                        out.ids_missing(
                            event.symbol.clone(),
                            TRADE,
                            jump.from,
                            ts_recv,
                            (jump.before + 1, jump.after - 1),
                        )
                    });
                    out.emit_behind(hole.into_iter().collect(), vec![event]).await?;
                }
                Ok(Message::Depth(update)) => {
                    let symbol = update.event.symbol.clone();
                    let woken = self.watch.heard(&(symbol.clone(), BOOK), now);
                    match books.get_mut(&symbol).map(|book| book.take(update)) {
                        Some(Err(since)) => {
                            let what = "changes of the book never came";
                            out.lost(Some(symbol.clone()), Some(BOOK), GapCause::Sequence, since, what).await?;
                            snapshots.push(ask(symbol, Duration::ZERO));
                        }
                        taken => {
                            let event = taken.and_then(Result::ok).flatten();
                            if woken && event.is_some() {
                                out.live(symbol, BOOK, ts_recv).await?;
                            }
                            out.emit(event.into_iter().collect()).await?;
                        }
                    }
                }
                Ok(Message::Answer) => {}
                Ok(Message::Unknown) => out.note("unknown type"),
                Err(error) => out.reject(&bytes, ts_recv, error.reason, &error).await?,
            }
        }
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let http = net::client(None, REQUEST_LIMIT)?;
        let time = get(&self.config, &http, "time").await.context("is the network up, and `rest_url` right?")?;
        let skew = (UnixNanos::now().0 - parse_time(&time)?.0).abs() / 1_000_000;
        ensure!(skew <= 1_000, "the clock differs from the venue's by {skew} ms: is NTP running?");
        for symbol in &self.config.symbols {
            get(&self.config, &http, &format!("depth?limit=1&symbol={symbol}")).await.map_err(for_a_person)?;
        }
        self.connect().await?.close().await;
        Ok(format!("{} symbols, clock within {skew} ms of the venue's", self.config.symbols.len()))
    }
}

impl Binance {
    async fn connect(&self) -> anyhow::Result<Socket> {
        let streams = |name: &String| [TRADE, QUOTE, BOOK].map(|channel| watch::stream(name, &channel));
        let streams: Vec<String> = self.config.symbols.iter().flat_map(streams).collect();
        let host = self.config.url.as_deref().unwrap_or("wss://stream.binance.com:9443");
        Socket::connect(&format!("{host}/stream?streams={}", streams.join("/"))).await
    }
}

/// What the venue does not have, only a person can correct.
fn for_a_person(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<NoSuch>() {
        Ok(NoSuch(words)) => Waiting(words).into(),
        Err(error) => error,
    }
}

/// Asks for something. What a person must correct is [`Waiting`]; a venue that wants a pause gets it.
async fn get(config: &Config, http: &reqwest::Client, what: &str) -> anyhow::Result<String> {
    let host = config.rest_url.as_deref().unwrap_or("https://api.binance.com");
    let mut request = http.get(format!("{host}/api/v3/{what}")).timeout(REQUEST_LIMIT);
    if let Some(key) = &config.api_key {
        request = request.header("X-MBX-APIKEY", key.expose());
    }
    let mut response = request.send().await.map_err(reqwest::Error::without_url).context("asking Binance")?;
    let status = response.status().as_u16();
    if status == 200 {
        return net::text(response, 4 << 20).await;
    }
    let pause = response.headers().get("retry-after").and_then(|it| it.to_str().ok()?.parse().ok()).unwrap_or(60);
    let said = net::printable(&net::beginning(&mut response, REQUEST_LIMIT).await);
    Err(match status {
        400 => NoSuch(format!("Binance does not take `{what}` ({said}): correct `symbols`")).into(),
        401 => Waiting(format!("Binance refuses the key ({said}): correct BINANCE_API_KEY, or leave it out")).into(),
        403 | 451 => Waiting(format!("Binance serves nobody from here ({said})")).into(),
        418 | 429 => anyhow!("too many requests ({said})").context(Again(Duration::from_secs(pause.clamp(1, 3_600)))),
        _ => anyhow!("Binance says {status}: {said}"),
    })
}
