//! `/query`: what clients ask on connecting is answered here, the rest by the InfluxDB behind, if there is one.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tapedeck_market::UnixNanos;
use tokio::sync::oneshot;

use super::access::{self, Params};
use super::answer::{Dialect, Refusal, json_text, version_headers};
use super::body;
use crate::config::secret::mask_urls;
use crate::inlet::{Inlet, Reach};
use crate::sources::http::{Batch, Door, Upstream};

/// A query with its parameters.
const FORM_BYTES: usize = 1 << 20;
const NO_INFLUX: &str = "this deck records points and has no InfluxDB behind it: set `influx = \"http://…\"` in its \
                         `[source.NAME]` to have queries passed on, or read the points with `tapedeck tail --kind point`";

const ONLY_READS: &str = "this deck asks nobody who he is and lends its own credentials, so it passes on only SELECT, SHOW and \
                          EXPLAIN, without INTO and comments: set `user` and `password` (or `token`) in its `[source.NAME]` \
                          for the rest";

pub(super) async fn query(State(inlet): State<Inlet>, request: Request) -> Response {
    match answered(&inlet, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(Dialect::V1),
    }
}

async fn answered(inlet: &Inlet, request: Request) -> Result<Response, Refusal> {
    let door = match inlet.reach() {
        Reach::Open(door) => door,
        Reach::Away => return Err(Refusal::Away),
        Reach::Nobody => return Err(Refusal::Nobody),
    };
    let (head, form) = request.into_parts();
    let mut params = Params::of(head.uri.query().unwrap_or_default().as_bytes());
    access::check(&door, &head.headers, &params)?;
    if head.method == Method::POST {
        let form = body::read(&head.headers, form, FORM_BYTES, door.bodies()).await?;
        params.0.extend(Params::of(&form.bytes).0);
    }
    let asked = params.get("q").to_owned();
    if asked.trim().is_empty() {
        return Err(Refusal::Invalid("missing required parameter \"q\"".to_owned()));
    }
    let statements: Vec<Statement> = statements(&asked).into_iter().map(statement).collect();
    if let Some(upstream) = door.upstream()
        && statements.iter().any(Statement::is_for_influx)
    {
        // Whoever reaches an open door would act with the deck's own password there.
        let lent = door.credentials().is_open() && upstream.has_credentials();
        if lent && !params.0.iter().filter(|(key, _)| key == "q").all(|(_, query)| only_reads(query)) {
            return Err(Refusal::Forbidden(ONLY_READS));
        }
        return pass_on(&door, upstream, &head.headers, head.method, params).await;
    }
    let mut results = Vec::new();
    for (id, statement) in statements.into_iter().enumerate() {
        results.push(result(&door, id, statement).await?);
    }
    let answer = json!({ "results": results });
    let pretty = params.get("pretty") == "true";
    let text = if pretty { serde_json::to_string_pretty(&answer) } else { serde_json::to_string(&answer) };
    let text = text.map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(json_text(StatusCode::OK, text + "\n"))
}

async fn result(door: &Door, id: usize, statement: Statement) -> Result<Value, Refusal> {
    Ok(match statement {
        Statement::CreateDatabase(name) => {
            create(door, &name).await?;
            json!({ "statement_id": id })
        }
        Statement::ShowDatabases => {
            let mut series = json!({ "name": "databases", "columns": ["name"] });
            let names: Vec<[String; 1]> = door.databases().into_iter().map(|name| [name]).collect();
            if !names.is_empty() {
                series["values"] = json!(names);
            }
            json!({ "statement_id": id, "series": [series] })
        }
        Statement::ShowRetentionPolicies => {
            // The one policy there is: the tape's own.
            let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
            let policy = json!(["autogen", "0s", "168h0m0s", 1, true]);
            json!({ "statement_id": id, "series": [{ "columns": columns, "values": [policy] }] })
        }
        Statement::Other => json!({ "statement_id": id, "error": NO_INFLUX }),
    })
}

/// Keeps the name on the tape: a database that was created is there after a restart.
async fn create(door: &Door, name: &str) -> Result<(), Refusal> {
    let ts_recv = UnixNanos::now();
    let Some(event) = door.note_database(name, ts_recv) else { return Ok(()) };
    let (durable, confirmed) = oneshot::channel();
    let batch = Batch { events: vec![event], bytes: name.len(), ts_recv, rejects: Vec::new(), durable };
    door.send(batch).await.map_err(|_| Refusal::Away)?;
    confirmed.await.map_err(|_| Refusal::Away).map(drop)
}

/// Sends the query on and hands back what comes, as it comes.
async fn pass_on(
    door: &Door,
    upstream: &Upstream,
    headers: &HeaderMap,
    method: Method,
    mut params: Params,
) -> Result<Response, Refusal> {
    // Whoever proved himself to us did so with our password: it is none of the other server's business.
    let theirs = door.credentials().is_open() && !upstream.has_credentials();
    if !theirs {
        params.0.retain(|(key, _)| key != "u" && key != "p");
    }
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&params.0).finish();
    let mut request = if method == Method::POST {
        let form_type = "application/x-www-form-urlencoded";
        upstream.request(Method::POST, "query", None).header(header::CONTENT_TYPE, form_type).body(form)
    } else {
        upstream.request(Method::GET, "query", Some(&form))
    };
    for name in [header::ACCEPT, header::AUTHORIZATION] {
        if let Some(value) = headers.get(&name)
            && (theirs || name != header::AUTHORIZATION)
        {
            request = request.header(name, value);
        }
    }
    let failed = |error: reqwest::Error| {
        let error = anyhow::Error::from(error.without_url());
        Refusal::Upstream(mask_urls(&format!("the InfluxDB behind this deck does not answer: {error:#}")))
    };
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let pieces = futures_util::stream::try_unfold(answer, |mut answer| async move {
        Ok::<_, reqwest::Error>(answer.chunk().await?.map(|piece| (piece, answer)))
    });
    let mut response = (status, version_headers(), Body::from_stream(pieces)).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Statement {
    CreateDatabase(String),
    ShowDatabases,
    ShowRetentionPolicies,
    Other,
}

