//! Server-sent events: the text that an event stream is made of.
//!
//! An event is a block of lines that a blank line ends. Its `id:` is what the
//! client sends back as `Last-Event-ID`, and belongs to one session; the rest
//! is the same for all and encoded once.

use bytes::{BufMut, Bytes, BytesMut};

/// A comment: what keeps proxies from taking the connection for dead.
pub const COMMENT: &[u8] = b":\n\n";

/// What an event of this type consists of, its id apart: `data` is parts, one
/// behind the other, in which any line break begins a new `data:` line.
#[must_use]
pub fn encode(event: &str, data: &[&[u8]]) -> Bytes {
    let len = data.iter().map(|part| part.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(len + event.len() + 24);
    out.put_slice(b"event: ");
    out.put_slice(event.as_bytes());
    out.put_slice(b"\ndata: ");
    for part in data {
        put_lines(&mut out, part);
    }
    out.put_slice(b"\n\n");
    out.freeze()
}

/// The line that stands before an event and names it.
#[must_use]
pub fn encode_id(id: impl std::fmt::Display) -> Box<[u8]> {
    format!("id: {id}\n").into_bytes().into_boxed_slice()
}

/// How long a client waits before it reconnects by itself.
#[must_use]
pub fn encode_retry(milliseconds: u64) -> Bytes {
    Bytes::from(format!("retry: {milliseconds}\n\n"))
}

/// JSON may be laid out over several lines. Each way to break them is one break.
fn put_lines(out: &mut BytesMut, mut part: &[u8]) {
    while let Some(at) = part.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        out.put_slice(&part[..at]);
        out.put_slice(b"\ndata: ");
        let both = part[at..].starts_with(b"\r\n");
        part = &part[at + if both { 2 } else { 1 }..];
    }
    out.put_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_block_and_line_breaks_within_do_not_end_it() {
        assert_eq!(encode("message", &[b"{\"a\":", b"1}"])[..], *b"event: message\ndata: {\"a\":1}\n\n");
        let broken = encode("message", &[b"{\n", b"\"a\":\r\n1,\r\"b\":\n\n2}"]);
        let lines = "event: message\ndata: {\ndata: \"a\":\ndata: 1,\ndata: \"b\":\ndata: \ndata: 2}\n\n";
        assert_eq!(std::str::from_utf8(&broken), Ok(lines));
    }
}
