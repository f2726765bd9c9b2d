//! What goes wrong at the server is told plainly, and passes without a restart.

use std::path::Path;
use std::process::Command;

use tapedeck::sinks::{Opened, SinkError};
use tapedeck_market::{Body, Raw, Record};

use super::{DAY, Desk, counted, event, trade, trades};
use crate::disk::SmallDisk;
use crate::servers::{Options, Postgres, fresh_name};
use crate::support::until;
use crate::tls::Authority;

fn waiting(result: Result<impl std::fmt::Debug, SinkError>) -> String {
    match result {
        Err(SinkError::Waiting(error)) => format!("{error:#}"),
        other => panic!("{other:?}"),
    }
}

fn away(result: Result<impl std::fmt::Debug, SinkError>) -> String {
    match result {
        Err(SinkError::Unavailable(error)) => format!("{error:#}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let role = fresh_name("role");
    server.psql(&database.dsn, &format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2-right'"));
    let dsn = |password: &str, name: &str| format!("postgres://{role}:{password}@127.0.0.1:{}/{name}", server.port());
    let open = |dsn: &str| Desk::new(dsn, "").open();
    let words = waiting(open(&dsn("hunter2-wrong", &database.name)));
    assert!(
        words.contains("password authentication failed") && words.contains("28P01") && words.contains("look at user"),
        "{words}"
    );
    assert!(!words.contains("hunter2"), "{words}");
    let words = Desk::new(&dsn("hunter2-wrong", &database.name), "").check().unwrap_err();
    assert!(words.contains("28P01") && !words.contains("hunter2"), "{words}");
    let words = waiting(open(&dsn("hunter2-right", "nowhere")));
    assert!(words.contains("database \"nowhere\" does not exist") && words.contains("make the database"), "{words}");
    let words = waiting(open(&format!("host=127.0.0.1 port={} user={role} dbname={}", server.port(), database.name)));
    assert!(words.contains("password missing") && words.contains("look at user"), "{words}");
    let words = waiting(open(&dsn("hunter2-right", &database.name)));
    assert!(words.contains("permission denied for database") && words.contains("grant it"), "{words}");
    // With what is granted it goes on.
    server.psql(&database.dsn, &format!("GRANT CREATE ON DATABASE {} TO {role}", database.name));
    let mut desk = Desk::new(&dsn("hunter2-right", &database.name), "");
    desk.open().unwrap();
    desk.write(&trades(1, 10), b"a");

    // A permission that goes and comes back.
    server.psql(&database.dsn, &format!("REVOKE INSERT ON ALL TABLES IN SCHEMA tapedeck FROM {role}"));
    let words = waiting(desk.try_write(&trades(11, 10), b"b"));
    assert!(words.contains("permission denied for table") && words.contains("42501"), "{words}");
    server.psql(&database.dsn, &format!("GRANT INSERT ON ALL TABLES IN SCHEMA tapedeck TO {role}"));
    desk.open().unwrap();
    desk.write(&trades(11, 10), b"b");
    assert_eq!(counted(server, &database), "20|20");

    // Too many connections.
    server.psql(&database.dsn, &format!("ALTER ROLE {role} CONNECTION LIMIT 0"));
    let words = away(Desk::new(&dsn("hunter2-right", &database.name), "").open());
    assert!(words.contains("too many connections") && words.contains("53300"), "{words}");
}

#[test]
fn a_read_only_database_costs_lag() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    desk.write(&trades(1, 10), b"a");
    server.psql(&database.dsn, &format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name));
    assert_eq!(away(desk.open()), "the database is read-only");
    let again = format!(
        "SET transaction_read_only = off; ALTER DATABASE {} RESET default_transaction_read_only",
        database.name
    );
    server.psql(&database.dsn, &again);
    assert_eq!(desk.open().unwrap(), Opened::Mark(b"a".to_vec()));
    desk.write(&trades(11, 10), b"b");
    assert_eq!(counted(server, &database), "20|20");
}

#[test]
fn what_was_dropped_is_made_again_and_what_was_changed_waits_for_a_person() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let psql = |sql: &str| server.psql(&database.dsn, sql);
    let mut desk = Desk::opened(&database.dsn, "");
    let mut next = 1;
    let mut write = |desk: &mut Desk| {
        next += 10;
        desk.try_write(&trades(next - 10, 10), format!("{next}").as_bytes())
    };
    write(&mut desk).unwrap();
    for broken in [
        "ALTER TABLE tapedeck.trades DROP COLUMN price",
        "DROP TABLE tapedeck.trades",
        "DROP TABLE tapedeck.trades_20251121",
        "DROP TABLE tapedeck.trades_20251121; DROP TABLE tapedeck.trades_default",
        "ALTER TABLE tapedeck.trades DROP CONSTRAINT trades_pkey",
        "DROP SCHEMA tapedeck CASCADE",
    ] {
        psql(broken);
        // The key alone is missed by nobody who only appends.
        if !broken.contains("trades_pkey") {
            let words = away(write(&mut desk));
            assert!(words.contains("does not exist"), "{broken}: {words}");
        }
        desk.open().unwrap_or_else(|error| panic!("{broken}: {error}"));
        write(&mut desk).unwrap_or_else(|error| panic!("{broken}: {error}"));
        assert_eq!(psql("SELECT price FROM tapedeck.trades ORDER BY seq DESC LIMIT 1"), "62807.10", "{broken}");
        let key = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'tapedeck.trades'::regclass AND contype = 'p'";
        assert_eq!(psql(key), "1", "{broken}");
    }
    for (broken, mended, words) in [
        (
            "ALTER TABLE tapedeck.trades ALTER price TYPE text",
            "ALTER TABLE tapedeck.trades ALTER price TYPE numeric USING price::numeric",
            "is text and should be numeric",
        ),
        (
            "ALTER TABLE tapedeck.trades ADD who int NOT NULL DEFAULT 1; ALTER TABLE tapedeck.trades ALTER who DROP DEFAULT",
            "ALTER TABLE tapedeck.trades DROP who",
            "a column `who` that must not be NULL",
        ),
        (
            "ALTER TABLE tapedeck.trades RENAME TO mine; CREATE VIEW tapedeck.trades AS SELECT 1",
            "DROP VIEW tapedeck.trades; ALTER TABLE tapedeck.mine RENAME TO trades",
            "is no table",
        ),
        (
            "INSERT INTO tapedeck.schema_version VALUES (99, 'tapedeck 9')",
            "DELETE FROM tapedeck.schema_version WHERE version = 99",
            "made by a later tapedeck (version 99",
        ),
    ] {
        psql(broken);
        let said = waiting(desk.open());
        assert!(said.contains(words), "{broken}: {said}");
        psql(mended);
        desk.open().unwrap_or_else(|error| panic!("{mended}: {error}"));
        write(&mut desk).unwrap();
    }
}

