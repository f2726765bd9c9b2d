//! `docs/operations.md`: a start, a look and a stop say what is shown there, and each trouble of "By symptom" is made, and its
//! commands say what stands there.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use tapedeck_testkit::kraken::{FakeKraken, Handle};

use super::repo;
use crate::deck::{blocking, source};
use crate::grafana::fake::{Fake, TOKEN};
use crate::servers::Influx1;
use crate::support::{free_address, free_offset, free_port, until};
use crate::up::real::table_of;
use crate::up::{Home, Said, kill};

/// A command, and what it says.
type Screen = Vec<(String, Vec<String>)>;

/// A part of the document, without its heading.
fn part(heading: &str) -> String {
    let text = std::fs::read_to_string(repo().join("docs/operations.md")).unwrap();
    let part = text.split_once(&format!("\n## {heading}\n")).unwrap().1;
    part.split("\n## ").next().unwrap().to_owned()
}

/// The commands of a text, with what they say.
fn screen(text: &str) -> Screen {
    let (mut screen, mut within) = (Screen::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            within = !within;
        } else if let (true, Some(command)) = (within, line.strip_prefix("$ ")) {
            screen.push((command.to_owned(), Vec::new()));
        } else if let (true, Some((_, lines))) = (within, screen.last_mut()) {
            lines.push(line.to_owned());
        }
    }
    screen
}

/// The screens of a part, by the headings within it.
fn screens(heading: &str) -> BTreeMap<String, Screen> {
    let sections = part(heading);
    let sections = sections.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(heading, body)| (heading.to_owned(), screen(body))).collect()
}

/// Without what is another each time: numbers, and how wide a column is.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c if c.is_whitespace() && shape.ends_with(' ') => {}
            c if c.is_whitespace() => shape.push(' '),
            c => shape.push(c),
        }
    }
    // Decimals and whole numbers, units of time: all are a number.
    let shape = shape.trim().replace("#.#", "#").replace("#s#ms", "#s");
    shape.replace("#ms", "#s").replace("MiB", "MB").replace("records", "record")
}

