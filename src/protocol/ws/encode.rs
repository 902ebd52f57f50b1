//! Frames that a server sends: unmasked, never fragmented.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::close::CloseCode;

/// The most that a control frame can carry.
pub(super) const CONTROL_BYTES_MAX: usize = 125;
/// What a close frame's two bytes of code leave for its reason.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// One unmasked text frame of these parts, one behind the other.
#[must_use]
pub fn encode_text(parts: &[&[u8]]) -> Bytes {
    encode(0x1, parts)
}

/// A Ping; what is beyond 125 bytes of payload is cut off.
#[must_use]
pub fn encode_ping(payload: &[u8]) -> Bytes {
    encode(0x9, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
}

/// The Pong that answers a Ping of this payload.
#[must_use]
pub fn encode_pong(payload: &[u8]) -> Bytes {
    encode(0xa, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
}

/// A close frame; a reason that does not fit is cut at a character's end.
#[must_use]
pub fn encode_close(code: CloseCode, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    encode(0x8, &[&code.get().to_be_bytes(), reason.as_bytes()])
}

fn encode(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(len + 10);
    put_header(&mut out, opcode, len);
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

fn put_header(out: &mut BytesMut, opcode: u8, len: usize) {
    out.put_u8(0x80 | opcode);
    match len {
        0..=125 => out.put_u8(len as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(encode_text(&[b"a", b"bc"])[..], *b"\x81\x03abc");
        for (len, header) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            assert_eq!(encode_text(&[&vec![b'x'; len]]).len(), header + len, "{len}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = encode_close(CloseCode::TOKEN, &"é".repeat(100));
        assert_eq!(frame[..4], [0x88, 2 + 122, 0x11, 0x33]);
        assert_eq!(std::str::from_utf8(&frame[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    fn control_frames_never_exceed_their_limit() {
        assert_eq!(encode_ping(&[7; 200]).len(), 2 + 125);
        assert_eq!(encode_pong(b"hi")[..], *b"\x8a\x02hi");
    }
}
