//! The fake as a program: its options, and that it ends when told.

use clap::Parser as _;
use tapedeck_testkit::oanda::{GRAMMAR, SimulateArgs, simulate};

#[derive(Debug, clap::Parser)]
struct Program {
    #[command(flatten)]
    args: SimulateArgs,
}

fn parse(line: &[&str]) -> Result<SimulateArgs, String> {
    let line = ["oanda"].iter().chain(line);
    Program::try_parse_from(line).map(|program| program.args).map_err(|error| error.to_string())
}

#[test]
fn options_are_read_and_those_that_make_no_sense_refused_in_words() {
    let args = parse(&["--instruments", "EUR_USD,USD_JPY", "--transactions", "5s", "--fault", "at 5s cut"]).unwrap();
    assert_eq!((args.instruments.len(), args.faults.len()), (2, 1));
    for (line, why) in [
        (&["--fault", "explode"][..], "no fault is called `explode`"),
        (&["--heartbeat", "0s"], "`0s` is no time"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--frames", "x.csv", "--seed", "3"], "cannot be used with"),
    ] {
        let refused = parse(line).unwrap_err();
        assert!(refused.contains(why), "{line:?}: {refused}");
    }
}

#[test]
fn the_grammar_fits_a_terminal() {
    let long: Vec<&str> = GRAMMAR.lines().filter(|line| line.len() > 98).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[tokio::test]
async fn a_simulation_ends_when_it_is_told_and_names_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let args = parse(&["--listen", "127.0.0.1:0"]).unwrap();
    simulate(args.clone(), std::future::ready(())).await.unwrap();
    let (script, nameless) = (folder.path().join("faults"), folder.path().join("prices.csv"));
    std::fs::write(&script, "at noon cut\n").unwrap();
    std::fs::write(&nameless, "0,1.1,1.2\n").unwrap();
    let mut scripted = args.clone();
    scripted.script = Some(script);
    let refused = simulate(scripted, std::future::ready(())).await.map_err(|error| format!("{error:#}"));
    assert!(refused.unwrap_err().contains("line 1: fault `at noon cut`"));
    let mut framed = args;
    framed.frames = vec![nameless];
    let refused = simulate(framed, std::future::ready(())).await.map_err(|error| format!("{error:#}"));
    assert!(refused.unwrap_err().contains("need instrument and day in the name"));
}
