//! What to subscribe, from the command line, from files and from a database.

use std::path::Path;
use std::time::Duration;

use tapedeck_testkit::FakeKite;
use tapedeck_testkit::kite::{ACCESS_TOKEN, API_KEY, Handle};

use crate::deck::blocking;
use crate::servers::Postgres;
use crate::support::{Deck, tapedeck, until};

const INFY: u32 = 408_065;
const TCS: u32 = 2_953_217;
const RELIANCE: u32 = 738_561;

async fn venue() -> Handle {
    FakeKite::builder().rate(50).heartbeat(Duration::from_millis(200)).start().await.unwrap()
}

fn source(venue: &Handle, name: &str, more: &str) -> String {
    format!(
        "[source.{name}]\nkind = \"kite\"\nurl = {:?}\napi_key = {API_KEY:?}\naccess_token = {ACCESS_TOKEN:?}\n{more}\n",
        venue.ws_url()
    )
}

/// What `tapedeck check` says of these arguments: whether all is well, and all its words.
async fn check(home: &Path, config: &str, args: &[&str]) -> (bool, String) {
    std::fs::write(home.join("tapedeck.toml"), config).unwrap();
    let (home, args) = (home.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    blocking(move || {
        let done = tapedeck().arg("check").args(args).current_dir(&home).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout) + &text(&done.stderr))
    })
    .await
}

fn tokens(venue: &Handle) -> Vec<u32> {
    venue.subscribed().into_iter().flat_map(std::collections::BTreeMap::into_keys).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn symbols_of_the_command_line_take_the_place_of_the_configs() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let dir = format!("[tape]\ndir = {:?}\n[http]\nlisten = \"off\"\n", home.path().join("tape"));
    let of_file = "instruments = [\"INFY\"]\ninstruments_file = \"more.txt\"";
    std::fs::write(home.path().join("more.txt"), "NSE:NOSUCH\n").unwrap();
    let config = format!("{dir}{}", source(&venue, "kite", of_file));
    for (args, says) in [
        (&["kite"][..], "has no NSE:NOSUCH"),
        (&["kite", "--symbols", "INFY", "TCS", "RELIANCE"], "3 instruments answer"),
        (&["--symbols", "INFY,TCS"], "2 instruments answer"),
        (&["kite", "--symbols-file", "four.yaml"], "4 instruments answer"),
        (&["kite", "--symbols-file", "two.csv"], "2 instruments answer"),
        (&["kite", "--symbols-file", "none.csv"], "none.csv"),
        (&["kite", "--symbols-from-db"], "[source.kite] has no symbols_from_db: give it one"),
        (&["kite", "--symbols-from-db", "--symbols", "INFY"], "cannot be used with"),
    ] {
        std::fs::write(home.path().join("four.yaml"), "- INFY\n- 738561\n- TCS\n- NSE:NIFTY 50\n").unwrap();
        std::fs::write(home.path().join("two.csv"), "symbol,exchange\nINFY,NSE\nTCS,\n").unwrap();
        let (_, said) = check(home.path(), &config, args).await;
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let two = format!("{config}{}", source(&venue, "other", "instruments = [\"TCS\"]"));
    let (well, said) = check(home.path(), &two, &["--symbols", "INFY"]).await;
    assert!(!well && said.contains("symbols of which source? There are kite, other"), "{said}");
    let (well, said) = check(home.path(), &two, &["other", "--symbols", "INFY", "RELIANCE"]).await;
    assert!(well && said.contains("2 instruments answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn symbols_of_a_database_are_asked_for_at_each_connection() {
    let Some(server) = Postgres::shared() else { return };
    let (home, venue, database) = (tempfile::tempdir().unwrap(), venue().await, server.fresh_database());
    server.psql(&database.dsn, "CREATE TABLE watchlist (symbol text); INSERT INTO watchlist VALUES ('TCS'), ('INFY')");
    let query = "instruments = [\"INFY\"]\nsymbols_from_db = \"SELECT symbol FROM watchlist\"";
    let config = format!(
        "{}[sink.desk]\nkind = \"postgres\"\ndsn = {:?}\nevents = [\"candle\"]\n",
        source(&venue, "kite", query),
        database.dsn
    );
    let (path, text) = (home.path().to_owned(), config.clone());
    let deck = blocking(move || Deck::start(&path, &text)).await;
    let asked = async |want: &[u32]| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while tokens(&venue) != want {
            assert!(tokio::time::Instant::now() < deadline, "subscribed: {:?}, not {want:?}", tokens(&venue));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    asked(&[INFY, TCS]).await;
    server.psql(&database.dsn, "INSERT INTO watchlist VALUES ('RELIANCE')");
    venue.inject("cut".parse().unwrap());
    asked(&[INFY, RELIANCE, TCS]).await;
    // While the database does not answer, what it said last counts.
    server.psql(&database.dsn, "ALTER TABLE watchlist RENAME TO elsewhere");
    let opened = venue.opened();
    venue.inject("cut".parse().unwrap());
    let venue = blocking(move || {
        until("another session", || (venue.opened() > opened && tokens(&venue) == [INFY, RELIANCE, TCS]).then_some(()));
        deck.stop();
        venue
    })
    .await;
    let error = check(home.path(), &config, &["kite", "--symbols-from-db"]).await;
    assert!(!error.0 && error.1.contains("relation \"watchlist\" does not exist"), "{error:?}");
    assert!(!error.1.contains("password"), "{error:?}");
    venue.stop().await;
}
