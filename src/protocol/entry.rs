//! Entries of a node stream: a batch of messages in one binary record.
//!
//! A record is a version byte, then messages one behind the other, each headed
//! by its own length, so that a node one release older skips the fields it does
//! not know at a message's end. Numbers are big-endian.
//!
//! | field | bytes |
//! |---|---|
//! | length of the rest | 4 |
//! | flags: 1 position, 2 accountable, 4 trace, 8 disconnect, 16 question | 1 |
//! | id | 16 |
//! | accepted at, µs | 8 |
//! | expires at, ms | 8 |
//! | epoch, seq, if flagged | 8 + 8 |
//! | channel | 2 + n |
//! | trace, if flagged | 2 + n |
//! | data | 4 + n |
//!
//! A record flagged *disconnect* is no message: it asks the node to close its
//! sessions of the channel. Nor is one flagged *question*, whose data say what to
//! do (1: tell of the channel's sessions; 2 and 16 bytes: close that session) and
//! whose id is the question's: the answer goes to the store under it. A record
//! with a flag of a later release is skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Channel, Epoch, Message, MessageId, Position, SessionId};

/// The version this release writes, and the highest it reads.
pub const VERSION: u8 = 1;

const HAS_POSITION: u8 = 1;
const ACCOUNTABLE: u8 = 2;
const HAS_TRACE: u8 = 4;
const DISCONNECT: u8 = 8;
const QUESTION: u8 = 16;
const KNOWN: u8 = HAS_POSITION | ACCOUNTABLE | HAS_TRACE | DISCONNECT | QUESTION;
/// Wishes of a question.
const LIST: u8 = 1;
const CLOSE: u8 = 2;

/// What an entry holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Messages to deliver, in the order they were sent.
    pub messages: Vec<Message>,
    /// Channels whose sessions are to be closed.
    pub disconnects: Vec<Channel>,
    /// What the node is asked.
    pub questions: Vec<Question>,
}

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Under which it is answered.
    pub id: MessageId,
    /// Whose sessions it is about.
    pub channel: Channel,
    /// What is wanted.
    pub wish: Wish,
}

/// What a question wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be told of the sessions.
    List,
    /// That this one be closed.
    Close(SessionId),
}

/// Bytes that are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a release too new for this one.
    #[error("entry version {0} is newer than {VERSION}: upgrade this node")]
    Version(u8),
    /// Cut short, or a length points beyond the end.
    #[error("entry is cut short")]
    Truncated,
    /// A channel or trace that cannot be one.
    #[error("entry holds an invalid {0}")]
    Invalid(&'static str),
}

/// How many bytes `message` takes in an entry.
#[must_use]
pub fn encoded_len(message: &Message) -> usize {
    4 + 1
        + 16
        + 8
        + 8
        + message.position.map_or(0, |_| 16)
        + 2
        + message.channel.as_str().len()
        + message.trace.as_ref().map_or(0, |trace| 2 + trace.len())
        + 4
        + message.data.len()
}

/// Writes one entry of these messages.
#[must_use]
pub fn encode<'a>(messages: impl Iterator<Item = &'a Message> + Clone) -> Bytes {
    let len = 1 + messages.clone().map(encoded_len).sum::<usize>();
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(VERSION);
    for message in messages {
        put_record(&mut out, message, 0);
    }
    out.freeze()
}

/// Writes an entry that asks a node to close its sessions of `channel`.
#[must_use]
pub fn encode_disconnect(channel: &Channel) -> Bytes {
    let record = empty(channel);
    let mut out = BytesMut::with_capacity(1 + encoded_len(&record));
    out.put_u8(VERSION);
    put_record(&mut out, &record, DISCONNECT);
    out.freeze()
}

