//! What cannot be started: which it is, why, its last words, what mends it, and that nothing is left.

use std::net::TcpListener;

use rustix::process::Signal;

use super::{Home, Said, kill, script, venue, web};
use crate::deck::{blocking, source};
use crate::support::{Deck, free_port, until};

/// Starts it, and it fails; nothing that was started is left.
fn failed(home: &Home, args: &[&str], words: &[&str]) -> Said {
    let said = home.say(&[&["up"], args].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "no {word:?} in {}", said.err);
    }
    assert!(said.err.contains("fix:"), "{said:?}");
    home.is_clean(&[home.supervisor()], &[]);
    said
}

/// A source that is never reached: nothing here gets so far.
const SOURCE: &str = "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\nurl = 'ws://127.0.0.1:9'\n";

#[test]
fn a_program_that_is_not_there_is_named_at_once_and_what_was_started_before_is_ended() {
    let port = free_port();
    let home = Home::new(&format!("{}[server.bad]\ncommand = ['/nowhere/influxd']\n{SOURCE}", web("web", port)));
    let said = failed(&home, &[], &["servers: server.bad", "starting /nowhere/influxd: No such file", "✗ servers"]);
    assert!(said.err.contains("web stopped in"), "{said:?}");
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_port_that_somebody_else_has_is_named_with_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = Home::new(&format!("{}{SOURCE}", web("web", port)));
    let me = format!("pid {}", std::process::id());
    failed(&home, &[], &[&format!("port {port} is taken by"), &me, "leave `command` out of [server.web]"]);
}

#[test]
fn a_server_that_gives_up_says_so_by_its_exit_code_and_is_not_started_again() {
    let home = Home::new(&format!(
        "[server.bad]\ncommand = ['/bin/sh', '-c', 'echo no licence >&2; exit 78']\nready = 'tcp 127.0.0.1:9'\n{SOURCE}"
    ));
    failed(&home, &[], &["exit code 78", "| no licence", "server.bad.log"]);
    let kept = home.say(&["up", "bad", "--keep"]);
    assert_eq!(kept.code, Some(1), "{kept:?}");
    assert!(kept.err.contains("tapedeck down ends it"), "{kept:?}");
    let entry = home.entry("bad");
    assert_eq!((entry.state.name(), entry.starts), ("hopeless", 1), "{entry:?}");
    let again = home.say(&["restart", "bad"]);
    assert_eq!(again.code, Some(1), "tried again because somebody asked: {again:?}");
    assert_eq!(home.entry("bad").starts, 2);
}

#[test]
fn a_server_that_ends_again_and_again_is_given_up_after_five_times() {
    let home =
        Home::new(&format!("[server.bad]\ncommand = ['/bin/sh', '-c', 'exit 1']\nready = 'tcp 127.0.0.1:9'\n{SOURCE}"));
    failed(&home, &[], &["5 times in a row it ended by itself with exit code 1"]);
}

#[test]
fn a_server_that_is_never_ready_is_ended_at_its_limit() {
    let config = "[server.slow]\ncommand = ['sleep', '1000']\nready = 'command exit 7'\nlimit = '2s'\nrestarts = 0\n";
    let home = Home::new(&format!("{config}{SOURCE}"));
    failed(&home, &[], &["was not ready within 2 s", "`exit 7` ended by itself with exit code 7", "raise its `limit`"]);
}

#[test]
fn a_server_that_does_not_end_is_killed_with_all_that_it_started() {
    let config = "[server.stubborn]\ncommand = ['/bin/sh', '-c', \"trap '' TERM; sleep 1000 & while :; do sleep 1; done\"]\ngrace = '300ms'\n";
    let home = Home::new(config);
    home.ok(&["up"]);
    let identity = home.identity("stubborn");
    until("its children", || (identity.group().len() >= 2).then_some(()));
    let said = home.ok(&["down"]);
    assert!(said.out.contains("stubborn did not stop within 0.3 s and was killed"), "{said:?}");
    home.is_clean(&[identity], &[]);
}

#[test]
fn what_is_up_ends_also_when_its_config_was_broken_meanwhile() {
    let home = Home::new("[server.kept]\ncommand = ['sleep', '1000']\nready = 'command true'\n");
    home.ok(&["up"]);
    let identity = home.identity("kept");
    std::fs::write(home.path("tapedeck.toml"), "[tape\n").unwrap();
    let said = home.say(&["down"]);
    assert!(said.code == Some(2) && said.err.contains("--dir DIR"), "{said:?}");
    assert!(identity.lives());
    home.ok(&["down", "--dir", "tape"]);
    home.is_clean(&[identity], &[]);
}

