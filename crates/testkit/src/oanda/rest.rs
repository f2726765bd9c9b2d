//! What is asked for once: accounts, instruments, prices, transactions.

use std::collections::BTreeSet;

use super::candles;
use super::hub::{Hub, Transaction};
use super::market::stamp;
use crate::http::Head;

/// Transactions of one answer, at most, as the venue has it for ranges.
const RANGE: u64 = 1_000;

/// How a request is answered.
pub(crate) enum Answer {
    Text(u16, String),
    /// A stream of prices of these instruments, or of transactions.
    Stream(Option<BTreeSet<String>>),
}

pub(crate) fn refused(status: u16, why: &str) -> Answer {
    Answer::Text(status, format!(r#"{{"errorMessage":"{why}"}}"#))
}

/// A value of the query. Of escapes only those occur that instruments and times need.
pub(crate) fn query(head: &Head, name: &str) -> Option<String> {
    let mut pairs = head.query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let escapes = [("%2C", ","), ("%2c", ","), ("%3A", ":"), ("%3a", ":")];
    Some(escapes.iter().fold(value.to_owned(), |value, (from, to)| value.replace(from, to)))
}

pub(crate) fn is_unix(head: &Head) -> bool {
    head.header("accept-datetime-format").is_some_and(|format| format.eq_ignore_ascii_case("unix"))
}

/// Answers a request.
pub(crate) fn answer(hub: &mut Hub, head: &Head) -> Answer {
    let path = head.path.replace(&hub.account, "ID");
    hub.requests.push(path);
    if let Some(status) = hub.refusal() {
        return refused(status, "The venue was told to refuse this.");
    }
    if head.header("authorization") != Some(&format!("Bearer {}", hub.token)) {
        return refused(401, "Insufficient authorization to perform request.");
    }
    let parts: Vec<&str> = head.path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        _ if head.method != "GET" => refused(405, "The HTTP method is not allowed."),
        ["v3", "accounts"] => Answer::Text(200, format!(r#"{{"accounts":[{{"id":"{}","tags":[]}}]}}"#, hub.account)),
        ["v3", "accounts", account, ..] if *account != hub.account => {
            refused(403, &format!("The account {account} cannot be accessed with this token."))
        }
        ["v3", "accounts", _, "transactions", "sinceid" | "idrange"] if hub.behind > 0 => {
            hub.behind -= 1;
            let last = hub.last_transaction();
            Answer::Text(200, format!(r#"{{"transactions":[],"lastTransactionID":"{last}"}}"#))
        }
        ["v3", "accounts", _, rest @ ..] => of_account(hub, head, rest),
        ["v3", "instruments", name, "candles"] => candles::answer(hub, head, name),
        _ => refused(404, "There is nothing here."),
    }
}

fn of_account(hub: &Hub, head: &Head, rest: &[&str]) -> Answer {
    let (unix, last) = (is_unix(head), hub.last_transaction());
    let number = |name: &str| query(head, name).and_then(|text| text.parse::<u64>().ok());
    let wanted = |name: &str| -> Result<BTreeSet<String>, Answer> {
        let names = query(head, name).unwrap_or_default();
        let names: BTreeSet<String> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let known = |name: &String| hub.listed.iter().any(|listed| *listed.name == **name);
        if names.is_empty() || !names.iter().all(known) {
            return Err(refused(400, &format!("Invalid value specified for '{name}'")));
        }
        Ok(names)
    };
    let list = |transactions: &mut dyn Iterator<Item = &Transaction>| {
        let texts: Vec<String> = transactions.map(|transaction| transaction.text(unix)).collect();
        Answer::Text(200, format!(r#"{{"transactions":[{}],"lastTransactionID":"{last}"}}"#, texts.join(",")))
    };
    match rest {
        ["summary"] => {
            let account = format!(r#"{{"id":"{}","currency":"EUR","lastTransactionID":"{last}"}}"#, hub.account);
            Answer::Text(200, format!(r#"{{"account":{account},"lastTransactionID":"{last}"}}"#))
        }
        ["instruments"] => {
            let one = |listed: &super::market::Listed| {
                let (name, decimals) = (&listed.name, listed.decimals);
                let (shown, pip) = (name.replace('_', "/"), 1 - i32::from(decimals));
                format!(
                    r#"{{"name":"{name}","type":"CURRENCY","displayName":"{shown}","pipLocation":{pip},"displayPrecision":{decimals},"tradeUnitsPrecision":0,"minimumTradeSize":"1","maximumOrderUnits":"100000000","marginRate":"0.05"}}"#
                )
            };
            let all: Vec<String> = hub.listed.iter().map(one).collect();
            Answer::Text(200, format!(r#"{{"instruments":[{}],"lastTransactionID":"{last}"}}"#, all.join(",")))
        }
        ["pricing"] => match wanted("instruments") {
            Ok(names) => {
                let prices = names.iter().filter_map(|name| {
                    Some(hub.prices.get(name.as_str())?.text(unix, !hub.untradeable.contains(name)))
                });
                let prices: Vec<String> = prices.collect();
                let time = stamp(hub.now_ns(), unix);
                Answer::Text(200, format!(r#"{{"time":"{time}","prices":[{}]}}"#, prices.join(",")))
            }
            Err(refused) => refused,
        },
        ["pricing", "stream"] => {
            wanted("instruments").map_or_else(|refused| refused, |names| Answer::Stream(Some(names)))
        }
        ["transactions", "stream"] => Answer::Stream(None),
        ["transactions", "sinceid"] => match number("id") {
            Some(id) if id <= last => list(&mut hub.transactions.iter().filter(|one| one.id > id)),
            _ => refused(416, "The requested range is not satisfiable."),
        },
        ["transactions", "idrange"] => match (number("from"), number("to")) {
            (Some(from), Some(to)) if from <= to && to - from < RANGE => {
                list(&mut hub.transactions.iter().filter(|one| (from..=to).contains(&one.id)))
            }
            _ => refused(416, "The requested range is not satisfiable."),
        },
        _ => refused(404, "There is nothing here."),
    }
}

/// An answer as it goes over the wire.
pub(crate) fn http(status: u16, body: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    let retry = if status == 429 { "retry-after: 1\r\n" } else { "" };
    let len = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{retry}content-length: {len}\r\n\r\n{body}"
    )
}
