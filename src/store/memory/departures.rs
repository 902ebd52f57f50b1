//! Why messages left their mailbox, remembered for a while.

use std::collections::BTreeMap;

use crate::store::{DEPARTURES_KEPT_MS, DEPARTURES_MAX, Departure, Why};

use super::mailbox::Kept;

/// What a departure takes, roughly: for the byte cap.
const COST_BYTES: usize = 112;

/// A message that is gone.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) seq: u64,
    /// What it was, without its payload.
    pub(super) kept: Kept,
    pub(super) received: bool,
    pub(super) left: Departure,
}

/// The latest departures, by number modulo how many there may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Departures(BTreeMap<u64, Gone>);

impl Departures {
    pub(super) fn note(&mut self, seq: u64, kept: &Kept, received: bool, why: Why, at_ms: u64) {
        let kept = Kept { data: bytes::Bytes::new(), collapse_key: None, trace: None, ..kept.clone() };
        let gone = Gone { seq, kept, received, left: Departure { why, at_ms } };
        self.0.insert(seq % DEPARTURES_MAX, gone);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Gone> {
        self.0.values()
    }

    pub(super) fn forget_old(&mut self, now_ms: u64) {
        self.0.retain(|_, gone| gone.left.at_ms.saturating_add(DEPARTURES_KEPT_MS) > now_ms);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * COST_BYTES
    }
}
