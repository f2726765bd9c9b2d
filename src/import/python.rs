//! The assignments of a Python file, as far as they can be read without running it.
//!
//! - A key of such a file is what is assigned outside of functions, to an attribute of `self`, or under a name that the
//!   caller knows, which also counts as a parameter with a default. Other names within functions are the program's own.
//! - Each key has a value or the reason why it has none. Nothing is guessed: what is computed has no value.

use anyhow::bail;
use serde_json::{Number, Value};

/// Expressions are read so many levels deep.
const DEEPEST: usize = 16;
/// What begins a statement that another may follow on its line.
const HEADS: [&str; 10] = ["if", "elif", "else", "for", "while", "with", "try", "except", "finally", "class"];
/// Functions that make a number of a text.
const NUMBERS: [&str; 2] = ["int", "float"];
/// Functions that leave a text as it is.
const TEXTS: [&str; 3] = ["str", "Path", "pathlib.Path"];
const GETENV: [&str; 4] = ["os.getenv", "os.environ.get", "getenv", "environ.get"];
const ENVIRON: [&str; 2] = ["os.environ", "environ"];

/// A key, and what is assigned to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    /// `self.batch_size`; an entry of a table as `CONFIG.batch_size`.
    pub(super) name: String,
    pub(super) value: Result<Value, Unread>,
}

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is no text or number that is written out.
    Computed,
    /// It comes from this variable of the environment, and nothing is said for when that is not set.
    Variable(String),
}

/// Every key of a file, in its order; one that is assigned twice is there twice.
///
/// # Errors
/// A bracket is never closed: what follows it cannot be told apart.
pub(super) fn assignments(text: &str, knows: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Assignment>> {
    let mut kept = Vec::new();
    // How far the functions are indented that a statement is in.
    let mut functions: Vec<usize> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for statement in statements(text)? {
        // A blank line within a function does not end it.
        if statement.trim().is_empty() {
            continue;
        }
        let indent = statement.len() - statement.trim_start().len();
        functions.retain(|of| *of < indent);
        let statement = simple(statement.trim());
        let mut found = Vec::new();
        let parameters = parameters(statement);
        for part in parameters.clone().unwrap_or_else(|| vec![statement]) {
            let Some((targets, value)) = sides(part) else { continue };
            for target in targets {
                assign(target, value, 0, &mut found);
            }
        }
        let open = functions.is_empty() && parameters.is_none();
        let own = |name: &str| parameters.is_none() && name.starts_with("self.");
        kept.extend(found.into_iter().filter(|one| open || own(&one.name) || knows(&one.name)));
        if parameters.is_some() {
            functions.push(indent);
        }
    }
    Ok(kept)
}

/// Statements with their indentation and without comments; one over several lines is one.
fn statements(text: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut current = String::new();
    // Lines where brackets were opened that are still open.
    let mut open: Vec<usize> = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let mut step = c.len_utf8();
        match c {
            '#' => step = rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                step = string_len(rest).unwrap_or(step);
                current.push_str(&rest[..step]);
            }
            '\\' if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") => {
                step = rest.find('\n').map_or(step, |end| end + 1);
                current.push(' ');
            }
            '\n' if open.is_empty() => found.push(std::mem::take(&mut current)),
            ';' if open.is_empty() => {
                // The next one stands as deep as this one.
                let indent = current.len() - current.trim_start().len();
                found.push(std::mem::replace(&mut current, " ".repeat(indent)));
            }
            '\n' | '\r' => current.push(' '),
            c => {
                match c {
                    '(' | '[' | '{' => open.push(line),
                    ')' | ']' | '}' => {
                        open.pop();
                    }
                    _ => {}
                }
                current.push(c);
            }
        }
        line += rest[..step].matches('\n').count();
        at += step;
    }
    if let Some(line) = open.first() {
        bail!("a bracket of line {line} is never closed");
    }
    found.push(current);
    Ok(found)
}

