//! A whole deck: killed at random moments, stopped in order, its state lost, books broken on purpose, waiting for pairs.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tapedeck::config::Synthetic;
use tapedeck::synthetic::{DEPTH_SYMBOL, Maker, SYNTHETIC, TICK_SYMBOL};
use tapedeck_market::{Body, Event, GapCause, GapState, Record};
use tapedeck_testkit::kraken::{FakeKraken, Fault, Handle};

use super::{made, naive, on_tape, recipe};
use crate::kill::{Dice, seed};
use crate::support::{Deck, gaps, records, tapedeck};

const PAIRS: [&str; 4] = ["BTC/USD", "BTC/EUR", "ETH/USD", "ETH/EUR"];

fn config(venue: &Handle, table: &str, pairs: &[&str]) -> String {
    format!(
        "[tape]\nsegment = \"1 MiB\"\n[synthetic]\n{table}[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = {pairs:?}\nchannels = [\"ticker\", \"book\"]\n",
        venue.ws_url(),
        venue.rest_url(),
    )
}

fn figure(status: &tapedeck::status::Status, name: &str) -> u64 {
    let of = || status.services.first()?.detail.get(name)?.as_u64();
    of().unwrap_or(0)
}

/// The record up to which a deck that was stopped in order had derived quotes.
fn derived_until(tape: &Path, table: &str) -> u64 {
    let state = std::fs::read(tape.join("state").join(SYNTHETIC)).unwrap();
    Maker::resume(recipe(table), &state[16..]).expect("the state of a deck that was stopped in order").1
}

/// The quotes on the tape are those of a run that nobody interrupted, each once, and those of the naive implementation.
fn assert_each_once(tape: &Path, table: &str) -> (Vec<Record>, Vec<Event>) {
    let records = records(tape);
    let until = derived_until(tape, table);
    let read = || records.iter().take_while(|record| record.seq <= until).map(|record| &record.event);
    let got = on_tape(&records);
    let want = made(&recipe(table), read());
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got, want, "quote {at}");
    }
    assert_eq!(got.len(), want.len());
    assert!(want == naive::all(read(), &toml::from_str::<Synthetic>(table).unwrap()), "the naive one says otherwise");
    (records, got)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotes_of_a_deck_that_is_killed_again_and_again_are_on_the_tape_once_each() {
    let seed = seed();
    let venue = FakeKraken::builder().pairs(PAIRS).seed(seed).rate(1_000).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    tokio::task::spawn_blocking(move || {
        const TABLE: &str = "depth = 'always'\n";
        let mut dice = Dice(seed);
        let deck = Deck::start(&path, &config(&venue, TABLE, &PAIRS));
        deck.until("quotes", |status| figure(status, "outputs") > 50);
        let (file, tape) = (deck.config.clone(), deck.dir.clone());
        deck.signal(Signal::KILL);
        deck.wait();
        let mut lost = 0;
        for cycle in 0..16 {
            let deck = Deck::run(&file, &tape, &[]);
            std::thread::sleep(Duration::from_millis(dice.below(1_000)));
            deck.signal(if dice.below(5) == 0 { Signal::TERM } else { Signal::KILL });
            deck.wait();
            let state = tape.join("state").join(SYNTHETIC);
            if cycle % 6 == 4
                && let Ok(bytes) = std::fs::read(&state)
            {
                std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
                lost += 1;
            }
        }
        let deck = Deck::run(&file, &tape, &[]);
        deck.until("quotes again", |status| figure(status, "outputs") > 20);
        deck.stop();
        let (records, quotes) = assert_each_once(&tape, TABLE);
        let of = |symbol: &str| quotes.iter().filter(|quote| quote.symbol == symbol).count();
        eprintln!("{} of tickers, {} of books, {lost} states lost", of(TICK_SYMBOL), of(DEPTH_SYMBOL));
        assert!(of(TICK_SYMBOL) > 100 && of(DEPTH_SYMBOL) > 100);
        assert!(gaps(&records).iter().filter(|(_, gap)| gap.cause == GapCause::Down).count() > 10);
        the_verbs_show_them(&file, &quotes);

        // Another recipe holds from here on: what stands there stays, and nothing is made of it again.
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("'always'", "'never'")).unwrap();
        let deck = Deck::run(&file, &tape, &[]);
        deck.until("quotes of the new recipe", |status| figure(status, "ticks") > 20);
        deck.stop();
        let more = on_tape(&crate::support::records(&tape));
        assert_eq!(more[..quotes.len()], quotes[..]);
        let (new, times) = (&more[quotes.len()..], quotes.iter().map(|quote| quote.ts_event).max().unwrap());
        assert!(new.iter().all(|quote| quote.symbol == TICK_SYMBOL && quote.ts_event > times), "{times:?} {new:#?}");
    })
    .await
    .unwrap();
}

