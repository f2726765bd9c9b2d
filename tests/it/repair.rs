//! Holes of the ledger, filled from the venue's past: beside a running deck, without one, and killed in the middle.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Flags, GapCause, GapState, Record, SmolStr};
use tapedeck_testkit::kraken::{FakeKraken, Handle};
use tapedeck_testkit::{FakeKite, FakeOanda, kite, oanda};

use crate::deck::blocking;
use crate::support::{Deck, gaps, records, tapedeck, until};

const PAIRS: [&str; 2] = ["BTC/USD", "ETH/USD"];

async fn venue(rate: u32) -> Handle {
    FakeKraken::builder().pairs(PAIRS).rate(rate).remember(false).start().await.unwrap()
}

fn config(venue: &Handle, more: &str) -> String {
    format!(
        "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\", \"ETH/USD\"]\nchannels = [\"trade\", \"book\"]\n{more}",
        venue.ws_url(),
        venue.rest_url()
    )
}

/// What a trade says, as text: price, size, side, ns.
type Said = (String, String, String, i64);

/// The venue's own past of a pair, read without anything of ours.
async fn past(rest: &str, pair: &str) -> BTreeMap<u64, Said> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut since, mut all) = ("0".to_owned(), BTreeMap::new());
    loop {
        let url = format!("{rest}/0/public/Trades?pair={}&since={since}", pair.replace('/', "%2F"));
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = answer["result"].as_object().unwrap();
        let rows = result.iter().find(|(key, _)| *key != "last").unwrap().1.as_array().unwrap().clone();
        for row in &rows {
            let text = |at: usize| row[at].as_str().unwrap().to_owned();
            let time = row[2].to_string();
            let (secs, decimals) = time.split_once('.').unwrap_or((&time, ""));
            let ns: i64 = format!("{secs}{decimals:0<9}").parse().unwrap();
            let side = if text(3) == "b" { "buy" } else { "sell" };
            all.insert(row[6].as_u64().unwrap(), (text(0), text(1), side.to_owned(), ns));
        }
        let last = result["last"].as_str().unwrap().to_owned();
        if rows.is_empty() || last == since {
            return all;
        }
        since = last;
    }
}

/// The trades on a tape, and how often each.
fn trades(records: &[Record], pair: &str) -> BTreeMap<u64, Vec<Said>> {
    let mut all: BTreeMap<u64, Vec<Said>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.event.symbol == pair) {
        let Body::Trade(trade) = &record.event.body else { continue };
        let side = trade.side.map(|side| format!("{side:?}").to_lowercase()).unwrap_or_default();
        let said = (trade.price.to_string(), trade.size.to_string(), side, record.event.ts_event.unwrap().0);
        all.entry(trade.id.as_ref().unwrap().parse().unwrap()).or_default().push(said);
    }
    all
}

/// From the first trade to the last: each once, and as the venue has it.
async fn judge(dir: &Path, venue: &Handle) -> usize {
    let all = records(dir);
    let mut count = 0;
    for pair in PAIRS {
        let (truth, told) = (past(&venue.rest_url(), pair).await, trades(&all, pair));
        let (first, last) = (*told.keys().next().unwrap(), *told.keys().next_back().unwrap());
        // The fake forgets what is long past; of that the ids alone are judged.
        let oldest = *truth.keys().next().unwrap();
        for id in first..=last {
            let said = told.get(&id).unwrap_or_else(|| panic!("{pair}: trade {id} of {first} to {last} is missing"));
            count += 1;
            if id < oldest {
                assert_eq!(said.len(), 1, "{pair}: trade {id}: {said:?}");
                continue;
            }
            let want = &truth[&id];
            let same = |said: &Said| (&said.0, &said.1, &said.2) == (&want.0, &want.1, &want.2);
            // The socket tells microseconds, a request more.
            let near = |said: &Said| (said.3 - want.3).abs() <= 1_000;
            assert!(said.len() == 1 && same(&said[0]) && near(&said[0]), "{pair}: trade {id}: {said:?}, not {want:?}");
        }
    }
    count
}

fn figure(deck: &Deck, key: &str) -> u64 {
    let status = deck.status();
    let service = status.services.iter().find(|service| service.name == "repair");
    service.and_then(|service| service.detail.get(key)?.as_u64()).unwrap_or(0)
}

