//! What a run is doing, told on stderr while it does.

use std::io::{self, IsTerminal, Write};

use super::engine::Engine;
use super::figures::grouped;

/// On a terminal one line is written over and over; elsewhere each stays, so
/// there are fewer.
const EVERY_NS: u64 = 1_000_000_000;
const EVERY_ELSEWHERE_NS: u64 = 5_000_000_000;

/// The line that tells how far a run is.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    phase: String,
    since: Mark,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at_ns: u64,
    sent: u64,
    delivered: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), phase: String::new(), since: Mark::default() }
    }

    /// Names what happens from now on.
    pub(super) fn phase(&mut self, phase: &str, engine: &Engine) {
        phase.clone_into(&mut self.phase);
        self.since = mark(engine);
    }

    /// Tells how far it is, if it is time to.
    pub(super) fn look(&mut self, engine: &Engine) {
        let every_ns = if self.terminal { EVERY_NS } else { EVERY_ELSEWHERE_NS };
        let now = mark(engine);
        let passed_ns = now.at_ns - self.since.at_ns;
        if passed_ns < every_ns {
            return;
        }
        let rate = |now: u64, before: u64| grouped((now - before) as f64 / (passed_ns as f64 / 1e9), 0);
        let line = format!(
            "{}: {} sockets open, {} pushes/s, {} deliveries/s, {} outstanding",
            self.phase,
            grouped(engine.receivers.open() as f64, 0),
            rate(now.sent, self.since.sent),
            rate(now.delivered, self.since.delivered),
            grouped(engine.load.outstanding(&engine.tally) as f64, 0),
        );
        self.since = now;
        self.write(&line);
    }

    /// One line that stays.
    pub(super) fn write(&self, line: &str) {
        // Nobody watching is no reason to stop.
        let _ = if self.terminal {
            write!(io::stderr(), "\r\x1b[K{line}")
        } else {
            writeln!(io::stderr(), "{line}")
        };
    }

    /// Leaves the terminal's line clean.
    pub(super) fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn mark(engine: &Engine) -> Mark {
    Mark {
        at_ns: engine.clock.now_ns(),
        sent: engine.load.counts.sent,
        delivered: engine.tally.counts.delivered,
    }
}
