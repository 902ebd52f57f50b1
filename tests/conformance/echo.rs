//! An endpoint that echoes texts, for suites that test by echo: a node has no
//! such thing.
//!
//! Everything on the wire is the crate's own: decoding, encoding, pongs,
//! violations and closing are a [`Session`]'s over a `TcpStream`. Only the echo
//! is added here, by a [`Wire`] that listens in on what the session reads.
//!
//! `ws_echo` prints the address it listens on and serves until it is killed.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write as _};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use postrider::metrics::Metrics;
use postrider::protocol::frame::{ClientFrame, Dialect, Outgoing};
use postrider::protocol::ws::{self, Decoder, Event};
use postrider::protocol::{Channel, Position, SessionId};
use postrider::session::{Ending, Events, Options, Session, Wheel, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Above the largest message of the suites.
const MESSAGE_BYTES_MAX: usize = 17 << 20;

/// What the session has not read yet, one event at a time, so that its answers
/// and the echoes keep the order of what they answer.
struct Heard {
    decoder: Decoder,
    /// After a violation the session alone judges.
    deaf: bool,
    waiting: VecDeque<u8>,
    echo: Option<Bytes>,
}

struct Echo {
    stream: TcpStream,
    heard: Mutex<Heard>,
    session: OnceLock<Weak<Session>>,
}

impl Echo {
    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("no panic while held")
    }

    /// Up to the end of the next event, as far as there is room.
    fn take(&self, buf: &mut [u8]) -> usize {
        let heard = &mut *self.lock();
        let bytes = heard.waiting.make_contiguous();
        let room = bytes.len().min(buf.len());
        let mut input = &bytes[..room];
        if !heard.deaf {
            match heard.decoder.decode(&mut input) {
                Ok(Some(Event::Text(text))) => heard.echo = Some(ws::encode_text(&[&text])),
                Ok(_) => {}
                Err(_) => {
                    heard.deaf = true;
                    input = &[];
                }
            }
        } else {
            input = &[];
        }
        let taken = room - input.len();
        buf[..taken].copy_from_slice(&bytes[..taken]);
        heard.waiting.drain(..taken);
        taken
    }
}

impl Wire for Echo {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        // What was read last has been judged by now.
        let echo = self.lock().echo.take();
        if let (Some(frame), Some(session)) = (echo, self.session.get().and_then(Weak::upgrade)) {
            session.send(frame);
        }
        if self.lock().waiting.is_empty() {
            let mut fresh = vec![0; 16 * 1_024];
            let len = self.stream.try_read(&mut fresh)?;
            if len == 0 {
                return Ok(0);
            }
            self.lock().waiting.extend(&fresh[..len]);
        }
        Ok(self.take(buf))
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(bufs)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let heard = self.lock();
        if heard.echo.is_some() || !heard.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        drop(heard);
        self.stream.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn shutdown(&self) {
        Wire::shutdown(&self.stream);
    }
}

struct Nobody;

impl Events for Nobody {
    fn written(&self, _: &Arc<Session>, _: &[Arc<Outgoing>]) {}
    fn confirmed(&self, _: &Arc<Session>, _: &Channel, _: Position) {}
    fn frame(&self, _: &Arc<Session>, _: ClientFrame) {}
    fn closed(&self, _: &Arc<Session>, _: Ending) {}
}

/// Answers the handshake; what came behind it is returned.
async fn upgrade(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > 16 * 1_024 || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    };
    let rest = head.split_off(end);
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = ws::accept_key(key.ok_or(io::ErrorKind::InvalidData)?);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(rest)
}

async fn serve(mut stream: TcpStream, options: Arc<Options>, metrics: Arc<Metrics>, wheel: Wheel) {
    let Ok(rest) = upgrade(&mut stream).await else { return };
    let heard =
        Heard { decoder: Decoder::new(MESSAGE_BYTES_MAX), deaf: false, waiting: rest.into(), echo: None };
    let echo = Arc::new(Echo { stream, heard: Mutex::new(heard), session: OnceLock::new() });
    let session = Session::new(
        SessionId::generate(),
        Dialect::Plain,
        Box::new(Shared(echo.clone())),
        options,
        Arc::new(Nobody),
        &metrics,
    );
    let known = echo.session.set(Arc::downgrade(&session));
    known.expect("set once");
    wheel.add(&session);
    session.run(Bytes::new()).await;
}

/// The session owns its wire; here another hand is needed on it.
struct Shared(Arc<Echo>);

impl Wire for Shared {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn shutdown(&self) {
        Wire::shutdown(&*self.0);
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Arc::new(Options {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        outbox_bytes_max: 4 * MESSAGE_BYTES_MAX,
        // The suites' clients do not expect pings of a server's own.
        heartbeat_interval: Duration::from_secs(3_600),
        ..Options::default()
    });
    let metrics = Arc::new(Metrics::new("conformance", "none"));
    let wheel = Wheel::new();
    tokio::spawn(wheel.clone().run(CancellationToken::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, options.clone(), metrics.clone(), wheel.clone()));
    }
}