/// Sources but for the further sessions of their tables.
fn of_tables(status: &tapedeck::status::Status) -> impl Iterator<Item = &tapedeck::status::Source> {
    status.sources.iter().filter(|source| !source.name.contains('/'))
}

fn last_states(all: &[Record]) -> BTreeMap<u64, (String, tapedeck_market::Gap)> {
    gaps(all).into_iter().map(|(symbol, gap)| (gap.id, (symbol, gap))).collect()
}

/// Whether every hole has its last word.
fn all_said(gaps: &BTreeMap<u64, (String, tapedeck_market::Gap)>) -> bool {
    gaps.values().all(|(_, gap)| matches!(gap.state, GapState::Repaired | GapState::Unrepairable))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_recordings_with_different_holes_give_the_same_trades_when_they_are_repaired() {
    let (home, other, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), venue(2_000).await);
    let table = config(
        &venue,
        "repair = true\nrepair_pace = \"20ms\"\n[candles]\nintervals = [\"1s\"]\nlateness = \"200ms\"\n",
    );
    let (path, path2, text) = (home.path().to_owned(), other.path().to_owned(), table.clone());
    let (deck, second) = blocking(move || {
        let (deck, second) = (Deck::start(&path, &text), Deck::start(&path2, &text));
        for deck in [&deck, &second] {
            deck.until("some trades", |status| status.events > 1_000);
        }
        deck.signal(Signal::KILL);
        deck.wait();
        // While the first is away the second loses its line, and they lose different trades.
        (path, second)
    })
    .await;
    venue.inject("cut".parse().unwrap());
    let (text, path) = (table.clone(), deck);
    let venue = blocking(move || {
        second.until_closed(GapCause::Session, 4);
        let deck = Deck::start(&path, &text);
        deck.until("the first again", |status| status.sources.first().is_some_and(|source| source.live >= 4));
        // Killed while it fills: what is there stays, and is not fetched into the tape again.
        until("something fetched", || (figure(&deck, "fetched") > 0).then_some(()));
        deck.signal(Signal::KILL);
        deck.wait();
        let deck = Deck::start(&path, &text);
        for deck in [&deck, &second] {
            until("everything filled", || {
                // By the tape: figures may be those of a moment before the last gap was over.
                let quiet = deck.status().gaps_open == 0 && figure(deck, "left") == 0 && figure(deck, "repaired") > 0;
                (quiet && all_said(&last_states(&records(&deck.dir)))).then_some(())
            });
        }
        deck.stop();
        second.stop();
        venue
    })
    .await;
    for home in [&home, &other] {
        let dir = home.path().join("tape");
        assert!(judge(&dir, &venue).await > 500);
        let all = records(&dir);
        let fetched = |record: &&Record| {
            matches!(record.event.body, Body::Trade(_)) && record.event.flags.contains(Flags::BACKFILLED)
        };
        assert!(all.iter().filter(fetched).count() > 0, "nothing was missing");
        for (id, (symbol, gap)) in last_states(&all) {
            let want = if gap.channel == "trade" { GapState::Repaired } else { GapState::Unrepairable };
            assert_eq!(gap.state, want, "{id} {symbol}: {gap:?}");
            let says = if gap.channel == "trade" { " trades fetched" } else { "keeps no past" };
            assert!(gap.detail.contains(says), "{gap:?}");
        }
        candles_are_those_of_the_trades(&all);
    }
}

