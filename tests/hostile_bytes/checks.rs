//! What must hold of any bytes whatever, one function for each place where
//! bytes from outside are read. The fuzz targets in `fuzz/` and the properties
//! in this test run the same ones.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use postrider::config::{Config, Environment, Inputs};
use postrider::protocol::close::CloseCode;
use postrider::protocol::entry::{self, DecodeError};
use postrider::protocol::frame::{ClientFrame, Dialect, Outgoing};
use postrider::protocol::rest::{BatchBody, PushBody, Recipients};
use postrider::protocol::ws::{Decoder, Event, Violation};
use postrider::protocol::{Channel, Device, Epoch, Message, MessageId, Position, trace};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, WebSocket};

/// Small, so that what is above the limit is found quickly.
const MESSAGE_BYTES_MAX: usize = 200;

/// A WebSocket client's bytes: they say the same however they are cut, stay
/// within the limit, and another implementation hears what is heard here.
pub(crate) fn frame(bytes: &[u8]) {
    let (events, violation) = decode_in_pieces(bytes, bytes.len());
    for piece in [1, 2, 7] {
        assert_eq!(decode_in_pieces(bytes, piece), (events.clone(), violation), "cut every {piece} bytes");
    }
    for event in &events {
        match event {
            Event::Text(text) => {
                assert!(text.len() <= MESSAGE_BYTES_MAX, "above the limit");
                envelope(text);
            }
            Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
            Event::Close(code, reason) => {
                assert!(reason.len() <= 123);
                assert!(code.is_none_or(|code| CloseCode::from_peer(code.get()) == Some(code)));
            }
        }
    }
    // It knows no 1014, which was registered later.
    let unknown = |event: &Event| matches!(event, Event::Close(Some(code), _) if code.get() == 1014);
    if !events.iter().any(unknown) {
        let heard = heard_by_another(bytes);
        assert!(heard.starts_with(&events), "{events:?} here, {heard:?} there");
    }
}

/// Everything that the bytes say, up to a close or a violation.
fn decode_in_pieces(bytes: &[u8], piece: usize) -> (Vec<Event>, Option<Violation>) {
    let (mut decoder, mut events) = (Decoder::new(MESSAGE_BYTES_MAX), Vec::new());
    for mut input in bytes.chunks(piece.max(1)) {
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

fn heard_by_another(bytes: &[u8]) -> Vec<Event> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let input = Input(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(input, Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Event::Text(text.as_bytes().to_vec()),
            Ok(tungstenite::Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(tungstenite::Message::Pong(payload)) => Event::Pong(payload.to_vec()),
            Ok(tungstenite::Message::Close(frame)) => {
                let code = frame.as_ref().and_then(|frame| CloseCode::from_peer(frame.code.into()));
                let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                heard.push(Event::Close(code, reason));
                return heard;
            }
            Ok(_) | Err(_) => return heard,
        });
    }
}

/// A client's text: an envelope or refused, and nothing is read into it that
/// another reader of JSON does not find there.
pub(crate) fn envelope(text: &[u8]) {
    let Ok(frame) = ClientFrame::decode(text) else { return };
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let value: Value = serde_json::from_slice(text).expect("what is an envelope is JSON");
    // Its fields may also come as an array, a leniency of the library's.
    let Some(object) = value.as_object() else { return };
    let positions = |positions: &BTreeMap<String, Position>| {
        let found = object.get("positions").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        assert_eq!(positions.len(), found);
        for (channel, position) in positions {
            assert_eq!(object["positions"][channel], position.to_string());
        }
    };
    let topics = |topics: &[String]| {
        let found = object.get("topics").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(found, Value::from(topics));
    };
    match &frame {
        ClientFrame::Auth { token, positions: given, topics: asked } => {
            assert_eq!(object["token"], token.as_str());
            positions(given);
            topics(asked);
        }
        ClientFrame::Ack { positions: given } => positions(given),
        ClientFrame::Resume { positions: given, topics: asked }
        | ClientFrame::Subscribe { positions: given, topics: asked, .. } => {
            positions(given);
            topics(asked);
        }
        ClientFrame::Unsubscribe { topics: asked } => topics(asked),
        ClientFrame::Pong => assert_eq!(object["type"], "pong"),
        ClientFrame::Unknown => assert!(object["type"].is_string()),
    }
}

/// The short texts of addresses, queries and headers: each parses to what prints
/// as the same text, or is refused.
pub(crate) fn position(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    prints_as_it_was::<Position>(text);
    prints_as_it_was::<Epoch>(text);
    prints_as_it_was::<Channel>(text);
    prints_as_it_was::<Device>(text);
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string().parse().ok(), Some(id), "{text}");
    }
    let carried = trace::join(trace::traceparent(text), trace::request_id(text));
    if let Some(carried) = carried {
        assert_eq!(trace::traceparent(&carried), trace::traceparent(text));
        assert_eq!(trace::request_id(&carried), trace::request_id(text));
        assert!(trace::trace_id(&carried).is_none_or(|id| id.len() == 32));
    }
}

fn prints_as_it_was<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

