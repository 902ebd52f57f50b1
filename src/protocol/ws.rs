//! RFC 6455 frames: the part that needs no socket.

use bytes::{BufMut, Bytes, BytesMut};

/// One unmasked text frame of these parts, one behind the other.
#[must_use]
pub fn encode_text(parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(len + 10);
    put_header(&mut out, 0x1, len);
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
