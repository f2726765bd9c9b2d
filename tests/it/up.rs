//! `tapedeck up`, `down`, `restart`, `status`, `logs`: a deck in the background, with real processes beside it.
//!
//! `TAPEDECK_KILLS` says how often each child is killed.

pub(crate) mod failures;
mod killed;
pub(crate) mod real;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapedeck::up::process::Identity;
use tapedeck::up::{Entry, State, Table};
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use crate::deck::{blocking, source};
use crate::support::{free_port, records, tapedeck, until};

/// A folder with a config; what is up there ends with it.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new(config: &str) -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap() };
        let http = if config.contains("[http]") { "" } else { "[http]\nlisten = 'off'\n" };
        std::fs::write(home.path("tapedeck.toml"), format!("[tape]\ndir = 'tape'\n{http}{config}")).unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn tape(&self) -> PathBuf {
        self.path("tape")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tapedeck();
        command.args(args).current_dir(self.dir.path());
        command
    }

    pub(crate) fn say(&self, args: &[&str]) -> Said {
        let out = self.command(args).output().unwrap();
        Said::of(out)
    }

    /// As [`Home::say`], and it succeeds.
    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        let said = self.say(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}\n{}", self.supervisor_log());
        said
    }

    pub(crate) fn table(&self) -> Table {
        Table::of(&self.tape())
    }

    pub(crate) fn entry(&self, name: &str) -> Entry {
        self.table().find(name).unwrap_or_else(|| panic!("no entry {name}\n{}", self.supervisor_log()))
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.entry(name).identity.unwrap_or_else(|| panic!("{name} has no process"))
    }

    pub(crate) fn supervisor(&self) -> Identity {
        self.table().supervisor().unwrap().identity
    }

    pub(crate) fn supervisor_log(&self) -> String {
        std::fs::read_to_string(self.table().supervisor_log()).unwrap_or_default()
    }

    /// Nothing of it runs, and nothing is held.
    pub(crate) fn is_clean(&self, before: &[Identity], ports: &[u16]) {
        for identity in before {
            assert!(!identity.lives() && identity.group().is_empty(), "{identity:?}\n{}", self.supervisor_log());
        }
        for port in ports {
            assert!(std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok(), "port {port} is taken");
        }
        assert!(!self.table().is_held());
        assert!(self.table().list().is_empty());
        assert!(!self.tape().join("control.sock").exists());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed half way leaves no process behind.
        let _ = self.say(&["down"]);
    }
}

/// What a verb said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(out: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn kill(identity: &Identity, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap(), signal).unwrap();
}

pub(crate) async fn venue() -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap()
}

