//! `tapedeck check`: tries the venue without recording, and says what to do about what does not work.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tapedeck_market::{SmolStr, UnixNanos};
use tokio::time::{Instant, timeout_at};

use super::frame::{Ctx, Reader};
use super::login::Session;
use super::rest::Rest;
use super::session::{Member, requests};
use super::{Shared, is_refusal};
use crate::sources::socket::{Frame, Socket};

/// Everything answers with its last state within this, or it does not.
const LIMIT: Duration = Duration::from_secs(8);
/// A clock that is wrong by more than this makes candles wrong; the venue tells it to the second.
const SKEW: Duration = Duration::from_secs(3);
/// Names in a message for people.
const SHOWN: usize = 5;

/// Looks at the token, the names and the connection, in this order: the first that fails is what to mend.
pub(super) async fn run(shared: &Shared, ordinal: usize) -> anyhow::Result<String> {
    let session = shared.login.session(UnixNanos::now())?;
    let rest = Rest::new(shared.checked.config.rest_url())?;
    let skew = profile(&rest, &session).await?;
    let resolved = shared.resolve(ordinal == 0).await.context("is the network up, and `rest_url` right?")?;
    ensure!(
        resolved.unknown.is_empty(),
        "the venue's list has no {}; correct `instruments`",
        resolved.unknown[..resolved.unknown.len().min(SHOWN)].join(", ")
    );
    let members = resolved.members(ordinal);
    let url = shared.socket_url(&session);
    let mut socket = match Socket::connect(&url).await {
        Ok(socket) => socket,
        Err(error) if is_refusal(&error) => bail!("Kite refuses the access token (403): run `tapedeck login`"),
        Err(error) => return Err(error.context("is the network up, and `url` right?")),
    };
    for text in requests(members.iter().map(|member| (member.token, member.mode))) {
        socket.send(text).await?;
    }
    let silent = answers(&mut socket, shared, &members).await?;
    socket.close().await;
    let (all, clock) = (members.len(), skew.map(|skew| format!(", clock within {} s of the venue's", skew.as_secs())));
    let clock = clock.unwrap_or_default();
    if silent.is_empty() {
        return Ok(format!("{all} instruments answer{clock}"));
    }
    ensure!(
        silent.len() < all,
        "connected, and none of {all} instruments answers within {} s: is the subscription paid, and are fewer than 4 connections open?",
        LIMIT.as_secs()
    );
    let shown = silent[..silent.len().min(SHOWN)].join(", ");
    Ok(format!("{} of {all} instruments answer{clock}; not {shown}", all - silent.len()))
}

/// Whether the token is good; by how much our clock differs.
async fn profile(rest: &Rest, session: &Session) -> anyhow::Result<Option<Duration>> {
    let asked = UnixNanos::now();
    let told = match rest.profile(session).await {
        Ok(told) => told,
        Err(error)
            if error.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect() || error.is_timeout()) =>
        {
            return Err(error.context("is the network up, and `rest_url` right?"));
        }
        Err(error) if format!("{error}").contains("(403)") => {
            return Err(error
                .context("the access token or KITE_API_KEY is wrong, or the token has expired: run `tapedeck login`"));
        }
        Err(error) => return Err(error),
    };
    let skew = told.map(|told| told.saturating_since(asked).max(asked.saturating_since(told)));
    if let Some(skew) = skew {
        ensure!(skew <= SKEW, "the clock differs from the venue's by {} s: is NTP running?", skew.as_secs());
    }
    Ok(skew)
}

/// Symbols that do not answer.
async fn answers(socket: &mut Socket, shared: &Shared, members: &[Member]) -> anyhow::Result<Vec<SmolStr>> {
    let reader = Reader {
        ctx: Ctx { source: SmolStr::new_static("check"), venue: SmolStr::new_static("kite") },
        divisors: shared.checked.divisors.clone(),
        wanted: shared.checked.config.wanted(),
        symbols: std::collections::HashMap::default(),
    };
    let mut silent: HashSet<u32> = members.iter().map(|member| member.token).collect();
    let until = Instant::now() + LIMIT;
    while !silent.is_empty() {
        let Ok(frame) = timeout_at(until, socket.next()).await else { break };
        if let Frame::Binary(bytes) = frame?
            && let Ok(read) = reader.read(&bytes, UnixNanos::now())
        {
            silent.retain(|silent| read.packets.iter().all(|(token, _)| token != silent));
        }
    }
    let silent = members.iter().filter(|member| silent.contains(&member.token));
    Ok(silent.map(|member| super::session::symbol(member.token, member.listed.as_ref())).collect())
}
