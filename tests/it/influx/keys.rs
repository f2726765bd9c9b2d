//! Keys of the sink, against a real server: encryption, its authority, consistency, timeout.

use super::*;
use crate::tls::Authority;

#[test]
fn a_certificate_must_be_right_unless_the_config_says_otherwise() {
    let Some(authority) = Authority::new() else { return };
    let (cert, key) = authority.issue("IP:127.0.0.1", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let (cert, key) =
        (format!("http.https-certificate={}", cert.display()), format!("http.https-private-key={}", key.display()));
    let settings = ["http.https-enabled=true", cert.as_str(), key.as_str()];
    let Some(server) = Influx1::private_with(&Options { settings: &settings, ..Options::default() }) else { return };
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let ca = authority.path("ca.pem");
    let host = format!("host = \"127.0.0.1\"\nport = {}\ntls = true", server.port());
    let url = format!("url = \"{}\"", server.url());
    let trusted = format!("{url}\nca_file = {:?}", ca.to_str().unwrap());

    let desk = Desk::new(&url);
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the refusal", || state(&deck).starts_with("unavailable").then_some(()));
    assert!(state(&deck).contains("certificate"), "said plainly: {}", state(&deck));
    let config = std::fs::read_to_string(&deck.config).unwrap().replace(&url, &trusted);
    std::fs::write(&deck.config, config).unwrap();
    deck.signal(Signal::HUP);
    until("the points", || (detail(&deck, "delivered") >= 10).then_some(()));
    deck.stop();

    // A certificate of another authority, another name, no verification: by the check.
    let Some(stranger) = Authority::new() else { return };
    let stranger = format!("{url}\nca_file = {:?}", stranger.path("ca.pem").to_str().unwrap());
    let other_name = trusted.replace("127.0.0.1", "localhost");
    for (sink, taken) in [
        (trusted, true),
        (url.clone(), false),
        (stranger, false),
        (other_name, false),
        (format!("{url}\nverify_tls = false"), true),
        (host.clone(), false),
        (format!("{host}\nverify_tls = false"), true),
        (format!("{host}\nca_file = {:?}", ca.to_str().unwrap()), true),
    ] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tapedeck.toml");
        std::fs::write(&path, format!("[sink.i]\nkind = \"influx\"\n{sink}\n")).unwrap();
        let out = tapedeck().args(["validate", "stores", "-c"]).arg(&path).output().unwrap();
        assert_eq!(out.status.success(), taken, "{sink}: {out:?}");
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(said.contains("certificate"), !taken, "{sink}: {said}");
    }
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused_before_anything_starts() {
    let home = tempfile::tempdir().unwrap();
    let (path, empty) = (home.path().join("tapedeck.toml"), home.path().join("empty.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    for (file, words) in
        [("/no/such.pem", "ca_file: reading /no/such.pem"), (empty.to_str().unwrap(), "holds no certificate")]
    {
        std::fs::write(
            &path,
            format!("[source.p]\nkind = \"http\"\n[sink.i]\nkind = \"influx\"\nca_file = {file:?}\n"),
        )
        .unwrap();
        let out = tapedeck().args(["check", "--offline", "-c"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(words), "{file}: {said}");
    }
}

#[test]
fn each_word_of_consistency_is_taken_and_a_silent_server_is_given_up_in_time() {
    let Some(server) = Influx1::private() else { return };
    for (n, word) in ["any", "one", "quorum", "all"].into_iter().enumerate() {
        let database = format!("consistent_{word}");
        let desk =
            Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"\nconsistency = \"{word}\"", server.url()));
        let deck = desk.start();
        desk.post(&lines("m", 0, n as i64 + 1));
        until(word, || (rows(server.url(), &database, "SELECT COUNT(v) FROM m").first()?[1] == n + 1).then_some(()));
        deck.stop();
    }
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"slow\"\ntimeout = \"1s\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the first points", || (detail(&deck, "delivered") >= 10).then_some(()));
    server.pause();
    let since = std::time::Instant::now();
    desk.post(&lines("m", 10, 10));
    until("the timeout", || state(&deck).starts_with("unavailable").then_some(()));
    assert!(since.elapsed() < std::time::Duration::from_secs(15), "{:?}", since.elapsed());
    server.resume();
    let count = until("all points", || {
        rows(server.url(), "slow", "SELECT COUNT(v) FROM m").first()?[1].as_i64().filter(|count| *count >= 20)
    });
    assert_eq!(count, 20);
    deck.stop();
}
