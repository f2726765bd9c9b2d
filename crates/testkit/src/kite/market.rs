//! Packets: of a seeded market, or as they were recorded.
//!
//! A packet is kept at its full length and cut to what a client asked for: that is how the venue's lengths hang together.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;

use crate::kraken::rng::Rng;

/// Tokens, exchanges and names of the venue's list, with a first price in units of the last digit.
const KNOWN: [(u32, &str, &str, &str, u32); 8] = [
    (408_065, "NSE", "INFY", "EQ", 157_370),
    (738_561, "NSE", "RELIANCE", "EQ", 246_515),
    (2_953_217, "NSE", "TCS", "EQ", 341_250),
    (779_521, "NSE", "SBIN", "EQ", 47_000),
    (256_265, "NSE", "NIFTY 50", "EQ", 1_712_690),
    (260_105, "NSE", "NIFTY BANK", "EQ", 3_306_420),
    (412_675, "CDS", "USDINR26DECFUT", "FUT", 865_425_000),
    (109_134_599, "MCX", "CRUDEOIL26DECFUT", "FUT", 586_300),
];
/// Bytes of a full packet, and of an index'.
pub(crate) const FULL: usize = 184;
pub(crate) const INDEX_FULL: usize = 32;
/// The segment of indices.
const INDICES: u32 = 9;
/// India's clocks are ahead of UTC by this.
pub(crate) const IST_SECS: i64 = 19_800;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Ltp,
    Quote,
    Full,
}

/// An instrument of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub token: u32,
    pub exchange: String,
    pub symbol: String,
    pub(crate) kind: String,
    /// The first price, in units of the last digit.
    pub(crate) first: u32,
}

impl Listed {
    pub(crate) fn is_index(&self) -> bool {
        self.token & 0xff == INDICES
    }
}

/// So many instruments: those that everybody knows, then numbered ones.
pub(crate) fn listed(count: usize) -> Vec<Listed> {
    let numbered = (0_u32..).map(|number| Listed {
        token: (500_000 + number) * 256 + 1,
        exchange: "NSE".to_owned(),
        symbol: format!("SIM{:04}", number + 1),
        kind: "EQ".to_owned(),
        first: 10_000 + number * 5 % 90_000,
    });
    KNOWN.iter().map(known).chain(numbered).take(count).collect()
}

fn known((token, exchange, symbol, kind, first): &(u32, &str, &str, &str, u32)) -> Listed {
    Listed {
        token: *token,
        exchange: (*exchange).to_owned(),
        symbol: (*symbol).to_owned(),
        kind: (*kind).to_owned(),
        first: *first,
    }
}

/// The list as the venue writes it.
pub(crate) fn csv(listed: &[Listed]) -> String {
    let mut text = "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange\n".to_owned();
    for Listed { token, exchange, symbol, kind, .. } in listed {
        let (exchange_token, expiry) = (token >> 8, if kind == "FUT" { "2026-12-31" } else { "" });
        text.push_str(&format!(
            "{token},{exchange_token},{symbol},\"{symbol}, as a name\",0.0,{expiry},0.0,0.05,1,{kind},{exchange},{exchange}\n"
        ));
    }
    text
}

/// The bytes of a packet that a mode gets.
pub(crate) fn cut(packet: &[u8], mode: Mode) -> &[u8] {
    let index = packet.len() <= INDEX_FULL;
    let len = match mode {
        Mode::Ltp => 8,
        Mode::Quote if index => 28,
        Mode::Quote => 44,
        Mode::Full => packet.len(),
    };
    &packet[..len.min(packet.len())]
}

/// A frame of packets, as they go over the wire.
pub(crate) fn frame<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut bytes, mut count) = (vec![0, 0], 0_u16);
    for packet in packets {
        bytes.extend_from_slice(&u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(packet);
        count += 1;
    }
    bytes[..2].copy_from_slice(&count.to_be_bytes());
    bytes
}

pub(crate) fn token(packet: &[u8]) -> u32 {
    number(packet, 0)
}

