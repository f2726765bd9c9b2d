//! Tables followed by the program: how soon a row arrives, what each look costs, and what an outage comes to.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Rig;
use crate::support::until;
use crate::sync::target::Subscriber;

pub(super) const TABLE: &str = "[sync.table.prices]\n";

/// `sync watch`, ended when it is dropped.
struct Watch(Child);

impl Watch {
    fn of(rig: &Rig, args: &[&str]) -> Watch {
        let log = std::fs::File::create(rig.home.path().join("watch.log")).unwrap();
        let mut command = rig.command(&[&["watch"], args].concat());
        Watch(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn make(rig: &Rig) {
    rig.run(
        "CREATE TABLE prices (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY WAL \
         DEDUP UPSERT KEYS(ts, symbol)",
    );
    rig.sync(&["init"]);
}

fn table(rig: &Rig) -> Value {
    rig.json(&["status"])["tables"][0].clone()
}

/// From the moment at which QuestDB has taken a row to the moment at which a subscriber of PocketBase has it.
#[test]
fn a_row_that_is_inserted_reaches_a_subscriber() {
    let Some(rig) = Rig::new(TABLE) else { return };
    make(&rig);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut subscriber = runtime.block_on(Subscriber::of(&rig.pocket, "prices"));
    let poll = Duration::from_millis(200);
    let _watch = Watch::of(&rig, &["--interval", "200ms"]);
    let mut took = Vec::new();
    for n in 0..10_u64 {
        let begun = Instant::now();
        rig.write(&format!("prices,symbol=S{n} price={n}.5 {}\n", 1_767_312_000_000_000_000 + n * 1_000_000_000));
        let event = runtime.block_on(subscriber.next());
        assert_eq!(
            (&event["action"], &event["record"]["symbol"]),
            (&"create".into(), &format!("S{n}").into()),
            "{event}"
        );
        took.push(begun.elapsed());
    }
    // The first waits for the program to start and to log in.
    let mut steady = took.split_off(1);
    steady.sort();
    eprintln!(
        "a row reached a subscriber after {:?} at the median, {:?} at most, with a poll of {poll:?}; the first after {:?}",
        steady[steady.len() / 2],
        steady[steady.len() - 1],
        took[0]
    );
    assert!(steady[steady.len() / 2] < poll + Duration::from_secs(10), "{steady:?}");
}

/// `TAPEDECK_SYNC_POLLS` says how many; a tenth of them come before the first measure.
#[test]
fn ten_thousand_looks_take_no_more_memory_than_a_thousand() {
    let Some(rig) = Rig::new(TABLE) else { return };
    make(&rig);
    rig.write("prices,symbol=A price=1.5 1767312000000000000\n");
    let looks = crate::kill::number("TAPEDECK_SYNC_POLLS").unwrap_or(10_000);
    let watch = Watch::of(&rig, &["--interval", "1ms"]);
    until("its state", || rig.try_sync(&["status"]).status.success().then_some(()));
    let at = |count: u64| {
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            let polls = table(&rig)["polls"].as_u64().unwrap_or(0);
            if polls >= count {
                return watch.rss_kib();
            }
            assert!(Instant::now() < deadline, "{polls} of {count} looks");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let (early, late) = (at(looks / 10), at(looks));
    eprintln!("{looks} looks: {early} KiB after a tenth of them, {late} KiB at the end");
    assert!(late < early + 8 * 1024, "{early} KiB, then {late} KiB");
    assert_eq!(table(&rig)["synced"], 1);
    let said = rig.json(&["status"]);
    assert!(said["resources"]["memory_mb"].as_f64().unwrap() > 1.0 && said["timestamp"].is_string(), "{said}");
    assert!(said["resources"]["cpu_percent"].as_f64().unwrap() > 0.0, "{said}");
}

/// The target is away for longer than a run has patience for; who follows waits as long as it takes.
#[test]
fn a_target_that_is_away_for_long_ends_a_run_with_what_to_do_and_a_watch_goes_on_when_it_is_back() {
    let Some(rig) = Rig::new(TABLE) else { return };
    make(&rig);
    rig.write("prices,symbol=A price=1.5 1767312000000000000\n");
    let _watch = {
        rig.pocket.kill();
        let began = Instant::now();
        let refused = rig.try_sync(&["run", "--set", "sync.retries=2"]);
        let (said, log) = (String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
        assert!(!refused.status.success(), "{said}");
        let words = format!("is it running, and reached from here, at {}", rig.pocket.url());
        assert!(said.contains(&words) && log.contains("attempt=2"), "{said}\n{log}");
        assert!(began.elapsed() < Duration::from_secs(60), "it gave up");
        assert!(table(&rig)["trouble"].as_str().unwrap().contains("is it running"), "{}", table(&rig));
        let watch = Watch::of(&rig, &[]);
        until("looks that fail", || (table(&rig)["polls"].as_u64()? >= 4).then_some(()));
        watch
    };
    assert!(table(&rig)["lag_seconds"].is_null(), "none has ended well so far");
    rig.pocket.restart();
    until("the row", || (rig.count("prices") == 1).then_some(()));
    until("no trouble", || table(&rig)["trouble"].is_null().then_some(()));

    // Who waits does not look, and goes on where it was.
    rig.sync(&["pause", "--table", "prices"]);
    until("no more looks", || {
        let before = table(&rig)["polls"].clone();
        std::thread::sleep(Duration::from_secs(3));
        (table(&rig)["polls"] == before).then_some(())
    });
    rig.write("prices,symbol=B price=2.5 1767312000000000000\n");
    assert_eq!(rig.count("prices"), 1);
    rig.sync(&["pause", "--resume"]);
    until("the second row", || (rig.count("prices") == 2).then_some(()));
}

/// Both sides are compared at a time of the day; what somebody has changed at the target is told, or put right where that was asked for.
#[test]
fn a_comparison_by_schedule_tells_what_differs_and_repairs_it_where_asked() {
    let Some(rig) = Rig::new(TABLE) else { return };
    make(&rig);
    rig.write("prices,symbol=A price=1.5 1767312000000000000\nprices,symbol=B price=2.5 1767312001000000000\n");
    rig.sync(&["run"]);
    for repair in [false, true] {
        let id = rig.records("prices", "symbol='A'")[0]["id"].as_str().unwrap().to_owned();
        rig.pocket.call("PATCH", &format!("/api/collections/prices/records/{id}"), &json!({"price": 9}));
        // Late enough that the program is there before; who comes later waits for tomorrow's.
        let at = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::SignedDuration::from_secs(15);
        let text = std::fs::read_to_string(rig.config()).unwrap();
        let text = text.split_once("[sync]\n").map(|(head, rest)| {
            let rest: Vec<&str> = rest.lines().filter(|line| !line.starts_with("verify_")).collect();
            format!(
                "{head}[sync]\nverify_at = \"{}\"\nverify_repair = {repair}\n{}\n",
                at.strftime("%H:%M:%S"),
                rest.join("\n")
            )
        });
        std::fs::write(rig.config(), text.unwrap()).unwrap();
        let _watch = Watch::of(&rig, &[]);
        let said = if repair { "written again" } else { "both sides differ;" };
        let log = rig.home.path().join("watch.log");
        let line = until("the comparison", || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.lines().find(|line| line.contains(said)).map(str::to_owned)
        });
        assert!(line.contains("different=1") && line.contains("missing=0"), "{line}");
        let price = rig.records("prices", "symbol='A'")[0]["price"].as_f64().unwrap();
        assert!((price - if repair { 1.5 } else { 9.0 }).abs() < 1e-9, "{price}");
    }
}
