//! `tapedeck check`: tries the venue without recording, and says what to do about what does not work.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tapedeck_market::{SmolStr, UnixNanos};
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::config::Config;
use super::line::{Ctx, Message, parse};
use super::pricing::wanted;
use crate::sources::split::{Piece, Splitter};

/// The first heartbeat comes within this, or none comes.
const LIMIT: Duration = Duration::from_secs(10);
/// A clock that is wrong by more than this makes candles wrong.
const SKEW: Duration = Duration::from_secs(1);

/// Asks for account, instruments and stream, in this order: the first that fails is what to mend.
pub(super) async fn prices(config: &Config, client: &Client) -> anyhow::Result<String> {
    account(client).await?;
    let (wanted, unknown) = wanted(config, &client.instruments().await?);
    ensure!(unknown.is_empty(), "this account has no instrument {}; correct `instruments`", unknown.join(", "));
    let query = [("instruments", &*wanted.join(",")), ("snapshot", "true")];
    let mut stream = client.open("pricing/stream", &query).await?;
    let (mut lines, mut prices) = (Splitter::default(), 0);
    let until = Instant::now() + LIMIT;
    let ctx = Ctx { source: SmolStr::new_static("check"), venue: SmolStr::new_static("oanda") };
    loop {
        let chunk = timeout_at(until, stream.chunk()).await;
        let chunk =
            chunk.with_context(|| format!("the stream is open, and no heartbeat within {} s", LIMIT.as_secs()))?;
        let ts_recv = UnixNanos::now();
        let Some(chunk) = chunk.map_err(reqwest::Error::without_url).context("reading the stream")? else {
            bail!("the venue closed the stream: are more than 20 of them open?");
        };
        lines.push(&chunk);
        while let Some(piece) = lines.cut() {
            let Piece::Line(line) = piece else { continue };
            match parse(line, ts_recv, &ctx, false) {
                Ok(Message::Price(_)) => prices += 1,
                Ok(Message::Heartbeat { time: Some(time), .. }) => {
                    let skew = time.saturating_since(ts_recv).max(ts_recv.saturating_since(time));
                    ensure!(
                        skew <= SKEW,
                        "the clock differs from the venue's by {} ms (network included): is NTP running?",
                        skew.as_millis()
                    );
                    let many = wanted.len();
                    return Ok(format!(
                        "{many} instruments, {prices} prices, clock within {} ms of the venue's",
                        skew.as_millis()
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Asks for the account and opens the stream of its transactions.
pub(super) async fn transactions(client: &Client) -> anyhow::Result<String> {
    account(client).await?;
    let newest = client.last_transaction().await?;
    client.open("transactions/stream", &[]).await?;
    Ok(format!("transactions of the account can be read, the newest is {newest}"))
}

/// Whether the token is good, and for this account.
async fn account(client: &Client) -> anyhow::Result<()> {
    let (readable, ours) = match client.accounts().await {
        Ok(accounts) => accounts,
        Err(error)
            if error.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect() || error.is_timeout()) =>
        {
            return Err(error.context("is the network up, and `environment` or `url` right?"));
        }
        Err(error) => return Err(error),
    };
    ensure!(
        ours,
        "the token is good, but not for this account: it may read {readable} others; correct OANDA_ACCOUNT_ID"
    );
    Ok(())
}
