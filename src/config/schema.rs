//! The JSON schema of the whole config file, and what the config itself asks of it: which keys a
//! table has, which of them are secret, and what a bare word from the command line must become.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Map, Value as Json, json};
use toml::{Table, Value};

use super::Sections;
use super::problem::Problem;
use super::secret::{looks_secret, may_be_secret};
use super::suggest::nearest;
use super::tree::Tree;
use crate::{sinks, sources};

/// What has kinds: `[source.<name>]` and `[sink.<name>]`.
pub const STAGES: [&str; 2] = ["source", "sink"];

/// Ending of a key that names a file with the secret in it.
pub const FILE_SUFFIX: &str = "_file";

/// The schema of the whole file, for editors: `tapedeck config schema`.
pub fn whole() -> &'static Json {
    static WHOLE: OnceLock<Json> = OnceLock::new();
    WHOLE.get_or_init(build)
}

fn build() -> Json {
    let mut root = schemars::schema_for!(Sections).to_value();
    // Those of sections; kinds see to theirs.
    for def in root["$defs"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(properties) = def.get_mut("properties").and_then(Json::as_object_mut) {
            add_secret_files(properties);
        }
    }
    for (stage, about) in STAGES.into_iter().zip([
        "Where events come from: one table a connection, `[source.<name>]`, with a `kind`.",
        "Where events go: one table a store, `[sink.<name>]`, with a `kind`.",
    ]) {
        let kinds: Vec<Json> = kinds(stage).into_iter().map(|kind| add_kind(&mut root, stage, kind)).collect();
        let any_kind = if kinds.is_empty() { json!(true) } else { json!({ "oneOf": kinds }) };
        root["properties"][stage] = json!({ "description": about, "type": "object", "additionalProperties": any_kind });
    }
    root["title"] = json!("tapedeck.toml");
    root
}

/// A kind as the schema and `tapedeck kinds` show it.
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    pub name: &'static str,
    pub about: &'static str,
    schema: fn() -> schemars::Schema,
}

/// The kinds of a stage.
#[must_use]
pub fn kinds(stage: &str) -> Vec<KindRow> {
    match stage {
        "source" => sources::KINDS
            .iter()
            .map(|kind| KindRow { name: kind.name, about: kind.about, schema: kind.schema })
            .collect(),
        "sink" => sinks::KINDS
            .iter()
            .map(|kind| KindRow { name: kind.name, about: kind.about, schema: kind.schema })
            .collect(),
        _ => Vec::new(),
    }
}

/// Puts the schema of a kind where the others refer to it; what refers to it is returned.
fn add_kind(root: &mut Json, stage: &str, kind: KindRow) -> Json {
    let own = def_name(stage, kind.name);
    let mut schema = (kind.schema)().to_value();
    prefix_refs(&mut schema, &own);
    if let Some(table) = schema.as_object_mut() {
        table.remove("$schema");
        if let Some(Json::Object(defs)) = table.remove("$defs") {
            for (name, def) in defs {
                root["$defs"][format!("{own}.{name}")] = def;
            }
        }
        if stage == "sink" {
            add_delivery(table);
        }
        table.insert("title".to_owned(), json!(format!("[{stage}.<name>] kind = \"{}\"", kind.name)));
        let properties = table.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            add_secret_files(properties);
            properties.insert("kind".to_owned(), json!({ "const": kind.name, "description": kind.about }));
        }
        let required = table.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.push(json!("kind"));
        }
    }
    root["$defs"][&own] = schema;
    json!({ "$ref": format!("#/$defs/{own}") })
}

/// Every sink has the keys of its delivery beside its own.
fn add_delivery(table: &mut Map<String, Json>) {
    let delivery = schemars::schema_for!(sinks::Delivery).to_value();
    let properties = table.entry("properties").or_insert_with(|| json!({}));
    if let (Some(own), Some(common)) = (properties.as_object_mut(), delivery["properties"].as_object()) {
        own.extend(common.iter().map(|(key, node)| (key.clone(), node.clone())));
    }
}

fn def_name(stage: &str, kind: &str) -> String {
    format!("{stage}.{kind}")
}

