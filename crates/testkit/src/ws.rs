//! The server's side of WebSocket framing (RFC 6455), by hand.
//!
//! A library writes only correct frames. A fake venue must also stop in the middle of one, put
//! invalid UTF-8 into a text frame, and send a megabyte of prepared frames with one call.

/// Largest message a client may send, bytes. A subscription of every pair of the venue has 20 KB.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Longest header of a frame from the server: two bytes and a length of eight.
const MAX_HEADER_BYTES: usize = 10;

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Appends the header of an unmasked, unfragmented frame of `len` payload bytes.
pub(crate) fn push_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    out.push(0x80 | opcode as u8);
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// One whole frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + MAX_HEADER_BYTES);
    push_header(&mut out, opcode, payload.len());
    out.extend_from_slice(payload);
    out
}

/// A close frame with its code and reason.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    // A control frame carries 125 bytes at most.
    payload.extend(reason.bytes().take(123));
    frame(Opcode::Close, &payload)
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// Why a client's bytes are not WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a client's frame must be masked")]
    Unmasked,
    #[error("reserved bits or opcode")]
    Reserved,
    #[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
}

/// Cuts a client's bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// Payload of a fragmented message so far, with its kind.
    open: Option<(Opcode, Vec<u8>)>,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes come.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        while let Some((last, opcode, payload)) = self.take_frame()? {
            match opcode {
                Opcode::Ping => return Ok(Some(Incoming::Ping(payload))),
                Opcode::Pong => return Ok(Some(Incoming::Pong)),
                Opcode::Close => return Ok(Some(Incoming::Close)),
                Opcode::Continuation => {
                    let Some((_, open)) = &mut self.open else { return Err(Broken::Reserved) };
                    if open.len() + payload.len() > MAX_MESSAGE_BYTES {
                        return Err(Broken::TooLong);
                    }
                    open.extend_from_slice(&payload);
                }
                Opcode::Text | Opcode::Binary => self.open = Some((opcode, payload)),
            }
            if last && let Some((opcode, payload)) = self.open.take() {
                return Ok(Some(match opcode {
                    Opcode::Text => Incoming::Text(payload),
                    _ => Incoming::Binary(payload),
                }));
            }
        }
        Ok(None)
    }

    fn take_frame(&mut self) -> Result<Option<(bool, Opcode, Vec<u8>)>, Broken> {
        let &[first, second, ..] = self.bytes.as_slice() else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Broken::Unmasked);
        }
        if first & 0x70 != 0 {
            return Err(Broken::Reserved);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Broken::Reserved),
        };
        let (len, at) = match second & 0x7f {
            126 => match self.bytes.get(2..4).and_then(|b| b.try_into().ok()) {
                Some(len) => (u64::from(u16::from_be_bytes(len)), 4),
                None => return Ok(None),
            },
            127 => match self.bytes.get(2..10).and_then(|b| b.try_into().ok()) {
                Some(len) => (u64::from_be_bytes(len), 10),
                None => return Ok(None),
            },
            len => (u64::from(len), 2),
        };
        let len = usize::try_from(len).ok().filter(|&len| len <= MAX_MESSAGE_BYTES).ok_or(Broken::TooLong)?;
        let Some(masked) = self.bytes.get(at..at + 4 + len) else { return Ok(None) };
        let (mask, masked) = masked.split_at(4);
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.bytes.drain(..at + 4 + len);
        Ok(Some((first & 0x80 != 0, opcode, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 11, 13, 17];
        let mut out = frame(Opcode::Text, payload);
        out[0] = first;
        out[1] |= 0x80;
        let at = out.len() - payload.len();
        let body: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        out.truncate(at);
        out.extend_from_slice(&mask);
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn messages_of_every_length_survive_any_cut_of_their_bytes() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let text = vec![b'x'; len];
            let wire = masked(0x81, &text);
            for cut in [1, 2, 3, 5, 9, wire.len() / 2].into_iter().filter(|&cut| cut < wire.len()) {
                let mut decoder = Decoder::default();
                decoder.push(&wire[..cut]);
                assert_eq!(decoder.next(), Ok(None), "{len} bytes cut at {cut}");
                decoder.push(&wire[cut..]);
                assert_eq!(decoder.next(), Ok(Some(Incoming::Text(text.clone()))), "{len} bytes cut at {cut}");
            }
        }
    }

    #[test]
    fn a_ping_may_stand_inside_a_fragmented_message() {
        let mut decoder = Decoder::default();
        decoder.push(&masked(0x01, b"ab"));
        decoder.push(&masked(0x89, b"p"));
        decoder.push(&masked(0x80, b"cd"));
        assert_eq!(decoder.next(), Ok(Some(Incoming::Ping(b"p".to_vec()))));
        assert_eq!(decoder.next(), Ok(Some(Incoming::Text(b"abcd".to_vec()))));
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&frame(Opcode::Text, b"unmasked"));
        assert_eq!(decoder.next(), Err(Broken::Unmasked));
        let mut decoder = Decoder::default();
        decoder.push(&[0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(Broken::TooLong));
    }
}