/// Writes an entry that asks a node something.
#[must_use]
pub fn encode_question(question: &Question) -> Bytes {
    let mut wish = BytesMut::with_capacity(17);
    match question.wish {
        Wish::List => wish.put_u8(LIST),
        Wish::Close(session) => {
            wish.put_u8(CLOSE);
            wish.put_u128(session.bits());
        }
    }
    let record = Message { id: question.id, data: wish.freeze(), ..empty(&question.channel) };
    let mut out = BytesMut::with_capacity(1 + encoded_len(&record));
    out.put_u8(VERSION);
    put_record(&mut out, &record, QUESTION);
    out.freeze()
}

/// A record that is no message.
fn empty(channel: &Channel) -> Message {
    Message {
        id: MessageId::from_bits(0),
        channel: channel.clone(),
        position: None,
        accepted_at_us: 0,
        expires_at_ms: 0,
        data: Bytes::new(),
        trace: None,
        accountable: false,
    }
}

fn question(record: Message) -> Option<Question> {
    let Message { id, channel, mut data, .. } = record;
    let wish = match data.try_get_u8().ok()? {
        LIST => Wish::List,
        CLOSE => Wish::Close(SessionId::from_bits(data.try_get_u128().ok()?)),
        _ => return None,
    };
    Some(Question { id, channel, wish })
}

fn put_record(out: &mut BytesMut, message: &Message, mut flags: u8) {
    if message.position.is_some() {
        flags |= HAS_POSITION;
    }
    if message.accountable {
        flags |= ACCOUNTABLE;
    }
    if message.trace.is_some() {
        flags |= HAS_TRACE;
    }
    out.put_u32((encoded_len(message) - 4) as u32);
    out.put_u8(flags);
    out.put_u128(message.id.bits());
    out.put_u64(message.accepted_at_us);
    out.put_u64(message.expires_at_ms);
    if let Some(position) = message.position {
        out.put_u64(position.epoch.bits());
        out.put_u64(position.seq);
    }
    out.put_u16(message.channel.as_str().len() as u16);
    out.put_slice(message.channel.as_str().as_bytes());
    if let Some(trace) = &message.trace {
        out.put_u16(trace.len() as u16);
        out.put_slice(trace.as_bytes());
    }
    out.put_u32(message.data.len() as u32);
    out.put_slice(&message.data);
}

/// Reads an entry; the messages' data are slices of it, not copies.
///
/// # Errors
/// When the bytes are not an entry of a version this release knows.
pub fn decode(mut entry: Bytes) -> Result<Entry, DecodeError> {
    let version = entry.try_get_u8().map_err(|_| DecodeError::Truncated)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let mut decoded = Entry::default();
    while !entry.is_empty() {
        let len = entry.try_get_u32().map_err(|_| DecodeError::Truncated)? as usize;
        let (flags, message) = decode_record(take(&mut entry, len)?)?;
        if flags & !KNOWN != 0 {
            continue;
        }
        match flags & (DISCONNECT | QUESTION) {
            0 => decoded.messages.push(message),
            DISCONNECT => decoded.disconnects.push(message.channel),
            _ => decoded.questions.extend(question(message)),
        }
    }
    Ok(decoded)
}

fn decode_record(mut bytes: Bytes) -> Result<(u8, Message), DecodeError> {
    let fixed = |_| DecodeError::Truncated;
    let flags = bytes.try_get_u8().map_err(fixed)?;
    let id = MessageId::from_bits(bytes.try_get_u128().map_err(fixed)?);
    let accepted_at_us = bytes.try_get_u64().map_err(fixed)?;
    let expires_at_ms = bytes.try_get_u64().map_err(fixed)?;
    let position = if flags & HAS_POSITION == 0 {
        None
    } else {
        let epoch = Epoch::from_bits(bytes.try_get_u64().map_err(fixed)?);
        Some(Position::new(epoch, bytes.try_get_u64().map_err(fixed)?))
    };
    let channel = take_text(&mut bytes)?;
    let channel: Channel = text(&channel, "channel")?.parse().map_err(|_| DecodeError::Invalid("channel"))?;
    let trace =
        if flags & HAS_TRACE == 0 { None } else { Some(text(&take_text(&mut bytes)?, "trace")?.into()) };
    let len = bytes.try_get_u32().map_err(fixed)? as usize;
    let data = take(&mut bytes, len)?;
    let message = Message {
        id,
        channel,
        position,
        accepted_at_us,
        expires_at_ms,
        data,
        trace,
        accountable: flags & ACCOUNTABLE != 0,
    };
    Ok((flags, message))
}

