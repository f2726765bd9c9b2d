//! SQL over encrypted connections, as `[store] tls_cert` asks for them; certificates are made by openssl, each test its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::store::{is_ready, psql_is_there, store_is_built};
use crate::support::{Deck, free_port, python, skipped, until};

/// An authority, and certificates by it.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// `None`: there is no openssl, and the test says that it skips.
    pub(crate) fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            skipped("no openssl: apt-get install openssl");
            return None;
        }
        let authority = Authority(tempfile::tempdir().unwrap());
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=an authority of tests",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        Some(authority)
    }

    fn openssl(&self, args: &[&str]) {
        let out = Command::new("openssl").args(args).current_dir(self.0.path()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A certificate for a host, in the form in which keys come: `rsa` or `ec`.
    pub(crate) fn issue(&self, host: &str, kind: &[&str]) -> (PathBuf, PathBuf) {
        let names = format!("subjectAltName={host}");
        std::fs::write(self.path("extensions"), &names).unwrap();
        let request =
            [&["req", "-newkey"], kind, &["-nodes", "-subj", "/CN=tapedeck", "-keyout", "key.pem", "-out", "csr.pem"]];
        self.openssl(&request.concat());
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "csr.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "cert.pem",
        ]);
        (self.path("cert.pem"), self.path("key.pem"))
    }
}

/// A deck with a store, and what SQL asks it.
struct Served {
    deck: Deck,
    port: u16,
    _home: TempDir,
}

/// `more` is the rest of `[store]`.
fn serve(more: &str) -> Served {
    let (home, http, port) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:{http}\"\n[source.points]\nkind = \"http\"\n[store]\nsql_listen = \"127.0.0.1:{port}\"\nidle = false\n{more}"
    );
    let deck = Deck::start(home.path(), &config);
    Served { deck, port, _home: home }
}

impl Served {
    fn with(pair: &(PathBuf, PathBuf)) -> Served {
        let served = serve(&format!("tls_cert = {:?}\ntls_key = {:?}\n", pair.0, pair.1));
        served.deck.until("SQL", |status| status.services.iter().any(is_ready));
        served
    }

    fn password(&self) -> String {
        std::fs::read_to_string(self.deck.dir.join("sql.password")).unwrap().trim().to_owned()
    }

    /// What psql answers, or says.
    fn ask(&self, mode: &str, root: Option<&Path>) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.env("PGPASSWORD", self.password()).env("PGCONNECT_TIMEOUT", "20").env("PGSSLMODE", mode);
        psql.env("HOME", "/nonexistent").args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "tapedeck"]);
        psql.args(["-X", "-A", "-t", "-c", "select 6 * 7", "tapedeck"]);
        if let Some(root) = root {
            psql.env("PGSSLROOTCERT", root);
        }
        let out = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}

const EC: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["rsa:2048"];

#[test]
fn psql_connects_encrypted_and_checks_the_certificate() {
    if !store_is_built() || !psql_is_there() {
        return;
    }
    let (Some(ours), Some(theirs)) = (Authority::new(), Authority::new()) else { return };
    let (ca, other) = (ours.path("ca.pem"), theirs.path("ca.pem"));
    for kind in [EC, RSA] {
        let server = Served::with(&ours.issue("IP:127.0.0.1,DNS:localhost", kind));
        for (mode, root) in [("require", None), ("verify-ca", Some(&ca)), ("verify-full", Some(&ca))] {
            assert_eq!(server.ask(mode, root.map(PathBuf::as_path)), Ok("42".to_owned()), "{mode}");
        }
        // Signed by somebody else: the client goes away before it says its password.
        let refused = server.ask("verify-full", Some(&other)).unwrap_err();
        assert!(refused.contains("certificate verify failed"), "{refused}");
        let refused = server.ask("disable", None).unwrap_err();
        assert!(refused.contains("encrypted connections only: use sslmode=require"), "{refused}");
        server.deck.stop();
    }
    let elsewhere = Served::with(&ours.issue("DNS:deck.example", EC));
    let refused = elsewhere.ask("verify-full", Some(&ca)).unwrap_err();
    assert!(refused.contains("does not match"), "of another host: {refused}");
    assert_eq!(elsewhere.ask("verify-ca", Some(&ca)), Ok("42".to_owned()));
    elsewhere.deck.stop();
}

#[test]
fn python_connects_encrypted_with_three_drivers() {
    if !store_is_built() {
        return;
    }
    let (Some(authority), Some(python)) = (Authority::new(), python()) else { return };
    let server = Served::with(&authority.issue("IP:127.0.0.1", RSA));
    let script = r#"
import asyncio, ssl, sys
import asyncpg, psycopg, psycopg2
port, password, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3]
login = dict(host="127.0.0.1", port=port, user="tapedeck", dbname="tapedeck", password=password, sslrootcert=ca)
for driver in (psycopg, psycopg2):
    # With channel binding: the password's exchange is bound to this certificate.
    for binding in ("prefer", "require"):
        connection = driver.connect(sslmode="verify-full", channel_binding=binding, **login)
        cursor = connection.cursor()
        cursor.execute("select 6 * 7")
        assert cursor.fetchone() == (42,)
        connection.close()
    try:
        driver.connect(sslmode="disable", **login)
        raise SystemExit("let in without encryption")
    except driver.OperationalError as error:
        assert "encrypted connections only" in str(error), error
async def run():
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["postgresql"])
    login = dict(host="127.0.0.1", port=port, user="tapedeck", database="tapedeck", password=password)
    # By asking first, and encrypted from the first byte, as PostgreSQL 17 allows.
    for direct in (False, True):
        connection = await asyncpg.connect(ssl=context, direct_tls=direct, **login)
        assert await connection.fetchval("select 6 * 7") == 42
        await connection.close()
asyncio.run(run())
"#;
    let mut command = Command::new(python);
    command.args(["-c", script, &server.port.to_string(), &server.password()]).arg(authority.path("ca.pem"));
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    server.deck.stop();
}

#[test]
fn a_pair_that_does_not_fit_makes_no_server_and_says_why_while_the_deck_records() {
    if !store_is_built() || !psql_is_there() {
        return;
    }
    let Some(authority) = Authority::new() else { return };
    let (cert, key) = authority.issue("IP:127.0.0.1", EC);
    let kept = authority.path("first.pem");
    std::fs::copy(&cert, &kept).unwrap();
    authority.issue("IP:127.0.0.1", EC);
    let missing = PathBuf::from("/nonexistent/cert.pem");
    for (cert, words) in [(&kept, "using tls_cert with tls_key"), (&missing, "reading /nonexistent/cert.pem")] {
        let served = serve(&format!("tls_cert = {cert:?}\ntls_key = {key:?}\n"));
        until(words, || served.deck.log().contains(words).then_some(()));
        assert!(std::net::TcpStream::connect(("127.0.0.1", served.port)).is_err(), "nobody listens in the clear");
        assert!(served.deck.status().running);
        served.deck.signal(Signal::TERM);
        assert!(served.deck.wait().0.success());
    }
    // Without a certificate nothing is encrypted, and a client that asks for it is told.
    let plain = serve("");
    plain.deck.until("SQL", |status| status.services.iter().any(is_ready));
    let refused = plain.ask("require", None).unwrap_err();
    assert!(refused.contains("server does not support SSL"), "{refused}");
    plain.deck.stop();
}