fn prefix_refs(schema: &mut Json, prefix: &str) {
    match schema {
        Json::Object(map) => {
            if let Some(Json::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}.{name}");
            }
            map.values_mut().for_each(|value| prefix_refs(value, prefix));
        }
        Json::Array(list) => list.iter_mut().for_each(|value| prefix_refs(value, prefix)),
        _ => {}
    }
}

/// Each secret may also be given as the name of a file that holds it.
fn add_secret_files(properties: &mut Map<String, Json>) {
    let secret: Vec<String> =
        properties.iter().filter(|(key, node)| is_secret(key, node)).map(|(key, _)| key.clone()).collect();
    for key in secret {
        properties.entry(format!("{key}{FILE_SUFFIX}")).or_insert_with(|| {
            json!({ "type": "string", "description": format!("File that holds `{key}`, read at start. Default: none.") })
        });
    }
}

fn is_secret(key: &str, node: &Json) -> bool {
    node.get("writeOnly").and_then(Json::as_bool).unwrap_or(false) || looks_secret(key)
}

/// A place in the schema.
#[derive(Clone, Copy, Debug)]
pub struct Node(&'static Json);

impl Node {
    /// The node of a path in a tree; the schema of a source or sink is found by its `kind`.
    #[must_use]
    pub fn at(tree: &Tree, path: &[&str]) -> Option<Node> {
        match path {
            [stage, name, rest @ ..] if STAGES.contains(stage) => {
                let kind = tree.get(&[stage, name, "kind"])?.as_str()?;
                rest.iter().try_fold(Node::kind(stage, kind)?, |node, key| node.child(key))
            }
            _ => path.iter().try_fold(Node(whole()), |node, key| node.child(key)),
        }
    }

    /// The table of a kind.
    #[must_use]
    pub fn kind(stage: &str, name: &str) -> Option<Node> {
        whole()["$defs"].get(def_name(stage, name)).map(Node)
    }

    #[must_use]
    pub fn child(self, key: &str) -> Option<Node> {
        let named = self.branches().find_map(|branch| branch.0.get("properties")?.get(key).map(Node));
        // A table whose keys are names of the user's own.
        let any = || {
            self.branches()
                .find_map(|branch| branch.0.get("additionalProperties").filter(|any| any.is_object()).map(Node))
        };
        named.or_else(any)
    }

    /// Names of all keys that a table may have.
    #[must_use]
    pub fn keys(self) -> Vec<&'static str> {
        let properties = self.branches().filter_map(|branch| branch.0.get("properties")?.as_object());
        properties.flat_map(|map| map.keys().map(String::as_str)).collect()
    }

    /// Keys that a table cannot do without, besides `kind`.
    #[must_use]
    pub fn required(self) -> Vec<&'static str> {
        let lists = self.branches().filter_map(|branch| branch.0.get("required")?.as_array());
        lists.flatten().filter_map(Json::as_str).filter(|key| *key != "kind").collect()
    }

    /// Keys that hold secrets.
    #[must_use]
    pub fn secrets(self) -> Vec<&'static str> {
        let secret = |key: &&str| self.child(key).is_some_and(|node| is_secret(key, node.0));
        self.keys().into_iter().filter(|key| secret(key)).collect()
    }

    /// Whether the value there, under a key of this name, is a secret.
    #[must_use]
    pub fn is_secret(self, key: &str) -> bool {
        is_secret(key, self.0)
    }

    /// What stands there when nobody says anything, where the schema tells.
    #[must_use]
    pub fn default(self) -> Option<&'static Json> {
        self.0.get("default")
    }

    /// The first line of its documentation.
    #[must_use]
    pub fn about(self) -> Option<&'static str> {
        self.0.get("description").and_then(Json::as_str)
    }

    /// Whether keys that it does not name are errors.
    fn closed(self) -> bool {
        self.branches().any(|branch| branch.0.get("additionalProperties") == Some(&Json::Bool(false)))
    }

    fn items(self) -> Option<Node> {
        self.branches().find_map(|branch| branch.0.get("items").map(Node))
    }

    /// Whether a value of this JSON type fits.
    fn accepts(self, name: &str) -> bool {
        self.branches().any(|Node(branch)| match branch.get("type") {
            Some(Json::String(one)) => one == name,
            Some(Json::Array(several)) => several.iter().any(|one| one == name),
            _ => {
                let constant = branch.get("const").into_iter();
                let listed = branch.get("enum").and_then(Json::as_array).into_iter().flatten();
                constant.chain(listed).any(|value| value.is_string() && name == "string")
            }
        })
    }

    /// The node itself behind its reference, and the alternatives it offers.
    fn branches(self) -> impl Iterator<Item = Node> {
        let mut found = Vec::new();
        let mut open = vec![self.0];
        while let Some(node) = open.pop() {
            // A schema that refers to itself would go round: ours are flat, the bound is for the rest.
            if found.len() >= 64 {
                break;
            }
            found.push(Node(node));
            if let Some(target) = node.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
                open.extend(whole().pointer(target));
            }
            for word in ["anyOf", "oneOf", "allOf"] {
                open.extend(node.get(word).and_then(Json::as_array).into_iter().flatten());
            }
        }
        found.into_iter()
    }
}

