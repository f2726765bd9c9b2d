//! Children and supervisors that are killed.

use rustix::process::Signal;
use tapedeck::status::Status;
use tapedeck::up::State;
use tapedeck::up::process::Identity;

use super::{Home, kill, venue, web};
use crate::deck::{blocking, source};
use crate::kill::number;
use crate::store::{is_ready, store_is_built};
use crate::support::{free_offset, free_port, records, until};

/// How often each child is killed.
fn kills() -> u64 {
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    number("TAPEDECK_KILLS").unwrap_or(if ci { 5 } else { 2 })
}

/// A child while it is ready.
#[derive(Clone, Debug, PartialEq)]
struct Life {
    identity: Identity,
    restarts: u64,
}

impl Life {
    /// Of the supervisor's children by the process table, of the deck's by its status.
    fn of(home: &Home, name: &str) -> Option<Life> {
        if let Some(entry) = home.table().find(name) {
            let identity = entry.identity.filter(|_| entry.state == State::Running)?;
            return Some(Life { identity, restarts: entry.restarts });
        }
        let status: Status = serde_json::from_str(&home.say(&["status", "--json"]).out).ok()?;
        let service = status.services.iter().find(|service| service.name == name)?;
        let ready = if name == "store" { is_ready(service) } else { service.state == "running" };
        let pid = service.detail.get("pid").filter(|_| ready)?.as_u64()?;
        Some(Life { identity: Identity::of(u32::try_from(pid).unwrap())?, restarts: service.restarts })
    }

    fn now(home: &Home, name: &str) -> Life {
        until(name, || Life::of(home, name))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_child_that_is_killed_is_back_each_time_counted_and_the_others_are_untouched() {
    if !store_is_built() {
        return;
    }
    let venue = venue().await;
    let (port, sql) = (free_port(), free_port());
    let config = format!(
        "{}{}[deck]\nlongest_wait = '1s'\n[bus]\nport_offset = {}\n[store]\nsql_listen = '127.0.0.1:{sql}'\nidle = false\n",
        web("web", port),
        source(&venue),
        free_offset()
    );
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        // The deck takes its own children along, whose next lives begin to count anew.
        for (victim, others) in [
            ("deck", &["web"][..]),
            ("web", &["deck", "bus", "store"][..]),
            ("bus", &["web", "deck", "store"][..]),
            ("store", &["web", "deck", "bus"][..]),
        ] {
            let before: Vec<Life> = others.iter().map(|name| Life::now(&home, name)).collect();
            let mut killed = Life::now(&home, victim);
            for _ in 0..kills() {
                let below = ["bus", "store"].map(|name| Life::now(&home, name).identity);
                kill(&killed.identity, Signal::KILL);
                let now =
                    until("it to be back", || Life::of(&home, victim).filter(|now| now.identity != killed.identity));
                assert_eq!(now.restarts, killed.restarts + 1, "{victim}: {now:?}\n{}", home.supervisor_log());
                assert!(now.identity.lives());
                if victim == "deck" {
                    until("its own children to be gone", || below.iter().all(|one| !one.lives()).then_some(()));
                }
                killed = now;
            }
            let after: Vec<Life> = others.iter().map(|name| Life::now(&home, name)).collect();
            assert_eq!(before, after, "{others:?} live on while {victim} is killed");
        }
        let said = home.ok(&["status"]).out;
        assert!(said.contains(&format!("{} restarts", kills())), "{said}");
        let all = ["web", "deck", "bus", "store"].map(|name| Life::now(&home, name).identity);
        let down = home.ok(&["down"]).out;
        assert!(down.contains("deck stopped"), "{down}");
        home.is_clean(&all, &[port, sql]);
        assert!(records(&home.tape()).len() > 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_leaves_everything_running_and_the_next_up_or_down_takes_it_over() {
    let venue = venue().await;
    let port = free_port();
    let config = format!("{}{}", web("web", port), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        let all = |home: &Home| -> [Identity; 2] { [home.identity("web"), home.identity("deck")] };
        let first = all(&home);
        let die = |home: &Home| {
            let supervisor = home.supervisor();
            kill(&supervisor, Signal::KILL);
            until("its end", || (!supervisor.lives() && !home.table().is_held()).then_some(()));
        };
        die(&home);
        assert!(first.iter().all(Identity::lives), "the deck records on");
        let status = home.ok(&["status"]).out;
        assert!(status.contains("NO SUPERVISOR"), "{status}");

        let said = home.ok(&["up"]);
        assert!(said.err.contains("taken over from an earlier supervisor"), "{said:?}");
        assert_eq!(all(&home), first);
        // What was taken over is kept like any other.
        kill(&first[0], Signal::KILL);
        until("the server again", || {
            (home.entry("web").restarts == 1 && home.entry("web").state == State::Running).then_some(())
        });

        let second = all(&home);
        die(&home);
        let said = home.ok(&["down"]);
        assert!(said.out.contains("deck stopped in") && said.out.contains("web stopped in"), "{said:?}");
        home.is_clean(&second, &[port]);
        let last = records(&home.tape());
        assert!(matches!(&last.last().unwrap().event.body, tapedeck_market::Body::Tape(_)), "it ended in order");

        // Other settings: what runs with the old ones is ended, not taken over.
        home.ok(&["up"]);
        let third = all(&home);
        die(&home);
        let path = home.path("tapedeck.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("grace = '10s'", "grace = '9s'");
        std::fs::write(&path, text).unwrap();
        home.ok(&["up"]);
        assert!(!third[0].lives() && third[1].lives(), "the server is another one, the deck is the same");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_supervisor_down_ends_what_it_names_and_nothing_else() {
    let venue = venue().await;
    let port = free_port();
    let config = format!("{}{}", web("aux", port), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        let (supervisor, aux, deck) = (home.supervisor(), home.identity("aux"), home.identity("deck"));
        kill(&supervisor, Signal::KILL);
        until("its end", || (!supervisor.lives() && !home.table().is_held()).then_some(()));

        let said = home.say(&["down", "axu"]);
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(said.err.contains("nothing called `axu`") && said.err.contains("aux, deck"), "{said:?}");
        assert!(aux.lives() && deck.lives(), "an unknown name ends nothing");

        let said = home.ok(&["down", "aux"]);
        assert!(said.out.starts_with("aux stopped in") && !said.out.contains("deck"), "{said:?}");
        assert!(said.err.contains("stopping aux"), "{said:?}");
        assert!(!aux.lives() && deck.lives());
        let events = || home.say(&["status", "--json"]).json()["events"].as_u64();
        let before = until("the deck's answer", events);
        until("more events", || (events()? > before).then_some(()));

        let said = home.ok(&["down"]);
        assert!(said.out.starts_with("deck stopped in") && !said.out.contains("aux"), "{said:?}");
        home.is_clean(&[aux, deck], &[port]);
        assert!(!home.table().dir().join("control.sock").exists());
    })
    .await;
}
