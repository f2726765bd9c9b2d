//! Betfair's text → events and ladders, beside betfairlightweight (dictionaries) in a Python child, in one alternating run.
//!
//! Both hold the same market of 14 runners and take the same updates of one runner, a line of 177 bytes; of the recording that
//! `BETFAIR_RECORDING` names (a plain file of lines) both take all of it, again and again. The peer also makes the book that it
//! hands out, because a stream without it tells nobody anything; ours has the events that go to the tape. Without
//! `BETFAIR_PYTHON` the peer is left out, and the row counts as missing.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;

use tapedeck::sources::betfair::line::{Ctx, Message, parse};
use tapedeck::sources::betfair::markets::Markets;
use tapedeck_benches::child::Peer;
use tapedeck_benches::{Side, compare, probe};
use tapedeck_market::odds::Market;
use tapedeck_market::{Body, SmolStr, UnixNanos};

const RUNNERS: i64 = 14;

fn main() {
    probe(&std::env::temp_dir());
    let home = tempfile::tempdir().expect("a folder");
    let one = home.path().join("one-runner");
    let lines = one_runner();
    std::fs::write(&one, lines.join("\n")).expect("written");
    let bytes = lines[1..].iter().map(String::len).sum::<usize>() / (lines.len() - 1);
    run("betfair mcm, one runner → events, book", &lines, &one, Some(bytes as u64));
    let Some(path) = std::env::var_os("BETFAIR_RECORDING") else {
        println!("without BETFAIR_RECORDING: no recording");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("a recording");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let bytes = lines.iter().map(String::len).sum::<usize>() / lines.len();
    run("betfair mcm, a recording → events, book", &lines, Path::new(&path), Some(bytes as u64));
}

/// An image of 14 runners with ten levels a side, then updates of one runner that change what is there.
fn one_runner() -> Vec<String> {
    let levels = |first: i64, step: i64| -> String {
        let level = |n: i64| format!("[{}.{:02},{}.5]", (first + n * step) / 100, (first + n * step) % 100, 10 + n);
        (0..10).map(level).collect::<Vec<_>>().join(",")
    };
    let runner = |n: i64| {
        format!(
            r#"{{"id":{},"atb":[{}],"atl":[{}],"ltp":4.5,"tv":100}}"#,
            40_364_043 + n,
            levels(450, -10),
            levels(460, 10)
        )
    };
    let defined = |n: i64| format!(r#"{{"id":{},"status":"ACTIVE","sortPriority":{}}}"#, 40_364_043 + n, n + 1);
    let list = |make: &dyn Fn(i64) -> String| (0..RUNNERS).map(make).collect::<Vec<_>>().join(",");
    let image = format!(
        r#"{{"op":"mcm","id":1,"initialClk":"i","clk":"AAAA","conflateMs":0,"heartbeatMs":5000,"pt":1627622269330,"ct":"SUB_IMAGE","mc":[{{"id":"1.185781277","marketDefinition":{{"bspMarket":false,"turnInPlayEnabled":true,"persistenceEnabled":true,"marketBaseRate":5,"eventId":"30738503","eventTypeId":"7","numberOfWinners":1,"bettingType":"ODDS","marketType":"WIN","marketTime":"2021-07-30T05:44:00.000Z","suspendTime":"2021-07-30T05:44:00.000Z","bspReconciled":false,"complete":true,"inPlay":false,"crossMatching":true,"runnersVoidable":false,"numberOfActiveRunners":14,"betDelay":0,"status":"OPEN","runners":[{}],"regulators":["MR_INT"],"countryCode":"AU","discountAllowed":true,"timezone":"Australia/Sydney","openDate":"2021-07-30T01:39:00.000Z","version":3938268939}},"rc":[{}],"img":true,"tv":1400}}]}}"#,
        list(&defined),
        list(&runner),
    );
    let update = |n: i64| {
        format!(
            r#"{{"op":"mcm","id":1,"clk":"ALsBAPoBAPcB","pt":1627622274806,"mc":[{{"id":"1.185781277","rc":[{{"atb":[[4.4,{}.81],[4.3,0]],"atl":[[4.7,2.81]],"trd":[[4.5,6.46]],"ltp":4.5,"tv":125.16,"id":40364043}}],"tv":1525.57}}]}}"#,
            10 + n
        )
    };
    std::iter::once(image).chain((0..64).map(update)).collect()
}

fn run(stage: &str, lines: &[String], path: &Path, bytes_an_op: Option<u64>) {
    let mut ours = Ours::new(lines);
    let ours = Side { name: "tapedeck", run: Box::new(move |n| ours.take(n)) };
    let peer = Peer::python("BETFAIR_PYTHON", "betfair_dicts.py", [path])
        .into_iter()
        .map(|mut peer| Side { name: "betfairlightweight dicts", run: Box::new(move |n| peer.take(n)) });
    compare(stage, ours, peer.collect(), bytes_an_op);
}

/// The parser and the ladders; the first line begins, the others come again and again.
struct Ours<'a> {
    lines: &'a [String],
    at: usize,
    ctx: Ctx,
    known: Markets,
    markets: HashMap<SmolStr, Market>,
}

impl<'a> Ours<'a> {
    fn new(lines: &'a [String]) -> Self {
        let ctx = Ctx { source: "betfair".into(), venue: "betfair".into() };
        let mut ours = Ours { lines, at: 0, ctx, known: Markets::default(), markets: HashMap::new() };
        ours.line(0);
        ours
    }

    fn line(&mut self, at: usize) {
        // Later than any of the recordings.
        let now = UnixNanos(1_785_000_000_000_000_000);
        let Ok(Message::Markets(mut changes)) = parse(black_box(self.lines[at].as_bytes()), now, &self.ctx) else {
            panic!("{}", self.lines[at]);
        };
        self.known.judge(&mut changes);
        for event in black_box(changes.events) {
            if let Body::Odds(odds) = &event.body {
                match self.markets.get_mut(&event.symbol) {
                    Some(market) => market.apply(odds),
                    None => self.markets.entry(event.symbol).or_default().apply(odds),
                }
            }
        }
    }

    fn take(&mut self, n: u64) {
        for _ in 0..n {
            self.at = if self.at + 1 < self.lines.len() { self.at + 1 } else { 1 };
            self.line(self.at);
        }
    }
}