/// Whether a line is as it is shown, where `…` stands for anything.
fn fits(shown: &str, line: &str) -> bool {
    let line = shape(line);
    let mut rest = line.as_str();
    let parts: Vec<String> = shown.split('…').map(shape).collect();
    for (at, part) in parts.iter().enumerate() {
        match rest.find(part.as_str()) {
            Some(found) if at > 0 || found == 0 => rest = &rest[found + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || parts.last().is_some_and(String::is_empty)
}

/// The lines that are shown and not said, in their order.
fn missing(shown: &[String], said: &Said) -> Vec<String> {
    let said: Vec<&str> = said.err.lines().chain(said.out.lines()).collect();
    shown.iter().filter(|line| !said.iter().any(|one| fits(line, one))).cloned().collect()
}

#[test]
fn a_line_fits_whatever_its_numbers_are_and_no_other_words() {
    assert!(fits("deck stopped in 0.2 s", "deck stopped in 12 s"));
    assert!(fits("✗ http   127.0.0.1:7373: taken by …", "✗ http  127.0.0.1:18111: taken by x, pid 3"));
    assert!(fits("deck  running  pid 1  6.1 MB  cpu … restarts", "deck running pid 22 67 MB cpu 1 s 0 restarts"));
    assert!(!fits("deck stopped in 0.2 s", "deck stopped in 0.2 s and more"));
    assert!(!fits("✗ bus", "✓ bus"));
    assert!(!fits("a … b", "b a"));
}

/// Commands of a screen, each until it says what is shown: a state needs its time to come about.
fn says(home: &Home, heading: &str, screen: &Screen) {
    for (command, shown) in screen {
        let words = super::words(command).unwrap();
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let begun = Instant::now();
        loop {
            let said = home.say(&args);
            let missing = missing(shown, &said);
            if missing.is_empty() {
                break;
            }
            assert!(begun.elapsed().as_secs() < 90, "{heading}: {command}: {missing:#?}\n{}\n{}", said.err, said.out);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

async fn venue() -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap()
}

/// Makes the trouble of a heading; what it returns keeps it alive.
fn scene(heading: &str, venue: &Handle, grafana: &Fake) -> (Home, Vec<TcpListener>) {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let taken = listener.local_addr().unwrap().port();
    let kraken = source(venue);
    let up = |config: String| {
        let home = Home::new(&config);
        home.ok(&["up", "--keep"]);
        home
    };
    let home = match heading {
        "A port is taken" => {
            let offset = free_offset();
            let bus = TcpListener::bind(("127.0.0.1", 5572 + offset)).unwrap();
            let config = format!("{kraken}[http]\nlisten = '127.0.0.1:{taken}'\n[bus]\nport_offset = {offset}\n");
            let home = Home::new(&config);
            return (home, vec![listener, bus]);
        }
        "It does not start" => Home::new(&format!(
            "{kraken}[server.influx]\ncommand = ['sleep', '1000']\nready = 'tcp 127.0.0.1:{taken}'\n"
        )),
        "The start takes too long" => Home::new(
            "[source.kraken]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\nrest_url = 'http://127.0.0.1:9'\n",
        ),
        "It does not stop" => up(format!(
            "{kraken}[server.influx]\ncommand = ['/bin/sh', '-c', \"trap '' TERM; while :; do sleep 1; done\"]\ngrace = '1s'\n"
        )),
        "No messages" | "Too much memory" | "The supervisor is gone" => {
            up(format!("{kraken}[bus]\nport_offset = {}\n", free_offset()))
        }
        "It waits for a login" => up(format!(
            "{kraken}[source.kite]\nkind = 'kite'\ninstruments = ['NSE:INFY']\n[http]\nlisten = '{}'\n",
            free_address()
        )),
        "A store does not fill" => {
            Home::new(&format!("{kraken}[sink.influx]\nkind = 'influx'\nurl = 'http://127.0.0.1:9'\n"))
        }
        "The dashboards are empty" => Home::new(&format!(
            "{kraken}[sink.pg]\nkind = 'postgres'\ndsn = 'postgres://u:p@db.example/market?sslmode=verify-full'\n\
             [grafana]\nto = 'api'\nurl = '{}'\ntoken = '{TOKEN}'\n",
            grafana.url
        )),
        other => panic!("no scene for `{other}`: every symptom that shows a command has one"),
    };
    (home, vec![listener])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_a_look_and_a_stop_say_what_is_shown() {
    let Some(influx) = Influx1::private() else { return };
    let venue = venue().await;
    blocking(move || {
        let url = influx.url().to_owned();
        let config = format!(
            "{}[candles]\nintervals = ['1s']\n[http]\nlisten = '{}'\n[bus]\nport_offset = {}\n\
             [sink.influx]\nkind = 'influx'\nurl = '{url}'\ndatabase = 'tick'\n{}",
            source(&venue),
            free_address(),
            free_offset(),
            table_of("influx", &influx, &format!("http {url}/ping"), "SIGTERM")
        );
        let home = Home::new(&config);
        std::fs::copy(home.path("tapedeck.toml"), home.path("desk.toml")).unwrap();
        let run = |command: &str| {
            let words = super::words(command).unwrap();
            home.say(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        // What fails is shown behind what does not, and nothing is up then.
        let start = screen(&part("Start"));
        assert_eq!(start.len(), 2, "{start:?}");
        for (command, shown) in start.iter().rev() {
            let said = run(command);
            let missing = missing(shown, &said);
            assert!(missing.is_empty(), "{command}: {missing:#?}\n{}\n{}", said.err, said.out);
        }
        says(&home, "While it runs", &screen(&part("While it runs")));
        let stop = screen(&part("Stop"));
        let [(command, shown)] = stop.as_slice() else { panic!("{stop:?}") };
        let said = run(command);
        // There may be nothing in a queue.
        assert_eq!(said.code, Some(0), "{said:?}");
        let strange: Vec<&str> = said.out.lines().filter(|line| !shown.iter().any(|one| fits(one, line))).collect();
        assert!(said.out.lines().count() >= 2 && strange.is_empty(), "{strange:#?}\n{}\n{}", said.err, said.out);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_symptom_is_made_and_its_commands_say_what_stands_there() {
    let screens = screens("By symptom");
    assert!(screens.len() >= 10, "{:?}", screens.keys());
    let handle = tokio::runtime::Handle::current();
    for (heading, screen) in screens {
        assert!(!screen.is_empty(), "{heading} shows no command");
        let (venue, grafana) = (venue().await, Fake::start().await);
        let handle = handle.clone();
        blocking(move || {
            let (home, _taken) = scene(&heading, &venue, &grafana);
            match heading.as_str() {
                "No messages" => {
                    until("events", || {
                        (home.say(&["status", "--json"]).json()["events"].as_u64()? > 100).then_some(())
                    });
                    handle.block_on(venue.stop());
                }
                "The supervisor is gone" => {
                    let supervisor = home.supervisor();
                    kill(&supervisor, rustix::process::Signal::KILL);
                    until("its end", || (!supervisor.lives()).then_some(()));
                }
                _ => {}
            }
            says(&home, &heading, &screen);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_tape_that_is_written_is_whole_up_to_its_last_record() {
    let venue = venue().await;
    let config = source(&venue);
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        let seq = || home.say(&["status", "--json"]).json()["tape"]["last_seq"].as_u64();
        until("records", || (seq()? > 500).then_some(()));
        // As the document copies: only segments, however far they are.
        let copy = home.path("backup");
        std::fs::create_dir(&copy).unwrap();
        let is_segment = |path: &Path| path.extension().is_some_and(|ending| ending == "seg");
        for entry in
            std::fs::read_dir(home.tape()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_segment(path))
        {
            std::fs::copy(&entry, copy.join(entry.file_name().unwrap())).unwrap();
        }
        home.ok(&["tape", "verify", "--dir", "backup"]);
        home.ok(&["down"]);
        let (copied, all) = (crate::support::records(&copy), crate::support::records(&home.tape()));
        assert!(copied.len() > 500 && copied.len() < all.len(), "{} of {}", copied.len(), all.len());
        assert_eq!(copied[..], all[..copied.len()]);
    })
    .await;
}