fn take(bytes: &mut Bytes, len: usize) -> Result<Bytes, DecodeError> {
    if bytes.len() < len { Err(DecodeError::Truncated) } else { Ok(bytes.split_to(len)) }
}

fn take_text(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = bytes.try_get_u16().map_err(|_| DecodeError::Truncated)? as usize;
    take(bytes, len)
}

fn text<'a>(bytes: &'a Bytes, what: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn message()(
            id: u128, epoch: u64, seq: u64, positioned: bool, accountable: bool, at: u64, expires: u64,
            name in "[a-z0-9|@.:-]{1,40}", data in proptest::collection::vec(any::<u8>(), 0..300),
            trace in proptest::option::of("[0-9a-f-]{0,55}"),
        ) -> Message {
            Message {
                id: MessageId::from_bits(id),
                channel: Channel::user(&name).expect("valid name"),
                position: positioned.then(|| Position::new(Epoch::from_bits(epoch), seq)),
                accepted_at_us: at,
                expires_at_ms: expires,
                data: data.into(),
                trace: trace.map(String::into_boxed_str),
                accountable,
            }
        }
    }

    proptest! {
        #[test]
        fn entries_round_trip(messages in proptest::collection::vec(message(), 0..8)) {
            prop_assert_eq!(decode(encode(messages.iter())), Ok(Entry { messages, ..Entry::default() }));
        }

        #[test]
        fn mutated_bytes_never_panic(
            messages in proptest::collection::vec(message(), 1..4),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(messages.iter()).to_vec();
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = decode(bytes.into());
        }

        #[test]
        fn fields_appended_by_a_later_release_are_skipped(message in message(), extra in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = encode([&message].into_iter()).to_vec();
            bytes.extend_from_slice(&extra);
            let len = u32::try_from(bytes.len() - 5).expect("small");
            bytes[1..5].copy_from_slice(&len.to_be_bytes());
            prop_assert_eq!(decode(bytes.into()).map(|entry| entry.messages), Ok(vec![message]));
        }
    }

    #[test]
    fn a_disconnect_is_no_message() {
        let channel = Channel::user("alice").expect("valid");
        let entry = Entry { disconnects: vec![channel.clone()], ..Entry::default() };
        assert_eq!(decode(encode_disconnect(&channel)), Ok(entry));
    }

    #[test]
    fn questions_round_trip_and_those_of_a_later_release_are_skipped() {
        let channel = Channel::user("alice").expect("valid");
        let id = MessageId::from_bits(7);
        for wish in [Wish::List, Wish::Close(SessionId::from_bits(9))] {
            let question = Question { id, channel: channel.clone(), wish };
            let mut bytes = encode_question(&question).to_vec();
            let entry = Entry { questions: vec![question], ..Entry::default() };
            assert_eq!(decode(bytes.clone().into()), Ok(entry));
            let flags = 5;
            bytes[flags] |= 64;
            assert_eq!(decode(bytes.into()), Ok(Entry::default()));
        }
        let unknown = Message { id, data: Bytes::from_static(&[99]), ..empty(&channel) };
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        put_record(&mut out, &unknown, QUESTION);
        assert_eq!(decode(out.freeze()), Ok(Entry::default()));
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(decode(Bytes::from_static(&[9])), Err(DecodeError::Version(9)));
        assert_eq!(decode(Bytes::new()), Err(DecodeError::Truncated));
    }
}
