//! The faults that hold now, and what they do to data on its way out.

use std::time::Instant;

use super::fault::{Fault, Reading, Target};
use super::frames::{Channel, Frame};
use super::log::Delivery;

/// Faults of data and of requests; those of a connection live in the connection.
#[derive(Debug)]
pub(crate) struct Active {
    stalls: Vec<(Target, Option<Instant>)>,
    corruptions: Vec<(Target, u32)>,
    drops: Vec<(Target, u32)>,
    duplicates: Vec<(Target, u32)>,
    reorders: Vec<(Target, u32)>,
    /// Messages that wait for their successors.
    held: Vec<Frame>,
    clock: Option<(Reading, Option<Instant>)>,
    refusals: Vec<(Target, Option<u32>, Option<String>)>,
    silences: Vec<(Target, Option<u32>)>,
    pub(crate) tokens_refused: bool,
    /// Requests a second and connection.
    pub(crate) rate_limit: Option<u32>,
    pub(crate) system: String,
}

impl Default for Active {
    fn default() -> Self {
        Active {
            stalls: Vec::new(),
            corruptions: Vec::new(),
            drops: Vec::new(),
            duplicates: Vec::new(),
            reorders: Vec::new(),
            held: Vec::new(),
            clock: None,
            refusals: Vec::new(),
            silences: Vec::new(),
            tokens_refused: false,
            rate_limit: None,
            system: "online".into(),
        }
    }
}

impl Active {
    /// Takes up a fault of data or of requests; another one is handed back.
    pub(crate) fn add(&mut self, fault: Fault, now: Instant) -> Option<Fault> {
        match fault {
            Fault::Stall { target, lasts } => self.stalls.push((target, lasts.map(|lasts| now + lasts))),
            Fault::Corrupt { target, times } => self.corruptions.push((target, times)),
            Fault::Drop { target, nth } => self.drops.push((target, nth.max(1))),
            Fault::Duplicate { target, times } => self.duplicates.push((target, times)),
            Fault::Reorder { target, times } => self.reorders.push((target, times)),
            Fault::Clock { reading, lasts } => self.clock = Some((reading, lasts.map(|lasts| now + lasts))),
            Fault::Refuse { target, times, reason } => self.refusals.push((target, times, reason)),
            Fault::Silence { target, times } => self.silences.push((target, times)),
            Fault::TokenRefused => self.tokens_refused = true,
            Fault::RateLimit { per_second } => self.rate_limit = Some(per_second),
            Fault::Heal => *self = Active { system: std::mem::take(&mut self.system), ..Active::default() },
            other => return Some(other),
        }
        None
    }

    /// The venue's time when ours is `now_ns`.
    pub(crate) fn clock(&mut self, now_ns: i64) -> i64 {
        if matches!(self.clock, Some((_, Some(until))) if until <= Instant::now()) {
            self.clock = None;
        }
        match self.clock {
            None => now_ns,
            Some((Reading::Stopped(at), _)) => at,
            Some((Reading::Off(by), _)) => now_ns.saturating_add(by),
        }
    }

    /// Whether this book message goes out with a wrong level.
    pub(crate) fn corrupts(&mut self, symbol: &str) -> bool {
        take_one(&mut self.corruptions, Channel::Book, symbol)
    }

    /// Whether this trade is the one to be lost.
    pub(crate) fn drops_trade(&mut self, symbol: &str) -> bool {
        let mut lost = false;
        for (target, left) in &mut self.drops {
            if target.matches(Channel::Trade, symbol) {
                *left -= 1;
                lost |= *left == 0;
            }
        }
        self.drops.retain(|(_, left)| *left > 0);
        lost
    }

    /// Why a subscription is refused, if it is.
    pub(crate) fn refuses(&mut self, channel: Channel, symbol: &str) -> Option<String> {
        let at = self.refusals.iter().position(|(target, ..)| target.matches(channel, symbol))?;
        let (_, times, reason) = &mut self.refusals[at];
        let reason = reason.clone().unwrap_or_else(|| format!("Currency pair not supported {symbol}"));
        if count_down(times) {
            self.refusals.remove(at);
        }
        Some(reason)
    }

    /// Whether a subscription is acknowledged and then delivers nothing. A new one ends a stall.
    pub(crate) fn silences(&mut self, channel: Channel, symbol: &str) -> bool {
        self.stalls.retain(|(target, _)| !(target.symbol == symbol && target.matches(channel, symbol)));
        let Some(at) = self.silences.iter().position(|(target, _)| target.matches(channel, symbol)) else {
            return false;
        };
        if count_down(&mut self.silences[at].1) {
            self.silences.remove(at);
        }
        true
    }

    /// What is sent, or kept back, in place of a frame that is due.
    pub(crate) fn deliver(&mut self, frame: Frame, delivery: Delivery, out: &mut impl FnMut(Frame, Delivery)) {
        if self.stalls.is_empty() && self.duplicates.is_empty() && self.reorders.is_empty() && self.held.is_empty() {
            return out(frame, delivery);
        }
        let now = Instant::now();
        self.stalls.retain(|(_, until)| until.is_none_or(|until| until > now));
        let (channel, symbol) = (frame.channel, frame.symbol().to_owned());
        if self.stalls.iter().any(|(target, _)| target.matches(channel, &symbol)) {
            return out(frame, Delivery::Stalled);
        }
        let held = self.held.iter().position(|held| held.channel == channel && held.symbol() == symbol);
        if held.is_none() && frame.kind == "update" && take_one(&mut self.reorders, channel, &symbol) {
            self.held.push(frame);
            return;
        }
        if frame.kind == "update" && take_one(&mut self.duplicates, channel, &symbol) {
            out(frame.clone(), delivery);
            out(frame, Delivery::Duplicate);
        } else {
            out(frame, delivery);
        }
        if let Some(at) = held {
            out(self.held.remove(at), Delivery::Reordered);
        }
    }
}

/// Counts down; true when it was the last time.
fn count_down(times: &mut Option<u32>) -> bool {
    match times {
        None => false,
        Some(times) => {
            *times = times.saturating_sub(1);
            *times == 0
        }
    }
}

fn take_one(from: &mut Vec<(Target, u32)>, channel: Channel, symbol: &str) -> bool {
    let Some(at) = from.iter().position(|(target, _)| target.matches(channel, symbol)) else { return false };
    from[at].1 = from[at].1.saturating_sub(1);
    if from[at].1 == 0 {
        from.remove(at);
    }
    true
}
