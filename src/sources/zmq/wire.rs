//! What the child that holds the sockets says to the source, and how.
//!
//! ```text
//! u32 length of what follows · u8 kind · u16 endpoint · i64 time (ns) · body          all big-endian
//! kind 1  connected       kind 2  gone       kind 3  message: u16 frames · (u32 length · bytes)…
//! kind 4  too large: u64 bytes               kind 5  words for the log
//! ```

/// The largest message that is passed on: a ticker of all pairs has 600 kB.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Frames of a message that are passed on.
pub const FRAMES: usize = 16;
/// The largest record: a message, the lengths of its frames, and the head.
pub const RECORD_BYTES: usize = MESSAGE_BYTES + 4 * FRAMES + 64;
/// Kind, endpoint, time.
const HEAD_BYTES: usize = 1 + 2 + 8;

/// One thing the child says.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Which of the addresses.
    pub endpoint: u16,
    /// The host's clock, ns, when it happened.
    pub at_ns: i64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Connected,
    Gone,
    Message(Vec<Vec<u8>>),
    TooLarge(u64),
    Words(String),
}

/// Appends a record, its length before it.
pub fn write(said: &Said, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let kind = match &said.what {
        What::Connected => 1,
        What::Gone => 2,
        What::Message(_) => 3,
        What::TooLarge(_) => 4,
        What::Words(_) => 5,
    };
    out.push(kind);
    out.extend_from_slice(&said.endpoint.to_be_bytes());
    out.extend_from_slice(&said.at_ns.to_be_bytes());
    match &said.what {
        What::Connected | What::Gone => {}
        What::Message(frames) => {
            // Capped by whoever received it.
            out.extend_from_slice(&(frames.len() as u16).to_be_bytes());
            for frame in frames {
                out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                out.extend_from_slice(frame);
            }
        }
        What::TooLarge(bytes) => out.extend_from_slice(&bytes.to_be_bytes()),
        What::Words(words) => out.extend_from_slice(words.as_bytes()),
    }
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Reads a record without its length; `None` for what the child never says.
#[must_use]
pub fn read(record: &[u8]) -> Option<Said> {
    let (head, body) = record.split_at_checked(HEAD_BYTES)?;
    let endpoint = u16::from_be_bytes([head[1], head[2]]);
    let at_ns = i64::from_be_bytes(head[3..].try_into().ok()?);
    let what = match head[0] {
        1 => What::Connected,
        2 => What::Gone,
        3 => What::Message(frames(body)?),
        4 => What::TooLarge(u64::from_be_bytes(body.try_into().ok()?)),
        5 => What::Words(String::from_utf8_lossy(body).into_owned()),
        _ => return None,
    };
    Some(Said { endpoint, at_ns, what })
}

fn frames(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (count, mut rest) = body.split_at_checked(2)?;
    let count = usize::from(u16::from_be_bytes(count.try_into().ok()?));
    if count > FRAMES {
        return None;
    }
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, behind) = rest.split_at_checked(4)?;
        let (frame, behind) = behind.split_at_checked(u32::from_be_bytes(len.try_into().ok()?) as usize)?;
        frames.push(frame.to_vec());
        rest = behind;
    }
    rest.is_empty().then_some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let whats = [
            What::Connected,
            What::Gone,
            What::Message(vec![b"topic".to_vec(), Vec::new(), vec![0; 70_000]]),
            What::TooLarge(u64::MAX),
            What::Words("no route".into()),
        ];
        for what in whats {
            let said = Said { endpoint: 7, at_ns: -5, what };
            let mut bytes = Vec::new();
            write(&said, &mut bytes);
            let len = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
            assert_eq!(len as usize, bytes.len() - 4);
            assert_eq!(read(&bytes[4..]), Some(said));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
