//! One connection: rules first, then posts until the stream ends.

use std::convert::Infallible;

use anyhow::anyhow;
use tapedeck_market::{Body, Event, Raw, SmolStr, UnixNanos};
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::config::Config;
use super::line::{Ctx, Message, Problem, parse};
use super::pause::{End, Tier};
use super::{Memory, POST, rules, sentiment};
use crate::sources::split::{LINE_BYTES, Piece, Splitter};
use crate::sources::{Outlet, Waiting};

/// Names of unknown fields that are remembered, so that each is told once.
const FIELDS: usize = 256;

/// Runs until the connection is lost; `opened` tells when the stream began.
pub(super) async fn run(
    config: &Config,
    client: &Client,
    memory: &mut Memory,
    out: &Outlet,
    opened: &mut Option<Instant>,
) -> Result<Infallible, End> {
    if config.has_no_rules() {
        let words = "no rules: name some in [[source.NAME.rules]], or set sync = \"off\" for those of the account";
        return Err(Tier::Http.end(Waiting(words.to_owned())));
    }
    let synced = rules::sync(config, client, out.source()).await?;
    if synced.refused != memory.told {
        for refused in &synced.refused {
            tracing::warn!(source = %out.source(), "X refuses the rule {refused}");
        }
    }
    if synced.tags.is_empty() && !synced.refused.is_empty() {
        return Err(Tier::Http.end(Waiting(format!("X refuses every rule: {}", synced.refused.join(", ")))));
    }
    memory.told = synced.refused;
    let mut stream = client.open().await?;
    *opened = Some(Instant::now());
    subscribe(out, &synced.tags).await?;
    let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
    let mut feed = Feed { config, client, memory, out, ctx };
    let mut lines = Splitter::default();
    loop {
        let chunk = match timeout(config.silence.0, stream.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(ended) => {
                feed.rest(lines.rest()).await?;
                return Err(match ended {
                    Ok(_) => Tier::Ordinary.end(anyhow!("the venue closed the stream")),
                    Err(error) => Tier::Network.end(anyhow!(error.without_url()).context("reading the stream")),
                });
            }
            Err(_) => {
                feed.rest(lines.rest()).await?;
                return Err(Tier::Network.end(anyhow!("not even a keep-alive for {}", config.silence)));
            }
        };
        let ts_recv = UnixNanos::now();
        // A keep-alive is a blank line, and no line to the splitter.
        out.heard(ts_recv, chunk.len());
        lines.push(&chunk);
        while let Some(piece) = lines.cut() {
            feed.piece(piece, ts_recv).await?;
        }
    }
}

/// Says which tags are live, and ends those that are no longer wanted.
async fn subscribe(out: &Outlet, tags: &[String]) -> Result<(), End> {
    let now = UnixNanos::now();
    for (symbol, channel) in &out.resume().subscriptions {
        if !tags.iter().any(|tag| *tag == **symbol) {
            out.unsubscribed(symbol.clone(), channel.clone()).await?;
        }
    }
    for tag in tags {
        out.live(SmolStr::new(tag), POST, now).await?;
    }
    Ok(())
}

/// The stream while it lasts.
struct Feed<'a> {
    config: &'a Config,
    client: &'a Client,
    memory: &'a mut Memory,
    out: &'a Outlet,
    ctx: Ctx,
}

impl Feed<'_> {
    async fn piece(&mut self, piece: Piece<'_>, ts_recv: UnixNanos) -> Result<(), End> {
        let bytes = match piece {
            Piece::Line(bytes) => bytes,
            Piece::TooLong(begun) => {
                let error = format!("more than {} KiB without an end", LINE_BYTES >> 10);
                return Ok(self.out.reject(begun, ts_recv, "line too long", &error).await?);
            }
        };
        let line = match parse(bytes, ts_recv, &self.ctx) {
            Ok(Message::Post(line)) => line,
            Ok(Message::Problem(problem)) => {
                self.out.emit(vec![self.raw(bytes, ts_recv)]).await?;
                return Err(self.ended_by(&problem));
            }
            Ok(_) => {
                self.out.note("unknown type");
                return Ok(self.out.emit(vec![self.raw(bytes, ts_recv)]).await?);
            }
            Err(error) => {
                let words = self.client.mask(&error.to_string());
                return Ok(self.out.reject(bytes, ts_recv, error.reason, &words).await?);
            }
        };
        if let Some(odd) = line.odd_time {
            self.out.note(odd);
        }
        // A field that is new to us: the line that has it is kept whole, once.
        let fields = &mut self.memory.fields;
        let mut news = line.unknown;
        news.retain(|field| fields.len() < FIELDS && fields.insert(field.clone()));
        if !news.is_empty() {
            tracing::info!(source = %self.ctx.source, fields = news.join(", "), "posts have fields that are new to us");
        }
        let raw = (self.config.keep_raw || !news.is_empty()).then(|| self.raw(bytes, ts_recv));
        let mut event = line.event;
        if self.config.sentiment && !sentiment::score_post(&mut event) {
            self.out.note("text too long to score");
        }
        Ok(self.out.emit(raw.into_iter().chain([event]).collect()).await?)
    }

    /// What was left of a line when the stream ended.
    async fn rest(&self, rest: &[u8]) -> Result<(), End> {
        if !rest.is_empty() {
            let now = UnixNanos::now();
            self.out.reject(rest, now, "line cut off", &"the stream ended inside it").await?;
        }
        Ok(())
    }

    /// An error within the stream: the venue sends nothing behind it, and may keep the connection.
    fn ended_by(&self, problem: &Problem) -> End {
        let said = self.client.mask(&problem.to_string());
        let error = anyhow!("the venue ended the stream: {said}");
        if problem.is_too_many_connections() {
            Tier::Limit(None).end(error)
        } else if problem.is_usage_cap() {
            Tier::Limit(None).end(Waiting(format!(
                "the posts of this billing period are used up ({said}): raise the cap, or wait for the next period"
            )))
        } else {
            Tier::Ordinary.end(error)
        }
    }

    fn raw(&self, bytes: &[u8], ts_recv: UnixNanos) -> Event {
        let frame = bytes.to_vec();
        self.out.event(SmolStr::default(), None, ts_recv, Body::Raw(Raw { format: "line".into(), frame }))
    }
}
