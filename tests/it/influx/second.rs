//! InfluxDB 2.x: what 1.x has, in its own words.

use std::time::Duration;

use super::*;
use crate::servers::asking;

fn sink(server: &Influx2, bucket: &str, token: &str) -> String {
    format!("url = \"{}\"\ndatabase = \"{bucket}\"\norg = \"{}\"\ntoken = \"{token}\"", server.url(), server.org())
}

/// Count and sum of the field `v` of the measurement `m`.
fn counted(server: &Influx2, bucket: &str) -> Option<(i64, f64)> {
    let answer = server.query(bucket, "SELECT COUNT(v), SUM(v) FROM m");
    let row = &answer["series"][0]["values"][0];
    Some((row[1].as_i64()?, row[2].as_f64()?))
}

#[test]
fn it_takes_the_same_points_and_says_of_a_bad_one_which_and_why() {
    let Some(server) = Influx2::shared() else { return };
    let bucket = server.fresh_database();
    let desk = Desk::new(&sink(server, &bucket, server.token()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 1_000));
    until("the first points", || (detail(&deck, "delivered") >= 1_000).then_some(()));
    let conflict = format!("m,host=a v=\"text\" {}\n", 1_700_000_000_000_000_000_i64 + 5_000_000);
    desk.post(&(lines("m", 1_000, 250) + &conflict + &lines("m", 1_250, 250)));
    until("the dead letter", || (detail(&deck, "dead_letters") == 1).then_some(()));
    let found = until("all points", || counted(server, &bucket).filter(|(count, _)| *count >= 1_500));
    assert_eq!(found, (1_500, f64::from((0..1_500).sum::<i32>())), "each once, with its own time");
    assert_eq!(state(&deck), "running");
    deck.stop();
    let letters = desk.deadletter(&["list", "--json"]);
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
    assert!(letters[0]["words"].as_str().unwrap().contains("field type conflict"), "{letters}");
}

#[test]
fn an_outage_loses_nothing() {
    let Some(server) = Influx2::private() else { return };
    let bucket = server.fresh_database();
    let desk = Desk::new(&sink(&server, &bucket, server.token()));
    let mut deck = desk.start();
    desk.post(&lines("m", 0, 500));
    until("the first points", || (detail(&deck, "delivered") >= 500).then_some(()));
    server.kill();
    desk.post(&lines("m", 500, 500));
    until("the outage to be seen", || state(&deck).starts_with("unavailable").then_some(()));
    deck.signal(Signal::KILL);
    deck.wait();
    deck = desk.start();
    desk.post(&lines("m", 1_000, 500));
    server.restart();
    let found = until("all points", || counted(&server, &bucket).filter(|(count, _)| *count >= 1_500));
    assert_eq!(found, (1_500, f64::from((0..1_500).sum::<i32>())));
    deck.stop();
}

#[test]
fn a_wrong_token_is_told_plainly_and_a_right_one_needs_no_restart() {
    let Some(server) = Influx2::shared() else { return };
    let bucket = server.fresh_database();
    let desk = Desk::new(&sink(server, &bucket, "a-wrong-token"));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the refusal", || state(&deck).starts_with("waiting: refused (401").then_some(()));
    assert!(!state(&deck).contains("a-wrong-token") && !deck.log().contains("a-wrong-token"), "{}", state(&deck));
    let config = std::fs::read_to_string(&deck.config).unwrap().replace("a-wrong-token", server.token());
    std::fs::write(&deck.config, config).unwrap();
    deck.signal(Signal::HUP);
    until("the points", || (counted(server, &bucket)?.0 == 10).then_some(()));
    deck.stop();
}

#[test]
fn a_bucket_that_is_missing_is_waited_for() {
    let Some(server) = Influx2::shared() else { return };
    let bucket = crate::servers::fresh_name("made_later");
    let desk = Desk::new(&sink(server, &bucket, server.token()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    let waiting = format!("waiting: there is no bucket `{bucket}`");
    until("the missing bucket to be named", || state(&deck).starts_with(&waiting).then_some(()));
    let body = serde_json::json!({ "orgID": server.org_id(), "name": bucket, "retentionRules": [] }).to_string();
    let headers = [("Authorization", server.authorization()), ("Content-Type", "application/json".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let patience = Duration::from_secs(60);
    let made = asking::ask(server.port(), "POST", "/api/v2/buckets", &headers, &body, patience).unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    until("the points", || (counted(server, &bucket)?.0 == 10).then_some(()));
    deck.stop();
}
