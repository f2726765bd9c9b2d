//! `tapedeck check`: tries the venue without recording, and says what to do about what does not work.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use serde_json::json;
use tapedeck_market::{SmolStr, UnixNanos};
use tokio::time::{Instant, timeout_at};

use super::config::{ChannelName, Config};
use super::line::{ChangeType, Changes, Ctx, Message, parse};
use super::login::Login;
use super::markets::Joiner;
use super::session::{greet, refusal};
use super::stream::Stream;
use crate::sources::split::Piece;

/// The image comes within this, or none comes.
const LIMIT: Duration = Duration::from_secs(10);
/// A clock that is wrong by more than this makes candles wrong.
const SKEW: Duration = Duration::from_secs(1);

/// Logs in, connects, subscribes and waits for the image, in this order: the first that fails is what to mend.
pub(super) async fn run(config: &Config, login: &Login, channel: ChannelName) -> anyhow::Result<String> {
    let session = login.session().await.map_err(|error| advice(error, "`login_url`"))?;
    let mut stream = Stream::connect(config).await.map_err(|error| advice(error, "`url`"))?;
    greet(&mut stream, &session, login).await?;
    let mut asked = config.subscription(channel);
    asked.insert("id".to_owned(), json!(1));
    stream.send(&asked).await?;
    let ctx = Ctx { source: SmolStr::new_static("check"), venue: SmolStr::new_static("betfair") };
    let until = Instant::now() + LIMIT;
    let (mut joiner, mut image) = (Joiner::default(), None);
    while image.is_none() {
        let waited = || anyhow!("subscribed, and no image within {} s", LIMIT.as_secs());
        timeout_at(until, stream.read()).await.map_err(|_| waited())??;
        let ts_recv = UnixNanos::now();
        while let Some(piece) = stream.cut() {
            let Piece::Line(bytes) = piece else { continue };
            match parse(bytes, ts_recv, &ctx) {
                Ok(Message::Status(status)) if !status.success => return Err(refusal(&status, &session, login).await),
                Ok(Message::Markets(changes) | Message::Orders(changes)) => {
                    let whole = joiner.take(changes, bytes.len()).map_err(|error| anyhow!("{error}"))?;
                    image = image.or(whole
                        .filter(|whole| whole.change_type == ChangeType::SubImage)
                        .map(|whole| (whole, ts_recv)));
                }
                _ => {}
            }
        }
    }
    let Some((image, ts_recv)) = image else { bail!("no image") };
    let clock = skew(&image, ts_recv)?;
    if channel == ChannelName::Orders {
        return Ok(format!("own orders can be read{clock}"));
    }
    let markets: HashSet<&SmolStr> = image.events.iter().map(|event| &event.symbol).collect();
    let none: Vec<&str> =
        config.markets.iter().map(String::as_str).filter(|id| !markets.contains(&SmolStr::new(id))).collect();
    ensure!(
        none.is_empty(),
        "the venue has no open market {}: it is settled, or the id is wrong; correct `markets`",
        none.join(", ")
    );
    ensure!(!markets.is_empty(), "no open market matches: is the filter too narrow?");
    Ok(format!("{} markets{clock}", markets.len()))
}

/// By how much our clock differs, in words.
fn skew(image: &Changes, ts_recv: UnixNanos) -> anyhow::Result<String> {
    let Some(published) = image.published else { return Ok(String::new()) };
    let skew = published.saturating_since(ts_recv).max(ts_recv.saturating_since(published));
    let ms = skew.as_millis();
    ensure!(skew <= SKEW, "the clock differs from the venue's by {ms} ms (network included): is NTP running?");
    Ok(format!(", clock within {ms} ms of the venue's"))
}

/// Who cannot be reached may be somebody else.
fn advice(error: anyhow::Error, key: &str) -> anyhow::Error {
    let network = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some()
            || cause.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect() || error.is_timeout())
    });
    if network { error.context(format!("is the network up, and {key} right?")) } else { error }
}