#[test]
fn a_source_that_does_not_come_fails_its_phase_and_the_fix_names_it() {
    let home = Home::new(SOURCE);
    failed(&home, &["--limit", "1s"], &["sources: source.k: not ready within 1 s: lost:", "tapedeck check k"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keep_a_server_and_a_store_that_do_not_come_keep_nobody_from_recording() {
    let venue = venue().await;
    let config = format!(
        "{}[server.bad]\ncommand = ['/nowhere/influxd']\n\
         [sink.influx]\nkind = 'influx'\nurl = 'http://127.0.0.1:9'\n",
        source(&venue)
    );
    blocking(move || {
        let home = Home::new(&config);
        failed(&home, &[], &["servers: server.bad"]);
        let said = home.say(&["up", "--keep", "--limit", "10s"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        for words in
            ["✗ servers", "✗ retention", "✓ sources", "✗ sinks", "servers: server.bad", "tapedeck down ends it"]
        {
            assert!(said.err.contains(words), "{words}: {said:?}");
        }
        until("events", || (home.say(&["status", "--json"]).json()["events"].as_u64()? > 50).then_some(()));
        let said = home.ok(&["down"]);
        assert!(said.out.contains("deck stopped in"), "{said:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_that_somebody_runs_by_hand_is_not_disturbed() {
    let venue = venue().await;
    let config = source(&venue);
    blocking(move || {
        let home = Home::new(&config);
        let deck = Deck::run(
            &home.path("tapedeck.toml"),
            &home.tape(),
            &["--set", &format!("tape.dir={:?}", home.tape().to_str().unwrap())],
        );
        deck.until("events", |status| status.events > 0);
        let said = home.say(&["up"]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains(&format!("kill -TERM {}", deck.pid())), "{said:?}");
        let said = home.say(&["down"]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(deck.status().running);
        deck.stop();
    })
    .await;
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (table, words) in [
        ("[server.x]\n", "is only waited for"),
        ("[server.x]\ncommand = ['a']\ncompose = 'f.yml'\n", "not both"),
        ("[server.x]\ncommand = ['a']\nready = 'soon'\n", "does not say when a server is ready"),
        ("[server.x]\ncommand = ['a']\nstop = 'SIGNOTHING'\n", "neither a signal"),
        ("[server.x]\ncomand = ['a']\n", "did you mean `command`?"),
        ("[server.deck]\ncommand = ['a']\n", "choose another name"),
        ("[server.x]\ncommand = ['a']\ngrace = '0s'\n", "longer than nothing"),
    ] {
        let home = Home::new(&format!("{table}{SOURCE}"));
        let said = home.say(&["up"]);
        assert_eq!(said.code, Some(2), "{table}: {said:?}");
        assert!(said.err.contains(words) && said.err.contains("tapedeck.toml:"), "{table}: {said:?}");
        assert!(!home.tape().exists(), "nothing was made");
    }
}

/// Stands for `docker compose`: a container is a file of the service's name, and what it was told is written down.
pub(crate) const DOCKER: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/told"
for service; do :; done
case "$*" in
    *" up "*) touch "$here/$service"; echo "Container $service Started" ;;
    *" ps "*) test -e "$here/$service" && echo '{"Name":"x-'"$service"'-1","State":"running","Health":"healthy"}' ;;
    *" stop "*) rm -f "$here/$service" ;;
    *) exit 9 ;;
esac
exit 0
"#;

#[test]
fn a_compose_service_is_started_watched_and_stopped_and_its_volumes_are_left_alone() {
    let config = "[server.db]\ncompose = 'stack.yml'\n";
    let home = Home::new(config);
    let bin = home.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let say = |args: &[&str]| Said::of(home.command(args).env("PATH", &path).output().unwrap());

    // Without Docker.
    let said = Said::of(home.command(&["up"]).env("PATH", bin.to_str().unwrap()).output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("there is no `docker` here") && said.err.contains("with a `command` of this machine"),
        "{said:?}"
    );

    script(&bin.join("docker"), DOCKER);
    let said = say(&["up"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("db ready after"), "{said:?}");
    // It dies, and comes back.
    std::fs::remove_file(bin.join("db")).unwrap();
    until("the container again", || (home.entry("db").restarts == 1 && bin.join("db").exists()).then_some(()));
    let said = say(&["down"]);
    assert!(said.out.contains("db stopped in"), "{said:?}");
    assert!(!bin.join("db").exists());
    let told = std::fs::read_to_string(bin.join("told")).unwrap();
    assert!(told.lines().all(|line| line.starts_with("compose --file stack.yml ") && line.ends_with(" db")), "{told}");
    assert!(!told.contains("down") && !told.contains("volumes") && !told.contains(" rm "), "{told}");
}

#[test]
fn a_compose_service_that_a_killed_supervisor_left_is_stopped_all_the_same() {
    let home = Home::new("[server.db]\ncompose = 'stack.yml'\n[server.aux]\ncommand = ['sleep', '1000']\n");
    let bin = home.path("bin");
    std::fs::create_dir(&bin).unwrap();
    script(&bin.join("docker"), DOCKER);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let say = |args: &[&str]| {
        let said = Said::of(home.command(args).env("PATH", &path).output().unwrap());
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}\n{}", home.supervisor_log());
        said
    };
    let die = || {
        let supervisor = home.supervisor();
        kill(&supervisor, Signal::KILL);
        until("its end", || (!supervisor.lives() && !home.table().is_held()).then_some(()));
    };
    say(&["up"]);
    die();
    // One that the next `up` does not want ends with it, too.
    say(&["up", "aux"]);
    assert!(bin.join("db").exists());
    let said = say(&["down"]);
    assert!(said.out.contains("db stopped in") && said.out.contains("aux stopped in"), "{said:?}");
    assert!(!bin.join("db").exists());

    say(&["up"]);
    die();
    let said = say(&["down"]);
    assert!(said.out.contains("db stopped in") && said.out.contains("aux stopped in"), "{said:?}");
    assert!(!bin.join("db").exists(), "it was told to stop");
    home.is_clean(&[], &[]);
    assert!(!home.table().dir().join("control.sock").exists());
}

#[test]
fn while_it_starts_an_order_for_one_is_refused_and_the_end_of_all_is_not() {
    let config = "[server.slow]\ncommand = ['sleep', '1000']\nready = 'command exit 7'\nlimit = '60s'\n";
    let home = Home::new(config);
    let log = std::fs::File::create(home.path("up.log")).unwrap();
    let mut up = home.command(&["up"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let identity = until("its process", || home.table().find("slow")?.identity);
    for order in [&["restart", "slow"], &["down", "slow"]] {
        // The socket may come a moment after the process.
        until("the refusal", || {
            let said = home.say(order);
            assert_eq!(said.code, Some(1), "{order:?}: {said:?}");
            said.err.contains("it is still starting: try again when `tapedeck up` is through").then_some(())
        });
    }
    assert!(identity.lives(), "nothing was done");
    let said = home.ok(&["down"]);
    assert!(said.out.contains("slow stopped in") && said.err.contains("stopping slow"), "{said:?}");
    let status = until("the end of up", || up.try_wait().unwrap());
    let told = std::fs::read_to_string(home.path("up.log")).unwrap();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("it was ended by `tapedeck down`"), "{told}");
    home.is_clean(&[identity], &[]);
}

#[test]
fn a_server_that_the_config_has_otherwise_by_now_is_no_success() {
    let aux = "[server.aux]\ncommand = ['sleep', '1000']\n";
    let home = Home::new(&format!("{aux}[server.same]\ncommand = ['sleep', '1000']\n"));
    let refused = |args: &[&str], words: &str| {
        let said = home.say(args);
        assert_eq!(said.code, Some(1), "{args:?}: {said:?}");
        assert!(said.err.contains(words) && said.err.contains("take the new config"), "{args:?}: {said:?}");
    };
    home.ok(&["up"]);
    let before = [home.identity("aux"), home.identity("same")];
    let path = home.path("tapedeck.toml");
    let text = std::fs::read_to_string(&path).unwrap();

    std::fs::write(&path, format!("{text}[server.more]\ncommand = ['sleep', '1000']\n")).unwrap();
    refused(&["up"], "[server.more] is new since it was started");
    refused(&["up", "more"], "[server.more] is new");
    refused(&["restart", "more"], "[server.more] is new");

    std::fs::write(&path, text.replacen("'1000'", "'2000'", 1)).unwrap();
    refused(&["up"], "[server.aux] has changed since it was started");
    refused(&["restart", "aux"], "[server.aux] has changed");
    refused(&["restart", "servers"], "[server.aux] has changed");
    home.ok(&["up", "same"]);
    assert_eq!(before, [home.identity("aux"), home.identity("same")], "nothing was touched");

    std::fs::write(&path, text.replace(aux, "")).unwrap();
    refused(&["up"], "[server.aux] is gone");

    home.ok(&["down"]);
    home.ok(&["up"]);
    assert!(home.table().find("aux").is_none());
}
