//! The corpus of rude connections: bytes, how they come, and how it must end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// With these answers and then its end.
    Answered(Vec<u16>),
    /// With a close frame of this code.
    Closed(u16),
    /// Without a word.
    Silent,
    /// Not at all: it is still served.
    StaysOpen,
}

/// The ping that asks whether a connection is still served.
const ALIVE: &[u8] = b"alive";

impl Ends {
    /// Reads an ending out of everything that the node said.
    fn of(heard: &[u8], upgraded: bool) -> Self {
        if upgraded {
            let frames = frames(heard);
            let close = frames.iter().find(|(opcode, _)| *opcode == 8);
            return match close {
                Some((_, [high, low, ..])) => Self::Closed(u16::from_be_bytes([*high, *low])),
                Some(_) => Self::Closed(1005),
                None if Self::ponged(heard) => Self::StaysOpen,
                None => Self::Silent,
            };
        }
        let text = String::from_utf8_lossy(heard);
        let statuses: Vec<_> = text
            .match_indices("HTTP/1.")
            .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
            .collect();
        if statuses.is_empty() { Self::Silent } else { Self::Answered(statuses) }
    }

    /// Whether the last ping was answered.
    fn ponged(heard: &[u8]) -> bool {
        frames(heard).iter().any(|(opcode, payload)| *opcode == 10 && *payload == ALIVE)
    }
}

/// Whole frames of a server, which are short and unmasked here.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match (len, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (len, rest) => (usize::from(*len), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        frames.push((first & 15, payload));
        bytes = rest;
    }
    frames
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Rude {
    pub name: &'static str,
    /// Whether an upgrade that is granted comes first.
    pub after_upgrade: bool,
    pub bytes: Vec<u8>,
    /// Bytes sent at once.
    pub piece: usize,
    /// Whether it sends no more then, and says so.
    pub half_closes: bool,
    pub ends: Ends,
}

/// Longer than any timeout of a node's that a connection here waits for.
const WITHIN: Duration = Duration::from_secs(40);

impl Rude {
    /// Does what the connection does, and says how it ended.
    pub async fn ending(&self, address: SocketAddr) -> Ends {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Small, so that a peer that does not read is noticed early, and what it
        // wrote has arrived when it begins to read.
        socket.set_recv_buffer_size(4_096).expect("an option of every socket");
        socket.set_send_buffer_size(4_096).expect("an option of every socket");
        let mut stream = socket.connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("an open socket");
        if self.after_upgrade {
            upgraded(&mut stream, self.name).await;
        }
        for piece in self.bytes.chunks(self.piece.max(1)) {
            // The node may have answered and gone in the middle of it.
            if stream.write_all(piece).await.is_err() {
                break;
            }
        }
        if self.half_closes {
            drop(stream.shutdown().await);
        }
        let heard = self.hear(&mut stream).await;
        Ends::of(&heard, self.after_upgrade)
    }

    /// Everything up to the end of the connection.
    async fn hear(&self, stream: &mut TcpStream) -> Vec<u8> {
        let mut heard = Vec::new();
        let reading = async {
            while stream.read_buf(&mut heard).await.is_ok_and(|len| len > 0) {
                if self.ends == Ends::StaysOpen && Ends::ponged(&heard) {
                    return;
                }
            }
        };
        let ended = timeout(WITHIN, reading).await.is_ok();
        assert!(ended, "{}: it is still open, having said {:?}", self.name, String::from_utf8_lossy(&heard));
        heard
    }
}

/// Asks for an upgrade, with compression, and gets it, without.
async fn upgraded(stream: &mut TcpStream, name: &str) {
    let request = upgrade("GET", "13", "dGhlIHNhbXBsZSBub25jZQ==")
        .replace("\r\n\r\n", "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("an open connection");
    let mut head = Vec::new();
    // Byte by byte: what is behind the head is the session's.
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or_else(|error| panic!("{name}: no upgrade: {error}")));
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{name}: {head}");
    assert!(!head.contains("sec-websocket-extensions"), "{name}: compression was agreed on");
}

/// A request, or something like it. Where an answer is due, the connection stays
/// open for it: whoever closes its half before may get none.
fn http(name: &'static str, text: impl AsRef<[u8]>, statuses: &[u16]) -> Rude {
    let ends = if statuses.is_empty() { Ends::Silent } else { Ends::Answered(statuses.to_vec()) };
    let (bytes, half_closes) = (text.as_ref().to_vec(), statuses.is_empty());
    Rude { name, after_upgrade: false, bytes, piece: usize::MAX, half_closes, ends }
}

/// A request that says that there is more to come, and then that there is not.
fn cut(name: &'static str, text: impl AsRef<[u8]>, status: u16) -> Rude {
    Rude { half_closes: true, ..http(name, text, &[status]) }
}

