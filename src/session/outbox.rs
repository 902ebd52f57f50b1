//! The outbox: encoded frames that wait for a socket, in order.
//!
//! Holds no copy of a message's bytes, and allocates nothing for a frame that
//! waits alone. What leaves it is moved into [`Done`], whose owner reports it and
//! lets go of the tokens after the session's lock is released.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::waiting::Waiting;
use super::{Token, Wire};
use crate::protocol::frame::{Dialect, Outgoing};

/// Frames given to one write call. Sharing a call is what makes fan-out cheap,
/// and beyond some dozens the bytes cost more than the call.
const SLICES_MAX: usize = 64;

/// One frame.
pub(super) enum Item {
    /// A message, what its entry waits for, and what this session alone writes
    /// before it: an event's id, or nothing.
    Message(Arc<Outgoing>, Option<Token>, Box<[u8]>),
    /// A frame of the session's own.
    Control(Bytes),
    /// The Ping whose Pong confirms what was written before it.
    Confirm(Bytes),
    /// The close frame: the last of all.
    Close(Bytes),
}

impl Item {
    /// What is written, in order. An item is written whole or, once begun, to
    /// its end: a part alone would mean something else.
    fn parts(&self, dialect: Dialect) -> [&[u8]; 2] {
        match self {
            Self::Message(outgoing, _, before) => [before, outgoing.frame(dialect)],
            Self::Control(bytes) | Self::Confirm(bytes) | Self::Close(bytes) => [&[], bytes],
        }
    }

    fn len(&self, dialect: Dialect) -> usize {
        let [before, frame] = self.parts(dialect);
        before.len() + frame.len()
    }

    fn is_message(&self) -> bool {
        matches!(self, Self::Message(..))
    }
}

/// What left the outbox; nearly always one message.
#[derive(Default)]
pub(super) struct Done {
    /// Messages written in full, in order.
    pub(super) messages: SmallVec<[Arc<Outgoing>; 1]>,
    /// Tokens to let go of.
    pub(super) tokens: SmallVec<[Token; 1]>,
}

/// How a write went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes were taken.
    Wrote(usize),
    /// The socket takes nothing now.
    Blocked,
}

/// One session's outbox.
pub(super) struct Outbox {
    dialect: Dialect,
    items: Waiting<Item>,
    /// How many of them are messages.
    messages: usize,
    bytes: usize,
    /// Bytes of the first item that are written already.
    head_written: usize,
}

impl Outbox {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, items: Waiting::default(), messages: 0, bytes: 0, head_written: 0 }
    }

    /// Frames waiting.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes waiting.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether messages wait, and not only frames of the session's own.
    pub(super) fn has_messages(&self) -> bool {
        self.messages > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Puts a frame behind what waits.
    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.len(self.dialect);
        self.messages += usize::from(item.is_message());
        self.items.push_back(item);
    }

    /// Writes once, with as many frames as one call takes. `gone` is told of
    /// every frame that was finished, in order.
    pub(super) fn write(&mut self, wire: &dyn Wire, mut gone: impl FnMut(Item)) -> io::Result<Progress> {
        // Frames alone are what fan-out is made of: no room for others is laid out.
        let written = match self.items.len() {
            1 => self.write_slices::<2>(wire),
            _ => self.write_slices::<SLICES_MAX>(wire),
        };
        let wrote = match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => wrote,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
            // A signal is no reason to wait for readiness: nothing was written, try again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Progress::Wrote(0)),
            Err(error) => return Err(error),
        };
        self.bytes -= wrote;
        self.head_written += wrote;
        while let Some(head) = self.items.front() {
            let len = head.len(self.dialect);
            if self.head_written < len {
                break;
            }
            self.head_written -= len;
            if let Some(item) = self.items.pop_front() {
                self.messages -= usize::from(item.is_message());
                gone(item);
            }
        }
        Ok(Progress::Wrote(wrote))
    }

    /// One write call with the first `N` slices of what waits.
    fn write_slices<const N: usize>(&self, wire: &dyn Wire) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); N];
        let (mut count, mut skip) = (0, self.head_written);
        'full: for item in self.items.iter() {
            for part in item.parts(self.dialect) {
                if part.len() <= skip {
                    skip -= part.len();
                    continue;
                }
                slices[count] = IoSlice::new(&part[skip..]);
                (count, skip) = (count + 1, 0);
                if count == N {
                    break 'full;
                }
            }
        }
        wire.try_write_vectored(&slices[..count])
    }

    /// Throws away what waits, except a frame that is partly written (or the
    /// peer could read nothing behind it) and a close frame.
    pub(super) fn discard(&mut self, done: &mut Done) {
        let partial = self.head_written > 0;
        let mut kept = Waiting::default();
        let mut first = true;
        while let Some(item) = self.items.pop_front() {
            match item {
                item if (partial && first) || matches!(item, Item::Close(_)) => kept.push_back(item),
                Item::Message(_, token, _) => done.tokens.extend(token),
                Item::Control(_) | Item::Confirm(_) | Item::Close(_) => {}
            }
            first = false;
        }
        self.items = kept;
        self.recount();
    }

    /// Throws away everything: the socket is gone.
    pub(super) fn clear(&mut self, done: &mut Done) {
        self.release_tokens(done);
        *self = Self::new(self.dialect);
    }

    /// Takes the tokens from the waiting frames, which stay.
    pub(super) fn release_tokens(&mut self, done: &mut Done) {
        for item in self.items.iter_mut() {
            if let Item::Message(_, token, _) = item {
                done.tokens.extend(token.take());
            }
        }
    }

    fn recount(&mut self) {
        let all: usize = self.items.iter().map(|item| item.len(self.dialect)).sum();
        self.bytes = all - self.head_written;
        self.messages = self.items.iter().filter(|item| item.is_message()).count();
    }
}