/// Bytes of the string that a text begins with, quotes included; `None`: it begins with none, or the string never ends.
fn string_len(text: &str) -> Option<usize> {
    let end = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| text.starts_with(quotes))?;
    let mut at = end.len();
    loop {
        let rest = &text[at..];
        if rest.starts_with(end) {
            return Some(at + end.len());
        }
        let mut chars = rest.chars();
        match chars.next()? {
            '\n' if end.len() == 1 => return None,
            '\\' => at += 1 + chars.next()?.len_utf8(),
            c => at += c.len_utf8(),
        }
    }
}

/// The characters that stand outside of brackets and strings, with their places.
fn outside(text: &str) -> Vec<(usize, char)> {
    let mut found = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            c if depth == 0 && !matches!(c, '"' | '\'') => found.push((at, c)),
            _ => {}
        }
        at += string_len(&text[at..]).unwrap_or(c.len_utf8());
    }
    found
}

/// The parts between a character that stands outside of brackets and strings.
fn split(text: &str, by: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, _) in outside(text).into_iter().filter(|(_, c)| *c == by) {
        parts.push(text[from..at].trim());
        from = at + by.len_utf8();
    }
    parts.push(text[from..].trim());
    parts
}

/// What the bracket holds that a text begins with, and what follows it.
fn bracket(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with(['(', '[', '{']) {
        return None;
    }
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 1 => return Some((&text[1..at], text[at + 1..].trim())),
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        at += string_len(&text[at..]).unwrap_or(c.len_utf8());
    }
    None
}

/// What stands behind `if …:` on its line; a statement without such a head as it is.
fn simple(text: &str) -> &str {
    let mut text = text;
    loop {
        let word = text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        if !HEADS.contains(&word) {
            return text;
        }
        match outside(text).into_iter().find(|(_, c)| *c == ':') {
            Some((at, _)) => text = text[at + 1..].trim(),
            None => return "",
        }
    }
}

/// The parameters of a function that begins here.
fn parameters(text: &str) -> Option<Vec<&str>> {
    let text = text.strip_prefix("async ").unwrap_or(text).trim_start().strip_prefix("def ")?;
    let inner = text.find('(').and_then(|at| bracket(&text[at..])).map_or("", |(inner, _)| inner);
    Some(split(inner, ','))
}

/// Targets and value of an assignment; `None`: the statement is none.
fn sides(text: &str) -> Option<(Vec<&str>, &str)> {
    let bytes = text.as_bytes();
    let mut targets = Vec::new();
    let mut from = 0;
    for (at, _) in outside(text).into_iter().filter(|(_, c)| *c == '=') {
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        if bytes.get(at + 1) == Some(&b'=') || b"=!<>:".contains(&before) {
            continue;
        }
        let target = &text[from..at];
        if b"+-*/%&|^@".contains(&before) {
            // `x += 1`: its value is not what stands here, and the whole statement is no value.
            targets.push(target.trim_end_matches(|c: char| "+-*/%&|^@".contains(c)).trim());
            return Some((targets, text));
        }
        targets.push(target.trim());
        from = at + 1;
    }
    (!targets.is_empty()).then(|| (targets, text[from..].trim()))
}

/// Notes what one side says of the other: one name, several with commas, or the entries of a table.
fn assign(target: &str, value: &str, depth: usize, found: &mut Vec<Assignment>) {
    // `name: int = 5`
    let target = split(target, ':')[0];
    let target = bracket(target).filter(|(_, rest)| rest.is_empty()).map_or(target, |(inner, _)| inner);
    let names = split(target, ',');
    let values = split(value, ',');
    for (n, target) in names.iter().enumerate() {
        let Some(name) = name_of(target) else { continue };
        if names.len() == 1 {
            one(name, value, depth, found);
        } else if names.len() == values.len() {
            one(name, values[n], depth, found);
        } else {
            found.push(Assignment { name, value: Err(Unread::Computed) });
        }
    }
}

