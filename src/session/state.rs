//! What a session's lock guards, and the changes that are made under it.
//!
//! Nothing here calls out: a change leaves in [`After`] what has to be done once
//! the lock is released.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::confirm::{Confirm, Want};
use super::keepalive::Keepalive;
use super::outbox::{Done, Item, Outbox, Progress};
use super::trail::Trail;
use super::{Ending, Options, Wire};
use crate::protocol::frame::Dialect;
use crate::protocol::ws;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// A close frame is queued or written.
    Closing,
    /// Nothing more is read or written.
    Gone,
}

/// What is left to do when the lock is released.
#[derive(Default)]
pub(super) struct After {
    /// What left the outbox.
    pub(super) done: Done,
    /// The session's task has something to do.
    pub(super) waker: Option<Waker>,
    /// When the wheel should ask again, if that is earlier than it would.
    pub(super) wheel: Option<Instant>,
    /// The outbox has shrunk, or takes nothing ever again.
    pub(super) room: bool,
    /// The session is over and nobody is reporting: say so.
    pub(super) closed: Option<Ending>,
}

/// What a flush does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Report what was written, then go on.
    GoOn,
    /// Nothing is left to report, and the flag is released.
    Stop,
}

/// Everything that changes in a session.
pub(super) struct State {
    pub(super) outbox: Outbox,
    pub(super) phase: Phase,
    /// Why the session ends; set with the first reason and never changed.
    pub(super) ending: Option<Ending>,
    /// When a closing session is cut.
    pub(super) deadline: Option<Instant>,
    /// The peer's close came, so nothing more will.
    pub(super) peer_closed: bool,
    /// What the peer sends is not understood any more and thrown away.
    pub(super) deaf: bool,
    /// The run is over, and so is the session.
    pub(super) run_ended: bool,
    closed_told: bool,
    /// Our close frame is written in full.
    close_written: bool,
    /// Do not wait for a socket that takes nothing: cut it.
    impatient: bool,
    /// Somebody is writing and reporting.
    pub(super) flushing: bool,
    /// The task waits for the socket to become writable.
    pub(super) blocked: bool,
    /// Somebody waits for the outbox to shrink.
    pub(super) room_wanted: bool,
    /// Since when the socket has taken no byte.
    pub(super) stalled_since: Option<Instant>,
    /// Since when the outbox has not been empty after a write.
    pub(super) behind_since: Option<Instant>,
    /// Behind for so long that frames hold no tokens until it has caught up.
    pub(super) tokens_returned: bool,
    pub(super) keepalive: Keepalive,
    /// Only for a plain client that named its device.
    pub(super) confirm: Option<Box<Confirm>>,
    /// Only of an event stream: where it stands behind all that is queued.
    pub(super) trail: Option<Box<Trail>>,
    /// Pings sent, and the payload of the last.
    pub(super) pings: u64,
    /// The session's task.
    pub(super) waker: Option<Waker>,
    /// What the outbox's gauge was last told.
    pub(super) gauged_bytes: usize,
}

impl State {
    pub(super) fn new(dialect: Dialect, first_ping_at: Instant) -> Self {
        Self {
            outbox: Outbox::new(dialect),
            phase: Phase::Open,
            ending: None,
            deadline: None,
            peer_closed: false,
            // Whoever asked for events has nothing more to say.
            deaf: dialect == Dialect::Events,
            run_ended: false,
            closed_told: false,
            close_written: false,
            impatient: false,
            flushing: false,
            blocked: false,
            room_wanted: false,
            stalled_since: None,
            behind_since: None,
            tokens_returned: false,
            keepalive: Keepalive::new(first_ping_at),
            confirm: None,
            trail: None,
            pings: 0,
            waker: None,
            gauged_bytes: 0,
        }
    }

    /// Whether a frame of `len` bytes may still be queued. A frame above the
    /// limit of bytes may when nothing else waits: it could be sent never else.
    pub(super) fn fits(&self, len: usize, options: &Options) -> bool {
        self.outbox.is_empty()
            || (self.outbox.len() < options.outbox_messages_max
                && self.outbox.bytes() + len <= options.outbox_bytes_max)
    }

    /// Whether the outbox is below half of its limits, or will never be again.
    pub(super) fn has_room(&self, options: &Options) -> bool {
        self.phase != Phase::Open
            || (self.outbox.len() <= options.outbox_messages_max / 2
                && self.outbox.bytes() <= options.outbox_bytes_max / 2)
    }

    /// Whether there is room and a frame of `len` bytes fits into it.
    pub(super) fn has_room_for(&self, len: usize, options: &Options) -> bool {
        self.phase != Phase::Open || (self.has_room(options) && self.fits(len, options))
    }

    /// The next Ping, numbered.
    pub(super) fn next_ping(&mut self) -> bytes::Bytes {
        self.pings += 1;
        ws::encode_ping(&self.pings.to_be_bytes())
    }