#[test]
fn a_rule_of_the_users_own_refuses_records_and_not_the_sink() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    server.psql(&database.dsn, "ALTER TABLE tapedeck.trades ADD CHECK (seq <> 7)");
    let Err(SinkError::BatchRefused(words)) = desk.try_write(&trades(1, 10), b"a") else { panic!("taken") };
    assert!(words.contains("violates check constraint") && words.contains("23514"), "{words}");
    // The same connection goes on, with the halves that the pump makes.
    desk.write(&trades(1, 6), b"b");
    assert!(matches!(desk.try_write(&[trade(7, DAY)], b"c"), Err(SinkError::BatchRefused(_))));
    desk.write(&trades(8, 3), b"d");
    assert_eq!(counted(server, &database), "9|9");
    // One key more, which is not ours: nothing is left out without a word.
    server.psql(&database.dsn, "CREATE UNIQUE INDEX mine ON tapedeck.trades (ts_recv, id)");
    let mut twin = trades(20, 1);
    twin[0].event.ts_recv = trades(8, 1)[0].event.ts_recv;
    twin[0].event.body = trades(8, 1)[0].event.body.clone();
    let Err(SinkError::BatchRefused(words)) = desk.try_write(&twin, b"e") else { panic!("taken") };
    assert!(words.contains("duplicate key"), "{words}");
}

#[test]
fn a_server_that_hangs_or_dies_is_away_and_what_it_still_holds_is_not_stored_twice() {
    let Some(server) = Postgres::private() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "timeout = \"3s\"");
    desk.write(&trades(1, 100), b"a");
    server.pause();
    assert_eq!(away(desk.try_write(&trades(101, 100), b"b")), "no answer in 3 s");
    assert_eq!(away(desk.try_write(&trades(101, 100), b"b")), "not connected");
    away(desk.open());
    server.resume();
    // What the server had received of it may be done or not: the mark says which.
    let opened = until("the server", || desk.open().ok());
    if opened == Opened::Mark(b"a".to_vec()) {
        until("the batch", || {
            let done = desk.try_write(&trades(101, 100), b"b");
            if done.is_err() {
                desk.open().ok().filter(|opened| *opened == Opened::Mark(b"b".to_vec())).map(drop)
            } else {
                Some(())
            }
        });
    }
    assert_eq!(counted(&server, &database), "200|200");
    server.kill();
    away(desk.try_write(&trades(201, 100), b"c"));
    away(desk.open());
    server.restart();
    until("the server", || desk.open().ok());
    desk.write(&trades(201, 100), b"c");
    assert_eq!(counted(&server, &database), "300|300");
}