fn one(name: String, value: &str, depth: usize, found: &mut Vec<Assignment>) {
    match entries(value).filter(|entries| depth < DEEPEST && !entries.is_empty()) {
        Some(entries) => {
            for (key, value) in entries {
                one(format!("{name}.{key}"), value, depth + 1, found);
            }
        }
        None => found.push(Assignment { name, value: read(value, 0) }),
    }
}

/// `name`, `self.name`, and `table["name"]` as `table.name`.
fn name_of(target: &str) -> Option<String> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    };
    if plain(target) {
        return Some(target.to_owned());
    }
    let at = target.find('[')?;
    let table = target[..at].trim();
    let (key, rest) = bracket(&target[at..])?;
    if !plain(table) || !rest.is_empty() {
        return None;
    }
    Some(format!("{table}.{}", string(key)?))
}

/// The entries of a table with texts as keys: `{"a": 1}`.
fn entries(text: &str) -> Option<Vec<(String, &str)>> {
    let (inner, rest) = bracket(text).filter(|_| text.starts_with('{'))?;
    if !rest.is_empty() {
        return None;
    }
    split(inner, ',').into_iter().filter(|part| !part.is_empty()).map(entry).collect()
}

fn entry(part: &str) -> Option<(String, &str)> {
    let (at, _) = outside(part).into_iter().find(|(_, c)| *c == ':')?;
    Some((string(&part[..at])?, part[at + 1..].trim()))
}

/// The value of an expression.
fn read(text: &str, depth: usize) -> Result<Value, Unread> {
    let text = text.trim();
    match text {
        "True" => return Ok(true.into()),
        "False" => return Ok(false.into()),
        "None" => return Ok(Value::Null),
        _ if depth > DEEPEST => return Err(Unread::Computed),
        _ => {}
    }
    if let Some(string) = string(text) {
        return Ok(string.into());
    }
    if let Some(number) = number(text) {
        return Ok(Value::Number(number));
    }
    if let Some((first, other)) = either(text) {
        return match read(first, depth + 1) {
            Err(Unread::Variable(variable)) => read(other, depth + 1).map_err(|_| Unread::Variable(variable)),
            _ => Err(Unread::Computed),
        };
    }
    let at = text.find(['(', '[']).ok_or(Unread::Computed)?;
    let (function, called) = (text[..at].trim(), text[at..].starts_with('('));
    let inner = match bracket(&text[at..]) {
        Some((inner, "")) => inner,
        _ => return Err(Unread::Computed),
    };
    let mut words = split(inner, ',');
    words.retain(|word| !word.is_empty());
    if !called {
        let variable = variable(inner).filter(|_| ENVIRON.contains(&function));
        return Err(variable.map_or(Unread::Computed, Unread::Variable));
    }
    match words.as_slice() {
        [name, rest @ ..] if GETENV.contains(&function) => {
            let variable = variable(name).ok_or(Unread::Computed)?;
            let default = rest.first().copied().map(|word: &str| {
                let named = word.strip_prefix("default").and_then(|word| word.trim_start().strip_prefix('='));
                read(named.unwrap_or(word), depth + 1)
            });
            match default {
                Some(Ok(value)) if !value.is_null() && value != "" => Ok(value),
                _ => Err(Unread::Variable(variable)),
            }
        }
        [word] if function.is_empty() || TEXTS.contains(&function) => read(word, depth + 1),
        [word] if NUMBERS.contains(&function) => match read(word, depth + 1)? {
            Value::String(text) => number(text.trim()).map(Value::Number).ok_or(Unread::Computed),
            value => Ok(value),
        },
        _ => Err(Unread::Computed),
    }
}

/// The two sides of `a or b`.
fn either(text: &str) -> Option<(&str, &str)> {
    let chars = outside(text);
    let is_or = |word: &&[(usize, char)]| word.iter().map(|(_, c)| *c).eq(" or ".chars());
    let word = chars.windows(4).filter(is_or).find(|word| word[3].0 - word[0].0 == 3)?;
    Some((&text[..word[0].0], &text[word[3].0..]))
}