/// Whether the value at a path of the config can be no secret: its key is known and holds none, or it is unknown in a
/// table that takes none.
#[must_use]
pub fn is_plain(tree: &Tree, path: &[&str]) -> bool {
    let Some((key, table)) = path.split_last() else { return false };
    match (Node::at(tree, path), Node::at(tree, table)) {
        (Some(node), _) => !node.is_secret(key),
        (None, Some(table)) if path.len() > 1 => {
            !table.keys().is_empty() && table.secrets().is_empty() && !may_be_secret(key)
        }
        _ => false,
    }
}

/// Names of keys, over all tables of the schema: those that some table takes for a secret, and those that none does.
fn names() -> &'static (BTreeSet<String>, BTreeSet<String>) {
    static NAMES: OnceLock<(BTreeSet<String>, BTreeSet<String>)> = OnceLock::new();
    NAMES.get_or_init(|| {
        let (mut secret, mut all) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![whole()];
        while let Some(node) = open.pop() {
            if let Some(properties) = node.get("properties").and_then(Json::as_object) {
                for (key, node) in properties {
                    all.insert(key.clone());
                    if is_secret(key, node) {
                        secret.insert(key.clone());
                    }
                }
            }
            match node {
                Json::Object(map) => open.extend(map.values()),
                Json::Array(list) => open.extend(list),
                _ => {}
            }
        }
        let plain = all.difference(&secret).cloned().collect();
        (secret, plain)
    })
}

/// Whether some table takes a key of this name for a secret.
#[must_use]
pub fn is_secret_anywhere(name: &str) -> bool {
    names().0.contains(name)
}

/// Whether a key of this name exists, and is a secret nowhere: for a text that is no config yet, whose tables are not known.
#[must_use]
pub fn is_plain_everywhere(name: &str) -> bool {
    names().1.contains(name) && !may_be_secret(name)
}

/// Reads the text of `--set`, an environment variable or a secret file as what the key there takes:
/// a TOML value, a bare string, or a list with commas.
#[must_use]
pub fn coerce(raw: &str, node: Option<Node>) -> Value {
    let parsed = parse_value(raw);
    let bare = || Value::String(raw.to_owned());
    let Some(node) = node else { return parsed.unwrap_or_else(bare) };
    let (text, list) = (node.accepts("string"), node.accepts("array"));
    match parsed {
        Some(value @ (Value::String(_) | Value::Array(_) | Value::Table(_))) => value,
        // `--set source.k.api_key=12345`: digits, but a text.
        Some(_) if text && !node.accepts("integer") && !node.accepts("number") && !node.accepts("boolean") => bare(),
        Some(value) if !list => value,
        None if text || !list => bare(),
        _ => Value::Array(raw.split(',').map(|item| coerce(item.trim(), node.items())).collect()),
    }
}

fn parse_value(raw: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("v = {raw}")).ok()?;
    // A value that brings further keys along is not one value.
    (table.len() == 1).then(|| table.remove("v")).flatten()
}

