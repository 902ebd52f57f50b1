//! The decoder against hand-written cases, against itself, and against another
//! implementation that reads the same bytes.

use std::io::{self, Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::*;

const BYTES_MAX: usize = 400;

#[derive(Debug, Clone)]
struct Sent {
    first: u8,
    masked: bool,
    mask: [u8; 4],
    payload: Vec<u8>,
}

impl Sent {
    fn new(first: u8, payload: &[u8]) -> Self {
        Self { first, masked: true, mask: [1, 2, 3, 0xf4], payload: payload.to_vec() }
    }

    fn encode(&self) -> Vec<u8> {
        let (len, mask_bit) = (self.payload.len(), u8::from(self.masked) << 7);
        let mut out = vec![self.first];
        match len {
            0..=125 => out.push(mask_bit | len as u8),
            126..=0xffff => {
                out.push(mask_bit | 126);
                out.extend((len as u16).to_be_bytes());
            }
            _ => {
                out.push(mask_bit | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        if self.masked {
            out.extend(self.mask);
            out.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ self.mask[at % 4]));
        } else {
            out.extend(&self.payload);
        }
        out
    }
}

/// Everything that the bytes say, up to a close or a violation.
fn decode_all(chunks: &[&[u8]], bytes_max: usize) -> (Vec<Event>, Option<Violation>) {
    let (mut decoder, mut events) = (Decoder::new(bytes_max), Vec::new());
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => {
                    let close = matches!(event, Event::Close(..));
                    events.push(event);
                    if close {
                        return (events, None);
                    }
                }
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty(), "asks for more with input left");
    }
    (events, None)
}

fn decode_frames(frames: &[Sent]) -> (Vec<Event>, Option<Violation>) {
    let bytes: Vec<u8> = frames.iter().flat_map(Sent::encode).collect();
    decode_all(&[&bytes], BYTES_MAX)
}

fn code_of(frames: &[Sent]) -> Option<CloseCode> {
    decode_frames(frames).1.map(|violation| violation.code)
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let frames = [
        Sent::new(0x01, b"Hel"),
        Sent::new(0x89, b"still there?"),
        Sent::new(0x00, b""),
        Sent::new(0x80, b"lo"),
        Sent::new(0x8a, b"yes"),
    ];
    let events = vec![
        Event::Ping(b"still there?".to_vec()),
        Event::Text(b"Hello".to_vec()),
        Event::Pong(b"yes".to_vec()),
    ];
    assert_eq!(decode_frames(&frames), (events, None));
}

#[test]
fn what_the_rfc_forbids_closes_with_1002() {
    let unmasked = Sent { masked: false, ..Sent::new(0x81, b"hi") };
    let cases: &[(&str, Vec<Sent>)] = &[
        ("unmasked", vec![unmasked]),
        ("reserved bit", vec![Sent::new(0xc1, b"hi")]),
        ("unknown data opcode", vec![Sent::new(0x83, b"hi")]),
        ("unknown control opcode", vec![Sent::new(0x8b, b"")]),
        ("continuation of nothing", vec![Sent::new(0x80, b"hi")]),
        ("two messages at once", vec![Sent::new(0x01, b"a"), Sent::new(0x81, b"b")]),
        ("continuation after the end", vec![Sent::new(0x81, b"a"), Sent::new(0x80, b"b")]),
        ("fragmented ping", vec![Sent::new(0x09, b"hi")]),
        ("long ping", vec![Sent::new(0x89, &[0; 126])]),
        ("half a close code", vec![Sent::new(0x88, b"\x03")]),
        ("reserved close code", vec![Sent::new(0x88, &1005u16.to_be_bytes())]),
    ];
    for (name, frames) in cases {
        assert_eq!(code_of(frames), Some(CloseCode::PROTOCOL), "{name}");
    }
}