/// The last word on each second, where it was seen whole, is that of all trades, also of those that came later.
fn candles_are_those_of_the_trades(all: &[Record]) {
    let mut last = BTreeMap::new();
    for record in all {
        if let Body::Candle(candle) = &record.event.body
            && candle.input == CandleInput::Trades
        {
            last.insert((record.event.symbol.clone(), candle.start.0), candle.clone());
        }
    }
    let (mut revised, mut compared) = (0, 0);
    for ((symbol, start), candle) in last {
        if candle.flags.contains(CandleFlags::PARTIAL) {
            continue;
        }
        let within = all.iter().filter(|record| {
            let at = record.event.ts_event.map_or(i64::MIN, |at| at.0);
            record.event.symbol == symbol
                && matches!(record.event.body, Body::Trade(_))
                && at >= start
                && at < start + candle.interval_ns
        });
        assert_eq!(candle.trades, Some(within.count() as u64), "{symbol} {start}: {candle:?}");
        compared += 1;
        revised += usize::from(candle.flags.contains(CandleFlags::BACKFILLED));
    }
    assert!(compared > 2 && revised > 0, "{compared} candles, {revised} with what was fetched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backfill_fills_the_holes_of_a_tape_without_a_deck_and_says_what_cannot_be_filled() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue(2_000).await);
    let table = config(&venue, "repair_pace = \"10ms\"\n");
    let path = home.path().to_owned();
    let venue = blocking(move || {
        let deck = Deck::start(&path, &table);
        deck.until("some trades", |status| status.events > 500);
        let run = |deck: &Deck, args: &[&str]| {
            let done = tapedeck().args(args).arg("-c").arg(&deck.config).output().unwrap();
            (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
        };
        for fault in ["drop BTC/USD 3", "drop ETH/USD 5", "cut"] {
            venue.inject(fault.parse().unwrap());
            std::thread::sleep(Duration::from_millis(300));
        }
        deck.until_closed(GapCause::Session, 4);
        deck.until_closed(GapCause::Sequence, 2);
        let refused = run(&deck, &["backfill", "kraken"]);
        assert!(refused.0 != Some(0) && refused.2.contains("set `repair = true` in [source.kraken]"), "{refused:?}");
        let wrong = run(&deck, &["backfill", "nobody", "--dry-run"]);
        assert!(wrong.0 == Some(2) && wrong.2.contains("there are: kraken"), "{wrong:?}");
        let config = deck.config.clone();
        deck.stop();
        let run = |args: &[&str]| {
            let done = tapedeck().args(args).arg("-c").arg(&config).output().unwrap();
            assert!(done.status.success(), "{args:?}: {done:?}");
            String::from_utf8(done.stdout).unwrap()
        };
        let dry = run(&["backfill", "kraken", "--dry-run", "--json"]);
        let dry: Vec<serde_json::Value> = dry.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fillable = dry.iter().filter(|line| line["fillable"] == true).count() as u64;
        let lost = dry.len() as u64 - fillable;
        assert!(fillable >= 4 && lost >= 2, "{dry:#?}");
        let none = run(&["backfill", "kraken", "--from", "2010-01-01", "--to", "2010-01-02", "--dry-run"]);
        assert_eq!(none.trim(), "no holes to fill");
        let done: serde_json::Value = serde_json::from_str(&run(&["backfill", "kraken", "--json"])).unwrap();
        assert_eq!((done["repaired"].as_u64(), done["unrepairable"].as_u64()), (Some(fillable), Some(lost)), "{done}");
        assert!(done["fetched"].as_u64() >= Some(2) && done["left"] == 0, "{done}");
        assert!(run(&["backfill", "kraken"]).starts_with("0 holes repaired"), "there is nothing left");
        assert!(run(&["gaps"]).contains("unrepairable"));
        venue
    })
    .await;
    assert!(judge(&home.path().join("tape"), &venue).await > 100);
}

/// What takes the place of single prices: the venue's own candles, as it gives them when it is asked by others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_in_prices_are_filled_with_the_candles_of_the_venue() {
    let home = tempfile::tempdir().unwrap();
    let forex = FakeOanda::builder().rate(40).start().await.unwrap();
    let stocks = FakeKite::builder().rate(40).start().await.unwrap();
    let config = format!(
        "[source.fx]\nkind = \"oanda\"\nurl = {:?}\ntoken = {:?}\naccount = {:?}\ninstruments = [\"EUR_USD\", \"USD_JPY\"]\nrepair = true\n\
         [source.nse]\nkind = \"kite\"\nurl = {:?}\napi_key = {:?}\naccess_token = {:?}\ninstruments = [\"INFY\", \"TCS\"]\nrepair = true\n\
         [candles]\nintervals = [\"1s\", \"10s\"]\ninput = \"bid\"\nsources = [\"fx\"]\nlateness = \"200ms\"\n",
        forex.url(),
        oanda::TOKEN,
        oanda::ACCOUNT,
        stocks.ws_url(),
        kite::API_KEY,
        kite::ACCESS_TOKEN,
    );
    let path = home.path().to_owned();
    let deck = blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("prices", |status| status.events > 100 && of_tables(status).all(|source| source.live > 0));
        // The ten seconds in which it began are never whole.
        let whole = |(_, candle): &(SmolStr, Candle)| candle.flags.contains(CandleFlags::COMPLETE);
        until("a whole candle", || ten_seconds(&deck.dir).iter().any(whole).then_some(()));
        deck
    })
    .await;
    forex.transact(3);
    forex.inject("cut".parse().unwrap());
    stocks.inject("cut".parse().unwrap());
    forex.transact(2);
    let deck = blocking(move || {
        // A candle of a minute must be over first, so this may take more than one.
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let all = last_states(&records(&deck.dir));
            if all.len() >= 8 && all_said(&all) {
                break;
            }
            assert!(Instant::now() < deadline, "{all:#?}\n{:#?}", deck.status());
            std::thread::sleep(Duration::from_millis(200));
        }
        deck
    })
    .await;
    let all = records(&deck.dir);
    for (symbol, gap) in last_states(&all).into_values() {
        let filled = matches!(gap.channel.as_str(), "quote" | "transactions") && !symbol.contains(':')
            || gap.channel == "ticker";
        let want = if filled { GapState::Repaired } else { GapState::Unrepairable };
        assert_eq!(gap.state, want, "{symbol}: {gap:?}");
    }
    let fetched =
        |record: &&Record| matches!(record.event.body, Body::Candle(_)) && !record.event.flags.contains(Flags::DERIVED);
    let candles: Vec<&Record> = all.iter().filter(fetched).collect();
    assert!(candles.iter().all(|record| record.event.flags.contains(Flags::BACKFILLED)));
    let of = |symbol: &str| candles.iter().filter(|record| record.event.symbol == symbol).count();
    assert!(of("EUR_USD") >= 2 && of("USD_JPY") >= 2 && of("NSE:INFY") >= 1 && of("NSE:TCS") >= 1, "{candles:#?}");
    for record in &candles {
        let Body::Candle(candle) = &record.event.body else { continue };
        let low = candle.low.0.min(candle.high.0);
        assert_eq!(low, candle.low.0, "{candle:?}");
        if candle.input != CandleInput::Venue && candle.flags.contains(CandleFlags::COMPLETE) {
            let told = oandas_own(&forex.url(), &record.event.symbol, "S5", candle).await;
            assert_eq!(told, Some(four(candle)), "{candle:?}");
        }
    }
    let deck = blocking(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        while candles_over_holes(&deck.dir).is_empty() {
            assert!(Instant::now() < deadline, "{:#?}", ten_seconds(&deck.dir));
            std::thread::sleep(Duration::from_millis(200));
        }
        deck
    })
    .await;
    // What the deck makes itself is, with the holes filled, what the venue makes of all prices.
    for (symbol, candle) in candles_over_holes(&deck.dir) {
        let told = oandas_own(&forex.url(), &symbol, "S10", &candle).await;
        assert_eq!(told, Some(four(&candle)), "{symbol} {candle:?}");
    }
    blocking(move || deck.stop()).await;
}

