//! An in-memory connection, for tests and simulation.
//!
//! [`pipe`] makes two ends of bounded buffers; [`Client`] is the far end of a
//! session as a WebSocket client sees it. Nothing here looks at a clock, so
//! tests may pause theirs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Wire;

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn wake(waker: &mut Option<Waker>) {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        Self::wake(&mut self.reader);
        Self::wake(&mut self.writer);
    }
}

/// One end of a [`pipe`].
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Mutex<Lane>>,
    outgoing: Arc<Mutex<Lane>>,
}

/// Two connected ends, each direction holding `capacity` bytes.
#[must_use]
pub fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let lane = || Arc::new(Mutex::new(Lane { capacity, ..Lane::default() }));
    let (there, back) = (lane(), lane());
    (
        Pipe { incoming: Arc::clone(&back), outgoing: Arc::clone(&there) },
        Pipe { incoming: there, outgoing: back },
    )
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire for Pipe {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut lane = lock(&self.incoming);
        if lane.bytes.is_empty() && !lane.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = io::Read::read(&mut lane.bytes, buf)?;
        Lane::wake(&mut lane.writer);
        Ok(len)
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut lane = lock(&self.outgoing);
        if lane.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = lane.capacity - lane.bytes.len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = bufs.iter().flat_map(|buf| buf.iter()).take(room);
        let before = lane.bytes.len();
        lane.bytes.extend(taken);
        Lane::wake(&mut lane.reader);
        Ok(lane.bytes.len() - before)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lane = lock(&self.incoming);
        if lane.ended || !lane.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        lane.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lane = lock(&self.outgoing);
        if lane.ended || lane.bytes.len() < lane.capacity {
            return Poll::Ready(Ok(()));
        }
        lane.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn shutdown(&self) {
        lock(&self.outgoing).end();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        lock(&self.outgoing).end();
        lock(&self.incoming).end();
    }
}

/// What a [`Client`] receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A Ping; [`Client::pong`] answers it.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// A close, with code and reason.
    Close(u16, String),
    /// The end of the connection.
    End,
}

/// The far end of a session, speaking WebSocket as a client does. It reads only
/// when asked to, so that tests can stall it, and answers nothing by itself.
#[derive(Debug)]
pub struct Client {
    pipe: Pipe,
    buffer: Vec<u8>,
}

impl Client {
    /// A client at this end of a pipe.
    #[must_use]
    pub fn new(pipe: Pipe) -> Self {
        Self { pipe, buffer: Vec::new() }
    }

    /// Sends a text message.
    pub async fn text(&self, text: &str) {
        self.bytes(&frame(0x1, text.as_bytes())).await;
    }

    /// Sends a Ping.
    pub async fn ping(&self, payload: &[u8]) {
        self.bytes(&frame(0x9, payload)).await;
    }

    /// Sends a Pong.
    pub async fn pong(&self, payload: &[u8]) {
        self.bytes(&frame(0xa, payload)).await;
    }

    /// Sends a close frame.
    pub async fn close(&self, code: u16, reason: &str) {
        self.bytes(&frame(0x8, &[&code.to_be_bytes(), reason.as_bytes()].concat())).await;
    }

    /// Sends bytes as they are, for as long as the connection takes them.
    pub async fn bytes(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.pipe.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // What it says is found out by the next attempt.
                    let _ = poll_fn(|cx| self.pipe.poll_write_ready(cx)).await;
                }
                Err(_) => return,
            }
        }
    }

    /// Ends this client's direction without a close.
    pub fn hang_up(&self) {
        self.pipe.shutdown();
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.parse() {
                return received;
            }
            if poll_fn(|cx| self.pipe.poll_read_ready(cx)).await.is_err() || self.fill() == 0 {
                return Received::End;
            }
        }
    }

    /// The next frame, if the session has written it already.
    pub fn try_next(&mut self) -> Option<Received> {
        loop {
            if let Some(received) = self.parse() {
                return Some(received);
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 4096];
        let len = self.pipe.try_read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..len]);
        len
    }

    /// Our own server frames are whole and in their shortest form: no more is read.
    fn parse(&mut self) -> Option<Received> {
        let (&first, &second) = (self.buffer.first()?, self.buffer.get(1)?);
        let length_bytes = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let extended = self.buffer.get(2..2 + length_bytes)?;
        let len = if length_bytes == 0 {
            usize::from(second)
        } else {
            extended.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
        };
        let start = 2 + length_bytes;
        let payload = self.buffer.get(start..start + len)?.to_vec();
        self.buffer.drain(..start + len);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match first & 0x0f {
            0x9 => Received::Ping(payload),
            0xa => Received::Pong(payload),
            0x8 => match payload.split_first_chunk::<2>() {
                Some((code, reason)) => Received::Close(u16::from_be_bytes(*code), text(reason)),
                None => Received::Close(1005, String::new()),
            },
            _ => Received::Text(text(&payload)),
        })
    }
}

/// A whole, masked frame of a client.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}
