//! The five fakes behind one face: started on an address, ended, and asked what they sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapedeck_market::{Body, Event, UnixNanos};
use tapedeck_testkit::{FakeBetfair, FakeKite, FakeKraken, FakeOanda, FakeX, betfair, kite, kraken, oanda, x};

/// Also the names of their tables.
pub(super) const NAMES: [&str; 5] = ["betfair", "kite", "kraken", "oanda", "x"];

const PAIRS: [&str; 2] = ["BTC/USD", "ETH/USD"];
/// Waited out only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first moment of X's ids, ms since 1970.
const X_EPOCH_MS: i64 = 1_288_834_974_657;

/// Something that a venue sent, or that stands on the tape: in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) venue: &'static str,
    pub(super) symbol: String,
    pub(super) channel: &'static str,
    pub(super) key: String,
    /// The venue's time.
    pub(super) at_ns: i64,
    /// It has an identity: on the tape at most once.
    pub(super) once: bool,
}

/// Where it listens; Betfair's logins have an address of their own.
pub(super) type Place = [SocketAddr; 2];

pub(super) struct Venue {
    pub(super) address: Place,
    running: Running,
}

enum Running {
    Betfair(betfair::Handle),
    Kraken(kraken::Handle),
    Oanda(oanda::Handle),
    Kite(kite::Handle),
    X(x::Handle),
}

