//! What goes wrong between one node and its store.
//!
//! A node's calls are delayed, refused, lost before or after they took effect,
//! held up while the node is frozen, and never answered once it is dead. What
//! happens to each call is drawn from the node's own seed.

use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;

/// How long a node waits for an answer.
pub(crate) const DEADLINE: Duration = Duration::from_millis(800);

/// How long after that a call may take effect that nobody waits for any more.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(3);

/// How often each thing goes wrong, of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Refused; nothing happened.
    pub(crate) refused: f64,
    /// No answer; nothing happened.
    pub(crate) unheard: f64,
    /// No answer, although it happened.
    pub(crate) unanswered: f64,
    /// No answer, and it happens later.
    pub(crate) late: f64,
    /// An entry that was stored, so it is said, and is not there.
    pub(crate) entry_lost: f64,
    /// An entry that comes up to a second later.
    pub(crate) entry_delayed: f64,
    /// An entry that comes twice.
    pub(crate) entry_repeated: f64,
    /// What each way takes at most.
    pub(crate) latency_max: Duration,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    Refused,
    Unheard,
    Unanswered,
    Late,
}

/// What becomes of an entry whose sending is fine otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryFate {
    Fine,
    Lost,
    Delayed,
    Repeated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Running,
    Frozen,
    Dead,
}

/// One node's troubles.
#[derive(Debug)]
pub(crate) struct Faults {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    rates: Rates,
    condition: Condition,
    cut_off: bool,
}

impl Faults {
    pub(crate) fn new(seed: u64, rates: Rates) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let state = State { rng, rates, condition: Condition::Running, cut_off: false };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().expect("no panic while held"))
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        self.with(|state| state.rates = rates);
    }

    /// Calls neither begin nor return until it is thawed.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.with(|state| {
            if state.condition != Condition::Dead {
                state.condition = if frozen { Condition::Frozen } else { Condition::Running };
            }
        });
        self.changed.notify_waiters();
    }

    /// Every call fails without effect until it is joined again.
    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.with(|state| state.cut_off = cut_off);
    }

    /// No call ever returns again.
    pub(crate) fn die(&self) {
        self.with(|state| state.condition = Condition::Dead);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.with(|state| state.condition == Condition::Dead)
    }

    /// Whether a call that was on its way when its node died still arrives.
    pub(crate) fn arrives_all_the_same(&self) -> bool {
        self.with(|state| state.rng.random_bool(0.3))
    }

    /// Passes while the node runs.
    pub(crate) async fn gate(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.with(|state| state.condition) {
                Condition::Running => return,
                Condition::Frozen => changed.await,
                Condition::Dead => std::future::pending().await,
            }
        }
    }

    /// One way to the store or back.
    pub(crate) async fn way(&self) {
        let latency = self.with(|state| state.rates.latency_max.mul_f64(state.rng.random()));
        // The timer counts in milliseconds: most ways take none.
        if latency >= Duration::from_millis(1) {
            tokio::time::sleep(latency).await;
        }
    }

    pub(crate) fn fate(&self) -> Fate {
        self.with(|state| {
            if state.cut_off {
                return if state.rng.random_bool(0.5) { Fate::Refused } else { Fate::Unheard };
            }
            let Rates { refused, unheard, unanswered, late, .. } = state.rates;
            let draw: f64 = state.rng.random();
            let fates = [
                (refused, Fate::Refused),
                (unheard, Fate::Unheard),
                (unanswered, Fate::Unanswered),
                (late, Fate::Late),
            ];
            pick(draw, &fates).unwrap_or(Fate::Fine)
        })
    }

    pub(crate) fn entry_fate(&self) -> EntryFate {
        self.with(|state| {
            let Rates { entry_lost, entry_delayed, entry_repeated, .. } = state.rates;
            let draw: f64 = state.rng.random();
            let fates = [
                (entry_lost, EntryFate::Lost),
                (entry_delayed, EntryFate::Delayed),
                (entry_repeated, EntryFate::Repeated),
            ];
            pick(draw, &fates).unwrap_or(EntryFate::Fine)
        })
    }

    /// Anything up to `most`.
    pub(crate) fn up_to(&self, most: Duration) -> Duration {
        self.with(|state| most.mul_f64(state.rng.random()))
    }
}

fn pick<T: Copy>(mut draw: f64, fates: &[(f64, T)]) -> Option<T> {
    fates.iter().find_map(|(rate, fate)| {
        draw -= rate;
        (draw < 0.0).then_some(*fate)
    })
}
