//! The config as the program finds it: files, environment, `.env`, credentials.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::tapedeck;

/// What `config show` says of a key, as (value, origin), with this environment.
fn shown(dir: &Path, args: &[&str], env: &[(&str, &str)], table: &str, key: &str) -> (Value, String) {
    let output = show(dir, args, env);
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let one = list.iter().find(|one| one["table"] == table && one["key"] == key).unwrap();
    (one["value"].clone(), one["from"].as_str().unwrap().to_owned())
}

fn show(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    tapedeck()
        .args(["config", "show", "--json"])
        .args(args)
        .current_dir(dir)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn the_file_of_the_folder_is_found_before_the_users_own() {
    let home = tempfile::tempdir().unwrap();
    let user = home.path().join("user/tapedeck");
    std::fs::create_dir_all(&user).unwrap();
    std::fs::write(user.join("tapedeck.toml"), "[tape]\ndir = 'of-user'\n").unwrap();
    let xdg = home.path().join("user");
    let env = [("XDG_CONFIG_HOME", xdg.to_str().unwrap())];
    let dir = |env: &[(&str, &str)]| shown(home.path(), &[], env, "tape", "dir").0;
    assert_eq!(dir(&[]), "./tape");
    assert_eq!(dir(&env), "of-user");
    std::fs::write(home.path().join("tapedeck.toml"), "[tape]\ndir = 'of-folder'\n").unwrap();
    assert_eq!(dir(&env), "of-folder");
}

#[test]
fn dotenv_lies_beside_the_config_and_never_overrides_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let beside = home.path().join("beside");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("c.toml"), "").unwrap();
    std::fs::write(beside.join(".env"), "LOG_LEVEL=DEBUG\nTAPEDECK__TAPE__MODE='each'\n").unwrap();
    std::fs::write(home.path().join(".env"), "LOG_LEVEL=ERROR\n").unwrap();
    let level = |env: &[(&str, &str)]| shown(home.path(), &["-c", "beside/c.toml"], env, "log", "level");
    assert_eq!(level(&[]), ("debug".into(), "beside/.env LOG_LEVEL".to_owned()));
    assert_eq!(level(&[("LOG_LEVEL", "WARNING")]), ("warn".into(), "environment LOG_LEVEL".to_owned()));
    assert_eq!(shown(home.path(), &["-c", "beside/c.toml"], &[], "tape", "mode").0, "each");
    assert_eq!(shown(home.path(), &[], &[], "log", "level").0, "error", "without a config: of the folder");
}

#[test]
fn a_secret_is_taken_from_a_systemd_credential_and_never_shown() {
    let home = tempfile::tempdir().unwrap();
    let credentials = home.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("KRAKEN_API_KEY"), "key-by-credential\n").unwrap();
    std::fs::write(credentials.join("source.k.api_secret"), "c2VjcmV0LWJ5LWNyZWRlbnRpYWw=\n").unwrap();
    std::fs::write(credentials.join("other.key"), "of another service").unwrap();
    std::fs::write(home.path().join("tapedeck.toml"), "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\n").unwrap();
    let env = [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()), ("KRAKEN_API_KEY", "key-by-environment")];
    let of = |key: &str| shown(home.path(), &[], &env, "source.k", key);
    assert_eq!(of("api_key"), ("***".into(), "credential KRAKEN_API_KEY".to_owned()));
    assert_eq!(of("api_secret"), ("***".into(), "credential source.k.api_secret".to_owned()));
    let check = tapedeck()
        .args(["check", "--offline", "--set", "http.listen=off"])
        .current_dir(home.path())
        .envs(env)
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(said.contains("credential KRAKEN_API_KEY") && !said.contains("key-by"), "{said}");
}

#[test]
fn check_says_who_has_a_port_of_the_bus_and_whether_sql_can_start() {
    let home = tempfile::tempdir().unwrap();
    let offset = crate::support::free_offset();
    let sql = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\n[http]\nlisten = 'off'\n[bus]\nport_offset = {offset}\n\
         [store]\nsql_listen = '{}'\n",
        sql.local_addr().unwrap()
    );
    std::fs::write(home.path().join("tapedeck.toml"), config).unwrap();
    let check = || {
        let out = tapedeck().args(["check", "--offline", "--json"]).current_dir(home.path()).output().unwrap();
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        let of = |what: &str| {
            let finding = said["findings"].as_array().unwrap().iter().find(|one| one["what"] == what).unwrap().clone();
            (finding["result"].as_str().unwrap().to_owned(), finding["text"].as_str().unwrap().to_owned())
        };
        (out.status.code(), of("bus"), of("store"))
    };
    let (_, (result, text), (stored, said)) = check();
    assert!(result == "good" && text.contains("are free"), "{text}");
    // Without the second program nothing would ask for its address.
    let built = said.contains("sql_listen");
    assert_eq!(stored, if built { "bad" } else { "warn" }, "{said}");
    let port = 5558 + offset;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (code, (result, text), _) = check();
    let holder = format!("pid {}", std::process::id());
    assert!(result == "bad" && text.contains(&format!("port {port}")) && text.contains(&holder), "{text}");
    assert_eq!(code, Some(1));
}

#[test]
fn check_tells_of_names_of_older_systems_and_none_of_their_secrets() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("tapedeck.toml"), "[source.k]\nkind = 'kraken'\npairs = ['BTC/USD']\n").unwrap();
    let check = tapedeck()
        .args(["check", "--offline", "--set", "http.listen=off"])
        .current_dir(home.path())
        .env("GRAFANA_URL", "http://10.0.0.7")
        .env("GRAFANA_USER", "admin")
        .env("GRAFANA_PASSWORD", "hunter2-grafana")
        .env("PG_CONN_STR", "postgresql://u:hunter2@db/x")
        .output()
        .unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    for name in ["GRAFANA_URL", "GRAFANA_USER", "GRAFANA_PASSWORD", "PG_CONN_STR"] {
        assert!(said.contains(&format!("environment {name}")), "{name}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_schema_is_json_and_knows_every_kind() {
    let output = tapedeck().args(["config", "schema"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    for kind in tapedeck::sources::KINDS {
        let table = &schema["$defs"][format!("source.{}", kind.name)];
        assert_eq!(table["properties"]["kind"]["const"], kind.name);
        assert_eq!(table["additionalProperties"], false, "{}: a mistyped key would pass", kind.name);
    }
    let refs = collect_refs(&schema);
    assert!(!refs.is_empty());
    for target in refs {
        assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
}

fn collect_refs(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(collect_refs)).collect()
        }
        Value::Array(list) => list.iter().flat_map(collect_refs).collect(),
        _ => Vec::new(),
    }
}
