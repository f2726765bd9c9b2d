//! Children and supervisors that are killed.

use rustix::process::Signal;
use tapedeck::up::State;
use tapedeck::up::process::Identity;

use super::{Home, kill, venue, web};
use crate::deck::{blocking, source};
use crate::support::{free_port, records, until};

/// How often each child is killed.
fn kills() -> u64 {
    let asked = std::env::var("TAPEDECK_KILLS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some() { 20 } else { 5 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_child_that_is_killed_is_back_each_time_counted_and_the_others_are_untouched() {
    let venue = venue().await;
    let (one, two) = (free_port(), free_port());
    let config = format!("{}{}{}", web("one", one), web("two", two), source(&venue));
    blocking(move || {
        let home = Home::new(&config);
        home.ok(&["up"]);
        let children = ["one", "two", "deck"];
        for victim in children {
            let others: Vec<&str> = children.into_iter().filter(|name| *name != victim).collect();
            let before: Vec<_> = others.iter().map(|name| home.identity(name)).collect();
            for nth in 1..=kills() {
                let killed = home.identity(victim);
                kill(&killed, Signal::KILL);
                let now = until("it to be back", || {
                    let entry = home.entry(victim);
                    let other = entry.identity.as_ref().is_some_and(|identity| *identity != killed);
                    (other && entry.state == State::Running).then_some(entry)
                });
                assert_eq!(now.restarts, nth, "{now:?}");
                assert!(now.identity.unwrap().lives());
            }
            let after: Vec<_> = others.iter().map(|name| home.identity(name)).collect();
            assert_eq!(before, after, "{others:?} live on");
        }
        let said = home.ok(&["status"]).out;
        assert!(said.contains(&format!("{} restarts", kills())), "{said}");
        let down = home.ok(&["down"]).out;
        assert!(down.contains("deck stopped"), "{down}");
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
