//! What cannot be read may have changed anything.
//!
//! A line that is dropped is a hole in every ladder: the clocks behind it say that it was taken, so the venue would never
//! send it again. A gap is opened, the clocks are forgotten, and the next session begins anew with an image. Of an image
//! itself that is no way out, as it would come again: the markets of it that can be read are recorded, and each of the
//! others is missing, with its gap open, until the venue sends an image of it that can be read.

use anyhow::bail;
use tapedeck_market::{GapCause, SmolStr, UnixNanos};

use super::{Feed, ODDS};
use crate::sources::betfair::config::ChannelName;
use crate::sources::betfair::line::{ChangeType, Changes, Message, ParseError, parse, without_unreadable};

impl Feed<'_> {
    /// Keeps a line that cannot be read, and takes what can be read of an image.
    pub(super) async fn unreadable(
        &mut self,
        bytes: &[u8],
        ts_recv: UnixNanos,
        error: &ParseError,
    ) -> anyhow::Result<()> {
        self.reject(bytes, ts_recv, error.reason, &error.to_string()).await?;
        let rest = without_unreadable(bytes).filter(|_| self.channel == ChannelName::Odds);
        let Some((rest, markets)) = rest else { return self.begin_anew(error.reason).await };
        match parse(rest.as_bytes(), ts_recv, &self.ctx) {
            Ok(Message::Markets(changes)) if self.is_left_out(&changes, &markets) => {
                for market in markets {
                    self.leave_out(market, ts_recv).await?;
                }
                self.changes(changes, rest.as_bytes(), ts_recv).await
            }
            _ => self.begin_anew(error.reason).await,
        }
    }

    /// Whether another image would bring nothing more of these markets.
    fn is_left_out(&self, changes: &Changes, markets: &[SmolStr]) -> bool {
        changes.change_type == ChangeType::SubImage || markets.iter().all(|market| self.left_out.contains(market))
    }

    async fn leave_out(&mut self, market: SmolStr, ts_recv: UnixNanos) -> anyhow::Result<()> {
        if !self.left_out.insert(market.clone()) {
            return Ok(());
        }
        self.tell(format!("the image of market {market} cannot be read: it is not recorded until one can"));
        // A clock on the tape would say that it is there.
        self.position(ts_recv, "");
        self.emit().await?;
        if !self.live.remove(&market) {
            // Only what was subscribed can be missing.
            self.out.live(market.clone(), ODDS, ts_recv).await?;
        }
        let why = "its image cannot be read";
        Ok(self.out.lost(Some(market), Some(ODDS), GapCause::Drop, ts_recv.min(self.whole_at), why).await?)
    }

    /// Takes what is of a market that is left out from a message, unless it brings the image that ends that.
    pub(super) fn without_left_out(&mut self, changes: &mut Changes) {
        if self.left_out.is_empty() {
            return;
        }
        for head in changes.heads.iter().filter(|head| head.image || head.closed) {
            self.left_out.remove(&head.market);
        }
        changes.events.retain(|event| !self.left_out.contains(&event.symbol));
    }

    /// Emits what is held, and makes the next session begin with images.
    pub(super) async fn forget_clocks(&mut self) -> anyhow::Result<()> {
        // What came before is whole.
        self.flush(UnixNanos::now()).await?;
        (self.initial_clk, self.clk, self.moved) = (None, None, false);
        self.position(UnixNanos::now(), "");
        self.emit().await
    }

    /// Ends the session so that the next one begins with an image.
    pub(super) async fn begin_anew(&mut self, why: &str) -> anyhow::Result<()> {
        self.forget_clocks().await?;
        self.out.lost(None, Some(self.channel()), GapCause::Drop, self.whole_at, why).await?;
        bail!("{why}: what it held is not known, so everything begins anew")
    }
}