/// Names every key that its table does not have, and the one that was probably meant.
pub fn check_keys(tree: &Tree, problems: &mut Vec<Problem>) {
    let sections = Node(whole()).keys();
    for (section, value) in tree.root() {
        if !sections.contains(&section.as_str()) {
            problems.push(unknown(tree, &[section], "table", &sections));
            continue;
        }
        match value.as_table() {
            None => {
                problems.push(tree.value_problem(&[section], format!("`{section}` is a table: write `[{section}]`")))
            }
            Some(named) if STAGES.contains(&section.as_str()) => check_named(tree, section, named, problems),
            Some(table) => {
                if let Some(node) = Node::at(tree, &[section]) {
                    check_table(tree, &mut vec![section], table, node, problems);
                }
            }
        }
    }
}

fn check_named(tree: &Tree, stage: &str, named: &Table, problems: &mut Vec<Problem>) {
    let kinds: Vec<&str> = kinds(stage).iter().map(|kind| kind.name).collect();
    for (name, value) in named {
        let Some(table) = value.as_table() else {
            let help = format!("write `[{stage}.{name}]` and below it its keys, or see `tapedeck init`");
            problems.push(tree.value_problem(&[stage, name], "is a value, not a table").help(help));
            continue;
        };
        let all = kinds.join(", ");
        match table.get("kind") {
            None => problems.push(
                tree.key_problem(&[stage, name], format!("which kind of {stage}? The key `kind` is missing"))
                    .help(format!("there are: {all}")),
            ),
            Some(Value::String(kind)) => match Node::kind(stage, kind) {
                Some(node) => check_table(tree, &mut vec![stage, name], table, node, problems),
                None => {
                    let help = match nearest(kind, kinds.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`? There are: {all}"),
                        None => format!("there are: {all}"),
                    };
                    let message = format!("there is no kind `{kind}`");
                    problems.push(tree.value_problem(&[stage, name, "kind"], message).help(help));
                }
            },
            Some(_) => problems.push(tree.value_problem(&[stage, name, "kind"], "is not a text")),
        }
    }
}

fn check_table<'a>(tree: &Tree, path: &mut Vec<&'a str>, table: &'a Table, node: Node, problems: &mut Vec<Problem>) {
    let keys = node.keys();
    for (key, value) in table {
        path.push(key);
        match node.child(key) {
            None if node.closed() => problems.push(unknown(tree, path, "key", &keys)),
            Some(child) if value.is_table() => {
                check_table(tree, path, value.as_table().unwrap_or(table), child, problems);
            }
            _ => {}
        }
        path.pop();
    }
}

fn unknown(tree: &Tree, path: &[&str], what: &str, known: &[&str]) -> Problem {
    let word = path.last().copied().unwrap_or_default();
    let mut known: Vec<&str> = known.to_vec();
    known.sort_unstable();
    let help = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    let mut problem = tree.key_problem(path, format!("unknown {what} `{word}`")).help(help);
    // The table is the subject; the word itself is in the sentence.
    problem.path.pop();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_becomes_what_its_key_takes() {
        let tree = Tree::default();
        let node = |path: &[&str]| Node::at(&tree, path);
        assert_eq!(coerce("./x", node(&["tape", "dir"])), Value::from("./x"));
        assert_eq!(coerce("2026", node(&["tape", "dir"])), Value::from("2026"), "a text stays one");
        assert_eq!(coerce("true", node(&["tape", "compress"])), Value::from(true));
        assert_eq!(coerce("[1, 2]", None), Value::Array(vec![Value::from(1), Value::from(2)]));
        assert_eq!(coerce("a = 1\nb = 2", None), Value::from("a = 1\nb = 2"));
    }

    #[test]
    fn every_key_is_documented_with_its_default() {
        for (section, node) in whole()["properties"].as_object().unwrap() {
            for key in Node(node).keys() {
                let about = Node(node).child(key).and_then(Node::about).unwrap_or_default();
                assert!(about.contains("Default"), "[{section}] {key}: {about:?}");
            }
        }
        for (stage, kind) in
            STAGES.into_iter().flat_map(|stage| kinds(stage).into_iter().map(move |kind| (stage, kind)))
        {
            let node = Node::kind(stage, kind.name).unwrap();
            for key in node.keys().into_iter().filter(|key| *key != "kind") {
                assert!(node.child(key).and_then(Node::about).is_some(), "{}: `{key}` has no documentation", kind.name);
            }
        }
    }
}