/// An entry of a node stream: what can be read can be written and is read again
/// as the same.
pub(crate) fn entry(bytes: &[u8]) {
    let decoded = match entry::decode(Bytes::copy_from_slice(bytes)) {
        Ok(decoded) => decoded,
        Err(DecodeError::Version(version)) => return assert_ne!(version, entry::VERSION),
        Err(_) => return,
    };
    let held = decoded.messages.iter().map(|message| message.data.len()).sum::<usize>();
    assert!(held <= bytes.len(), "more data than bytes");
    let again = entry::encode(decoded.messages.iter());
    let len = decoded.messages.iter().map(entry::encoded_len).sum::<usize>();
    assert_eq!(again.len(), 1 + len);
    assert_eq!(entry::decode(again).map(|entry| entry.messages).as_ref(), Ok(&decoded.messages));
    for question in &decoded.questions {
        let again = entry::decode(entry::encode_question(question)).map(|entry| entry.questions);
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(question)));
    }
    for channel in &decoded.disconnects {
        let again = entry::decode(entry::encode_disconnect(channel)).map(|entry| entry.disconnects);
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(channel)));
    }
}

/// A body of the REST API: refused, or its data go out unchanged and cannot
/// break out of the frame around them.
pub(crate) fn push_body(bytes: &[u8]) {
    if let Ok(body) = serde_json::from_slice::<PushBody>(bytes) {
        push(&body);
    }
    if let Ok(batch) = serde_json::from_slice::<BatchBody>(bytes) {
        batch.messages.iter().for_each(push);
    }
}

fn push(body: &PushBody<'_>) {
    match &body.to {
        Recipients::One(to) => prints_as_it_was::<Channel>(to),
        Recipients::Many(to) => to.iter().for_each(|to| prints_as_it_was::<Channel>(to)),
    }
    let data = body.data.get();
    let message = Message {
        id: MessageId::from_bits(7),
        channel: Channel::user("alice").expect("valid"),
        position: Some(Position::new(Epoch::from_bits(1), 42)),
        accepted_at_us: 0,
        expires_at_ms: 0,
        data: Bytes::copy_from_slice(data.as_bytes()),
        trace: None,
        accountable: false,
    };
    let outgoing = Outgoing::new(message);
    let plain = read_by_a_client(outgoing.frame(Dialect::Plain));
    match serde_json::from_str::<String>(data) {
        Ok(text) => assert_eq!(plain, text),
        Err(_) => assert_eq!(plain, data),
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope<'a> {
        r#type: &'a str,
        id: MessageId,
        channel: &'a str,
        pos: Position,
        ts: u64,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let text = read_by_a_client(outgoing.frame(Dialect::Envelope));
    let envelope: Envelope<'_> = serde_json::from_str(&text).expect("an envelope is JSON");
    assert_eq!((envelope.r#type, envelope.channel, envelope.ts), ("message", "user:alice", 0));
    assert_eq!((envelope.id, Some(envelope.pos)), (MessageId::from_bits(7), outgoing.message().position));
    assert_eq!(envelope.data.get(), data);
}

/// The one text that another implementation reads of a frame.
fn read_by_a_client(frame: &[u8]) -> String {
    let input = Input(Cursor::new(frame.to_vec()));
    let mut socket = WebSocket::from_raw_socket(input, Role::Client, None);
    let text = socket.read().expect("a frame").into_text().expect("a text").to_string();
    assert!(socket.read().is_err(), "nothing behind it");
    text
}

/// What stands between the variables and the file in a configuration's bytes.
const BETWEEN: &str = "\n---\n";

/// A configuration (lines of `NAME=value`, a line `---`, then a file): complete
/// or refused with reasons; secrets are not shown; what is printed reads as the
/// same.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Those would be opened, and may be a pipe.
    if text.to_ascii_lowercase().contains("file") || text.contains('\\') || text.contains("POSTRIDER_CONFIG")
    {
        return;
    }
    let (variables, file) = text.split_once(BETWEEN).unwrap_or(("", text));
    let variables: Vec<_> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    let path = scratch_file(file);
    let inputs = Inputs {
        config_file: Some(path),
        environment: Environment::of(variables.iter().copied()),
        open_files: Some(1_024),
        ..Inputs::default()
    };
    let config = match Config::load(&inputs) {
        Ok(config) => config,
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused for nothing");
            return problems.0.iter().for_each(|problem| assert!(problem.to_string().len() > 10));
        }
    };
    let (limits, auth) = (config.limits(), config.auth_options());
    assert!(limits.mailbox_messages_max > 0);
    let _ = config.warnings(inputs.open_files);
    let printed = config.to_toml();
    for secret in [&config.jwt_secret, &config.api_key, &config.webhook_secret].into_iter().flatten() {
        let secret = secret.expose();
        if text.matches(secret).count() == 1 {
            assert!(!printed.contains(secret) && !format!("{config:?}{auth:?}").contains(secret));
        }
    }
    if !printed.contains("[redacted]") {
        let again = Inputs {
            config_file: Some(scratch_file(&printed)),
            environment: Environment::default(),
            ..inputs
        };
        let again = Config::load(&again).expect("what is printed can be used");
        assert_eq!(values(&again.to_toml()), values(&printed));
    }
}

/// Settings without where they came from.
fn values(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value)).collect()
}

/// A file of this thread's, in memory where the system has such a folder.
fn scratch_file(text: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = std::thread::current().id();
    let path = folder.join(format!("postrider-checks-{}-{thread:?}.toml", std::process::id()));
    std::fs::write(&path, text).expect("written");
    path
}

/// What holds of any bytes; panics where it does not.
pub(crate) type Check = fn(&[u8]);

/// Every check, with the folder of its corpus.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("frame", frame),
    ("envelope", envelope),
    ("position", position),
    ("entry", entry),
    ("push_body", push_body),
    ("configuration", configuration),
];