#[test]
fn lengths_in_a_longer_form_than_needed_are_refused() {
    let cases: &[&[u8]] = &[
        &[0x81, 0xfe, 0, 125, 0, 0, 0, 0],
        &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in cases {
        let violation = decode_all(&[bytes], usize::MAX).1;
        assert_eq!(violation.map(|violation| violation.code), Some(CloseCode::PROTOCOL), "{bytes:x?}");
    }
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_header_alone() {
    let whole = Sent::new(0x81, &[b'x'; BYTES_MAX]);
    assert_eq!(code_of(&[whole]), None);
    let header = &Sent::new(0x81, &[b'x'; BYTES_MAX + 1]).encode()[..8];
    assert_eq!(decode_all(&[header], BYTES_MAX).1.map(|v| v.code), Some(CloseCode::TOO_BIG));
    let fragments = [Sent::new(0x01, &[b'x'; BYTES_MAX]), Sent::new(0x80, b"x")];
    assert_eq!(code_of(&fragments), Some(CloseCode::TOO_BIG));
    let endless = [0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(decode_all(&[&endless], BYTES_MAX).1.map(|v| v.code), Some(CloseCode::TOO_BIG));
}

#[test]
fn binary_is_refused_at_once() {
    let header = &Sent::new(0x82, b"hi").encode()[..2];
    assert_eq!(decode_all(&[header], BYTES_MAX).1.map(|v| v.code), Some(CloseCode::UNSUPPORTED));
}

#[test]
fn text_that_is_not_utf8_is_refused_as_soon_as_that_is_certain() {
    let text = "κόσμε";
    let (start, end) = text.as_bytes().split_at(3);
    assert_eq!(
        decode_frames(&[Sent::new(0x01, start), Sent::new(0x80, end)]).0,
        vec![Event::Text(text.as_bytes().to_vec())],
        "a character may be cut in two by a fragment"
    );
    assert_eq!(code_of(&[Sent::new(0x81, start)]), Some(CloseCode::INVALID_DATA), "cut by the end");
    assert_eq!(
        code_of(&[Sent::new(0x01, start), Sent::new(0x80, b"")]),
        Some(CloseCode::INVALID_DATA),
        "cut by an empty last fragment"
    );
    assert_eq!(code_of(&[Sent::new(0x01, b"\xed\xa0\x80")]), Some(CloseCode::INVALID_DATA), "a surrogate");
    let unfinished = &Sent::new(0x81, b"ok\xffand much more").encode()[..9];
    assert_eq!(decode_all(&[unfinished], BYTES_MAX).1.map(|v| v.code), Some(CloseCode::INVALID_DATA));
    let reason = [&1000u16.to_be_bytes()[..], b"\xff"].concat();
    assert_eq!(code_of(&[Sent::new(0x88, &reason)]), Some(CloseCode::INVALID_DATA));
}

#[test]
fn a_close_may_be_empty_or_carry_code_and_reason() {
    assert_eq!(decode_frames(&[Sent::new(0x88, b"")]).0, vec![Event::Close(None, String::new())]);
    let payload = [&4000u16.to_be_bytes()[..], b"bye"].concat();
    assert_eq!(
        decode_frames(&[Sent::new(0x88, &payload)]).0,
        vec![Event::Close(CloseCode::from_peer(4000), "bye".to_owned())]
    );
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    let mut decoder = Decoder::new(BYTES_MAX);
    let bytes = [Sent::new(0x81, b"text").encode(), Sent::new(0x89, b"ping").encode()].concat();
    let mut input = &bytes[..];
    while decoder.decode(&mut input).expect("valid").is_some() {}
    assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0));
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let mut decoder = Decoder::new(64 * 1024 * 1024);
    let mut input = &[0x81, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'x'][..];
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.message.capacity() < 64);
}

fn any_frame() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        4 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => "[a-z]{100,300}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
        1 => prop_oneof![(990u16..1020).boxed(), any::<u16>().boxed()]
            .prop_filter("1014 was registered after the other implementation", |code| *code != 1014)
            .prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    let first = prop_oneof![
        12 => prop::sample::select(vec![0x81, 0x01, 0x80, 0x00, 0x89, 0x8a]),
        1 => prop::sample::select(vec![0x88, 0xc1, 0x83, 0x8b, 0x09, 0x91]),
    ];
    (first, prop::bool::weighted(0.98), any::<[u8; 4]>(), payload)
        .prop_map(|(first, masked, mask, payload)| Sent { first, masked, mask, payload })
}

