//! `docs/keys.md`: every table and key of the config, as the schema has them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::schema::{Node, STAGES, kinds, whole};

/// Tables within tables: `[server.NAME.env]` is the deepest.
const DEEPEST: usize = 4;

/// The whole file, in Markdown.
#[must_use]
pub fn document() -> String {
    let mut text = "# Every key\n\n\
        All tables of `tapedeck.toml` with their keys, made from the code: `tapedeck config keys` prints it, and\n\
        `UPDATE_GOLDEN=1 cargo test -p tapedeck --test it -- examples::` writes it anew. What the tables are for is told in\n\
        [configuration](configuration.md), [sinks](sinks.md) and the pages of the venues. `NAME` is one of your own. A key that\n\
        holds a secret may be given as `<key>_file`, too, which is not repeated here.\n"
        .to_owned();
    let sections = whole()["properties"].as_object();
    let sections = sections.into_iter().flatten().filter(|(name, _)| !STAGES.contains(&name.as_str()));
    for (name, _) in sections {
        let Some(node) = Node::at(&Default::default(), &[name]) else { continue };
        match node.keys().is_empty() {
            // Its keys are names of the user's.
            true => table(&mut text, &format!("{name}.NAME"), node.child("NAME").unwrap_or(node), node.about(), 1),
            false => table(&mut text, name, node, node.about(), 1),
        }
    }
    for stage in STAGES {
        for kind in kinds(stage) {
            let Some(node) = Node::kind(stage, kind.name) else { continue };
            let _ = write!(text, "\n## `[{stage}.NAME]`, `kind = \"{}\"`\n\n{}\n", kind.name, sentence(kind.about));
            keys(&mut text, &format!("{stage}.NAME"), node, 1);
        }
    }
    text
}

fn table(text: &mut String, name: &str, node: Node, about: Option<&str>, depth: usize) {
    let _ = write!(text, "\n{} `[{name}]`\n", "#".repeat(depth + 1));
    if let Some(about) = about {
        let _ = write!(text, "\n{}\n", sentence(about));
    }
    keys(text, name, node, depth);
}

fn keys(text: &mut String, name: &str, node: Node, depth: usize) {
    let all: BTreeSet<&str> = node.keys().into_iter().collect();
    let secrets = node.secrets();
    let files: BTreeSet<String> = secrets.iter().map(|key| format!("{key}{}", super::schema::FILE_SUFFIX)).collect();
    let shown = all.iter().filter(|key| **key != "kind" && !files.contains(**key));
    text.push_str("\n| key | what it says |\n|---|---|\n");
    let mut below = Vec::new();
    for key in shown {
        let Some(child) = node.child(key) else { continue };
        let about = child.about().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let secret = if secrets.contains(key) { " A secret." } else { "" };
        let _ = writeln!(text, "| `{key}` | {}{secret} |", about.replace('|', "\\|"));
        // Tables that the user names, or one.
        let named = child.child("NAME").filter(|named| child.keys().is_empty() && !named.keys().is_empty());
        if depth < DEEPEST && (named.is_some() || !child.keys().is_empty()) {
            let ending = if named.is_some() { ".NAME" } else { "" };
            below.push((format!("{name}.{key}{ending}"), named.unwrap_or(child)));
        }
    }
    for (name, child) in below {
        table(text, &name, child, None, depth + 1);
    }
}

fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.ends_with(['.', ':']) { text } else { format!("{text}.") }
}
