//! The body of a request: read within bounds, unpacked within the same bounds.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;

/// A client that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(30);
const KIB: usize = 1024;

/// Bytes with the room that they take among all bodies.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    _room: Room,
}

/// Room taken so far, in KiB.
#[derive(Debug)]
struct Room {
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Takes more until it is enough for `bytes`; never waits, since two half-read bodies could wait for each other.
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes.div_ceil(KIB);
        let missing = wanted.saturating_sub(self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let Ok(missing) = u32::try_from(missing) else { return Err(Refusal::Busy) };
        if missing > 0 {
            let more = self.all.clone().try_acquire_many_owned(missing).map_err(|_| Refusal::Busy)?;
            match &mut self.taken {
                Some(taken) => taken.merge(more),
                None => self.taken = Some(more),
            }
        }
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes, packed and unpacked.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize, all: &Arc<Semaphore>) -> Result<Held, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
    let packed = match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => false,
        "gzip" | "x-gzip" => true,
        _ => return Err(Refusal::Encoding(encoding.to_owned())),
    };
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > limit) {
        return Err(Refusal::TooLarge);
    }
    let mut room = Room { all: all.clone(), taken: None };
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    loop {
        let piece = tokio::time::timeout(SILENCE, pieces.next()).await.map_err(|_| Refusal::TooSlow)?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| Refusal::Invalid(format!("reading the body: {error}")))?;
        let len = bytes.len() + piece.len();
        if len > limit {
            return Err(Refusal::TooLarge);
        }
        room.grow(len)?;
        bytes.extend_from_slice(&piece);
    }
    if !packed {
        return Ok(Held { bytes, _room: room });
    }
    let room = Room { all: all.clone(), taken: None };
    let unpacked = tokio::task::spawn_blocking(move || unpack(&bytes, limit, room)).await;
    unpacked.unwrap_or_else(|_| Err(Refusal::Invalid("gzip: the body cannot be unpacked".to_owned())))
}

fn unpack(packed: &[u8], limit: usize, mut room: Room) -> Result<Held, Refusal> {
    let mut unpacked = MultiGzDecoder::new(packed);
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        room.grow(before + 64 * KIB)?;
        // One byte more than is allowed, to see that there is more.
        let most = (64 * KIB).min(limit + 1 - before) as u64;
        let read = (&mut unpacked).take(most).read_to_end(&mut bytes);
        read.map_err(|error| Refusal::Invalid(format!("gzip: {error}")))?;
        if bytes.len() > limit {
            return Err(Refusal::TooLarge);
        }
        if bytes.len() == before {
            return Ok(Held { bytes, _room: room });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    async fn of(bytes: &[u8], gzip: bool, limit: usize, kib: usize) -> Result<Vec<u8>, Refusal> {
        let mut headers = HeaderMap::new();
        let mut body = bytes.to_vec();
        if gzip {
            headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(bytes).unwrap();
            body = packer.finish().unwrap();
        }
        let all = Arc::new(Semaphore::new(kib));
        let held = read(&headers, Body::from(body), limit, &all).await;
        let bytes = held.map(|held| held.bytes);
        assert_eq!(all.available_permits(), kib, "all room is given back");
        bytes
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_packed_or_not() {
        let text = vec![b'x'; 200_000];
        for gzip in [false, true] {
            assert_eq!(of(&text, gzip, 200_000, 1_000).await.as_deref(), Ok(text.as_slice()));
            assert_eq!(of(&text, gzip, 199_999, 1_000).await, Err(Refusal::TooLarge));
            assert_eq!(of(&text, gzip, 200_000, 10).await, Err(Refusal::Busy));
            assert_eq!(of(b"", gzip, 100, 1_000).await, Ok(Vec::new()));
        }
    }

    #[tokio::test]
    async fn what_is_no_gzip_or_another_encoding_is_refused() {
        let all = Arc::new(Semaphore::new(1_000));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let refused = read(&headers, Body::from("m f=1"), 100, &all).await.unwrap_err();
        assert!(matches!(&refused, Refusal::Invalid(words) if words.starts_with("gzip: ")), "{refused:?}");
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        let refused = read(&headers, Body::from("m f=1"), 100, &all).await.unwrap_err();
        assert_eq!(refused, Refusal::Encoding("br".to_owned()));
    }
}
