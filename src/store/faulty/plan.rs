//! What goes wrong, and when.

use std::pin::Pin;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// What goes wrong, each with its probability between 0 and 1; nothing by
/// default. The kinds of failure exclude each other within a call.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Whether the store cannot be reached at all.
    pub cut: bool,
    /// The call waits on its way there, and again on its way back.
    pub delayed: f64,
    /// The longest of these waits; below half of `deadline`.
    pub delay_max: Duration,
    /// Fails at once, without effect.
    pub refused: f64,
    /// Times out without effect.
    pub lost: f64,
    /// Takes effect, and times out all the same.
    pub unanswered: f64,
    /// Times out, and takes effect up to `late_max` after that. A read of a
    /// node stream takes effect at once.
    pub late: f64,
    /// How long after its timeout a late call may take effect.
    pub late_max: Duration,
    /// An entry that was sent and confirmed is never stored.
    pub vanished: f64,
    /// An entry that was sent once is stored twice.
    pub doubled: f64,
    /// When a call times out.
    pub deadline: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            cut: false,
            delayed: 0.0,
            delay_max: Duration::from_millis(20),
            refused: 0.0,
            lost: 0.0,
            unanswered: 0.0,
            late: 0.0,
            late_max: Duration::from_secs(2),
            vanished: 0.0,
            doubled: 0.0,
            deadline: Duration::from_millis(500),
        }
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Refused,
    Lost,
    Unanswered,
    Late(Duration),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Trip {
    pub(super) fate: Fate,
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) deadline: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    Stored,
    Vanished,
    Doubled,
}

pub(super) struct Plan {
    rng: StdRng,
    pub(super) faults: Faults,
    late: Vec<(Instant, LateEffect)>,
}

/// A call that takes effect after its caller gave up.
pub(super) type LateEffect = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Plan {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), faults, late: Vec::new() }
    }

    pub(super) fn postpone(&mut self, until: Instant, effect: LateEffect) {
        self.late.push((until, effect));
    }

    /// A postponed call whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<LateEffect> {
        let index = self.late.iter().position(|(at, _)| *at <= now)?;
        Some(self.late.remove(index).1)
    }

    /// What happens to the next call.
    pub(super) fn trip(&mut self) -> Trip {
        let Faults { cut, delayed, delay_max, refused, lost, unanswered, late, late_max, deadline, .. } =
            self.faults.clone();
        let mut delay = || {
            if self.rng.random_bool(delayed) {
                self.rng.random_range(Duration::ZERO..=delay_max)
            } else {
                Duration::ZERO
            }
        };
        let (there, back) = (delay(), delay());
        let after = self.rng.random_range(Duration::ZERO..=late_max);
        let mut dice: f64 = self.rng.random();
        let mut falls_on = |probability: f64| {
            dice -= probability;
            dice < 0.0
        };
        let fate = match () {
            // Half of the calls notice that the connection is gone.
            () if cut => {
                if after < late_max / 2 {
                    Fate::Refused
                } else {
                    Fate::Lost
                }
            }
            () if falls_on(refused) => Fate::Refused,
            () if falls_on(lost) => Fate::Lost,
            () if falls_on(unanswered) => Fate::Unanswered,
            () if falls_on(late) => Fate::Late(after),
            () => Fate::Answered,
        };
        Trip { fate, there, back, deadline }
    }

    /// What happens to the next entry.
    pub(super) fn entries(&mut self) -> Entries {
        let dice: f64 = self.rng.random();
        let Faults { vanished, doubled, .. } = self.faults;
        match dice {
            dice if dice < vanished => Entries::Vanished,
            dice if dice < vanished + doubled => Entries::Doubled,
            _ => Entries::Stored,
        }
    }
}