/// The deck's own candles of ten seconds that are whole only by what was fetched.
fn candles_over_holes(dir: &Path) -> Vec<(SmolStr, Candle)> {
    let whole = |candle: &Candle| {
        candle.flags.contains(CandleFlags::BACKFILLED) && candle.flags.contains(CandleFlags::COMPLETE)
    };
    ten_seconds(dir).into_iter().filter(|(_, candle)| whole(candle)).collect()
}

/// The last word on each of the deck's own candles of ten seconds.
fn ten_seconds(dir: &Path) -> Vec<(SmolStr, Candle)> {
    let mut last = BTreeMap::new();
    for record in records(dir) {
        if let Some(candle) = tapedeck::candles::candle_of(&record.event)
            && candle.interval_ns == 10_000_000_000
        {
            last.insert((record.event.symbol.clone(), candle.start), candle.clone());
        }
    }
    last.into_iter().map(|((symbol, _), candle)| (symbol, candle)).collect()
}

fn four(candle: &Candle) -> [String; 4] {
    [candle.open, candle.high, candle.low, candle.close].map(|price| price.to_string())
}

/// The four prices of a candle, asked for without anything of ours.
async fn oandas_own(url: &str, symbol: &str, granularity: &str, candle: &Candle) -> Option<[String; 4]> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!(
        "{url}/v3/instruments/{symbol}/candles?granularity={granularity}&price=BAM&from={}&count=1",
        candle.start
    );
    let request = reqwest::Client::new().get(url).header("Authorization", format!("Bearer {}", oanda::TOKEN));
    let text = request.send().await.unwrap().text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let side = match candle.input {
        CandleInput::Bid => "bid",
        CandleInput::Ask => "ask",
        _ => "mid",
    };
    let told = &answer["candles"][0][side];
    let price = |name: &str| told[name].as_str().map(str::to_owned);
    Some([price("o")?, price("h")?, price("l")?, price("c")?])
}