/// A small web server as `[server.NAME]`.
pub(crate) fn web(name: &str, port: u16) -> String {
    format!(
        "[server.{name}]\ncommand = ['python3', '-m', 'http.server', '--bind', '127.0.0.1', '{port}']\n\
         ready = 'http http://127.0.0.1:{port}/'\ngrace = '10s'\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_starts_everything_says_where_it_is_and_down_leaves_nothing_but_the_data() {
    let venue = venue().await;
    let (port, http) = (free_port(), free_port());
    let config = format!(
        "{}{}[http]\nlisten = '127.0.0.1:{http}'\n[candles]\nintervals = ['1s']\n",
        web("web", port),
        source(&venue)
    );
    blocking(move || {
        let home = Home::new(&config);
        let said = home.ok(&["up"]);
        for line in [
            "✓ servers",
            "web ready after",
            "- retention   skipped",
            "✓ sources",
            "kraken live",
            "candles running",
            "- sinks",
        ] {
            assert!(said.err.contains(line), "{line}: {said:?}");
        }
        assert!(said.out.contains(&format!("http://127.0.0.1:{http}/metrics")), "{said:?}");
        assert!(said.out.contains("server.web") && said.out.contains("up after"), "{said:?}");

        // From any shell, with or without the config.
        let status = home.ok(&["status", "--json"]).json();
        assert_eq!(status["supervisor"]["stage"], "up");
        let names: Vec<&str> =
            status["processes"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["web", "deck"]);
        assert_eq!(status["pid"], home.identity("deck").pid, "the deck is the one that was started");
        let shown = home.ok(&["status"]).out;
        assert!(shown.contains("web              running") && shown.contains("0 restarts"), "{shown}");

        let before = [home.supervisor(), home.identity("web"), home.identity("deck")];
        let again = home.ok(&["up"]);
        assert!(again.out.contains("it is up, since"), "{again:?}");
        assert_eq!(
            before,
            [home.supervisor(), home.identity("web"), home.identity("deck")],
            "nothing was started twice"
        );
        let json = home.ok(&["up", "--json"]).json();
        assert_eq!(json["ok"], true);

        until("events on the tape", || (home.ok(&["status", "--json"]).json()["events"].as_u64()? > 50).then_some(()));
        let down = home.ok(&["down"]);
        let lines: Vec<&str> = down.out.lines().collect();
        assert!(lines[0].starts_with("deck stopped in") && lines[1].starts_with("web stopped in"), "{down:?}");
        home.is_clean(&before, &[port, http]);
        assert!(records(&home.tape()).len() > 50, "the data is there");
        assert!(home.ok(&["down"]).out.contains("nothing is up"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_started_ended_and_restarted_by_name() {
    let venue = venue().await;
    let (one, two) = (free_port(), free_port());
    let config = format!("{}{}{}", web("one", one), web("two", two), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        let said = home.ok(&["start", "one"]);
        assert!(said.err.contains("one ready") && said.err.contains("- sources"), "{said:?}");
        assert!(std::net::TcpListener::bind(("127.0.0.1", two)).is_ok(), "the other was not asked for");
        let first = home.identity("one");
        let said = home.ok(&["up"]);
        assert!(said.err.contains("two ready") && said.err.contains("kraken live"), "{said:?}");
        assert_eq!(home.identity("one"), first);

        let said = home.ok(&["restart", "two"]);
        assert!(said.out.starts_with("two ready after"), "{said:?}");
        let entry = home.entry("two");
        assert_eq!((entry.starts, entry.restarts), (2, 0), "what is asked for is not counted as a failure");
        let said = home.ok(&["restart", "kraken"]);
        assert_eq!(said.out.trim(), "kraken restarted", "a source inside the deck");
        let deck = home.identity("deck");
        home.ok(&["restart"]);
        assert_ne!(home.identity("deck"), deck);
        assert_eq!(home.identity("one"), first);

        let deck = home.identity("deck");
        let said = home.ok(&["restart", "servers"]);
        assert!(said.out.contains("one ready after") && said.out.contains("two ready after"), "{said:?}");
        assert!(!first.lives() && home.identity("deck") == deck, "the deck stays");
        let first = home.identity("one");

        let said = home.ok(&["down", "one"]);
        assert!(said.out.starts_with("one stopped in"), "{said:?}");
        assert!(!first.lives());
        assert_eq!(home.entry("one").state.name(), "stopped");
        home.ok(&["up", "one"]);
        assert!(home.identity("one").lives());

        let said = home.say(&["up", "tow"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("did you mean `two`?"), "{said:?}");
        for (name, what) in [("sources", "phase of the start"), ("kraken", "part of the deck")] {
            let words = format!("`{name}` is a {what}");
            let said = home.say(&["up", name]);
            assert_eq!(said.code, Some(2), "{said:?}");
            assert!(said.err.contains(&words) && said.err.contains("tapedeck restart NAME"), "{said:?}");
        }
        let said = home.say(&["restart", "sinks"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("`sinks` is a phase of the start") && said.err.contains("kraken"), "{said:?}");
        let said = home.say(&["restart", "krakn"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("did you mean `kraken`?"), "{said:?}");
        assert_eq!(home.say(&["restart", "nothing"]).code, Some(1), "no such source is there");

        let said = home.ok(&["logs", "one", "-n", "5"]);
        assert!(said.out.contains("GET /"), "the server's own words: {said:?}");
        let said = home.ok(&["logs", "kraken", "-n", "50"]);
        assert!(!said.out.is_empty() && said.out.lines().all(|line| line.contains("kraken")), "{said:?}");
        let said = home.say(&["logs", "krakn"]);
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(said.err.contains("did you mean `kraken`?") && said.out.is_empty(), "{said:?}");
        let told = home.ok(&["logs", "supervisor", "-n", "100"]).out;
        for line in ["two ready after", "kraken live"] {
            assert!(told.lines().any(|one| one.contains("phase done") && one.contains(line)), "{line}: {told}");
        }
        let all = [home.supervisor(), home.identity("one"), home.identity("two"), home.identity("deck")];
        home.ok(&["stop"]);
        home.is_clean(&all, &[one, two]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_in_the_foreground_ends_with_its_signal_and_takes_its_servers_along() {
    let venue = venue().await;
    let port = free_port();
    let config = format!("{}{}", web("web", port), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        let log = std::fs::File::create(home.path("foreground.log")).unwrap();
        let mut up =
            home.command(&["up", "--foreground"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let said = || std::fs::read_to_string(home.path("foreground.log")).unwrap();
        until("everything up", || said().contains("up after").then_some(()));
        let all = [home.supervisor(), home.identity("web"), home.identity("deck")];
        assert_eq!(all[0].pid, up.id());
        kill(&all[0], Signal::INT);
        let status = until("the end", || up.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", said());
        assert!(said().contains("deck stopped in"), "{}", said());
        home.is_clean(&all, &[port]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_that_cannot_be_helped_ends_the_foreground_with_an_error_and_all_beside_it() {
    let venue = venue().await;
    let port = free_port();
    let config = format!("{}{}", web("web", port), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        let log = std::fs::File::create(home.path("foreground.log")).unwrap();
        let mut up =
            home.command(&["up", "--foreground"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let said = || std::fs::read_to_string(home.path("foreground.log")).unwrap();
        until("everything up", || said().contains("up after").then_some(()));
        let all = [home.supervisor(), home.identity("web"), home.identity("deck")];
        // One that died comes back; one whose config is wrong by then does not.
        kill(&all[2], Signal::KILL);
        let entry = || Some(home.entry("deck")).filter(|entry| entry.state == State::Running && entry.restarts == 1);
        let again = until("the deck again", entry).identity.unwrap();
        std::fs::write(home.path("tapedeck.toml"), "[tape]\ndir = 'tape'\n[source.kraken]\nkind = 'karken'\n").unwrap();
        kill(&again, Signal::KILL);
        let status = until("the end", || up.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "{}", said());
        for words in ["exit code 2", "web stopped in"] {
            assert!(said().contains(words), "{words}: {}", said());
        }
        home.is_clean(&[all[0].clone(), all[1].clone(), again], &[port]);
    })
    .await;
}

#[test]
fn the_log_of_a_name_that_is_not_there_is_an_error_and_an_empty_one_is_called_so() {
    let home = Home::new("[server.quiet]\ncommand = ['sleep', '1000']\n");
    home.ok(&["up"]);
    let said = home.ok(&["logs", "quiet"]);
    assert!(said.out.is_empty() && said.err.contains("no lines of `quiet`"), "{said:?}");
    let said = home.say(&["logs", "quite"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.err.contains("did you mean `quiet`?"), "{said:?}");
}

/// A file that may be run.
pub(crate) fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
