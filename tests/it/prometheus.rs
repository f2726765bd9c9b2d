//! The rules for Prometheus, by its own checker, and beside the document of the metrics.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tapedeck::http::metrics;

use crate::support::skipped;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

#[test]
fn promtool_finds_nothing_wrong_and_every_rule_fires_for_its_cause() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/promtool");
    let found = Command::new(script).output().unwrap();
    if !found.status.success() {
        skipped(&format!("no promtool: {}", String::from_utf8_lossy(&found.stderr)));
        return;
    }
    let promtool = String::from_utf8(found.stdout).unwrap();
    for args in [["check", "rules", "tapedeck.rules.yml"], ["test", "rules", "tapedeck.rules.test.yml"]] {
        let out = Command::new(promtool.trim()).args(args).current_dir(folder()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(out.status.success(), "{args:?}: {}{}", text(&out.stdout), text(&out.stderr));
    }
}

#[test]
fn a_rule_names_only_metrics_that_exist_and_has_tests_for_and_against_it() {
    let rules = std::fs::read_to_string(folder().join("tapedeck.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(folder().join("tapedeck.rules.test.yml")).unwrap();
    let known: BTreeSet<String> = metrics::all().map(metrics::Family::full_name).collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    // The file's own text says `tapedeck` too, without a metric behind it.
    let named: BTreeSet<&str> = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(word))
        .filter(|w| w.starts_with("tapedeck_"))
        .collect();
    assert!(named.len() >= 12, "{named:?}");
    for name in named {
        assert!(known.contains(name), "{name} is no metric");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in alerts {
        let of: Vec<&str> =
            tests.split("  - interval:").filter(|test| test.contains(&format!("alertname: {alert}\n"))).collect();
        let fires = of.iter().filter(|test| test.contains("exp_alerts")).count();
        assert!(fires >= 1 && of.len() > fires, "{alert}: {fires} of {} tests expect it", of.len());
    }
}
