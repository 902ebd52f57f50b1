//! A server's WebSocket frames, as far as one node of ours sends them: whole,
//! unmasked, in their shortest form.

pub(super) const TEXT: u8 = 0x1;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// Bytes that are no such frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Takes a frame off the front of `bytes`; none when it is not all there.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Unreadable> {
    let [first, second, rest @ ..] = *bytes else { return Ok(None) };
    // Fragments, extensions and masks are nothing a node sends.
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(Unreadable);
    }
    let (len, rest) = match second & 0x7f {
        126 => match rest.split_first_chunk::<2>() {
            Some((len, rest)) => (usize::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((len, rest)) => (usize::try_from(u64::from_be_bytes(*len)).map_err(|_| Unreadable)?, rest),
            None => return Ok(None),
        },
        short => (usize::from(short), rest),
    };
    if rest.len() < len {
        return Ok(None);
    }
    let (payload, rest) = rest.split_at(len);
    *bytes = rest;
    Ok(Some(Frame { opcode: first & 0x0f, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ws;

    #[test]
    fn what_a_node_writes_is_read_wherever_it_is_cut() {
        let texts = ["", "a", &"b".repeat(126), &"c".repeat(70_000)];
        let mut stream = Vec::new();
        for text in texts {
            stream.extend_from_slice(&ws::encode_text(&[text.as_bytes()]));
        }
        stream.extend_from_slice(&ws::encode_ping(b"p"));
        for cut in [0, 1, 2, 3, 5, 100, 140, 200, 60_000, stream.len()] {
            let (mut seen, mut rest) = (Vec::new(), &stream[..cut]);
            while let Some(frame) = take(&mut rest).expect("readable") {
                seen.push((frame.opcode, frame.payload.len()));
            }
            let joined = [rest, &stream[cut..]].concat();
            let mut rest = joined.as_slice();
            while let Some(frame) = take(&mut rest).expect("readable") {
                seen.push((frame.opcode, frame.payload.len()));
            }
            assert_eq!(seen, [(TEXT, 0), (TEXT, 1), (TEXT, 126), (TEXT, 70_000), (PING, 1)], "{cut}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_no_node_sends_is_refused() {
        for bytes in [b"\x01\x00", b"\xc1\x00", b"\x81\x80"] {
            assert_eq!(take(&mut bytes.as_slice()), Err(Unreadable), "{bytes:?}");
        }
    }
}