/// The number at a place; zero behind the packet's end.
pub(crate) fn number(packet: &[u8], at: usize) -> u32 {
    packet.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub(crate) fn put(packet: &mut [u8], at: usize, value: u32) {
    if let Some(four) = packet.get_mut(at..at + 4) {
        four.copy_from_slice(&value.to_be_bytes());
    }
}

/// The first packet of an instrument.
pub(crate) fn first(listed: &Listed, rng: &mut Rng, now_secs: u32) -> Vec<u8> {
    let mut packet = vec![0; if listed.is_index() { INDEX_FULL } else { FULL }];
    put(&mut packet, 0, listed.token);
    let price = listed.first;
    put(&mut packet, 4, price);
    if listed.is_index() {
        for at in [8, 12, 16] {
            put(&mut packet, at, price);
        }
        put(&mut packet, 20, price + 30);
        put(&mut packet, 24, (-30_i32).cast_unsigned());
    } else {
        put(&mut packet, 12, price);
        for at in [28, 32, 36] {
            put(&mut packet, at, price);
        }
        put(&mut packet, 40, price.saturating_sub(120));
    }
    step(&mut packet, rng, now_secs);
    packet
}

/// The market goes on: another price, more volume, another book.
pub(crate) fn step(packet: &mut [u8], rng: &mut Rng, now_secs: u32) {
    let tick = if number(packet, 0) & 0xff == 3 { 2_500 } else { 5 };
    let moved = rng.between(-3, 3) * tick;
    let price = u32::try_from(i64::from(number(packet, 4)) + moved).unwrap_or(0).max(100);
    put(packet, 4, price);
    if packet.len() <= INDEX_FULL {
        let (high, low) = (number(packet, 8).max(price), number(packet, 12).min(price));
        put(packet, 8, high);
        put(packet, 12, low);
        let change = price.wrapping_sub(number(packet, 20));
        put(packet, 24, change);
        put(packet, 28, now_secs);
        return;
    }
    let size = rng.between(1, 500) as u32;
    put(packet, 8, size);
    let volume = number(packet, 16).saturating_add(size);
    put(packet, 16, volume);
    for at in [20, 24] {
        put(packet, at, rng.between(100_000, 400_000) as u32);
    }
    let (high, low) = (number(packet, 32).max(price), number(packet, 36).min(price));
    put(packet, 32, high);
    put(packet, 36, low);
    put(packet, 44, now_secs);
    if number(packet, 0) & 0xff != 1 {
        let oi = 40_000 + rng.between(0, 900) as u32;
        let high = oi.max(number(packet, 52));
        put(packet, 48, oi);
        put(packet, 52, high);
        put(packet, 56, 40_000);
    }
    put(packet, 60, now_secs);
    for level in 0..10_u32 {
        let away = (level % 5 + 1) * tick.unsigned_abs() as u32;
        let at = 64 + level as usize * 12;
        put(packet, at, rng.between(1, 900) as u32);
        put(packet, at + 4, if level < 5 { price.saturating_sub(away) } else { price + away });
        put(packet, at + 8, (rng.between(1, 20) as u32) << 16);
    }
}

/// Frames as packets, each with its time since the first.
type Frames = Vec<(Duration, Vec<Vec<u8>>)>;

/// What recordings hold.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) listed: Vec<Listed>,
    pub(crate) frames: Frames,
}

