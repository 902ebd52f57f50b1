//! When pushes are sent.
//!
//! *Saturated*: every connection sends its next push when the last is answered,
//! as long as no more than a window of deliveries is owed. *Paced*: moments are
//! fixed in advance, whatever the servers do; a push whose connection is still
//! busy then waits in line, and its latency counts from when it was due.

use std::collections::VecDeque;
use std::net::SocketAddr;

use mio::{Registry, Token};

use super::publisher::{Outcome, Publisher};
use super::tally::Tally;
use super::timing::Clock;

/// Deliveries that stay away this long no longer hold back a saturated run.
const FORGIVEN_AFTER_NS: u64 = 2_000_000_000;

/// What decides when the next push goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// At once, with so many deliveries owed at most.
    Saturated { window: u64 },
    /// At fixed moments.
    Paced { interval_ns: u64 },
}

/// The pushing side of a run.
#[derive(Debug)]
pub(super) struct Load {
    node: SocketAddr,
    first_token: usize,
    publishers: Vec<Publisher>,
    pace: Pace,
    pub(super) sending: bool,
    /// Free to send, longest first; only while saturated.
    idle: VecDeque<usize>,
    /// When the next push is due, and whose it is.
    next_ns: u64,
    next: usize,
    /// Deliveries owed since the start, refused ones taken off.
    owed: u64,
    /// Deliveries at the last look, and when they were fewer.
    seen: (u64, u64),
    pub(super) counts: Counts,
}

/// What became of pushes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Answered other than with acceptance.
    pub(super) refused: u64,
    /// Not answered: the connection broke.
    pub(super) unanswered: u64,
    /// Were due, and could not be sent before the end.
    pub(super) unsent: u64,
    /// Times that a saturated run stood still for missing deliveries.
    pub(super) stalls: u64,
}

impl Load {
    pub(super) fn new(node: SocketAddr, first_token: usize, publishers: Vec<Publisher>, pace: Pace) -> Self {
        let idle = (0..publishers.len()).collect();
        Self {
            node,
            first_token,
            publishers,
            pace,
            sending: false,
            idle,
            next_ns: 0,
            next: 0,
            owed: 0,
            seen: (0, 0),
            counts: Counts::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.publishers.len()
    }

    /// Connects those that are not.
    pub(super) fn connect(&mut self, registry: &Registry) -> std::io::Result<()> {
        for (at, publisher) in self.publishers.iter_mut().enumerate() {
            if !publisher.is_connected() {
                publisher.connect(self.node, Token(self.first_token + at), registry)?;
            }
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, now_ns: u64) {
        self.sending = true;
        self.next_ns = now_ns;
        self.seen = (0, now_ns);
    }

    /// Ends sending; what was due and not sent is counted.
    pub(super) fn end(&mut self) {
        self.sending = false;
        for publisher in &mut self.publishers {
            self.counts.unsent += publisher.waiting.len() as u64 * publisher.messages();
            publisher.waiting.clear();
        }
    }

    /// When the next push is due, if pushes are paced.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        (self.sending && matches!(self.pace, Pace::Paced { .. })).then_some(self.next_ns)
    }

    /// Deliveries that were accepted and have not arrived.
    pub(super) fn outstanding(&self, tally: &Tally) -> u64 {
        self.owed.saturating_sub(tally.counts.delivered)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.publishers.iter().all(|publisher| !publisher.is_busy())
    }

    pub(super) fn last_refusal(&self) -> Option<&str> {
        self.publishers.iter().find_map(Publisher::last_refusal)
    }

    /// Looks at a publisher's connection that has something.
    pub(super) fn ready(
        &mut self,
        at: usize,
        readable: bool,
        buffer: &mut [u8],
        tally: &mut Tally,
        clock: Clock,
    ) {
        let busy = self.publishers[at].is_busy();
        match self.publishers[at].ready(readable, buffer, tally, clock) {
            Outcome::Nothing => {}
            Outcome::Answered { refused } => {
                self.counts.refused += refused;
                self.owed -= refused * tally.sockets_each();
                // Whoever was refused rests until the next tick.
                if refused == 0 && self.publishers[at].is_connected() {
                    self.free(at, tally);
                }
            }
            Outcome::Broken => self.broke(at, busy, tally),
        }
    }

    /// A publisher has its answer: its line goes on, or it is idle.
    fn free(&mut self, at: usize, tally: &mut Tally) {
        match (self.pace, self.publishers[at].waiting.pop_front()) {
            (_, Some(due_ns)) => self.send(at, due_ns, tally),
            (Pace::Saturated { .. }, None) => self.idle.push_back(at),
            (Pace::Paced { .. }, None) => {}
        }
    }

    fn send(&mut self, at: usize, due_ns: u64, tally: &mut Tally) {
        let messages = self.publishers[at].messages();
        self.counts.sent += messages;
        self.owed += messages * tally.sockets_each();
        if self.publishers[at].send(due_ns, tally) == Outcome::Broken {
            self.broke(at, true, tally);
        }
    }

    fn broke(&mut self, at: usize, busy: bool, tally: &Tally) {
        if busy {
            let messages = self.publishers[at].messages();
            self.counts.unanswered += messages;
            self.owed -= messages * tally.sockets_each();
        }
    }

    /// Sends what is due, or what the window allows.
    pub(super) fn pump(&mut self, now_ns: u64, tally: &mut Tally) {
        if !self.sending {
            return;
        }
        match self.pace {
            Pace::Saturated { window } => {
                while self.outstanding(tally) < window {
                    let Some(at) = self.idle.pop_front() else { return };
                    // One whose connection broke comes back with a tick.
                    if self.publishers[at].is_connected() {
                        self.send(at, now_ns, tally);
                    }
                }
            }
            Pace::Paced { interval_ns } => {
                while self.next_ns <= now_ns {
                    let (at, due_ns) = (self.next, self.next_ns);
                    self.next = (self.next + 1) % self.publishers.len();
                    self.next_ns += interval_ns;
                    let publisher = &mut self.publishers[at];
                    if publisher.is_busy() || !publisher.is_connected() || !publisher.waiting.is_empty() {
                        publisher.waiting.push_back(due_ns);
                    } else {
                        self.send(at, due_ns, tally);
                    }
                }
            }
        }
    }

    /// Now and then: brings back who was refused or broken, and lets a
    /// saturated run go on when deliveries stay away.
    pub(super) fn tick(&mut self, now_ns: u64, registry: &Registry, tally: &mut Tally) {
        // Failing means that the node is away: the next tick tries again.
        let _ = self.connect(registry);
        for at in 0..self.publishers.len() {
            let publisher = &self.publishers[at];
            if publisher.is_connected() && !publisher.is_busy() && !self.idle.contains(&at) {
                self.free(at, tally);
            }
        }
        if tally.counts.delivered != self.seen.0 || self.outstanding(tally) == 0 {
            self.seen = (tally.counts.delivered, now_ns);
        } else if now_ns - self.seen.1 > FORGIVEN_AFTER_NS && matches!(self.pace, Pace::Saturated { .. }) {
            self.owed = tally.counts.delivered;
            self.counts.stalls += 1;
        }
    }
}
