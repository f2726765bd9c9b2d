//! The fake as a program: its options, and that it says where it listens and ends when told.

use clap::Parser as _;
use tapedeck_testkit::kraken::{GRAMMAR, Pairs, SimulateArgs, Speed, simulate};

#[derive(Debug, clap::Parser)]
struct Program {
    #[command(flatten)]
    args: SimulateArgs,
}

fn parse(line: &[&str]) -> Result<SimulateArgs, String> {
    let line = ["kraken"].iter().chain(line);
    Program::try_parse_from(line).map(|program| program.args).map_err(|error| error.to_string())
}

#[test]
fn options_are_read() {
    let args =
        parse(&["--pairs", "BTC/USD,ETH/EUR", "--speed", "max", "--fault", "at 5s cut", "--fault", "drop 3"]).unwrap();
    assert_eq!(args.pairs, Pairs::from(["BTC/USD", "ETH/EUR"]));
    assert_eq!((args.speed, args.faults.len()), (Speed::Max, 2));
    assert_eq!(parse(&["--pairs", "1434"]).unwrap().pairs, Pairs::Count(1_434));
}

#[test]
fn options_that_make_no_sense_are_refused_in_words() {
    for (line, why) in [
        (["--fault", "explode"], "no fault is called `explode`"),
        (["--pairs", "BTC\"/USD"], "is no pair such as BTC/USD"),
        (["--pairs", "0"], "from 1 to 10000 pairs"),
        (["--speed", "fast"], "is no speed"),
    ] {
        let refused = parse(&line).unwrap_err();
        assert!(refused.contains(why), "{line:?}: {refused}");
    }
    assert!(parse(&["--frames", "x.jsonl", "--seed", "3"]).is_err(), "recorded and generated at once");
}

#[test]
fn the_grammar_names_every_fault_in_lines_that_fit_a_terminal() {
    let long: Vec<&str> = GRAMMAR.lines().filter(|line| line.len() > 98).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[tokio::test]
async fn a_simulation_ends_when_it_is_told_and_leaves_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (script, log) = (folder.path().join("faults"), folder.path().join("sent.ndjson"));
    std::fs::write(&script, "at 1h cut # never\n").unwrap();
    let mut args = parse(&["--listen", "127.0.0.1:0", "--pairs", "2"]).unwrap();
    (args.script, args.log) = (Some(script.clone()), Some(log.clone()));
    simulate(args.clone(), std::future::ready(())).await.unwrap();
    assert!(log.exists());
    std::fs::write(&script, "at noon cut\n").unwrap();
    let refused = simulate(args, std::future::ready(())).await.map_err(|error| format!("{error:#}"));
    assert!(refused.unwrap_err().contains("line 1: fault `at noon cut`"), "the script's line is named");
}