    /// One write, with the flushing flag held.
    pub(super) fn write(&mut self, wire: &dyn Wire, options: &Options, after: &mut After) -> Next {
        self.ask_for_confirmation(options, after);
        if self.phase == Phase::Gone || self.outbox.is_empty() {
            self.caught_up();
            return self.stop(after);
        }
        let (mut close_written, confirm) = (false, &mut self.confirm);
        let wrote = self.outbox.write(wire, |item| match item {
            Item::Message(outgoing, token, _) => {
                if let (Some(confirm), Some(position)) = (confirm.as_mut(), outgoing.message().position) {
                    confirm.message_written(&outgoing.message().channel, position);
                }
                after.done.messages.push(outgoing);
                after.done.tokens.extend(token);
            }
            Item::Confirm(_) => confirm.iter_mut().for_each(|confirm| confirm.ping_written()),
            Item::Close(_) => close_written = true,
            Item::Control(_) => {}
        });
        match wrote {
            Ok(Progress::Wrote(_)) => {
                self.stalled_since = None;
                after.room |= std::mem::take(&mut self.room_wanted);
                if close_written {
                    self.close_written(wire, after);
                }
                Next::GoOn
            }
            Ok(Progress::Blocked) if self.impatient => {
                self.cut(Ending::Lost, wire, after);
                self.stop(after)
            }
            Ok(Progress::Blocked) => {
                self.block(options, after);
                self.stop(after)
            }
            Err(_) => {
                self.cut(Ending::Lost, wire, after);
                self.stop(after)
            }
        }
    }

    fn stop(&mut self, after: &mut After) -> Next {
        self.flushing = false;
        self.tell_closed(after);
        Next::Stop
    }

    /// Whoever comes last, the run's end or a flush that is still reporting,
    /// says that the session is over.
    pub(super) fn tell_closed(&mut self, after: &mut After) {
        if self.run_ended && !self.flushing && !self.closed_told {
            self.closed_told = true;
            after.closed = Some(self.ending.unwrap_or(Ending::Lost));
        }
    }

    fn caught_up(&mut self) {
        self.blocked = false;
        self.stalled_since = None;
        self.behind_since = None;
        self.tokens_returned = false;
    }

    fn block(&mut self, options: &Options, after: &mut After) {
        let now = Instant::now();
        if self.behind_since.is_none() {
            self.behind_since = Some(now);
            after.wheel = Some(now + options.token_stall_max);
        }
        self.stalled_since.get_or_insert(now);
        self.blocked = true;
        after.waker = self.waker.clone();
    }

    /// Hands the rest of a long flush to the session's own task.
    pub(super) fn hand_over(&mut self, options: &Options, after: &mut After) {
        if self.phase != Phase::Gone {
            self.block(options, after);
        }
        self.stop(after);
    }

    /// Queues a Ping behind messages that wait or were written, when one is due.
    fn ask_for_confirmation(&mut self, options: &Options, after: &mut After) {
        let waiting = self.outbox.has_messages();
        let Some(confirm) = self.confirm.as_deref_mut().filter(|_| self.phase == Phase::Open) else { return };
        let now = Instant::now();
        match confirm.want(now, options.confirm_interval, waiting) {
            Want::Nothing => {}
            Want::At(due_at) => after.wheel = Some(due_at),
            Want::Now => {
                confirm.ping_queued(self.pings + 1, now);
                let ping = self.next_ping();
                self.outbox.push(Item::Confirm(ping));
            }
        }
    }

    /// Starts to close: `frame` is the close frame, and the last of all.
    pub(super) fn close(
        &mut self,
        ending: Ending,
        frame: bytes::Bytes,
        impatient: bool,
        close_timeout: Duration,
        after: &mut After,
    ) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Closing;
        self.ending = Some(ending);
        self.impatient = impatient;
        if impatient {
            self.outbox.discard(&mut after.done);
        }
        self.outbox.push(Item::Close(frame));
        let deadline = Instant::now() + close_timeout;
        self.deadline = Some(deadline);
        after.wheel = Some(deadline);
        after.room = true;
    }

    /// The peer's close came: it reads nothing more but our answer.
    pub(super) fn peer_closed(&mut self, wire: &dyn Wire, after: &mut After) {
        self.peer_closed = true;
        self.deaf = true;
        if self.close_written {
            self.cut(Ending::Lost, wire, after);
        } else {
            self.outbox.discard(&mut after.done);
        }
    }

    fn close_written(&mut self, wire: &dyn Wire, after: &mut After) {
        self.close_written = true;
        if self.peer_closed {
            self.cut(Ending::Lost, wire, after);
        } else if self.deaf {
            // The peer sees the end at once; what it still sends is read and
            // thrown away, since closing over unread bytes resets the
            // connection and could take the close frame with it.
            wire.shutdown();
        }
    }

    /// Ends the session; `ending` counts unless a reason was known before.
    pub(super) fn cut(&mut self, ending: Ending, wire: &dyn Wire, after: &mut After) {
        if self.phase == Phase::Gone {
            return;
        }
        self.phase = Phase::Gone;
        self.deaf = true;
        self.ending.get_or_insert(ending);
        self.outbox.clear(&mut after.done);
        self.caught_up();
        wire.shutdown();
        after.room = true;
        after.waker = self.waker.take();
    }
}