/// Old frames through today's parsers give what they gave; names lead to instruments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tape_read_again_is_the_same_and_its_names_are_known() {
    let home = tempfile::tempdir().unwrap();
    let (crypto, forex) = (venue(300).await, FakeOanda::builder().rate(40).start().await.unwrap());
    let stocks = FakeKite::builder().rate(100).start().await.unwrap();
    let config = format!(
        "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\"]\nkeep_raw = true\n\
         [source.fx]\nkind = \"oanda\"\nurl = {:?}\ntoken = {:?}\naccount = {:?}\ninstruments = [\"EUR_USD\"]\nkeep_raw = true\n\
         [source.nse]\nkind = \"kite\"\nurl = {:?}\napi_key = {:?}\naccess_token = {:?}\ninstruments = [\"INFY\", \"TCS\"]\nkeep_raw = true\n",
        crypto.ws_url(),
        crypto.rest_url(),
        forex.url(),
        oanda::TOKEN,
        oanda::ACCOUNT,
        stocks.ws_url(),
        kite::API_KEY,
        kite::ACCESS_TOKEN,
    );
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("data of all", |status| status.events > 1_500 && of_tables(status).all(|source| source.events > 50));
        forex.transact(2);
        crypto.inject("cut".parse().unwrap());
        deck.until_closed(GapCause::Session, 3);
        let config = deck.config.clone();
        deck.stop();
        let run = |args: &[&str]| {
            let done = tapedeck().args(args).arg("-c").arg(&config).output().unwrap();
            (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
        };
        let new = path.join("new");
        let again = ["renormalise", "--json", "--out", new.to_str().unwrap()];
        let (code, said, error) = run(&again);
        assert_eq!(code, Some(0), "{said}{error}");
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(report["changes"], serde_json::json!({}), "{report:#}");
        assert!(report["equal"].as_u64() > Some(500) && report["unreadable"] == 0, "{report:#}");
        let data = |dir: &Path| -> Vec<String> {
            let data = |record: &&Record| {
                matches!(
                    record.event.body,
                    Body::Trade(_) | Body::Quote(_) | Body::Ticker(_) | Body::Book(_) | Body::Order(_)
                )
            };
            records(dir).iter().filter(data).map(|record| format!("{:?}", record.event)).collect()
        };
        let (old, new) = (data(&path.join("tape")), data(&new));
        assert_eq!(old.len(), new.len());
        assert!(old == new, "every record of the market is as it was, and in its order");
        let (code, _, error) = run(&again);
        assert!(code == Some(2) && error.contains("holds a tape already"), "{error}");

        for (text, venue, symbol, by) in [
            ("XBT/USD", "kraken", "BTC/USD", "wsname"),
            ("XXBTZUSD", "kraken", "BTC/USD", "rest"),
            ("eur/usd", "oanda", "EUR_USD", "display"),
            ("408065", "kite", "NSE:INFY", "token"),
            ("nse:tcs", "kite", "NSE:TCS", "symbol"),
        ] {
            let (code, said, error) = run(&["resolve", text, "--json"]);
            assert_eq!(code, Some(0), "{text}: {error}");
            let found: serde_json::Value = serde_json::from_str(&said).unwrap();
            let one = &found[0];
            assert_eq!(
                (&one["venue"], &one["symbol"], &one["by"]),
                (&venue.into(), &symbol.into(), &by.into()),
                "{text}"
            );
        }
        let (code, _, error) = run(&["resolve", "XBT/USDD"]);
        assert!(code == Some(4) && error.contains("did you mean `XBT/USD`"), "{error}");
        let (_, listed, _) = run(&["instruments", "--venue", "kite", "--json"]);
        assert_eq!(listed.lines().count(), 2, "{listed}");
        let (_, listed, _) = run(&["instruments", "--history"]);
        assert!(listed.contains("XXBTZUSD") && listed.contains("EUR_USD"), "{listed}");
    })
    .await;
}
