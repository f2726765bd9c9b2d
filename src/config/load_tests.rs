use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::types::{Listen, Mode};
use crate::config::units::Interval;

fn file(text: &str) -> Inputs {
    Inputs { file: Some(("tapedeck.toml".to_owned(), text.to_owned())), ..Inputs::default() }
}

fn names(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from(loaded: &Loaded, path: &[&str]) -> String {
    loaded.tree.own_origin(path).map_or_else(|| "default".to_owned(), ToString::to_string)
}

fn refusal(inputs: &Inputs) -> String {
    resolve(inputs).map(|loaded| loaded.config).unwrap_err().to_string()
}

#[test]
fn nothing_at_all_is_a_config() {
    let config = resolve(&Inputs::default()).unwrap().config;
    assert_eq!(config, Config::default());
    assert_eq!(config.tape.dir, Path::new("./tape"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7373");
}

#[test]
fn set_wins_over_environment_over_dotenv_over_file_over_old_names() {
    let mut inputs = Inputs {
        env: names(&[("LOG_LEVEL", "ERROR")]),
        dotenv: Some((PathBuf::from(".env"), names(&[("LOG_LEVEL", "DEBUG"), ("LOG_DIR", "/old")]))),
        ..Inputs::default()
    };
    let level = |inputs: &Inputs| {
        let loaded = resolve(inputs).unwrap();
        (loaded.config.log.level.clone(), from(&loaded, &["log", "level"]))
    };
    let is = |level: &str, from: &str| (level.to_owned(), from.to_owned());
    assert_eq!(level(&inputs), is("error", "environment LOG_LEVEL"));
    let loaded = resolve(&inputs).unwrap();
    assert_eq!(from(&loaded, &["log", "dir"]), ".env LOG_DIR");
    inputs.file = Some(("tapedeck.toml".to_owned(), "[log]\nlevel = 'warn'\n".to_owned()));
    assert_eq!(level(&inputs), is("warn", "tapedeck.toml:2"));
    inputs.dotenv = Some((PathBuf::from(".env"), names(&[("TAPEDECK__LOG__LEVEL", "debug")])));
    assert_eq!(level(&inputs), is("debug", ".env TAPEDECK__LOG__LEVEL"));
    inputs.env = names(&[("TAPEDECK__LOG__LEVEL", "trace")]);
    assert_eq!(level(&inputs), is("trace", "environment TAPEDECK__LOG__LEVEL"));
    inputs.set = vec!["log.level=info".to_owned()];
    assert_eq!(level(&inputs), is("info", "--set"));
}

#[test]
fn a_set_value_may_be_toml_or_a_bare_word() {
    let set = |sets: &[&str]| {
        let set = sets.iter().map(|set| (*set).to_owned()).collect();
        resolve(&Inputs { set, ..Inputs::default() }).map(|loaded| loaded.config)
    };
    let config = set(&["tape.dir=/data/a b", "tape.mode=\"each\"", "tape.compress=true", "deck.grace=5s"]).unwrap();
    assert_eq!(config.tape.dir, Path::new("/data/a b"));
    assert_eq!(config.tape.mode, Mode::Each);
    assert!(config.tape.compress);
    assert_eq!(config.deck.grace, Interval(Duration::from_secs(5)));
    for (wrong, words) in [
        ("tape.dir", "has no `=`"),
        ("=x", "does not begin with a key"),
        ("tape dir=x", "does not begin with a key"),
        ("tape.compress=perhaps", "invalid type"),
        ("tape=x", "is a table"),
    ] {
        let error = set(&[wrong]).unwrap_err().to_string();
        assert!(error.contains(words), "{wrong}: {error}");
    }
}

#[test]
fn an_unknown_key_names_file_line_table_and_the_nearest_key() {
    let error = refusal(&file("[tape]\ndri = './x'\n"));
    for part in ["unknown key `dri`", "tapedeck.toml:2:1", "2 | dri = './x'", "^^^", "did you mean `dir`?"] {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    let error = refusal(&file("[tpe]\ndir = './x'\n"));
    assert!(error.contains("unknown table `tpe`") && error.contains("did you mean `tape`?"), "{error}");
    let error = refusal(&file("[tape]\nkeep = { aeg = '1d' }\n"));
    assert!(error.contains("unknown key `aeg`") && error.contains("did you mean `age`?"), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let error = refusal(&file("[tape]\nmode = 'fast'\n[http]\nlisten = '0.0.0.0:80'\n[deck]\ngrace = 30\n"));
    for part in ["[tape] mode", "`fast`", "[http] listen", "insecure = true", "[deck] grace", "which unit?"] {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
}

#[test]
fn a_wrong_value_is_pointed_at_wherever_it_came_from() {
    let error = refusal(&file("[tape]\nsegment = '1 KiB'\n"));
    assert!(error.contains("tapedeck.toml:2:11") && error.contains("1 KiB is outside 1 MiB to 4 GiB"), "{error}");
    let env = names(&[("TAPEDECK__TAPE__SEGMENT", "1 KiB")]);
    let error = refusal(&Inputs { env, ..Inputs::default() });
    assert!(error.contains("--> environment TAPEDECK__TAPE__SEGMENT"), "{error}");
    let error = refusal(&Inputs { set: vec!["log.level=loud".to_owned()], ..Inputs::default() });
    assert!(error.contains("--> --set"), "{error}");
}

#[test]
fn what_others_can_reach_is_refused_unless_it_is_said_aloud() {
    let error = refusal(&file("[http]\nlisten = '0.0.0.0:7373'\n"));
    assert!(error.contains("can be reached by others"), "{error}");
    let loaded = resolve(&file("[http]\nlisten = '0.0.0.0:7373'\ninsecure = true\n")).unwrap();
    assert!(loaded.notes.iter().any(|note| note.warn && note.text.contains("without encryption")));
    assert_eq!(parse_text("[http]\nlisten = 'off'\n").unwrap().http.listen, Listen::Off);
}

#[test]
fn the_predecessors_minutes_switch_candles_on() {
    let env = names(&[("CANDLE_INTERVALS", "5,15")]);
    let candles = resolve(&Inputs { env, ..Inputs::default() }).unwrap().config.candles.unwrap();
    assert_eq!(candles.recipe().unwrap().intervals_ns, [300_000_000_000, 900_000_000_000]);
}

#[test]
fn the_names_of_the_predecessors_make_a_sink_and_fill_the_one_that_is_there() {
    let env =
        [("INFLUXDB_HOST", "db"), ("INFLUXDB_PORT", "8087"), ("INFLUXDB_BATCH_SIZE", "500"), ("INFLUXDB_TIMEOUT", "5")];
    let with_env = |text: &str| resolve(&Inputs { env: names(&env), ..file(text) }).unwrap().config.sinks;
    let made = with_env("");
    let [sink] = &made[..] else { panic!("{made:?}") };
    assert_eq!((sink.name.as_str(), sink.kind.as_str()), ("influx", "influx"));
    let (delivery, own) = crate::sinks::plan_of(sink).unwrap();
    assert_eq!((delivery.batch, own["port"].as_integer(), own["timeout"].as_str()), (500, Some(8087), Some("5s")));
    let filled = with_env("[sink.main]\nkind = \"influx\"\nhost = \"mine\"");
    assert_eq!((filled.len(), filled[0].table["host"].as_str()), (1, Some("mine")), "the file wins");
    assert_eq!(filled[0].table["port"].as_integer(), Some(8087));
}

#[test]
fn the_predecessors_host_is_where_the_bus_listens() {
    let of = |host: &str| resolve(&Inputs { env: names(&[("ZMQ_HOST", host)]), ..Inputs::default() });
    let bus = of("localhost").unwrap().config.bus.unwrap();
    assert_eq!(bus.listen, std::net::Ipv4Addr::LOCALHOST);
    let error = refusal(&Inputs { env: names(&[("ZMQ_HOST", "publisher.lan")]), ..Inputs::default() });
    assert!(error.contains("ZMQ_HOST: `publisher.lan` is not an address of this machine"), "{error}");
    let inputs = Inputs { env: names(&[("ZMQ_HOST", "127.0.0.2")]), ..file("[bus]\nlisten = '127.0.0.3'\n") };
    let loaded = resolve(&inputs).unwrap();
    assert_eq!(loaded.config.bus.unwrap().listen.to_string(), "127.0.0.3", "the file says more");
}

#[test]
fn the_predecessors_names_of_a_grafana_lead_there_and_its_password_is_no_text() {
    let url = ("GRAFANA_URL", "http://web:3000");
    let env = names(&[url, ("GRAFANA_USER", "user"), ("GRAFANA_PASSWORD", "a-secret@word")]);
    let loaded = resolve(&Inputs { env, ..Inputs::default() }).unwrap();
    let table = loaded.config.grafana.unwrap().table;
    assert_eq!((table["url"].as_str(), table["username"].as_str()), (Some("http://web:3000"), Some("user")));
    assert!(!loaded.notes.iter().any(|note| note.text.contains("secret@")), "{:?}", loaded.notes);
    assert!(loaded.secrets.iter().any(|secret| secret.contains("secret@")), "it is kept out of the logs");
}

#[test]
fn an_old_name_that_the_file_overrides_is_reported() {
    let inputs = Inputs { env: names(&[("LOG_LEVEL", "DEBUG")]), ..file("[log]\nlevel = 'warn'\n") };
    let loaded = resolve(&inputs).unwrap();
    assert_eq!(loaded.config.log.level, "warn");
    let said = "LOG_LEVEL (environment LOG_LEVEL) is not used: tapedeck.toml:2 says log.level";
    assert!(loaded.notes.iter().any(|note| note.text == said), "{:?}", loaded.notes);
}

#[test]
fn an_old_name_fills_the_first_table_of_its_kind_and_only_what_is_missing() {
    let env = names(&[("KRAKEN_API_KEY", "key-of-env"), ("KRAKEN_API_SECRET", "secret-of-env")]);
    let text = "[source.z]\nkind = 'kraken'\npairs = ['A/B']\napi_key = 'key-of-file'\n\
                [source.a]\nkind = 'kraken'\npairs = ['A/B']\n";
    let loaded = resolve(&Inputs { env, ..file(text) }).unwrap();
    let value = |name: &str, key: &str| loaded.tree.get(&["source", name, key]).and_then(Value::as_str);
    assert_eq!(value("z", "api_key"), Some("key-of-file"));
    assert_eq!(value("z", "api_secret"), Some("secret-of-env"));
    assert_eq!(from(&loaded, &["source", "z", "api_secret"]), "environment KRAKEN_API_SECRET");
    assert_eq!(value("a", "api_secret"), None, "`z` stands first in the file");
    assert_eq!(loaded.config.sources[0].name, "z");
}

#[test]
fn no_table_is_made_for_a_name_that_alone_cannot_make_it_work() {
    let env = names(&[("KRAKEN_API_KEY", "key-of-env")]);
    let loaded = resolve(&Inputs { env, ..Inputs::default() }).unwrap();
    assert_eq!(loaded.config.sources, []);
    assert!(loaded.notes[0].text.contains("would need `pairs`"), "{:?}", loaded.notes);
    assert_eq!(loaded.secrets, ["key-of-env"]);
}

#[test]
fn a_secret_may_lie_in_a_file_of_its_own() {
    let text = "[source.k]\nkind = 'kraken'\npairs = ['A/B']\napi_key_file = '/run/key'\n";
    let read_secret = |path: &Path| match path.to_str() {
        Some("/run/key") => Ok(SecretText { text: "from-file\n".to_owned(), open_to_others: true }),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let loaded = resolve(&Inputs { read_secret, ..file(text) }).unwrap();
    assert_eq!(loaded.config.sources[0].table.get("api_key"), Some(&Value::from("from-file")));
    assert_eq!(from(&loaded, &["source", "k", "api_key"]), "secret file /run/key");
    assert!(loaded.notes.iter().any(|note| note.warn && note.text.contains("chmod 600")), "{:?}", loaded.notes);
    assert_eq!(loaded.secrets, ["from-file"]);
    let error = refusal(&Inputs { read_secret, ..file(&text.replace("/run/key", "/run/none")) });
    assert!(error.contains("tapedeck.toml:4:16") && error.contains("reading /run/none"), "{error}");
    let error = refusal(&Inputs { read_secret, ..file(&format!("{text}api_key = 'x'\n")) });
    assert!(error.contains("given twice"), "{error}");
}

#[test]
fn a_wrong_secret_is_not_shown() {
    let text = "[source.k]\nkind = 'kraken'\npairs = ['A/B']\napi_secret = ['hunter2']\n";
    let error = resolve(&file(text)).and_then(|loaded| loaded.build(&[])).unwrap_err().to_string();
    assert!(error.contains("api_secret = ***") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_kind_points_at_the_key_it_means() {
    let build = |text: &str| resolve(&file(text)).and_then(|loaded| loaded.build(&[])).unwrap_err().to_string();
    let error = build("[source.k]\nkind = 'kraken'\npairs = ['A/B']\nbook_depth = 17\n");
    assert!(error.contains("[source.k] book_depth:") && error.contains("tapedeck.toml:4:14"), "{error}");
    let error = build("[source.k]\nkind = 'kraken'\npairs = 7\n");
    assert!(error.contains("[source.k] pairs:") && error.contains("tapedeck.toml:3:9"), "{error}");
    let error = build("[source.k]\nkind = 'kraken'\n");
    assert!(error.contains("missing field `pairs`") && error.contains("tapedeck.toml:1:"), "{error}");
    let error = build("[source.k]\nkind = 'karken'\n");
    assert!(error.contains("did you mean `kraken`?"), "{error}");
    let error = build("[source.k]\npairs = ['A/B']\n");
    assert!(error.contains("which kind of source?"), "{error}");
}

#[test]
fn variables_reach_tables_that_are_spelled_with_dashes_and_split_lists() {
    let env = names(&[("TAPEDECK__SOURCE__KRAKEN_SPOT__PAIRS", "BTC/USD, ETH/USD")]);
    let text = "[source.kraken-spot]\nkind = 'kraken'\npairs = []\n";
    let loaded = resolve(&Inputs { env, ..file(text) }).unwrap();
    let pairs = loaded.config.sources[0].table.get("pairs").map(ToString::to_string);
    assert_eq!(pairs.as_deref(), Some(r#"["BTC/USD", "ETH/USD"]"#));
    let set = vec!["source.new.pairs=*".to_owned(), "source.new.kind=kraken".to_owned()];
    let loaded = resolve(&Inputs { set, ..Inputs::default() }).unwrap();
    assert_eq!(loaded.config.sources[0].table.get("pairs").map(ToString::to_string).as_deref(), Some(r#"["*"]"#));
}

#[test]
fn only_sources_whose_table_changed_are_named() {
    let of = |text: &str| resolve(&file(text)).unwrap();
    let old = of("[source.a]\nkind='kraken'\npairs=['A/B']\n[source.b]\nkind='kraken'\npairs=['A/B']\n");
    let new = of("[source.b]\nkind='kraken'\npairs=['A/C']\n[source.c]\nkind='kraken'\npairs=['A/B']\n");
    assert_eq!(old.changed_sources(&new), ["a", "b", "c"]);
    assert_eq!(old.changed_sources(&old), [""; 0]);
}

#[test]
fn an_empty_variable_is_not_set() {
    let env = names(&[("LOG_LEVEL", ""), ("INFLUXDB_HOST", " ")]);
    let loaded = resolve(&Inputs { env, ..Inputs::default() }).unwrap();
    assert_eq!((loaded.config, loaded.notes), (Config::default(), vec![]));
}

#[test]
fn credentials_fill_keys_by_their_dotted_name() {
    let credentials = names(&[("tape.dir", "/var/tape"), ("other.service", "x"), ("server.key", "x")]);
    let loaded = resolve(&Inputs { credentials, ..Inputs::default() }).unwrap();
    assert_eq!(loaded.config.tape.dir, Path::new("/var/tape"));
    assert_eq!(from(&loaded, &["tape", "dir"]), "credential tape.dir");
}

#[test]
fn a_broken_file_is_one_message_with_its_place() {
    let error = refusal(&file("[tape\ndir = 'x'\n"));
    assert!(error.contains("tapedeck.toml:1:"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_a_config_or_problems_that_can_be_printed(text in "(?s).{0,200}") {
        if let Err(problems) = parse_text(&text) {
            let _ = problems.to_string();
        }
    }

    #[test]
    fn any_toml_like_text_is_a_config_or_problems(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "[tape]", "[http]", "[log]", "[source.a]", "[source.a.b]", "[[source]]", "dir = 1", "dir = 'ä€'",
                "keep = {age='1d'}", "kind = 'kraken'", "kind = 7", "pairs = [[1], {a=2}]", "source = 3",
                "listen = '1.2.3.4:5'", "a.b.c = 1", "\"\" = 1", "x = [", "segment = '64 MiB'", "level = 'ä=,'",
            ]),
            0..8,
        )
    ) {
        if let Err(problems) = parse_text(&lines.join("\n")) {
            let _ = problems.to_string();
        }
    }

    #[test]
    fn any_set_is_taken_or_refused(set in ".{0,40}") {
        let _ = resolve(&Inputs { set: vec![set], ..Inputs::default() }).map_err(|problems| problems.to_string());
    }
}

#[test]
fn names_of_the_sync_fill_it_and_make_it_where_they_say_from_where_and_to_where() {
    let env = names(&[
        ("POCKETBASE_URL", "http://there:8090"),
        ("ADMIN_EMAIL", "a@example.com"),
        ("POCKETBASE_ADMIN_PASSWORD", "hush-hush"),
        ("QUESTDB_PATH", "data/wig80.db"),
    ]);
    let file_that_has_one = Inputs { env: env.clone(), ..file("[sync]\n[sync.table.t]\n") };
    for inputs in [Inputs { env: env.clone(), ..Inputs::default() }, file_that_has_one] {
        let loaded = resolve(&inputs).unwrap();
        let sync = loaded.config.sync.clone().unwrap();
        let config = crate::sync::config::Config::from_table(sync.table).unwrap();
        let url = config.source.url.unwrap();
        assert_eq!((config.target.url.as_str(), url.expose()), ("http://there:8090", "sqlite:data/wig80.db"));
        assert_eq!(config.target.password.unwrap().expose(), "hush-hush");
        let shown = format!("{:?} {:?}", crate::config::show(&loaded), loaded.config);
        assert!(shown.contains("sync.target") && !shown.contains("hush-hush"), "{shown}");
    }
    // Half of it is of somebody else, or of a sink.
    for missing in ["POCKETBASE_URL", "QUESTDB_PATH"] {
        let mut env = env.clone();
        env.remove(missing);
        assert!(resolve(&Inputs { env, ..Inputs::default() }).unwrap().config.sync.is_none(), "{missing}");
    }
}

#[test]
fn names_of_a_questdb_lead_to_a_sink_and_to_the_sync() {
    let env = names(&[
        ("QUESTDB_HOST", "db"),
        ("QUESTDB_PORT", "9000"),
        ("QUESTDB_USER", "reader"),
        ("QUESTDB_PASSWORD", "hush/hush"),
        ("POCKETBASE_URL", "http://there:8090"),
        ("ADMIN_EMAIL", "a@example.com"),
        ("ADMIN_PASSWORD", "first"),
        ("POCKETBASE_ADMIN_PASSWORD", "second"),
    ]);
    let loaded = resolve(&Inputs { env, ..Inputs::default() }).unwrap();
    let sync = loaded.config.sync.clone().unwrap();
    let config = crate::sync::config::Config::from_table(sync.table).unwrap();
    // 9000 is its web port.
    assert_eq!(config.source.identity(), "db:8812/qdb");
    assert_eq!(
        (config.source.user.as_deref(), config.source.password.unwrap().expose()),
        (Some("reader"), "hush/hush")
    );
    assert_eq!(config.target.password.unwrap().expose(), "first", "the first of the two names");
    assert!(loaded.config.sinks.iter().any(|sink| sink.table["host"].as_str() == Some("db")));
    let shown = format!("{:?} {:?}", crate::config::show(&loaded), loaded.config);
    assert!(!shown.contains("hush/hush") && !shown.contains("first"), "{shown}");
}

#[test]
fn a_wrong_key_of_the_sync_is_named_where_it_stands() {
    for (text, words) in [
        ("[sync]\nfrom = 1\n", "from"),
        ("[sync]\n[sync.source]\nurl = 'x'\n[sync.table.t]\npolls = '1s'\n", "polls"),
        ("[sync]\n[sync.source]\nurl = 'x'\n[sync.table.t.columns]\nname = { frm = 'x' }\n", "frm"),
        ("[sync]\nverify_at = 'noon'\n[sync.source]\nurl = 'x'\n", "is no time of a day"),
        ("[sync]\npoll = '0s'\n[sync.source]\nurl = 'x'\n", "1ms or longer"),
        ("[sync]\n", "source"),
    ] {
        let error = refusal(&file(text));
        assert!(error.contains(words), "{text}: {error}");
    }
}
