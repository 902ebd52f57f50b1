//! A node's envelopes, read by place rather than parsed: a measured client must
//! cost little, and the SDK's tests are where they are parsed in full.

/// What an envelope says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Message {
        data: &'a [u8],
        position: &'a [u8],
    },
    /// Where delivery begins, when the channel has any position.
    Hello {
        position: Option<&'a [u8]>,
    },
    Gap,
    Ping,
    Other,
}

/// Reads an envelope whose messages carry `payload_bytes` of data, last of all.
pub(super) fn read(text: &[u8], payload_bytes: usize) -> Said<'_> {
    let Some(rest) = text.strip_prefix(br#"{"type":""#) else { return Said::Other };
    if rest.starts_with(b"message\"") {
        let data = text.len().checked_sub(payload_bytes + 1).map(|at| &text[at..text.len() - 1]);
        // Data of another length is shown whole, for the tally to notice.
        let data = data.filter(|data| data.starts_with(b"{")).unwrap_or(text);
        return Said::Message { data, position: quoted_behind(rest, br#""pos":""#).unwrap_or_default() };
    }
    if rest.starts_with(b"hello\"") {
        // {"user:NAME":"POSITION"}: this client has one channel only.
        let positions = between(rest, br#""positions":{"#, b'}').unwrap_or_default();
        return Said::Hello { position: quoted_behind(positions, br#"":""#) };
    }
    match rest {
        rest if rest.starts_with(b"gap\"") => Said::Gap,
        rest if rest.starts_with(b"ping\"") => Said::Ping,
        _ => Said::Other,
    }
}

fn quoted_behind<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    between(text, key, b'"')
}

fn between<'a>(text: &'a [u8], start: &[u8], end: u8) -> Option<&'a [u8]> {
    let at = text.windows(start.len()).position(|window| window == start)? + start.len();
    let length = text[at..].iter().position(|byte| *byte == end)?;
    Some(&text[at..at + length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{Dialect, HelloLimits, Outgoing, ServerFrame};
    use crate::protocol::{Channel, Epoch, Message, MessageId, NodeId, Position, SessionId};
    use bytes::Bytes;
    use std::collections::BTreeMap;

    fn text_of(frame: &[u8]) -> &[u8] {
        &frame[if frame[1] < 126 { 2 } else { 4 }..]
    }

    #[test]
    fn what_a_node_says_is_read() {
        let (data, position) = (br#"{"s":"00"}"#, Position::new(Epoch::from_bits(1), 42));
        let message = Outgoing::new(Message {
            id: MessageId::generate(),
            channel: Channel::user("alice").expect("valid"),
            position: Some(position),
            accepted_at_us: 1,
            expires_at_ms: 2,
            data: Bytes::from_static(data),
            trace: None,
            accountable: false,
        });
        let frame = message.frame(Dialect::Envelope);
        let said = read(text_of(frame), data.len());
        assert_eq!(said, Said::Message { data, position: position.to_string().as_bytes() });

        let hello = |positions| {
            let limits = HelloLimits::default();
            let (session, node) = (SessionId::generate(), NodeId::generate());
            ServerFrame::Hello {
                session,
                node,
                user: "alice",
                device: None,
                resumed: false,
                positions,
                heartbeat_ms: 1,
                limits,
            }
            .encode()
        };
        let known = hello(BTreeMap::from([("user:alice", position)]));
        let said = read(text_of(&known), 10);
        assert_eq!(said, Said::Hello { position: Some(position.to_string().as_bytes()) });
        assert_eq!(read(text_of(&hello(BTreeMap::new())), 10), Said::Hello { position: None });
        assert_eq!(read(text_of(&ServerFrame::Ping.encode()), 10), Said::Ping);
    }
}
