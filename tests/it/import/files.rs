//! Each kind of file: what is taken, what is left and why, and that no secret gets out.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{Desk, is_a_config, names, paths};

/// The central file of the integrated system: 2 publishers and 2 subscribers, or 5 and 3 as in its copy. Every key is
/// theirs, as their program read it (or did not).
pub(crate) fn integration(wide: bool) -> Value {
    let publisher = |name: &str, port: u16| {
        json!({ "name": name, "module": format!("nbpy.zmq.publishers.{name}"), "class": "Publisher", "port": port,
                "topic": name, "enabled": true, "description": format!("publishes {name}") })
    };
    let subscriber = |name: &str, port: u16, topic: &str, from: u16| {
        json!({ "name": name, "module": format!("nbpy.zmq.subscribers.{name}"), "class": "Subscriber", "port": port,
                "subscribe_to": topic, "publisher_host": "localhost", "publisher_port": from,
                "influxdb_measurement": topic, "enabled": true, "description": format!("stores {topic}") })
    };
    let mut publishers = vec![publisher("kraken_tick", 5558), publisher("kraken_depth", 5560)];
    let mut subscribers = vec![
        subscriber("kraken_influxdb_tick", 5578, "kraken_tick", 5558),
        subscriber("kraken_influxdb_depth", 5579, "kraken_depth", 5560),
    ];
    if wide {
        publishers.extend([
            publisher("kraken_orders", 5561),
            publisher("oanda_tick", 5562),
            publisher("betfair_stream", 5564),
        ]);
        subscribers.push(subscriber("oanda_influxdb_tick", 5581, "oanda_tick", 5562));
    }
    let measurement = |fields: &[&str], tags: &[&str]| json!({ "fields": fields, "tags": tags });
    let phase = |order: u8, name: &str| json!({ "order": order, "name": name, "description": "a phase", "wait_seconds": 2, "dependencies": [] });
    let topics: Vec<&Value> = publishers.iter().map(|one| &one["topic"]).collect();
    json!({
        "system": { "name": "ZMQ services", "version": "2.0", "localhost": "localhost", "log_dir": "./logs",
                    "pid_dir": "./.pids", "socket_dir": "/tmp/nbpy" },
        "docker": { "compose_file": "./docker-compose.yml", "services": {
            "influxdb": { "container_name": "nbpy-influxdb", "image": "influxdb:1.8", "port": 8086,
                          "health_check_url": "http://localhost:8086/ping", "wait_timeout": 30 },
            "grafana": { "container_name": "nbpy-grafana", "image": "grafana/grafana:latest", "port": 3000,
                         "health_check_url": "http://localhost:3000/api/health", "wait_timeout": 30,
                         "admin_user": "admin", "admin_password": "grafana-hush",
                         "datasource_provisioning": "./grafana_datasource.yml",
                         "dashboards_provisioning": "./grafana_dashboards.yml" } } },
        "influxdb": { "host": "localhost", "port": 8086, "database": "tick", "username": "zmq",
            "password": "influx-hush", "admin_username": "admin", "admin_password": "admin-hush",
            "retention_policies": {
                "default": { "duration": "30d", "replication": 1, "shard_duration": "1d", "default": true },
                "high_frequency": { "duration": "7d", "replication": 1, "shard_duration": "6h", "default": false },
                "long_term": { "duration": "365d", "replication": 1, "shard_duration": "30d", "default": false } },
            "measurements": {
                "kraken_tick": measurement(&["bid", "ask", "last_trade_price", "volume", "vwap"], &["pair", "exchange"]),
                "kraken_depth": measurement(&["bid_price", "bid_size", "ask_price", "ask_size"], &["pair", "level", "exchange"]),
                "kraken_orders": measurement(&["order_id", "price", "amount"], &["pair", "status", "type"]),
                "oanda_tick": measurement(&["bid", "ask", "volume"], &["instrument", "exchange"]),
                "betfair_stream": measurement(&["back_price", "lay_price", "matched_amount"], &["event_id", "market_id"]),
                "twitter_sentiment": measurement(&["sentiment_score", "text_length"], &["author", "topic", "location"]) } },
        "publishers": publishers,
        "subscribers": subscribers,
        "startup_sequence": { "phase_1_containers": phase(1, "Containers"), "phase_2_retention": phase(2, "Retention"),
            "phase_3_publishers": phase(3, "Publishers"), "phase_4_subscribers": phase(4, "Subscribers"),
            "phase_5_grafana": phase(5, "Grafana"), "phase_6_validation": phase(6, "Validation") },
        "validation": { "zmq_topics": topics, "message_timeout": 10, "min_messages_per_topic": 1,
            "influxdb_check": { "enabled": true, "min_points_per_measurement": 1, "timeout": 30 },
            "grafana_check": { "enabled": true, "expected_dashboards": ["kraken_tick", "kraken_depth"] } },
        "urls": { "influxdb_api": "http://localhost:8086", "grafana_ui": "http://localhost:3000",
                  "grafana_api": "http://localhost:3000/api", "zmq_localhost": "tcp://localhost" },
        "graceful_shutdown": { "timeout_seconds": 30, "signal_handlers": ["SIGINT", "SIGTERM"],
            "stop_sequence": ["subscribers", "publishers", "retention_policy", "grafana", "influxdb"] }
    })
}

