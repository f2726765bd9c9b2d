//! What is beside the deck: its supervisor, external servers, ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::bus::registry;
use crate::cli::verdict::Verdict;
use crate::config::Config;
use crate::status::Status;
use crate::up::{self, State, Table};

/// A port of this machine answers at once, or nobody is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether somebody watches over what `tapedeck up` started; nothing where nothing was.
pub(super) fn supervisor(config: &Config) -> Vec<Verdict> {
    let table = Table::of(&config.tape.dir);
    let lives = |entry: &up::Entry| entry.identity.as_ref().is_some_and(up::process::Identity::lives);
    let running = table.list().iter().filter(|entry| lives(entry)).count();
    match (table.is_held(), table.supervisor(), running) {
        (true, Some(supervisor), _) => {
            let stage = format!("{:?}", supervisor.stage).to_lowercase();
            let text = format!("{stage}, since {}, pid {}", supervisor.started, supervisor.identity.pid);
            match &supervisor.trouble {
                Some(trouble) => vec![Verdict::bad("supervisor", format!("{text}: {trouble}"), trouble.fix.clone())],
                None => vec![Verdict::good("supervisor", text)],
            }
        }
        (false, _, 1..) => {
            let text = format!("{running} processes run without one: what ends is not started again");
            vec![Verdict::bad("supervisor", text, "tapedeck up takes them over")]
        }
        _ => Vec::new(),
    }
}

/// Every `[server.NAME]` by its own `ready`, and what the process table says of it.
pub(super) async fn servers(config: &Config) -> Vec<Verdict> {
    let table = Table::of(&config.tape.dir);
    let one = |named: &crate::config::NamedServer| {
        let (entry, named) = (table.find(&named.name), named.clone());
        async move {
            let what = format!("server.{}", named.name);
            let next = format!("tapedeck logs {0}; tapedeck restart {0}", named.name);
            let state = entry.as_ref().map(|entry| (entry.state, entry.restarts));
            let restarts = state.map_or(0, |(_, restarts)| restarts);
            let shown = if restarts > 0 { format!(", started again {restarts} times") } else { String::new() };
            let answered = match &named.server.ready {
                Some(ready) => Some(up::ask_ready(ready, named.server.dir.as_deref()).await),
                None => None,
            };
            let verdict = match (answered, state) {
                (Some(Ok(())), _) => Verdict::good(what, format!("answers{shown}")),
                (Some(Err(why)), _) => Verdict::bad(what, format!("{why}{shown}"), next),
                (None, Some((State::Running, _))) => Verdict::good(what, format!("running{shown}")),
                (None, Some((state, _))) => Verdict::bad(what, format!("{}{shown}", state.name()), next),
                (None, None) => Verdict::waits(what, "was not started here", "tapedeck up"),
            };
            verdict.figure("restarts", restarts)
        }
    };
    futures_util::future::join_all(config.servers.iter().map(one)).await
}

/// The deck's own ports: bus, web server, SQL. Nothing while no deck runs: that is said already.
pub(super) async fn ports(config: &Config, status: Option<&Status>) -> Vec<Verdict> {
    if status.is_none() {
        return Vec::new();
    }
    let mut wanted: Vec<(&'static str, Vec<SocketAddr>)> = Vec::new();
    if let Some(bus) = &config.bus {
        let all = registry::layout(bus).into_keys().chain([registry::moved(bus, registry::REQUESTS)]);
        wanted.push(("ports.bus", all.map(|port| (bus.listen, port).into()).collect()));
    }
    wanted.extend(config.http.listen.addr().map(|addr| ("ports.http", vec![addr])));
    wanted
        .extend(config.store.as_ref().and_then(|store| store.sql_listen.addr()).map(|addr| ("ports.sql", vec![addr])));
    let one = |(what, addresses): (&'static str, Vec<SocketAddr>)| async move {
        let open = futures_util::future::join_all(addresses.iter().map(|address| is_open(*address))).await;
        let closed: Vec<String> =
            addresses.iter().zip(&open).filter(|(_, open)| !**open).map(|(address, _)| address.to_string()).collect();
        let verdict = if closed.is_empty() {
            Verdict::good(what, format!("{} open", addresses.len()))
        } else {
            let text = format!("{} of {} closed: {}", closed.len(), addresses.len(), closed.join(", "));
            Verdict::bad(what, text, "tapedeck status; tapedeck ports says who has them")
        };
        verdict.figure("open", addresses.len() - closed.len()).figure("closed", closed)
    };
    futures_util::future::join_all(wanted.into_iter().map(one)).await
}

async fn is_open(address: SocketAddr) -> bool {
    // An address that means all of this machine's is reached by loopback.
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let connected = tokio::net::TcpStream::connect((ip, address.port()));
    matches!(tokio::time::timeout(PATIENCE, connected).await, Ok(Ok(_)))
}