fn ws(name: &'static str, frames: &[Vec<u8>], ends: Ends) -> Rude {
    let bytes = frames.concat();
    Rude { name, after_upgrade: true, bytes, piece: usize::MAX, half_closes: false, ends }
}

/// A client's frame; its mask changes nothing, so that payloads can be read here.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = match payload.len() {
        len @ 0..=125 => vec![0x80 | len as u8],
        len @ 126..=0xffff => [&[0xfe][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[0xff][..], &(len as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &len, &[0; 4], payload].concat()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat())
}

fn push(headers: &str, body: &str) -> String {
    format!("POST /v1/push HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")
}

/// What is wrong with a request's form.
fn requests() -> Vec<Rude> {
    let body = r#"{"to":"user:rude","data":1}"#;
    let sized = format!("content-length: {}\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n";
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let behind = "GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n";
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    vec![
        http("nothing", "", &[]),
        http("half a request line", "GET /v1/w", &[]),
        http("half a head", "GET /v1/ws HTTP/1.1\r\nhost: node\r\nupgr", &[]),
        http("no protocol at all", [0; 64], &[400]),
        http("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        http("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
        http("an unknown method", "BREW /pot HTTP/1.1\r\nhost: node\r\n\r\n", &[404]),
        http(
            "a head above 16 KiB",
            format!("GET / HTTP/1.1\r\nhost: node\r\nx: {}", "x".repeat(20_000)),
            &[431],
        ),
        http("an address above 16 KiB", format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)), &[431]),
        http("two hundred headers", format!("GET / HTTP/1.1\r\nhost: node\r\n{many}\r\n"), &[431]),
        http("a NUL in a header", "GET / HTTP/1.1\r\nhost: no\0de\r\n\r\n", &[400]),
        http("a space before the colon", push("content-length : 2\r\n", "{}"), &[400]),
        http("a folded header", push("x: y\r\n z\r\ncontent-length: 2\r\n", "{}"), &[400]),
        cut("a body shorter than said", push("content-length: 100\r\n", body), 400),
        http("a body above the limit", push("content-length: 100000\r\n", &"x".repeat(100_000)), &[413]),
        http(
            "a chunked body above the limit",
            push(chunked, &format!("186a0\r\n{}\r\n0\r\n\r\n", "x".repeat(100_000))),
            &[413],
        ),
        http("a chunk's length that overflows", push(chunked, "fffffffffffffffff\r\n{}"), &[400]),
        cut("a chunk that ends too early", push(chunked, "ff\r\n{}"), 400),
        // Where a proxy in front and this node could disagree about an end.
        http("two lengths", push(&format!("{sized}content-length: 0\r\n"), body), &[400]),
        http("a list of lengths", push("content-length: 2, 3\r\n", "{}x"), &[400]),
        http("a signed length", push("content-length: +2\r\n", "{}"), &[400]),
        // Both: the chunks count, and what is behind them is never taken for a request.
        http(
            "length and chunks",
            push(&format!("content-length: 0\r\n{chunked}"), &format!("{chunk}{behind}")),
            &[202],
        ),
        http("chunks and length", push(&format!("{chunked}{sized}"), &format!("{chunk}{behind}")), &[202]),
        http("chunks that are not last", push("transfer-encoding: chunked, gzip\r\n", &chunk), &[400]),
        http("chunks by another name", push("transfer-encoding: xchunked\r\n", &chunk), &[400]),
        http("chunks in HTTP/1.0", push(chunked, &chunk).replace("HTTP/1.1", "HTTP/1.0"), &[400]),
        http("a space in the encoding's name", push("transfer-encoding : chunked\r\n", &chunk), &[400]),
        // A request behind another is none of its body.
        http("two requests at once", push(&sized, body) + behind, &[202, 200]),
        http("a request behind a refused one", push("content-length: 2\r\n", "{}") + behind, &[422, 200]),
        http("an upgrade by POST", upgrade("POST", "13", "dGhlIHNhbXBsZSBub25jZQ=="), &[405]),
        http("an upgrade of another version", upgrade("GET", "12", "dGhlIHNhbXBsZSBub25jZQ=="), &[426]),
        http("an upgrade with half a key", upgrade("GET", "13", "dGhlIHN"), &[400]),
        http(
            "an upgrade in HTTP/1.0",
            upgrade("GET", "13", "dGhlIHNhbXBsZSBub25jZQ==").replace("HTTP/1.1", "HTTP/1.0"),
            &[426],
        ),
    ]
}

fn upgrade(method: &str, version: &str, key: &str) -> String {
    format!(
        "{method} /v1/ws?token=rude HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: {version}\r\nsec-websocket-key: {key}\r\n\r\n"
    )
}