/// The name of a variable of the environment.
fn variable(text: &str) -> Option<String> {
    string(text).filter(|name| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// A text in quotes, or several that Python puts together; `None`: it is none, or has expressions in it.
fn string(text: &str) -> Option<String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut whole = String::new();
    while !rest.is_empty() {
        let open = rest.find(['"', '\''])?;
        let prefix = rest[..open].to_ascii_lowercase();
        if !matches!(prefix.as_str(), "" | "r" | "u" | "f" | "fr" | "rf") {
            return None;
        }
        let quoted = &rest[open..open + string_len(&rest[open..])?];
        let quotes = if quoted.starts_with("\"\"\"") || quoted.starts_with("'''") { 3 } else { 1 };
        let inner = &quoted[quotes..quoted.len() - quotes];
        if prefix.contains('f') && inner.contains(['{', '}']) {
            return None;
        }
        if prefix.contains('r') {
            whole.push_str(inner);
        } else {
            whole.push_str(&unescaped(inner)?);
        }
        rest = rest[open + quoted.len()..].trim_start();
    }
    Some(whole)
}

/// `None`: it has an escape that is not read here.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next()? {
            '\n' => {}
            c @ ('\\' | '\'' | '"') => plain.push(c),
            'n' => plain.push('\n'),
            't' => plain.push('\t'),
            'a' | 'b' | 'f' | 'r' | 'v' | 'x' | 'u' | 'U' | 'N' | '0'..='7' => return None,
            c => plain.extend(['\\', c]),
        }
    }
    Some(plain)
}

