//! Frames that a client sends, from a stream of bytes cut anywhere.

use super::encode::CONTROL_BYTES_MAX;
use crate::protocol::close::CloseCode;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The longest header of a client's frame: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Something that a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message, fragments joined. It is valid UTF-8.
    Text(Vec<u8>),
    /// A Ping, to be answered with a Pong of the same payload.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// The client closes, with a code if it gave one.
    Close(Option<CloseCode>, String),
}

/// Why a client's bytes could not be used; nothing can be read after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// What to close with.
    pub code: CloseCode,
    /// What was wrong, for the close frame.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::PROTOCOL, reason }
    }
}

/// What the header of the frame being read said.
#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Payload still to come.
    remaining: usize,
}

/// Reads a client's frames, holding memory only for what is unfinished.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    frame: Option<Frame>,
    /// A message has begun and its last fragment has not come.
    in_message: bool,
    /// So much of the message is known to be UTF-8.
    utf8_len: usize,
    message: Vec<u8>,
    control: Vec<u8>,
}

impl Decoder {
    /// A decoder that refuses messages above `message_bytes_max`.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            frame: None,
            in_message: false,
            utf8_len: 0,
            message: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Reads up to the end of the next event and moves `input` past it. `None`
    /// means that all of `input` is consumed and more is needed.
    ///
    /// # Errors
    /// When the client broke the protocol or a limit; the decoder is then of no
    /// further use.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            self.read_payload(&mut frame, input)?;
            if frame.remaining > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(event) = self.finish(frame)? {
                return Ok(Some(event));
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        loop {
            let have = usize::from(self.header_len);
            let need = header_len(&self.header[..have]);
            if have == need {
                self.header_len = 0;
                return self.parse_header(need).map(Some);
            }
            let take = (need - have).min(input.len());
            if take == 0 {
                return Ok(None);
            }
            let (taken, rest) = input.split_at(take);
            self.header[have..have + take].copy_from_slice(taken);
            self.header_len += take as u8;
            *input = rest;
            if have < 2 && self.header_len >= 2 {
                self.check_start()?;
            }
        }
    }

    /// Refuses by the first two bytes what no later byte can make valid.
    fn check_start(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let (fin, opcode, len) = (first & 0x80 != 0, first & 0x0f, usize::from(second & 0x7f));
        if first & 0x70 != 0 {
            return Err(Violation::protocol("reserved bits are set and no extension was agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(Violation::protocol("frames from a client must be masked"));
        }
        match opcode {
            CONTINUATION if !self.in_message => Err(Violation::protocol("a continuation of no message")),
            TEXT | BINARY if self.in_message => {
                Err(Violation::protocol("a new message before the last fragment of another"))
            }
            BINARY => {
                Err(Violation { code: CloseCode::UNSUPPORTED, reason: "binary messages are not used here" })
            }
            CONTINUATION | TEXT => Ok(()),
            CLOSE | PING | PONG if !fin => Err(Violation::protocol("a fragmented control frame")),
            CLOSE | PING | PONG if len > CONTROL_BYTES_MAX => {
                Err(Violation::protocol("a control frame above 125 bytes"))
            }
            CLOSE if len == 1 => Err(Violation::protocol("half a close code")),
            CLOSE | PING | PONG => Ok(()),
            _ => Err(Violation::protocol("an unknown opcode")),
        }
    }

    fn parse_header(&self, header_len: usize) -> Result<Frame, Violation> {
        let header = &self.header[..header_len];
        let (len, mask) = header[2..].split_at(header_len - 6);
        let (len, shortest) = match *len {
            [] => (u64::from(header[1] & 0x7f), true),
            [a, b] => (u64::from(u16::from_be_bytes([a, b])), u16::from_be_bytes([a, b]) > 125),
            _ => {
                let len = len.iter().fold(0, |len, byte| len << 8 | u64::from(*byte));
                (len, len > 0xffff && len >> 63 == 0)
            }
        };
        if !shortest {
            return Err(Violation::protocol("a length in other than its shortest form"));
        }
        let opcode = header[0] & 0x0f;
        let room = self.message_bytes_max.saturating_sub(self.message.len());
        let remaining = usize::try_from(len).unwrap_or(usize::MAX);
        if opcode < CLOSE && remaining > room {
            return Err(Violation { code: CloseCode::TOO_BIG, reason: "the message is above the limit" });
        }
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Frame { fin: header[0] & 0x80 != 0, opcode, mask, remaining })
    }

    fn read_payload(&mut self, frame: &mut Frame, input: &mut &[u8]) -> Result<(), Violation> {
        let take = frame.remaining.min(input.len());
        let (taken, rest) = input.split_at(take);
        *input = rest;
        frame.remaining -= take;
        let into = if frame.opcode < CLOSE { &mut self.message } else { &mut self.control };
        let start = into.len();
        // Only for what is here: the length that a header claims is worth nothing.
        into.extend_from_slice(taken);
        for (index, byte) in into[start..].iter_mut().enumerate() {
            *byte ^= frame.mask[index & 3];
        }
        frame.mask.rotate_left(take & 3);
        if frame.opcode < CLOSE { self.check_text(frame.fin && frame.remaining == 0) } else { Ok(()) }
    }

    /// Checks what is new of a text; a character may still be cut in two unless
    /// this is the end.
    fn check_text(&mut self, end: bool) -> Result<(), Violation> {
        let invalid = Violation { code: CloseCode::INVALID_DATA, reason: "text that is not UTF-8" };
        match std::str::from_utf8(&self.message[self.utf8_len..]) {
            Ok(text) => self.utf8_len += text.len(),
            Err(error) if error.error_len().is_none() && !end => self.utf8_len += error.valid_up_to(),
            Err(_) => return Err(invalid),
        }
        Ok(())
    }

    fn finish(&mut self, frame: Frame) -> Result<Option<Event>, Violation> {
        Ok(match frame.opcode {
            CONTINUATION | TEXT if frame.fin => {
                self.in_message = false;
                self.utf8_len = 0;
                Some(Event::Text(std::mem::take(&mut self.message)))
            }
            CONTINUATION | TEXT => {
                self.in_message = true;
                None
            }
            PING => Some(Event::Ping(std::mem::take(&mut self.control))),
            PONG => Some(Event::Pong(std::mem::take(&mut self.control))),
            _ => Some(close_event(&std::mem::take(&mut self.control))?),
        })
    }
}

/// The header's whole length, as far as the bytes of it that are here tell.
fn header_len(header: &[u8]) -> usize {
    match header.get(1).map(|second| second & 0x7f) {
        None => 2,
        Some(126) => 8,
        Some(127) => 14,
        Some(_) => 6,
    }
}

fn close_event(payload: &[u8]) -> Result<Event, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Ok(Event::Close(None, String::new()));
    };
    let code = CloseCode::from_peer(u16::from_be_bytes(*code))
        .ok_or(Violation::protocol("a close code that must not be sent"))?;
    let reason = std::str::from_utf8(reason)
        .map_err(|_| Violation { code: CloseCode::INVALID_DATA, reason: "a reason that is not UTF-8" })?;
    Ok(Event::Close(Some(code), reason.to_owned()))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