fn the_verbs_show_them(file: &Path, quotes: &[Event]) {
    let run = |args: &[&str]| {
        let out = tapedeck().args(args).arg("-c").arg(file).current_dir(file.parent().unwrap()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let tail = ["tail", "--from", "begin", "--until", "now", "--kind", "synthetic"];
    let json = run(&[&tail[..], &["--json"]].concat());
    assert_eq!(json.lines().count(), quotes.len());
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let Body::Synthetic(body) = &quotes[0].body else { panic!("{:?}", quotes[0]) };
    let text = |price: Option<tapedeck_market::Price>| price.unwrap().to_string();
    assert_eq!(first["source"], SYNTHETIC);
    assert_eq!(first["legs"][1]["bid"].as_str(), Some(text(body.legs[1].bid).as_str()));
    assert_eq!(first["spread_ask"].as_str(), Some(text(body.spread_ask).as_str()));
    let plain = run(&tail);
    let quote = format!("{} | {}", text(body.legs[1].bid), text(body.legs[1].ask));
    assert!(plain.lines().next().unwrap().contains(&quote), "{quote}: {plain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_derived_through_a_pair_in_a_gap() {
    let venue = FakeKraken::builder().pairs(PAIRS).rate(500).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    tokio::task::spawn_blocking(move || {
        const TABLE: &str = "depth = 'always'\n";
        let deck = Deck::start(&path, &config(&venue, TABLE, &PAIRS));
        deck.until("quotes", |status| figure(status, "depths") > 50 && figure(status, "ticks") > 20);
        venue.inject("corrupt BTC/EUR x1".parse::<Fault>().unwrap());
        let broken = deck.until_closed(GapCause::Checksum, 1);
        assert!(broken.iter().all(|(symbol, _)| symbol == "BTC/EUR"), "{broken:?}");
        venue.inject("cut".parse::<Fault>().unwrap());
        deck.until_closed(GapCause::Session, 4);
        let before = figure(&deck.status(), "outputs");
        deck.until("quotes after the gaps", |status| figure(status, "outputs") > before + 20);
        deck.stop();
        let tape = path.join("tape");
        let (records, _) = assert_each_once(&tape, TABLE);
        // Said again in other words: what a coin's pair lacks, no quote goes through until the pair was told anew.
        let mut unknown: HashSet<(String, &str)> = HashSet::new();
        let mut checked = 0;
        let told: Vec<&Event> = records.iter().map(|record| &record.event).collect();
        let mut maker = Maker::new(recipe(TABLE));
        for event in told {
            match &event.body {
                Body::Gap(gap) if gap.state == GapState::Open => {
                    let channel = if gap.channel == "book" { "book" } else { "ticker" };
                    unknown.insert((event.symbol.to_string(), channel));
                }
                Body::Ticker(_) => drop(unknown.remove(&(event.symbol.to_string(), "ticker"))),
                Body::Book(book) if book.snapshot => drop(unknown.remove(&(event.symbol.to_string(), "book"))),
                _ => {}
            }
            maker.record(event);
            for said in maker.take_said(event.ts_recv) {
                let Body::Synthetic(body) = &said.body else { panic!("{said:?}") };
                let channel = if said.symbol == DEPTH_SYMBOL { "book" } else { "ticker" };
                for leg in &body.legs {
                    let coin = leg.instrument.split('/').next().unwrap();
                    for pair in [format!("{coin}/USD"), format!("{coin}/EUR")] {
                        assert!(!unknown.contains(&(pair, channel)), "{said:?} with {unknown:?}");
                    }
                }
                checked += usize::from(!unknown.is_empty());
            }
        }
        assert!(checked > 0, "while one pair was unknown the other coin went on");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_coin_in_both_currencies_the_status_says_what_is_waited_for() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/EUR"]).rate(300).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let deck = Deck::start(&path, &config(&venue, "", &["BTC/USD", "ETH/EUR"]));
        let said = "waiting: no coin of kraken with a price in USD and one in EUR (only BTC/USD, ETH/EUR)";
        deck.until("what it waits for", |status| status.services.first().is_some_and(|it| it.state == said));
        deck.stop();
        assert!(on_tape(&records(&path.join("tape"))).is_empty());
    })
    .await
    .unwrap();
}