/// A number as Python writes it: `1_000`, `-1`, `0.5`.
fn number(text: &str) -> Option<Number> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let known = bytes.iter().all(|b| b.is_ascii_digit() || b"_.eE+-".contains(b));
    // An underscore stands between two digits.
    let parted = text.match_indices('_').all(|(at, _)| at > 0 && digit(at - 1) && digit(at + 1));
    if !known || !parted || !bytes.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let plain = text.replace('_', "");
    match plain.parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => Number::from_f64(plain.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn found(text: &str) -> Vec<(String, Result<Value, Unread>)> {
        let knows = |name: &str| name.rsplit('.').next().is_some_and(|bare| bare.eq_ignore_ascii_case("batch_size"));
        assignments(text, knows).expect(text).into_iter().map(|one| (one.name, one.value)).collect()
    }

    #[test]
    fn every_way_to_write_a_value_is_read_or_has_its_reason() {
        let variable = |name: &str| Err(Unread::Variable(name.to_owned()));
        for (text, value) in [
            ("\"/x/#y.db\"  # there", Ok(json!("/x/#y.db"))),
            ("'a' \"b\"", Ok(json!("ab"))),
            ("('a'\n  'b')", Ok(json!("ab"))),
            ("r'C:\\new'", Ok(json!("C:\\new"))),
            ("'C:\\data\\'s'", Ok(json!("C:\\data's"))),
            ("\"\"\"a\n=b\"\"\"", Ok(json!("a\n=b"))),
            ("f'{BASE}/x'", Err(Unread::Computed)),
            ("'\\x41'", Err(Unread::Computed)),
            ("'a' + 'b'", Err(Unread::Computed)),
            ("1_000", Ok(json!(1000))),
            ("1__000", Err(Unread::Computed)),
            ("_1", Err(Unread::Computed)),
            ("-1", Ok(json!(-1))),
            ("0.5", Ok(json!(0.5))),
            ("60 * 5", Err(Unread::Computed)),
            ("True", Ok(json!(true))),
            ("None", Ok(Value::Null)),
            ("MAX", Err(Unread::Computed)),
            ("os.getenv(\"X\", \"/data/q.db\")", Ok(json!("/data/q.db"))),
            ("os.environ.get('X', default='d',)", Ok(json!("d"))),
            ("int(os.getenv('X', '1_000'))", Ok(json!(1000))),
            ("float(os.environ.get('X', 0.5))", Ok(json!(0.5))),
            ("int('many')", Err(Unread::Computed)),
            ("os.getenv('X') or 'd'", Ok(json!("d"))),
            ("os.getenv('X')", variable("X")),
            ("os.getenv('X', '')", variable("X")),
            ("os.getenv('X', None)", variable("X")),
            ("os.getenv('X', DEFAULT)", variable("X")),
            ("int(os.environ['X'])", variable("X")),
            ("os.getenv('a b')", Err(Unread::Computed)),
            ("os.getenv(NAME, 'd')", Err(Unread::Computed)),
            ("load('x', 'y')", Err(Unread::Computed)),
            ("[1, 2]", Err(Unread::Computed)),
            ("{}", Err(Unread::Computed)),
        ] {
            assert_eq!(found(&format!("X = {text}\n")), [("X".to_owned(), value)], "{text}");
        }
        let deep = format!("X = {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(found(&deep), [("X".to_owned(), Err(Unread::Computed))]);
    }

    #[test]
    fn every_way_to_assign_is_seen() {
        let five = |name: &str| -> (String, Result<Value, Unread>) { (name.to_owned(), Ok(json!(5))) };
        for (text, names) in [
            ("a: int = 5", vec!["a"]),
            ("a = b = 5", vec!["a", "b"]),
            ("a, b = 5, 5", vec!["a", "b"]),
            ("a = 5; b = 5", vec!["a", "b"]),
            ("a = \\\n  5", vec!["a"]),
            ("if x == 1: a = 5\nelse: b = 5", vec!["a", "b"]),
            ("class A:\n    a = 5\n    b: 'x' = 5", vec!["a", "b"]),
            ("c['a'] = 5", vec!["c.a"]),
            ("c = {'a': 5, \"b\": {'d': 5,},}", vec!["c.a", "c.b.d"]),
            ("def f():\n    a = 5\n\n# x\n    b = 5\n\nc = 5", vec!["c"]),
            ("\u{feff}a = 5", vec!["a"]),
            (
                "def f(batch_size: int = 5, other=5):\n    a = 5\n    self.b = 5\n    BATCH_SIZE = 5\nd = 5",
                vec!["batch_size", "self.b", "BATCH_SIZE", "d"],
            ),
            ("print(a=5)\nassert a == 5\na <= 5\n'''\na = 5\n'''\n# a = 5\nreturn x", vec![]),
        ] {
            assert_eq!(found(text), names.into_iter().map(five).collect::<Vec<_>>(), "{text}");
        }
        assert_eq!(found("a += 5\nb, c = f()").iter().filter(|(_, value)| value.is_err()).count(), 3);
        let error = assignments("a = 5\nb = (1,\nc = 2\n", |_| false).expect_err("open");
        assert_eq!(error.to_string(), "a bracket of line 2 is never closed");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>(), code in "[a-z=:;,.()\\[\\]{}'\"\\\\#\n 0-9_+ü]{0,60}") {
            let _ = assignments(&text, |_| true);
            let _ = assignments(&code, |_| true);
            let _ = assignments(&format!("x = {code}"), |_| true);
        }

        #[test]
        fn every_assignment_of_a_file_is_found_whatever_its_value_is(
            values in prop::collection::vec(
                prop::sample::select(vec![
                    "5", "1_000", "'a'", "\"it's # one\"", "MAX", "f(x)[1]", "os.getenv('X')", "os.getenv('X', 'd')", "None", "a if b else c",
                    "lambda: 5", "[1,\n 2]", "not x", "'''a\nb = 5'''", "x == 5", "-1", "0.5  # words",
                ]),
                0..12,
            ),
        ) {
            let text: String = values.iter().enumerate().map(|(n, value)| format!("KEY_{n} = {value}\n")).collect();
            let names: Vec<String> = found(&text).into_iter().map(|(name, _)| name).collect();
            let wanted: Vec<String> = (0..values.len()).map(|n| format!("KEY_{n}")).collect();
            prop_assert_eq!(names, wanted);
        }
    }
}