/// What both implementations can be compared by.
#[derive(Debug, PartialEq)]
enum Heard {
    Event(Event),
    Refused(CloseCode),
}

struct Input(Cursor<Vec<u8>>);

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Input {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn heard_by_the_other(bytes: Vec<u8>) -> Vec<Heard> {
    let config = WebSocketConfig::default().max_message_size(Some(BYTES_MAX)).max_frame_size(None);
    let mut socket = WebSocket::from_raw_socket(Input(Cursor::new(bytes)), Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Heard::Event(Event::Text(text.as_bytes().to_vec())),
            Ok(Message::Ping(payload)) => Heard::Event(Event::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => Heard::Event(Event::Pong(payload.to_vec())),
            // That is how it takes a code that must not be sent.
            Ok(Message::Close(Some(frame))) if frame.reason.as_str() == "Protocol violation" => {
                heard.push(Heard::Refused(CloseCode::PROTOCOL));
                return heard;
            }
            Ok(Message::Close(frame)) => {
                let code = frame.as_ref().and_then(|frame| CloseCode::from_peer(frame.code.into()));
                let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                heard.push(Heard::Event(Event::Close(code, reason)));
                return heard;
            }
            Ok(other) => panic!("not sent: {other:?}"),
            Err(Error::Utf8(_)) => Heard::Refused(CloseCode::INVALID_DATA),
            Err(Error::Capacity(_)) => Heard::Refused(CloseCode::TOO_BIG),
            Err(Error::Protocol(error)) if error.to_string().contains("without closing handshake") => {
                return heard;
            }
            Err(Error::Protocol(_)) => Heard::Refused(CloseCode::PROTOCOL),
            Err(error) => panic!("unexpected: {error}"),
        });
        if matches!(heard.last(), Some(Heard::Refused(_))) {
            return heard;
        }
    }
}

proptest! {
    #[test]
    fn another_implementation_hears_the_same(frames in vec(any_frame(), 0..12)) {
        let bytes: Vec<u8> = frames.iter().flat_map(Sent::encode).collect();
        let (events, violation) = decode_all(&[&bytes], BYTES_MAX);
        let mut heard: Vec<_> = events.into_iter().map(Heard::Event).collect();
        heard.extend(violation.map(|violation| Heard::Refused(violation.code)));
        let mut others = heard_by_the_other(bytes);
        // A close frame may be wrong in its code and in its reason; it looks at the reason first.
        if violation.is_some_and(|violation| violation.reason.contains("close code")) {
            others.pop();
            others.push(Heard::Refused(CloseCode::PROTOCOL));
        }
        prop_assert_eq!(heard, others);
    }

    #[test]
    fn bytes_cut_anywhere_say_the_same(
        frames in vec(any_frame(), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Sent::encode).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[start..cut]);
            start = cut;
        }
        prop_assert_eq!(decode_all(&chunks, BYTES_MAX), decode_all(&[&bytes], BYTES_MAX));
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(decode_all(&single, BYTES_MAX), decode_all(&[&bytes], BYTES_MAX));
    }

    #[test]
    fn any_text_round_trips_under_any_mask(text in "\\PC{0,130}", mask: [u8; 4]) {
        let sent = Sent { mask, ..Sent::new(0x81, text.as_bytes()) };
        prop_assert_eq!(decode_all(&[&sent.encode()], 1024), (vec![Event::Text(text.into_bytes())], None));
    }

    #[test]
    fn mutated_bytes_never_panic_nor_exceed_the_limit(
        frames in vec(any_frame(), 1..8),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(Sent::encode).collect();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for event in decode_all(&[&bytes], BYTES_MAX).0 {
            if let Event::Text(text) = event {
                prop_assert!(text.len() <= BYTES_MAX && std::str::from_utf8(&text).is_ok());
            }
        }
    }
}
