//! One connection that pushes: a request at a time, the next when it is answered.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::payload::Stamp;
use super::request::{Request, statuses, take_answer};
use super::tally::Tally;
use super::timing::Clock;

/// The users a publisher pushes to, one after the other: each user is pushed to
/// by one publisher only, so that their messages have an order to be checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) first: u32,
    pub(super) step: u32,
    pub(super) users: u32,
    pub(super) next: u32,
    /// All publishers push to the same user, each in a numbering of its own.
    pub(super) shared_stream: Option<u32>,
}

impl Round {
    /// The next user, and the numbering of what it is sent.
    fn turn(&mut self) -> (u32, u32) {
        if let Some(stream) = self.shared_stream {
            return (0, stream);
        }
        let user = self.next;
        self.next += self.step;
        if self.next >= self.users {
            self.next = self.first;
        }
        (user, user)
    }
}

/// What became of a publisher when it was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// Its request was answered: so many of its messages were refused.
    Answered {
        refused: u64,
    },
    /// The connection is gone. A request that was under way has no answer.
    Broken,
}

/// One pushing connection.
#[derive(Debug)]
pub(super) struct Publisher {
    stream: Option<TcpStream>,
    request: Request,
    round: Round,
    /// Bytes of the request that are written; as many as it has when none is
    /// under way.
    written: usize,
    /// What is under way: numberings and numbers.
    flight: Vec<(u32, u32)>,
    due_ns: u64,
    /// When pushes that wait for an answer were due.
    pub(super) waiting: VecDeque<u64>,
    partial: Vec<u8>,
    last_refusal: Option<String>,
}

impl Publisher {
    pub(super) fn new(request: Request, round: Round) -> Self {
        let written = request.bytes().len();
        Self {
            stream: None,
            request,
            round,
            written,
            flight: Vec::new(),
            due_ns: 0,
            waiting: VecDeque::new(),
            partial: Vec::new(),
            last_refusal: None,
        }
    }

    /// Messages in each of its requests.
    pub(super) fn messages(&self) -> u64 {
        self.request.len() as u64
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether a request waits for its answer.
    pub(super) fn is_busy(&self) -> bool {
        !self.flight.is_empty()
    }

    /// What the last refused push was answered.
    pub(super) fn last_refusal(&self) -> Option<&str> {
        self.last_refusal.as_deref()
    }

    pub(super) fn connect(&mut self, node: SocketAddr, token: Token, registry: &Registry) -> io::Result<()> {
        // Few, and before anything is measured: waiting for it is simplest.
        let stream = std::net::TcpStream::connect(node)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends its next request. It was due at `due_ns`.
    pub(super) fn send(&mut self, due_ns: u64, tally: &mut Tally) -> Outcome {
        self.due_ns = due_ns;
        for item in 0..self.request.len() {
            let (user, stream) = self.round.turn();
            let assigned = &mut tally.streams[stream as usize].assigned;
            let stamp = Stamp { stream, seq: *assigned, at_ns: due_ns };
            *assigned += 1;
            self.request.set(item, user, stamp);
            self.flight.push((stream, stamp.seq));
        }
        self.written = 0;
        self.write(tally)
    }

    fn write(&mut self, tally: &mut Tally) -> Outcome {
        let bytes = self.request.bytes();
        while self.written < bytes.len() {
            let Some(stream) = &mut self.stream else { return self.broken(tally) };
            match stream.write(&bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.broken(tally),
            }
        }
        Outcome::Nothing
    }

    /// Looks at a connection that has something.
    pub(super) fn ready(
        &mut self,
        readable: bool,
        buffer: &mut [u8],
        tally: &mut Tally,
        clock: Clock,
    ) -> Outcome {
        if self.write(tally) == Outcome::Broken {
            return Outcome::Broken;
        }
        if !readable {
            return Outcome::Nothing;
        }
        loop {
            let Some(stream) = &mut self.stream else { return Outcome::Nothing };
            let read = match stream.read(buffer) {
                Ok(0) => return self.broken(tally),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.broken(tally),
            };
            let outcome = self.take_in(&buffer[..read], tally, clock.now_ns());
            // One request at a time: behind its answer there is nothing.
            if outcome != Outcome::Nothing || read < buffer.len() {
                return outcome;
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8], tally: &mut Tally, now_ns: u64) -> Outcome {
        let mut joined = std::mem::take(&mut self.partial);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            joined.as_slice()
        };
        let answer = match take_answer(&mut rest) {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.partial = rest.to_vec();
                return Outcome::Nothing;
            }
            Err(_) => return self.broken(tally),
        };
        let mut flight = std::mem::take(&mut self.flight);
        let mut refused = 0;
        if answer.status == 200 {
            let mut statuses = statuses(answer.body);
            for (stream, seq) in &flight {
                if statuses.next() != Some(true) {
                    tally.streams[*stream as usize].refused.push(*seq);
                    refused += 1;
                }
            }
        } else if !matches!(answer.status, 201 | 202) {
            refused = flight.len() as u64;
            flight.iter().for_each(|(stream, seq)| tally.streams[*stream as usize].refused.push(*seq));
        }
        if refused > 0 {
            let body = String::from_utf8_lossy(answer.body).chars().take(300).collect::<String>();
            self.last_refusal = Some(format!("{} {body}", answer.status));
        }
        tally.timing.accepted(flight.len() as u64 - refused, self.due_ns, now_ns);
        if answer.last {
            self.stream = None;
        }
        flight.clear();
        self.flight = flight;
        Outcome::Answered { refused }
    }

    /// What was under way may arrive or not.
    fn broken(&mut self, tally: &mut Tally) -> Outcome {
        self.stream = None;
        self.partial = Vec::new();
        self.written = self.request.bytes().len();
        for (stream, seq) in self.flight.drain(..) {
            tally.streams[stream as usize].refused.push(seq);
        }
        Outcome::Broken
    }
}
