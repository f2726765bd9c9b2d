//! Where what runs can be reached: lines for a person to copy.

use super::phases::Access;
use crate::bus::registry;
use crate::config::secret::{looks_secret, mask_urls};
use crate::config::{Config, KindTable, Listen};
use crate::sinks;

/// Of everything that the config switches on.
#[must_use]
pub(super) fn of(config: &Config) -> Vec<Access> {
    let mut found = Vec::new();
    let mut add = |what: &str, address: String| found.push(Access { what: what.to_owned(), address });
    let dir = config.tape.dir.display();
    add("tape", format!("{dir}; tapedeck tail, tapedeck gaps, tapedeck status"));
    if let Some(bus) = &config.bus {
        let ports = registry::layout(bus);
        let all = registry::moved(bus, registry::EVERYTHING);
        add("bus", format!("tcp://{}:{all} (all topics; {} ports: tapedeck ports)", bus.listen, ports.len()));
    }
    if let Listen::At(addr) = config.http.listen {
        add("http", format!("http://{addr}/metrics, http://{addr}/health"));
        if config.sources.iter().any(|source| source.kind == crate::sources::http::KIND.name) {
            add("points", format!("http://{addr}/write (InfluxDB's line protocol)"));
        }
    }
    if let Some(Listen::At(addr)) = config.store.as_ref().map(|store| store.sql_listen) {
        add("sql", format!("postgresql://tapedeck@{addr}/tapedeck (password: {dir}/sql.password); tapedeck query"));
    }
    for sink in &config.sinks {
        if let Some(address) = address_of(sink) {
            add(&format!("sink.{}", sink.name), address);
        }
    }
    for named in &config.servers {
        if let Some(ready) = &named.server.ready
            && !matches!(ready, crate::config::Ready::Command(_))
        {
            let text = ready.to_string();
            let address = text.split_once(' ').map_or(text.as_str(), |(_, address)| address);
            add(&format!("server.{}", named.name), mask_urls(address));
        }
    }
    add("logs", "tapedeck logs NAME".to_owned());
    found
}

/// Where a store is, its secrets left out.
fn address_of(sink: &KindTable) -> Option<String> {
    if let Some(url) = sinks::address_of(sink) {
        return Some(mask_urls(url.as_str()));
    }
    let text = |key: &str| sink.table.get(key).and_then(toml::Value::as_str);
    if let Some(url) = text("url").or_else(|| text("dsn").filter(|dsn| dsn.contains("://"))) {
        return Some(mask_urls(url));
    }
    // `host=… user=… password=…`: word by word.
    let words = text("dsn")?.split_whitespace();
    let plain = words.filter(|word| word.split_once('=').is_some_and(|(key, _)| !looks_secret(key)));
    Some(plain.collect::<Vec<_>>().join(" "))
}