impl Recording {
    /// Adds a file: `.bin` (a frame), `.packet` (a packet in base64), or rows of local time, last price and running volume;
    /// plain or gzipped.
    ///
    /// # Errors
    /// It cannot be read, or holds nothing of that kind.
    pub(crate) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = || -> anyhow::Result<(Vec<Listed>, Frames)> {
            let mut bytes = std::fs::read(path)?;
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let mut plain = Vec::new();
                flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
                bytes = plain;
            }
            if name.ends_with(".bin") {
                let packets = packets(&bytes)?;
                return Ok((
                    packets.iter().map(|packet| unlisted(token(packet))).collect(),
                    vec![(Duration::ZERO, packets)],
                ));
            }
            if name.ends_with(".packet") {
                let text: String = String::from_utf8(bytes)?.split_whitespace().collect();
                let packet = base64::engine::general_purpose::STANDARD.decode(text).context("no base64")?;
                ensure!(packet.len() >= 8, "no packet");
                return Ok((vec![unlisted(token(&packet))], vec![(Duration::ZERO, vec![packet])]));
            }
            let text = String::from_utf8(bytes)?;
            rows(&text, &name)
        };
        let (listed, frames) = read().with_context(|| format!("cannot serve {}", path.display()))?;
        for listed in listed {
            if !self.listed.iter().any(|known| known.token == listed.token) {
                self.listed.push(listed);
            }
        }
        let begun = self.frames.last().map_or(Duration::ZERO, |(at, _)| *at);
        self.frames.extend(frames.into_iter().map(|(at, packets)| (begun + at, packets)));
        Ok(())
    }
}

/// The packets of a frame, which must be whole.
fn packets(mut bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut two = || -> anyhow::Result<usize> {
        let (two, rest) = bytes.split_first_chunk::<2>().context("no frame of packets")?;
        bytes = rest;
        Ok(usize::from(u16::from_be_bytes(*two)))
    };
    let count = two()?;
    let mut packets = Vec::new();
    for _ in 0..count {
        let len = two()?;
        let mut packet = Vec::new();
        for _ in 0..len.div_ceil(2) {
            packet.extend(u16::try_from(two()?)?.to_be_bytes());
        }
        ensure!(packet.len() == len, "a packet of odd length");
        packets.push(packet);
    }
    Ok(packets)
}

fn unlisted(token: u32) -> Listed {
    KNOWN.iter().find(|(known, ..)| *known == token).map(known).unwrap_or_else(|| Listed {
        token,
        exchange: "NSE".to_owned(),
        symbol: format!("T{token}"),
        kind: "EQ".to_owned(),
        first: 0,
    })
}

/// Rows of `2021-04-15 09:15:04,1334.35,910737`, of the instrument that the file is named after.
fn rows(text: &str, name: &str) -> anyhow::Result<(Vec<Listed>, Frames)> {
    let symbol = name.split('.').next().unwrap_or(name);
    let symbol = symbol.rsplit_once('_').map_or(symbol, |(symbol, _)| symbol).replace('_', " ");
    let listed = KNOWN.iter().find(|known| known.2 == symbol).map(known);
    let listed = listed.with_context(|| format!("`{symbol}` is none of the instruments that are known here"))?;
    let mut frames = Vec::new();
    let mut first = None;
    for (at, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
        let row = || -> Option<(i64, u32, u32)> {
            let mut fields = line.split(',');
            let secs = secs(fields.next()?)?;
            let price = hundredths(fields.next()?)?;
            Some((secs, price, fields.next()?.trim().split('.').next()?.parse().ok()?))
        };
        let Some((secs, price, volume)) = row() else { bail!("line {}: `{line}` is no tick", at + 1) };
        let first = *first.get_or_insert(secs);
        let mut packet = vec![0; if listed.is_index() { INDEX_FULL } else { FULL }];
        put(&mut packet, 0, listed.token);
        put(&mut packet, 4, price);
        let stamp = u32::try_from(secs).unwrap_or(0);
        if listed.is_index() {
            put(&mut packet, 28, stamp);
        } else {
            put(&mut packet, 16, volume);
            put(&mut packet, 44, stamp);
            put(&mut packet, 60, stamp);
        }
        let since = Duration::from_secs(u64::try_from(secs - first).unwrap_or(0));
        frames.push((since, vec![packet]));
    }
    ensure!(!frames.is_empty(), "it holds no tick");
    Ok((vec![listed], frames))
}

/// Seconds since 1970 of a local time in India.
fn secs(text: &str) -> Option<i64> {
    let utc = crate::kraken::text::parse_time(&format!("{}Z", text.trim().replacen(' ', "T", 1)))?;
    Some(utc / 1_000_000_000 - IST_SECS)
}

/// `1334.35` in hundredths.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let part: u32 = format!("{part:0<2}").parse().ok().filter(|part| *part < 100)?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)
}