/// What RFC 6455 forbids, and the limits of this program.
fn violations() -> Vec<Rude> {
    let closes = |name, frames: &[Vec<u8>], code| ws(name, frames, Ends::Closed(code));
    let unmasked = vec![0x81, 2, b'h', b'i'];
    // 1 KiB of zeros that claims to be compressed, of which a few bytes could make megabytes.
    let bomb = frame(0xc1, &[0; 1_024]);
    let claims = |len: u64| [&[0x81, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    vec![
        closes("an unmasked frame", &[unmasked], 1002),
        closes("a compressed frame", &[bomb], 1002),
        closes("the second reserved bit", &[frame(0xa1, b"hi")], 1002),
        closes("the third reserved bit on a ping", &[frame(0x99, b"hi")], 1002),
        closes("an unknown opcode", &[frame(0x83, b"hi")], 1002),
        closes("an unknown control opcode", &[frame(0x8f, b"")], 1002),
        closes("a binary frame", &[frame(0x82, b"hi")], 1003),
        closes("a frame above the limit", &[frame(0x81, &[b'x'; 65_537])], 1009),
        closes("a claim of 2^62 bytes", &[claims(1 << 62)], 1009),
        closes("a claim of 2^63 bytes", &[claims(1 << 63)], 1002),
        closes("a length in a longer form", &[vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0]], 1002),
        closes("fragments above the limit", &[frame(1, &[b'x'; 65_000]), frame(0x80, &[b'x'; 1_000])], 1009),
        closes("text that is not UTF-8", &[frame(0x81, b"\xff")], 1007),
        closes("half a surrogate pair", &[frame(0x81, b"\xed\xa0\x80")], 1007),
        closes("a character cut off by the end", &[frame(1, b"\xce"), frame(0x80, b"")], 1007),
        closes("a continuation of nothing", &[frame(0x80, b"hi")], 1002),
        closes("a message within a message", &[frame(1, b"a"), frame(0x81, b"b")], 1002),
        closes("a fragmented ping", &[frame(9, b"hi")], 1002),
        closes("a ping above 125 bytes", &[frame(0x89, &[0; 126])], 1002),
        closes("a close of one byte", &[frame(0x88, b"\x03")], 1002),
        closes("a close code for nobody to send", &[close(1005, b"")], 1002),
        closes("a close code of TLS", &[close(1015, b"")], 1002),
        closes("a close code below all", &[close(999, b"")], 1002),
        closes("a close code above all", &[close(5000, b"")], 1002),
        closes("a close reason that is not UTF-8", &[close(1000, b"\xff")], 1007),
        closes("an error, and a flood behind it", &[vec![0x81, 0], vec![0x5a; 1 << 20]], 1002),
    ]
}

/// What is allowed and still no good.
fn manners() -> Vec<Rude> {
    let alive = frame(0x89, ALIVE);
    let open = |name, frames: &[Vec<u8>]| ws(name, &[frames.concat(), alive.clone()], Ends::StaysOpen);
    let envelope = frame(0x81, br#"{"type":"ack","positions":{"user:rude":"0000000000000001.1"}}"#);
    let nested = frame(0x81, &[b"[".repeat(30_000)].concat());
    vec![
        open("nothing wrong", &[]),
        Rude { piece: 1, ..open("byte by byte", &[frame(0x81, b"hello"), envelope]) },
        open(
            "ten thousand empty fragments",
            &[frame(1, b""), frame(0, b"").repeat(10_000), frame(0x80, b"")],
        ),
        open("a ping between fragments", &[frame(1, b"a"), frame(0x89, b"x"), frame(0x80, b"b")]),
        open("thirty thousand brackets", &[nested]),
        ws("pings whose pongs nobody reads", &[frame(0x89, &[0; 125]).repeat(30_000)], Ends::Silent),
        open("a thousand pongs of nobody's", &[frame(0x8a, b"12345678").repeat(1_000)]),
        ws("a close without a code", &[frame(0x88, b"")], Ends::Closed(1000)),
        ws("a close, and another", &[close(4000, b"bye"), close(1001, b"bye")], Ends::Closed(4000)),
        ws("a close, and a message", &[close(1000, b""), frame(0x81, b"hi")], Ends::Closed(1000)),
        ws("a close within a message", &[frame(1, b"a"), close(1000, b"")], Ends::Closed(1000)),
        ws("a close, and an error", &[close(1000, b""), vec![0x81, 0]], Ends::Closed(1000)),
        Rude { half_closes: true, ..ws("half a frame and half a close", &[vec![0x81]], Ends::Silent) },
        Rude { half_closes: true, ..ws("a close and half a close", &[close(1000, b"")], Ends::Closed(1000)) },
    ]
}

/// Every connection.
pub fn corpus() -> Vec<Rude> {
    [requests(), violations(), manners()].concat()
}
