//! Idempotency keys of one channel.

use std::collections::{HashMap, VecDeque};

use crate::protocol::{MessageId, Position};
use crate::store::{Error, Idempotency};

/// What a key takes, roughly: for the byte cap.
const OVERHEAD_BYTES: usize = 200;

/// The first answer under a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) id: MessageId,
    pub(super) position: Option<Position>,
    pub(super) accepted_at_us: u64,
    pub(super) expires_at_ms: u64,
}

/// Answers by key, each remembered for the same time.
#[derive(Debug, Clone, Default)]
pub(super) struct Recall {
    answers: HashMap<[u8; 16], ([u8; 8], Answer)>,
    /// Keys by the time when they are forgotten, which is the order of arrival.
    order: VecDeque<(u64, [u8; 16])>,
}

impl Recall {
    /// The first answer under this key.
    ///
    /// # Errors
    /// When it was given to another body.
    pub(super) fn find(&mut self, asked: &Idempotency, now_ms: u64) -> Result<Option<Answer>, Error> {
        self.forget_old(now_ms);
        match self.answers.get(&asked.key) {
            None => Ok(None),
            Some((fingerprint, answer)) if *fingerprint == asked.fingerprint => Ok(Some(*answer)),
            Some(_) => Err(Error::IdempotencyMismatch),
        }
    }

    pub(super) fn remember(&mut self, asked: &Idempotency, answer: Answer, until_ms: u64) {
        self.answers.insert(asked.key, (asked.fingerprint, answer));
        self.order.push_back((until_ms, asked.key));
    }

    pub(super) fn forget_old(&mut self, now_ms: u64) {
        while let Some((until_ms, key)) = self.order.front()
            && *until_ms <= now_ms
        {
            self.answers.remove(key);
            self.order.pop_front();
        }
        if self.order.is_empty() {
            // Most channels see keys rarely; an empty table keeps its memory.
            *self = Self::default();
        }
    }

    /// Whether everything in it is to be forgotten.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.order.back().is_none_or(|(until_ms, _)| *until_ms <= now_ms)
    }

    pub(super) fn bytes(&self) -> usize {
        self.order.len() * OVERHEAD_BYTES
    }
}