impl Venue {
    /// `ids`: with which trade ids Kraken's numbering goes on. An address that is still taken is waited for.
    pub(super) async fn start(name: &'static str, place: Place, ids: &HashMap<String, u64>) -> Venue {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::try_to_start(name, place, ids).await {
                Ok(running) => return Venue { address: place, running },
                Err(error) => assert!(Instant::now() < deadline, "{name} on {place:?}: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_to_start(
        name: &'static str,
        [address, logins]: Place,
        ids: &HashMap<String, u64>,
    ) -> anyhow::Result<Running> {
        static LIVES: AtomicU64 = AtomicU64::new(1);
        // Each life has a market of its own: what one sent cannot stand for what another did.
        let seed = LIVES.fetch_add(1, Ordering::Relaxed);
        Ok(match name {
            "betfair" => {
                let fake = FakeBetfair::builder().listen(address, logins).seed(seed).rate(100);
                Running::Betfair(fake.start().await?)
            }
            "kraken" => {
                let fake = FakeKraken::builder().listen(address).pairs(PAIRS).seed(seed).rate(200);
                Running::Kraken(fake.last_trade_ids(ids.clone()).start().await?)
            }
            "oanda" => Running::Oanda(FakeOanda::builder().listen(address).seed(seed).rate(100).start().await?),
            "kite" => Running::Kite(FakeKite::builder().listen(address).seed(seed).rate(100).start().await?),
            _ => Running::X(FakeX::builder().listen(address).seed(seed).rate(40).start().await?),
        })
    }

    /// Its table of the config.
    pub(super) fn table(&self) -> String {
        match &self.running {
            Running::Betfair(fake) => format!(
                "[source.betfair]\nkind = \"betfair\"\nurl = {:?}\nlogin_url = {:?}\napp_key = {:?}\nusername = {:?}\npassword = {:?}\nevent_types = [\"7\"]\nheartbeat = \"5s\"\nchannels = [\"odds\"]\n",
                fake.url(),
                fake.login_url(),
                betfair::APP_KEY,
                betfair::USERNAME,
                betfair::PASSWORD
            ),
            Running::Kraken(fake) => format!(
                "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = {PAIRS:?}\nchannels = [\"trade\"]\nrepair = true\nrepair_pace = \"20ms\"\n",
                fake.ws_url(),
                fake.rest_url()
            ),
            Running::Oanda(fake) => format!(
                "[source.oanda]\nkind = \"oanda\"\nurl = {:?}\ntoken = {:?}\naccount = {:?}\ninstruments = [\"EUR_USD\", \"USD_JPY\"]\nchannels = [\"quote\"]\nrepair = true\n",
                fake.url(),
                oanda::TOKEN,
                oanda::ACCOUNT
            ),
            Running::Kite(fake) => format!(
                "[source.kite]\nkind = \"kite\"\nurl = {:?}\napi_key = {:?}\naccess_token = {:?}\ninstruments = [\"INFY\", \"TCS\"]\nchannels = [\"ticker\"]\nrepair = true\n",
                fake.ws_url(),
                kite::API_KEY,
                kite::ACCESS_TOKEN
            ),
            Running::X(fake) => format!(
                "[source.x]\nkind = \"x\"\nurl = {:?}\nbearer_token = {:?}\n[[source.x.rules]]\ntag = \"btc\"\nvalue = \"bitcoin\"\n",
                fake.url(),
                x::TOKEN
            ),
        }
    }

    pub(super) fn inject(&self, fault: &str) {
        match &self.running {
            Running::Betfair(fake) => fake.inject(fault.parse().unwrap()),
            Running::Kraken(fake) => fake.inject(fault.parse().unwrap()),
            Running::Oanda(fake) => fake.inject(fault.parse().unwrap()),
            Running::Kite(fake) => fake.inject(fault.parse().unwrap()),
            Running::X(fake) => fake.inject(fault.parse().unwrap()),
        }
    }

    pub(super) async fn stop(self) {
        match self.running {
            Running::Betfair(fake) => fake.stop().await,
            Running::Kraken(fake) => fake.stop().await,
            Running::Oanda(fake) => fake.stop().await,
            Running::Kite(fake) => fake.stop().await,
            Running::X(fake) => fake.stop().await,
        }
    }

    /// Where Kraken's numbering of trades stands.
    pub(super) fn last_trade_ids(&self) -> HashMap<String, u64> {
        let Running::Kraken(fake) = &self.running else { return HashMap::new() };
        let mut last = HashMap::new();
        for sent in fake.log().entries() {
            if let Some(id) = sent.trade_id {
                let known = last.entry(sent.symbol.to_string()).or_insert(id);
                *known = id.max(*known);
            }
        }
        last
    }

    /// What it handed to sockets.
    pub(super) fn sent(&self) -> Vec<Entry> {
        match &self.running {
            Running::Betfair(fake) => fake.log().iter().flat_map(of_betfair).collect(),
            Running::Kraken(fake) => fake.log().entries().iter().filter_map(of_kraken).collect(),
            Running::Oanda(fake) => fake.log().iter().filter_map(of_oanda).collect(),
            Running::Kite(fake) => {
                let symbols: HashMap<u32, String> =
                    fake.listed().iter().map(|one| (one.token, format!("{}:{}", one.exchange, one.symbol))).collect();
                fake.log().iter().filter_map(|sent| of_kite(&sent.packet, &symbols)).collect()
            }
            Running::X(fake) => fake.log().iter().map(of_x).collect(),
        }
    }
}

/// A change of each market that it names; an image says what was so before, too.
fn of_betfair(sent: &betfair::Sent) -> Vec<Entry> {
    if sent.kind != "change" {
        return Vec::new();
    }
    let line: Value = serde_json::from_str(&sent.text).unwrap_or_default();
    let (Some(pt), Some(markets)) = (line["pt"].as_i64(), line["mc"].as_array()) else { return Vec::new() };
    let of_runners = markets.iter().filter(|market| market["rc"].as_array().is_some_and(|runners| !runners.is_empty()));
    let entry = |market: &Value| {
        let symbol = market["id"].as_str()?.to_owned();
        let key = pt.to_string();
        Some(Entry { venue: "betfair", symbol, channel: "odds", key, at_ns: pt * 1_000_000, once: false })
    };
    of_runners.filter_map(entry).collect()
}

fn of_kraken(sent: &kraken::Sent) -> Option<Entry> {
    let id = sent.trade_id.filter(|_| sent.delivered.is_sent() && sent.acked)?;
    let item: Value = serde_json::from_str(sent.item.get()).ok()?;
    let at = UnixNanos::parse_rfc3339(item["timestamp"].as_str()?.as_bytes())?;
    Some(Entry {
        venue: "kraken",
        symbol: sent.symbol.to_string(),
        channel: "trade",
        key: id.to_string(),
        at_ns: at.0,
        once: true,
    })
}

fn of_oanda(sent: &oanda::Sent) -> Option<Entry> {
    if sent.kind != "price" || !sent.whole {
        return None;
    }
    let line: Value = serde_json::from_str(&sent.text).ok()?;
    let at = UnixNanos::parse_rfc3339(line["time"].as_str()?.as_bytes())?;
    let prices = |side: &str| -> Option<Vec<String>> {
        line[side].as_array()?.iter().map(|level| Some(level["price"].as_str()?.to_owned())).collect()
    };
    let best = |side: &str, high: bool| {
        let mut prices = prices(side)?;
        prices.sort_by(|a, b| a.parse::<f64>().unwrap_or(0.0).total_cmp(&b.parse::<f64>().unwrap_or(0.0)));
        if high { prices.pop() } else { prices.into_iter().next() }
    };
    let key = format!("{} {:?} {:?}", at.0, best("bids", true), best("asks", false));
    Some(Entry {
        venue: "oanda",
        symbol: line["instrument"].as_str()?.to_owned(),
        channel: "quote",
        key,
        at_ns: at.0,
        once: false,
    })
}

fn of_kite(packet: &[u8], symbols: &HashMap<u32, String>) -> Option<Entry> {
    let number = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    let (token, last, volume, secs) = (number(0)?, number(4)?, number(16)?, number(60)?);
    let symbol = symbols.get(&token)?.clone();
    let key = format!("{volume} {}.{:02}", last / 100, last % 100);
    Some(Entry { venue: "kite", symbol, channel: "ticker", key, at_ns: i64::from(secs) * 1_000_000_000, once: false })
}

fn of_x(sent: &x::Sent) -> Entry {
    let ms = sent.id.parse::<i64>().unwrap_or(0) >> 22;
    let at_ns = (ms + X_EPOCH_MS) * 1_000_000;
    Entry { venue: "x", symbol: sent.tag.clone(), channel: "post", key: sent.id.clone(), at_ns, once: true }
}

/// What a record says, in the same spelling.
pub(super) fn of_record(event: &Event) -> Option<Entry> {
    let symbol = event.symbol.to_string();
    let at_ns = event.ts_event.map_or(0, |at| at.0);
    match &event.body {
        Body::Odds(_) if event.venue == "betfair" => {
            let key = (at_ns / 1_000_000).to_string();
            Some(Entry { venue: "betfair", symbol, channel: "odds", key, at_ns, once: false })
        }
        Body::Trade(trade) if event.venue == "kraken" => {
            let key = trade.id.as_ref()?.to_string();
            Some(Entry { venue: "kraken", symbol, channel: "trade", key, at_ns, once: true })
        }
        Body::Quote(quote) if event.venue == "oanda" => {
            let text = |price: Option<tapedeck_market::Price>| price.map(|price| price.to_string());
            let key = format!("{at_ns} {:?} {:?}", text(quote.bid), text(quote.ask));
            Some(Entry { venue: "oanda", symbol, channel: "quote", key, at_ns, once: false })
        }
        Body::Ticker(ticker) if event.venue == "kite" => {
            let key = format!("{} {}", ticker.today.volume?, ticker.last?);
            Some(Entry { venue: "kite", symbol, channel: "ticker", key, at_ns, once: false })
        }
        // A gap is of the rule's tag.
        Body::Post(post) if event.venue == "x" => Some(Entry {
            venue: "x",
            symbol: post.topics.first()?.to_string(),
            channel: "post",
            key: post.id.to_string(),
            at_ns,
            once: true,
        }),
        _ => None,
    }
}