impl Statement {
    fn is_for_influx(&self) -> bool {
        matches!(self, Statement::Other | Statement::ShowRetentionPolicies)
    }
}

/// The statements of a query, split where a semicolon is not quoted.
fn statements(query: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, letter) in query.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, ';') => {
                found.push(&query[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&query[start..]);
    found.retain(|statement| !statement.trim().is_empty());
    found
}

/// Whether a query changes nothing, however the server reads it: quotes, regular expressions and comments end where the
/// server says, so none is believed to hide anything.
fn only_reads(query: &str) -> bool {
    let mut pieces = query.split(';').filter(|piece| !piece.trim().is_empty());
    let first = |piece: &str| {
        let piece = piece.trim_start();
        piece[..piece.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(piece.len())].to_ascii_uppercase()
    };
    pieces.all(|piece| ["SELECT", "SHOW", "EXPLAIN"].contains(&first(piece).as_str()))
        && !query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word.eq_ignore_ascii_case("INTO"))
        && !query.contains("--")
        && !query.contains("/*")
}

fn statement(text: &str) -> Statement {
    let mut rest = text;
    let first = (word(&mut rest), word(&mut rest));
    match (first.0.to_ascii_uppercase().as_str(), first.1.to_ascii_uppercase().as_str()) {
        ("SHOW", "DATABASES") if rest.trim().is_empty() => Statement::ShowDatabases,
        ("SHOW", "RETENTION") if word(&mut rest).eq_ignore_ascii_case("POLICIES") => Statement::ShowRetentionPolicies,
        ("CREATE", "DATABASE") => {
            // Old clients say IF NOT EXISTS; what follows the name (WITH DURATION …) is for the store that will hold it.
            let mut after = rest;
            let unless = [word(&mut after), word(&mut after), word(&mut after)];
            if unless.join(" ").eq_ignore_ascii_case("IF NOT EXISTS") {
                rest = after;
            }
            name(rest).map_or(Statement::Other, Statement::CreateDatabase)
        }
        _ => Statement::Other,
    }
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}

/// A name, quoted or not.
fn name(text: &str) -> Option<String> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let plain = text[end..].is_empty() || text[end..].starts_with(char::is_whitespace);
        return (end > 0 && plain).then(|| text[..end].to_owned());
    };
    let mut name = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return (!name.is_empty()).then_some(name),
            '\\' => name.push(letters.next()?),
            letter => name.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_on_connecting_is_known_and_the_rest_is_not() {
        let created = |name: &str| Statement::CreateDatabase(name.to_owned());
        for (text, known) in [
            ("SHOW DATABASES", Statement::ShowDatabases),
            (" show databases ", Statement::ShowDatabases),
            ("CREATE DATABASE \"tick\"", created("tick")),
            ("create database tick", created("tick")),
            ("CREATE DATABASE IF NOT EXISTS \"a b\"", created("a b")),
            ("CREATE DATABASE \"x\\\"y\" WITH DURATION 1d NAME \"z\"", created("x\"y")),
            ("CREATE DATABASE tick WITH DURATION 1d", created("tick")),
            ("SHOW RETENTION POLICIES ON \"tick\"", Statement::ShowRetentionPolicies),
            ("CREATE DATABASE", Statement::Other),
            ("CREATE DATABASE \"", Statement::Other),
            ("CREATE DATABASE a-b", Statement::Other),
            ("SHOW DATABASES LIMIT 1", Statement::Other),
            ("DROP DATABASE tick", Statement::Other),
            ("SELECT * FROM m", Statement::Other),
            ("", Statement::Other),
        ] {
            assert_eq!(statement(text), known, "{text}");
        }
    }

    #[test]
    fn nothing_that_changes_anything_passes_for_a_read() {
        for query in [
            "SELECT * FROM m",
            " select mean(f) from \"a b\" where t = 'x' group by time(1m); SHOW SERIES;",
            "EXPLAIN ANALYZE SELECT f FROM m",
            "SELECT into_it FROM m",
        ] {
            assert!(only_reads(query), "{query}");
        }
        for query in [
            "DROP DATABASE d",
            "SELECT * INTO n FROM m",
            "SELECT * INTO\"n\" FROM m",
            "select 1 from m;delete from m",
            "SELECT f FROM m WHERE h =~ /'/; DROP DATABASE d --'",
            "SELECT f FROM m WHERE h =~ /'/; DROP SERIES FROM m WHERE h = ''",
            "SELECT f FROM m -- ' \n; DROP DATABASE d",
            "SELECT f /* ' */ FROM m",
            "EXPLAIN ANALYZE SELECT f INTO n FROM m",
            "CREATE USER u WITH PASSWORD 'p' WITH ALL PRIVILEGES",
            "\u{feff}DROP DATABASE d",
        ] {
            assert!(!only_reads(query), "{query}");
        }
    }

    #[test]
    fn statements_end_at_semicolons_outside_quotes() {
        assert_eq!(statements("a; b ;;c"), ["a", " b ", "c"]);
        assert_eq!(statements("a \";\" ; b ';\\';'"), ["a \";\" ", " b ';\\';'"]);
        assert_eq!(statements(" ; "), [""; 0]);
    }
}