#[test]
fn a_full_disk_costs_lag_and_passes_by_itself() {
    let Some(disk) = SmallDisk::new("40m") else { return };
    let Some(server) = Postgres::shared() else { return };
    let (database, space) = (server.fresh_database(), fresh_name("space"));
    let folder = disk.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let owned = Command::new("chown").arg("postgres").arg(&folder).status().unwrap();
    assert!(owned.success());
    server.psql(&database.dsn, &format!("CREATE TABLESPACE {space} LOCATION '{}'", folder.display()));
    server.psql(&database.dsn, &format!("ALTER DATABASE {} SET default_tablespace = {space}", database.name));
    let mut desk = Desk::opened(&database.dsn, "");
    let large = |seq: u64| {
        // Bytes that do not shrink.
        let mut state = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let frame = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        let raw = Raw { format: "binary".into(), frame: frame.take(1 << 20).collect() };
        Record { seq, event: event(DAY, Body::Raw(raw)) }
    };
    let mut seq = 0;
    let words = loop {
        seq += 1;
        assert!(seq < 200, "the disk is never full");
        match desk.try_write(&[large(seq)], seq.to_string().as_bytes()) {
            Ok(()) => {}
            Err(error) => break away(Err::<(), _>(error)),
        }
    };
    assert!(words.contains("No space left on device") && words.contains("53100"), "{words}");
    let stored = || server.psql(&database.dsn, "SELECT count(*), coalesce(max(seq), 0) FROM tapedeck.raw");
    assert_eq!(stored(), format!("{0}|{0}", seq - 1));
    disk.resize("200m");
    assert_eq!(desk.open().unwrap(), Opened::Mark((seq - 1).to_string().into_bytes()));
    desk.write(&[large(seq)], b"last");
    assert_eq!(stored(), format!("{seq}|{seq}"));
    drop(desk);
    // The disk goes with the test: nothing of the server may stay on it.
    let other = server.dsn().to_owned();
    until("the database to be left", || {
        let out = Command::new("psql")
            .args(["-X", "-q", "-d", &other, "-c", &format!("DROP DATABASE {}", database.name)])
            .output()
            .unwrap();
        out.status.success().then_some(())
    });
    server.psql(&other, &format!("DROP TABLESPACE {space}"));
}

#[test]
fn encrypted_connections_are_verified_as_far_as_sslmode_says() {
    let Some(authority) = Authority::new() else { return };
    let (cert, key) = authority.issue("DNS:db.example", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let Some(stranger) = Authority::new() else { return };
    // Where the server's user can read them, and nobody else the key.
    let home =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let (server_cert, server_key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    std::fs::copy(&cert, &server_cert).unwrap();
    std::fs::copy(&key, &server_key).unwrap();
    for (file, mode) in [(&server_cert, 0o644), (&server_key, 0o600)] {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let _ = Command::new("chown").arg("postgres").arg(file).output();
    }
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", server_cert.display()),
        format!("ssl_key_file={}", server_key.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(server) = Postgres::private_with(&Options { settings: &settings, ..Options::default() }) else { return };
    server.psql(server.dsn(), "CREATE ROLE me LOGIN PASSWORD 'hunter2'; GRANT CREATE ON DATABASE postgres TO me");
    let (ours, theirs) = (authority.path("ca.pem"), stranger.path("ca.pem"));
    let open = |mode: &str, root: Option<&Path>, host: &str| {
        let root = root.map(|root| format!(" sslrootcert={}", root.display())).unwrap_or_default();
        let dsn = format!(
            "host={host} hostaddr=127.0.0.1 port={} user=me password=hunter2 dbname=postgres sslmode={mode}{root}",
            server.port()
        );
        let mut desk = Desk::new(&dsn, "");
        let opened = desk.open();
        opened.map(|_| {
            server.psql(
                server.dsn(),
                "SELECT bool_or(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'me'",
            )
        })
    };
    for (mode, root, host, encrypted) in [
        ("disable", None, "db.example", "f"),
        ("prefer", None, "db.example", "t"),
        ("require", None, "other.example", "t"),
        ("verify-ca", Some(&*ours), "other.example", "t"),
        ("verify-full", Some(&*ours), "db.example", "t"),
    ] {
        let opened = open(mode, root, host).unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert_eq!(opened, encrypted, "{mode}");
        until("the connection to end", || {
            let left = server.psql(server.dsn(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'me'");
            (left == "0").then_some(())
        });
    }
    for (mode, root, host) in [
        ("require", Some(&*theirs), "db.example"),
        ("verify-ca", Some(&*theirs), "db.example"),
        ("verify-full", Some(&*theirs), "db.example"),
        ("verify-full", Some(&*ours), "other.example"),
    ] {
        let words = waiting(open(mode, root, host));
        assert!(words.contains("certificate") && words.contains("sslrootcert"), "{mode} {host}: {words}");
    }
    // A server without TLS, where it is wanted.
    let Some(plain) = Postgres::shared() else { return };
    let words = waiting(Desk::new(&format!("{}?sslmode=require", plain.dsn()), "").open());
    assert!(words.contains("does not support TLS"), "{words}");
}
