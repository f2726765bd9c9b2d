//! `docs/coverage.md`: every promised feature has its row, and every row that claims something names its test.

use std::collections::BTreeMap;
use std::path::Path;

/// How many features each list has.
const LISTS: [(&str, usize); 6] = [("G", 18), ("S0.", 72), ("S1.", 111), ("S2.", 81), ("S3.", 92), ("S4.", 85)];

struct Row {
    number: String,
    state: String,
    shown_by: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/coverage.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    text.lines()
        .filter(|line| {
            let number = line.strip_prefix("| ").and_then(|rest| rest.split(" |").next()).unwrap_or_default();
            LISTS.iter().any(|(list, _)| number.strip_prefix(list).is_some_and(|n| n.parse::<usize>().is_ok()))
        })
        .map(|line| {
            let cells = cells(line);
            assert_eq!(cells.len(), 5, "{line}");
            Row { number: cells[0].clone(), state: cells[2].clone(), shown_by: cells[4].clone() }
        })
        .collect()
}

#[test]
fn no_feature_is_missing_or_named_twice() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows() {
        *counts.entry(row.number).or_default() += 1;
    }
    for (list, last) in LISTS {
        for n in 1..=last {
            assert_eq!(counts.remove(&format!("{list}{n}")), Some(1), "{list}{n}");
        }
    }
    assert!(counts.is_empty(), "not features: {counts:?}");
}

#[test]
fn every_state_is_one_of_four_words() {
    for row in rows() {
        let known = ["kept", "beaten", "left"].contains(&row.state.as_str()) || row.state.starts_with("planned: ");
        assert!(known, "{}: `{}`", row.number, row.state);
    }
}

#[test]
fn what_is_claimed_is_shown_by_test_modules_that_all_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in rows().into_iter().filter(|row| ["kept", "beaten"].contains(&row.state.as_str())) {
        let shown: Vec<&str> = row.shown_by.split([',', ';']).map(str::trim).collect();
        let exists = |name: &str| {
            let Some((place, module)) = name.split_once(": ") else { return false };
            let module = module.trim_matches('`');
            match place {
                "it" => root.join(format!("tests/it/{module}.rs")).exists(),
                "tape" | "market" | "testkit" => {
                    let folder = root.join("crates").join(place);
                    ["src", "tests"].iter().any(|part| {
                        folder.join(part).join(format!("{module}.rs")).exists()
                            || folder.join(part).join(module).is_dir()
                    })
                }
                "lib" => root.join(format!("src/{module}.rs")).exists() || root.join("src").join(module).is_dir(),
                _ => false,
            }
        };
        for name in shown {
            assert!(exists(name), "{}: no such test: `{name}`", row.number);
        }
    }
}
