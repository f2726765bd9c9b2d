//! The sync from end to end: the program, a real QuestDB, a real PocketBase.

mod changes;
mod deck;
mod follow;
mod init;
mod kill;
mod loads;
mod lost;
mod stocks;
mod troubles;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::servers::{Options, PocketBase, Questdb};
use crate::support::{tapedeck, until};

/// Two servers and a config between them.
struct Rig {
    home: tempfile::TempDir,
    quest: Questdb,
    pocket: PocketBase,
}

impl Rig {
    #[track_caller]
    fn new(tables: &str) -> Option<Rig> {
        // Parts of the transaction log, or it tells no ranges.
        let quest = Questdb::private_with(&Options {
            settings: &["cairo.default.sequencer.part.txn.count=100000"],
            ..Options::default()
        })?;
        let pocket = PocketBase::private_with(&Options {
            settings: &["batch.enabled=true", "batch.maxRequests=200"],
            ..Options::default()
        })?;
        let rig = Rig { home: tempfile::tempdir().unwrap(), quest, pocket };
        rig.configure(tables);
        Some(rig)
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("tapedeck.toml")
    }

    fn configure(&self, tables: &str) {
        let text = format!(
            "[tape]\ndir = {:?}\n[sync]\npoll = \"200ms\"\nretry = \"100ms\"\n[sync.source]\nurl = \"{}\"\n\
             [sync.target]\nurl = \"{}\"\nemail = \"{}\"\npassword = \"{}\"\n{tables}",
            self.home.path().join("tape"),
            self.quest.dsn(),
            self.pocket.url(),
            self.pocket.email(),
            self.pocket.password(),
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tapedeck();
        command.arg("sync").args(args).arg("-c").arg(self.config()).stdin(Stdio::null());
        command
    }

    fn try_sync(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a verb that must end well.
    #[track_caller]
    fn sync(&self, args: &[&str]) -> String {
        let output = self.try_sync(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "sync {args:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.sync(&[args, &["--json"]].concat())).unwrap()
    }

    /// A statement, and its effect.
    #[track_caller]
    fn run(&self, sql: &str) {
        super::source::run(&self.quest, sql);
    }

    /// Lines, and their effect.
    #[track_caller]
    fn write(&self, lines: &str) {
        let reply = self.quest.write(lines);
        assert_eq!(reply.status, 204, "{}", reply.body);
        super::source::applied(&self.quest);
    }

    /// Rows at the source.
    fn rows(&self, table: &str) -> u64 {
        self.quest.query(&format!("SELECT count() FROM {table}"))[0][0].as_u64().unwrap()
    }

    fn count(&self, collection: &str) -> u64 {
        let path = format!("/api/collections/{collection}/records?perPage=1&fields=id");
        self.pocket.call("GET", &path, &json!(null))["totalItems"].as_u64().unwrap()
    }

    fn records(&self, collection: &str, filter: &str) -> Vec<Value> {
        let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let path = format!("/api/collections/{collection}/records?perPage=1000&skipTotal=1&filter={filter}");
        self.pocket.call("GET", &path, &json!(null))["items"].as_array().unwrap().clone()
    }

    /// Batches that the target has seen, by its own log, once that log has come to `least`.
    fn batches(&self, least: u64) -> u64 {
        until("the log of the target", || {
            let path = "/api/logs?perPage=1&filter=data.url%3D'%2Fapi%2Fbatch'";
            let seen = self.pocket.call("GET", path, &json!(null))["totalItems"].as_u64().unwrap();
            (seen >= least).then_some(seen)
        })
    }
}
