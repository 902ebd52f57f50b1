//! One measured socket: from connect to close.
//!
//! Plain bytes and no task of its own: a thread has thousands of these, and
//! what one costs is the generator's share of every figure's noise.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::envelope::{self, Said};
use super::frame::{self, Frame};
use super::receivers::Client;
use super::request::{Answer, take_answer};
use super::tally::Tally;
use super::timing::Clock;
use crate::session::pipe;

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Connecting,
    /// The request is written, the 101 has not come.
    Handshaking,
    /// An envelope client waits for its `hello`.
    Greeting,
    Open,
}

/// What became of a socket when it was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    /// It receives from now on.
    Opened,
    /// It is no more.
    Ended(End),
}

/// Why a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The connection broke, or never came to be.
    Lost(String),
    /// The handshake was answered with this status.
    Refused(u16),
    /// The node closed with this code.
    Closed(u16),
}

/// One socket.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) stream: Option<TcpStream>,
    pub(super) phase: Phase,
    /// When it began to connect.
    pub(super) begun_ns: u64,
    /// The position of the last message, of an envelope client.
    pub(super) position: Vec<u8>,
    /// Something was received that is not acknowledged.
    pub(super) unacknowledged: bool,
    partial: Vec<u8>,
}

/// What a socket is read with: the same for all.
pub(super) struct Desk<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) tally: &'a mut Tally,
    pub(super) clock: Clock,
    pub(super) client: Client,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            phase: Phase::Closed,
            begun_ns: 0,
            position: Vec::new(),
            unacknowledged: false,
            partial: Vec::new(),
        }
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.phase = Phase::Closed;
        self.partial = Vec::new();
        self.unacknowledged = false;
    }

    /// Writes a frame that is small and alone on its way: it always fits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => stream.write_all(bytes),
            None => Ok(()),
        }
    }

    /// Once the connection stands, asks for the upgrade.
    pub(super) fn connected(&mut self, handshake: &[u8]) -> Turn {
        let Some(stream) = &mut self.stream else { return Turn::Nothing };
        if let Ok(Some(error)) = stream.take_error() {
            return Turn::Ended(End::Lost(error.to_string()));
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Turn::Nothing,
            Err(error) => return Turn::Ended(End::Lost(error.to_string())),
        }
        self.phase = Phase::Handshaking;
        match self.write(handshake) {
            Ok(()) => Turn::Nothing,
            Err(error) => Turn::Ended(End::Lost(error.to_string())),
        }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, index: usize, desk: &mut Desk<'_>) -> Turn {
        let mut turn = Turn::Nothing;
        loop {
            let Some(stream) = &mut self.stream else { return turn };
            let read = match stream.read(desk.buffer) {
                Ok(0) => return Turn::Ended(End::Lost("the node ended the connection".into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return turn,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Turn::Ended(End::Lost(error.to_string())),
            };
            match self.take_in(index, read, desk) {
                Turn::Nothing => {}
                Turn::Opened => turn = Turn::Opened,
                ended @ Turn::Ended(_) => return ended,
            }
            // Less than there was room for: nothing more is there now.
            if read < desk.buffer.len() {
                return turn;
            }
        }
    }

    fn take_in(&mut self, index: usize, read: usize, desk: &mut Desk<'_>) -> Turn {
        let now_ns = desk.clock.now_ns();
        let (buffer, tally) = (&desk.buffer[..read], &mut *desk.tally);
        if self.partial.is_empty() {
            let mut rest = buffer;
            let turn = self.consume(index, &mut rest, tally, desk.client, now_ns);
            self.partial.extend_from_slice(rest);
            return turn;
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(buffer);
        let mut rest = joined.as_slice();
        let turn = self.consume(index, &mut rest, tally, desk.client, now_ns);
        self.partial.extend_from_slice(rest);
        turn
    }

    fn consume(
        &mut self,
        index: usize,
        rest: &mut &[u8],
        tally: &mut Tally,
        client: Client,
        now_ns: u64,
    ) -> Turn {
        let mut turn = Turn::Nothing;
        if self.phase == Phase::Handshaking {
            match take_answer(rest) {
                Ok(None) => return Turn::Nothing,
                Ok(Some(Answer { status: 101, .. })) if client == Client::Envelope => {
                    self.phase = Phase::Greeting;
                }
                Ok(Some(Answer { status: 101, .. })) => {
                    self.phase = Phase::Open;
                    turn = Turn::Opened;
                }
                Ok(Some(Answer { status, .. })) => return Turn::Ended(End::Refused(status)),
                Err(_) => return Turn::Ended(End::Lost("the answer is not HTTP".into())),
            }
        }
        loop {
            let frame = match frame::take(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => return turn,
                Err(_) => return Turn::Ended(End::Lost("a frame cannot be read".into())),
            };
            match self.hear(index, &frame, tally, client, now_ns) {
                Turn::Nothing => {}
                Turn::Opened => turn = Turn::Opened,
                ended @ Turn::Ended(_) => return ended,
            }
        }
    }

    fn hear(
        &mut self,
        index: usize,
        frame: &Frame<'_>,
        tally: &mut Tally,
        client: Client,
        now_ns: u64,
    ) -> Turn {
        match frame.opcode {
            frame::TEXT if client == Client::Envelope => {
                return self.hear_envelope(index, frame.payload, tally, now_ns);
            }
            frame::TEXT => tally.receive(index, frame.payload, now_ns),
            frame::PING => {
                // A node that does not get it closes, which is noticed.
                let _ = self.write(&pipe::frame(frame::PONG, frame.payload));
            }
            frame::CLOSE => {
                let code = frame.payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                return Turn::Ended(End::Closed(code));
            }
            _ => {}
        }
        Turn::Nothing
    }

    fn hear_envelope(&mut self, index: usize, text: &[u8], tally: &mut Tally, now_ns: u64) -> Turn {
        match envelope::read(text, tally.payload_bytes()) {
            Said::Message { data, position } => {
                tally.receive(index, data, now_ns);
                self.position.clear();
                self.position.extend_from_slice(position);
                self.unacknowledged = true;
            }
            Said::Hello { position } => {
                if let Some(position) = position {
                    self.position = position.to_vec();
                }
                self.phase = Phase::Open;
                return Turn::Opened;
            }
            Said::Gap => tally.counts.gaps += 1,
            Said::Ping => drop(self.write(&pipe::frame(frame::TEXT, br#"{"type":"pong"}"#))),
            Said::Other => {}
        }
        Turn::Nothing
    }
}
