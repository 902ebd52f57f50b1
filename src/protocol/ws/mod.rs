//! RFC 6455: the part of a server that needs no socket.
//!
//! Frames out ([`encode_text`] and its siblings), frames in ([`Decoder`]), and
//! the handshake's accept key. No extensions: compression would cost a window
//! of memory per connection and open a side channel on tokens.
//!
//! A decoder that holds no unfinished frame holds no memory. Whatever a peer
//! sends is an event or an [`Violation`] with the code to close with; nothing
//! panics and nothing grows beyond the limit.

mod decode;
mod encode;

pub use decode::{Decoder, Event, Violation};
pub use encode::{encode_close, encode_ping, encode_pong, encode_text};

use base64::Engine as _;
use sha1::Digest as _;

/// What makes an accept key one of this protocol, by RFC 6455 §1.3.
const HANDSHAKE_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &str) -> String {
    let digest = sha1::Sha1::new().chain_update(key).chain_update(HANDSHAKE_GUID).finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