const SECRETS: [&str; 3] = ["grafana-hush", "influx-hush", "admin-hush"];

#[test]
fn both_files_of_the_integrated_system_become_configs_and_every_key_is_taken_or_left_with_a_reason() {
    for wide in [false, true] {
        let file = integration(wide);
        let desk = Desk::new(&[("integration_config.json", &file.to_string())]);
        let answer = desk.import(&["integration_config.json"]);
        let toml = answer["config"].as_str().unwrap();
        is_a_config(toml);
        let config: toml::Table = toml.parse().unwrap();
        let sources: Vec<&String> = config["source"].as_table().unwrap().keys().collect();
        assert_eq!(sources, if wide { vec!["betfair", "kraken", "oanda"] } else { vec!["kraken"] });
        let channels = config["source"]["kraken"]["channels"].to_string();
        let wanted =
            if wide { r#"["ticker", "trade", "book", "executions"]"# } else { r#"["ticker", "trade", "book"]"# };
        assert_eq!(channels, wanted);
        assert_eq!(config["bus"]["aliases"], toml::Value::from(true), "their name of the topic is heard: kraken_depth");
        assert_eq!(config["bus"]["listen"], toml::Value::from("127.0.0.1"));
        let influx = config["sink"]["influx"].as_table().unwrap();
        assert_eq!(influx["database"], toml::Value::from("tick"));
        assert_eq!(influx["policies"]["high_frequency"]["shard"], toml::Value::from("6h"));
        assert_eq!(config["deck"]["grace"], toml::Value::from("30s"));
        assert!(
            !config.contains_key("server"),
            "without the compose file nobody else's servers are waited for: {toml}"
        );

        // Nothing is lost on the way.
        let mut all = Vec::new();
        paths(&file, "", &mut all);
        let mut known: Vec<&str> = names(&answer, "taken", "from");
        known.extend(names(&answer, "left", "key"));
        known.extend(names(&answer, "secrets", "from"));
        for path in &all {
            assert!(known.contains(&path.as_str()), "{path} is neither taken nor left: {answer:#}");
            if names(&answer, "left", "key").contains(&path.as_str()) {
                assert!(toml.contains(path.as_str()), "{path} is not in the comments: {toml}");
            }
        }
        for reason in names(&answer, "left", "reason") {
            assert!(reason.len() > 10 && reason != "no setting has this name", "{answer:#}");
        }
        let text = answer.to_string();
        for secret in SECRETS {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(names(&answer, "secrets", "variable")[0], "INFLUXDB_PASSWORD");
    }
}

#[test]
fn a_compose_file_that_is_there_makes_servers_and_odd_settings_are_kept_or_named() {
    let mut file = integration(true);
    file["publishers"][0]["port"] = json!(6000);
    file["publishers"][4]["enabled"] = json!(false);
    file["publishers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "own\n[x]", "topic": "own", "port": 1, "enabled": true }));
    file["subscribers"][0]["publisher_host"] = json!("feed.lan");
    file["influxdb"]["write_consistency"] = json!("sometimes");
    file["influxdb"]["retention_policies"]["default"]["duration"] = json!("a while");
    file["influxdb"]["measurements"]["weather"] = json!({ "fields": ["t"], "tags": [] });
    file["surprise"] = json!({ "api_token": "surprise-hush", "list": [1, 2] });
    let desk = Desk::new(&[("c.json", &file.to_string()), ("docker-compose.yml", "services: {}\n")]);
    let answer = desk.import(&["c.json"]);
    let toml = answer["config"].as_str().unwrap();
    is_a_config(toml);
    let config: toml::Table = toml.parse().unwrap();
    assert_eq!(config["server"]["influxdb"]["ready"], toml::Value::from("http http://localhost:8086/ping"));
    assert_eq!(config["server"]["grafana"]["limit"], toml::Value::from("30s"));
    assert_eq!(config["bus"]["topics"]["kraken_tick"]["port"], toml::Value::from(6000));
    assert_eq!(config["bus"]["topics"]["betfair_stream"]["enabled"], toml::Value::from(false));
    assert!(config["source"].get("betfair").is_none(), "{toml}");
    for key in ["publishers[4].name", "publishers[4].topic", "publishers[4].enabled"] {
        assert!(names(&answer, "taken", "from").contains(&key), "what is switched off has its keys, too: {key}");
    }
    let reason = |key: &str| {
        let left = answer["left"].as_array().unwrap();
        left.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key}: {answer:#}"))["reason"].to_string()
    };
    assert!(reason("publishers[5].name").contains("`kind = \\\"zmq\\\"`"), "{answer:#}");
    assert!(reason("subscribers[0].publisher_host").contains("tcp://feed.lan:5558"));
    assert!(reason("influxdb.write_consistency").contains("any, one, quorum, all"));
    assert!(reason("influxdb.retention_policies.default.duration").contains("a while"));
    assert!(reason("influxdb.measurements.weather.fields").contains("docs/points.md"));
    assert_eq!(reason("surprise.api_token"), "\"no setting has this name\"");
    assert!(!answer.to_string().contains("surprise-hush"));
}

const BROKER: &str = "\
# the broker feed
PG_CONN_STR=postgresql://feed:pg-hush@db.example:5432/trading_v2
KITE_API_KEY=keyhush0123456789
KITE_ACCESS_TOKEN=tokenhush0123456789
KOTAK_MPIN=mpin-hush
CANDLE_TABLE_NAME=merged_candles_5min
CANDLE_INTERVALS=5,15
HEARTBEAT_INTERVAL=30
LOG_LEVEL=SUCCESS
MQTT_BROKER=broker.example
MQTT_PORT=8883
MQTT_USERNAME=feed
MQTT_PASSWORD=mqtt-hush
MQTT_USE_TLS=true
MQTT_KEEPALIVE=60
UNHEARD_OF=other-hush
EMPTY=
INSTRUMENTS_FILE=
";

#[test]
fn the_broker_feeds_environment_and_symbols_become_a_config_and_secrets_go_where_only_their_owner_reads() {
    let desk = Desk::new(&[(".env", BROKER), ("nifty.csv", "tradingsymbol,exchange\nINFY,NSE\nTCS,NSE\n")]);
    let answer = desk.import(&[".env", "nifty.csv"]);
    let toml = answer["config"].as_str().unwrap();
    let text = answer.to_string();
    for hush in ["pg-hush", "keyhush0123456789", "tokenhush0123456789", "mqtt-hush", "mpin-hush", "other-hush"] {
        assert!(!text.contains(hush), "{hush}: {text}");
    }
    let config: toml::Table = toml.parse().unwrap();
    assert_eq!(config["candles"]["intervals"].to_string(), r#"["5m", "15m"]"#);
    assert_eq!(config["candles"]["anchor"], toml::Value::from("09:15-15:30 Asia/Kolkata Mon-Fri"));
    assert_eq!(config["heartbeat"]["broker"], toml::Value::from("mqtts://broker.example"));
    assert_eq!(config["heartbeat"]["legacy_topic"], toml::Value::from("heartbeat/data_feed"));
    assert_eq!(config["log"]["level"], toml::Value::from("info"));
    assert_eq!(config["source"]["kite"]["instruments_file"], toml::Value::from("nifty.csv"));
    assert!(config.get("sink").is_none(), "without its login there is no database: {toml}");
    assert!(toml.contains("# [sink.postgres]") && toml.contains("PG_CONN_STR=…"), "{toml}");
    let reasons: Vec<(&str, &str)> =
        names(&answer, "left", "key").into_iter().zip(names(&answer, "left", "reason")).collect();
    assert!(reasons.contains(&("UNHEARD_OF", "no setting has this name")), "{reasons:?}");
    assert!(reasons.iter().any(|(key, why)| *key == "KOTAK_MPIN" && why.contains("new-venue.md")), "{reasons:?}");

    // With a folder for secrets everything is switched on.
    let (code, _, err) = desk.say(&["import", ".env", "nifty.csv", "-o", "tapedeck.toml", "--secrets", "secrets"]);
    assert_eq!(code, Some(0), "{err}");
    let written = std::fs::read_to_string(desk.path("tapedeck.toml")).unwrap();
    assert!(written.contains("dsn_file = \"secrets/sink_postgres_dsn\""), "{written}");
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("secrets"), mode("secrets/sink_postgres_dsn")), (0o700, 0o600));
    assert_eq!(std::fs::read_to_string(desk.path("secrets/heartbeat_password")).unwrap(), "mqtt-hush");
    std::fs::remove_file(desk.path(".env")).unwrap();
    let (code, out, err) = desk.say(&["check", "--offline", "--set", "http.listen=off"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("candle_table"), "{out}");
}

#[test]
fn nothing_is_replaced_unasked_and_a_dry_run_writes_nothing() {
    let desk = Desk::new(&[(".env", BROKER), ("mine.toml", "# mine\n")]);
    let (code, _, err) = desk.say(&["import", ".env", "-o", "mine.toml", "--secrets", "secrets"]);
    assert!(code == Some(2) && err.contains("--force replaces it"), "{err}");
    assert!(!desk.path("secrets").exists(), "a refusal leaves nothing behind");
    let (code, out, err) = desk.say(&["import", ".env", "-o", "new.toml", "--secrets", "secrets", "--dry-run"]);
    assert!(code == Some(0) && out.is_empty() && err.contains("would write new.toml"), "{out}{err}");
    assert!(!desk.path("new.toml").exists() && !desk.path("secrets").exists());
    let (code, ..) = desk.say(&["import", ".env", "-o", "mine.toml", "--force"]);
    assert_eq!(code, Some(0));
    assert!(std::fs::read_to_string(desk.path("mine.toml")).unwrap().contains("[source.kite]"));
    let left: Vec<_> = std::fs::read_dir(desk.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no half-written file stays: {left:?}");
    let (code, _, err) = desk.say(&["import", "mine.toml"]);
    assert!(code == Some(2) && err.contains("say --as with"), "{err}");
    let (code, _, err) = desk.say(&["import", "nowhere.json"]);
    assert!(code == Some(1) && err.contains("reading nowhere.json"), "{err}");
    let (code, _, err) = desk.say(&["import", ".env", "--as", "integration"]);
    assert!(code == Some(1) && err.contains("as integration"), "{err}");
}

#[test]
fn settings_of_the_database_services_become_the_sink_and_what_their_bridges_listened_to() {
    let flat = r#"{"host": "db.lan", "port": 8087, "username": "zmq", "password": "influx-hush", "database": "tick",
        "ssl": false, "verify_ssl": true, "timeout": 10, "batch_size": 500, "write_consistency": "one",
        "retention_policy": "autogen", "precision": "ms"}"#;
    let yaml = "influxdb:\n  host: db.lan\n  port: 8087\n  password: influx-hush\nother: 1\n";
    let env = "INFLUXDB_HOST=db.lan\nINFLUXDB_PORT=8087\nINFLUXDB_PASSWORD=influx-hush\nINFLUXDB_TIMEOUT=10\n";
    for (name, text) in [("config.json", flat), ("config.yaml", yaml), ("db.env", env)] {
        let desk = Desk::new(&[(name, text)]);
        let answer = desk.import(&[name]);
        let toml = answer["config"].as_str().unwrap();
        is_a_config(toml);
        let config: toml::Table = toml.parse().unwrap();
        assert_eq!(config["sink"]["influx"]["host"], toml::Value::from("db.lan"), "{name}");
        assert_eq!(config["sink"]["influx"]["port"], toml::Value::from(8087), "{name}");
        assert!(config["source"]["zmq"]["connect"].to_string().contains("tcp://127.0.0.1:5558"), "{toml}");
        assert!(!answer.to_string().contains("influx-hush"));
        assert_eq!(names(&answer, "secrets", "variable"), ["INFLUXDB_PASSWORD"]);
    }
}

#[test]
fn settings_of_the_sync_become_its_tables() {
    let env = "QUESTDB_PATH=/data/wig80.db\nPOCKETBASE_URL=http://localhost:8090\nADMIN_EMAIL=admin@example.com\nADMIN_PASSWORD=pb-hush\n";
    let json = r#"{"questdb_path": "/data/wig80.db", "pocketbase_url": "http://localhost:8090", "admin_email": "admin@example.com",
        "admin_password": "pb-hush", "batch_size": 2000, "retry_delay": 0.5, "max_concurrent_transfers": 5, "poll_interval": 30,
        "smtp_server": "mail"}"#;
    let python = "class Sync:\n    pass\n\nQUESTDB_PATH = \"/data/wig80.db\"\nADMIN_PASSWORD = \"pb-hush\"\nsync_service.batch_size = 500\n";
    for (name, text) in [(".env", env), ("sync.json", json), ("sync.py", python)] {
        let desk = Desk::new(&[(name, text)]);
        let answer = desk.import(&[name]);
        let toml = answer["config"].as_str().unwrap();
        is_a_config(toml);
        let config: toml::Table = toml.parse().unwrap();
        assert_eq!(config["sync"]["source"]["url"], toml::Value::from("sqlite:/data/wig80.db"), "{name}");
        assert_eq!(config["sync"]["table"].as_table().unwrap().len(), 4, "{name}");
        assert!(!config.contains_key("source"), "{name}");
        assert!(!answer.to_string().contains("pb-hush"), "{name}");
        if name == "sync.json" {
            assert_eq!(config["sync"]["retry"], toml::Value::from("500ms"));
            assert_eq!(config["sync"]["concurrency"], toml::Value::from(5));
        }
        let args = ["import", name, "-o", "sync.toml", "--secrets", "secrets"];
        assert_eq!(desk.say(&args).0, Some(0));
        let written = std::fs::read_to_string(desk.path("sync.toml")).unwrap();
        // A password goes with its user, whom the Python file does not name.
        assert_eq!(written.contains("\npassword_file"), name != "sync.py", "{written}");
        is_a_sync(&desk);
    }
}

#[test]
fn a_python_file_that_asks_the_environment_makes_a_sync_of_its_defaults_and_names_what_is_left() {
    let python = "QUESTDB_PATH = os.getenv(\"QUESTDB_PATH\", \"/data/q.db\")\nPOCKETBASE_URL = os.environ.get(\"POCKETBASE_URL\")\n\
                  ADMIN_PASSWORD = os.getenv(\"ADMIN_PASSWORD\", \"pb-hush\")\nmax_retries = MAX\nbatch_size = 1_000\n";
    let desk = Desk::new(&[("sync.py", python)]);
    let answer = desk.import(&["sync.py"]);
    let toml = answer["config"].as_str().unwrap();
    is_a_config(toml);
    let config: toml::Table = toml.parse().unwrap();
    assert_eq!(config["sync"]["source"]["url"], toml::Value::from("sqlite:/data/q.db"));
    assert_eq!(config["sync"]["batch"], toml::Value::from(1000));
    assert_eq!(names(&answer, "taken", "from"), ["QUESTDB_PATH", "batch_size"]);
    assert_eq!(names(&answer, "left", "key"), ["POCKETBASE_URL", "max_retries"]);
    assert_eq!(names(&answer, "secrets", "from"), ["ADMIN_PASSWORD"]);
    assert!(names(&answer, "left", "reason")[0].contains("the variable POCKETBASE_URL"), "{answer:#}");
    assert!(!answer.to_string().contains("pb-hush"));
}

/// The file loads, with the secrets that it names.
fn is_a_sync(desk: &Desk) {
    let (code, out, err) = desk.say(&["config", "show", "-c", "sync.toml"]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn what_the_config_refuses_is_taken_out_with_the_refusal() {
    let env = "MQTT_BROKER=ws://lan\nCANDLE_INTERVALS=0\nINFLUXDB_HOST=\nINFLUXDB_CONSISTENCY=some\nKRAKEN_API_KEY=k\nthis is no line\n";
    let desk = Desk::new(&[(".env", env)]);
    let answer = desk.import(&[".env"]);
    let toml = answer["config"].as_str().unwrap();
    is_a_config(toml);
    let left: Vec<&str> = names(&answer, "left", "key");
    for key in ["MQTT_BROKER", "CANDLE_INTERVALS", "INFLUXDB_HOST", "INFLUXDB_CONSISTENCY", "line 6"] {
        assert!(left.contains(&key), "{key}: {left:?}\n{toml}");
    }
}
