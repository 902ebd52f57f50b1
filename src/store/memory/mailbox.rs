//! The messages of one channel that are kept.
//!
//! It knows nothing of who received what: whoever removes messages says from
//! which sequence number on they count as lost.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::{Channel, Epoch, Message, MessageId, Position};
use crate::store::Why;

use super::departures::Departures;

/// What a message takes beside its own bytes, roughly: for the byte cap.
const OVERHEAD_BYTES: usize = 160;

/// A message without what its mailbox knows anyway.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) id: MessageId,
    pub(super) accepted_at_us: u64,
    pub(super) expires_at_ms: u64,
    pub(super) data: Bytes,
    pub(super) collapse_key: Option<Arc<str>>,
    pub(super) trace: Option<Box<str>>,
}

/// How many bytes to count for a message.
pub(super) fn cost(data: &[u8], collapse_key: Option<&str>, trace: Option<&str>) -> usize {
    OVERHEAD_BYTES + data.len() + collapse_key.map_or(0, str::len) + trace.map_or(0, str::len)
}

impl Kept {
    fn cost(&self) -> usize {
        cost(&self.data, self.collapse_key.as_deref(), self.trace.as_deref())
    }
}

/// Messages by sequence number.
#[derive(Debug, Clone, Default)]
pub(super) struct Mailbox {
    entries: BTreeMap<u64, Kept>,
    /// The message of each collapse key; always one that is in `entries`.
    keys: BTreeMap<Arc<str>, u64>,
    /// No message expires before this.
    next_expiry_ms: u64,
    /// The latest expiry since the mailbox was empty.
    last_expiry_ms: u64,
    /// Whether some message expires before an older one.
    mixed: bool,
    bytes: usize,
    /// Why messages went, for a while.
    pub(super) departures: Departures,
}

impl Mailbox {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything in it has expired.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.entries.is_empty() || self.last_expiry_ms <= now_ms
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.departures.bytes()
    }

    /// Everything kept, by number.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Kept)> {
        self.entries.iter().map(|(seq, kept)| (*seq, kept))
    }

    pub(super) fn push(&mut self, seq: u64, kept: Kept) {
        if self.entries.is_empty() {
            (self.next_expiry_ms, self.last_expiry_ms, self.mixed) = (kept.expires_at_ms, 0, false);
        }
        self.next_expiry_ms = self.next_expiry_ms.min(kept.expires_at_ms);
        self.mixed |= kept.expires_at_ms < self.last_expiry_ms;
        self.last_expiry_ms = self.last_expiry_ms.max(kept.expires_at_ms);
        self.bytes += kept.cost();
        if let Some(key) = &kept.collapse_key {
            self.keys.insert(Arc::clone(key), seq);
        }
        self.entries.insert(seq, kept);
    }

    /// Removes the message of this collapse key, and returns its number.
    pub(super) fn take_collapsed(&mut self, key: &str, watermark: u64, now_ms: u64) -> Option<u64> {
        let seq = *self.keys.get(key)?;
        self.take(seq, Why::Collapsed, watermark, now_ms);
        Some(seq)
    }

    /// Removes the message of that number, if it is there.
    pub(super) fn take(&mut self, seq: u64, why: Why, watermark: u64, now_ms: u64) {
        if let Some(kept) = self.entries.remove(&seq) {
            self.forget(seq, &kept);
            self.departures.note(seq, &kept, seq <= watermark, why, now_ms);
        }
    }

    /// Whether [`expire`](Self::expire) could find anything, so long after it
    /// became due.
    pub(super) fn is_due(&self, now_ms: u64, slack_ms: u64) -> bool {
        !self.entries.is_empty() && now_ms >= self.next_expiry_ms.saturating_add(slack_ms)
    }

    /// Removes what has expired; returns how much of it was above `watermark`.
    pub(super) fn expire(&mut self, now_ms: u64, watermark: u64) -> u64 {
        let mut lost = 0;
        if self.mixed {
            let expired = self.entries.extract_if(.., |_, kept| kept.expires_at_ms <= now_ms);
            let expired: Vec<_> = expired.collect();
            for (seq, kept) in expired {
                self.forget(seq, &kept);
                self.departures.note(seq, &kept, seq <= watermark, Why::Expired, now_ms);
                lost += u64::from(seq > watermark);
            }
            self.next_expiry_ms = self.entries.values().map(|kept| kept.expires_at_ms).min().unwrap_or(0);
        } else {
            while let Some(entry) = self.entries.first_entry() {
                self.next_expiry_ms = entry.get().expires_at_ms;
                if self.next_expiry_ms > now_ms {
                    break;
                }
                let (seq, kept) = entry.remove_entry();
                self.forget(seq, &kept);
                self.departures.note(seq, &kept, seq <= watermark, Why::Expired, now_ms);
                lost += u64::from(seq > watermark);
            }
        }
        lost
    }

    /// Removes the oldest message; returns its number.
    pub(super) fn pop_oldest(&mut self, watermark: u64, now_ms: u64) -> Option<u64> {
        let seq = *self.entries.first_key_value()?.0;
        self.take(seq, Why::Trimmed, watermark, now_ms);
        Some(seq)
    }

    fn forget(&mut self, seq: u64, kept: &Kept) {
        self.bytes -= kept.cost();
        if let Some(key) = &kept.collapse_key
            && self.keys.get(key) == Some(&seq)
        {
            self.keys.remove(key);
        }
    }

    /// How many messages are above `after`, up to and including `to`.
    pub(super) fn count(&self, after: u64, to: u64) -> u64 {
        if after >= to { 0 } else { self.entries.range(after + 1..=to).count() as u64 }
    }

    /// Up to `limit` messages above `after` that live at `now_ms`, and whether
    /// that is all of them.
    pub(super) fn read(
        &self,
        (channel, epoch): (&Channel, Epoch),
        after: u64,
        limit: usize,
        now_ms: u64,
    ) -> (Vec<Message>, bool) {
        let behind = self.entries.range((Bound::Excluded(after), Bound::Unbounded));
        let mut living = behind.filter(|(_, kept)| kept.expires_at_ms > now_ms);
        let messages = living.by_ref().take(limit).map(|(seq, kept)| Message {
            id: kept.id,
            channel: channel.clone(),
            position: Some(Position::new(epoch, *seq)),
            accepted_at_us: kept.accepted_at_us,
            expires_at_ms: kept.expires_at_ms,
            data: kept.data.clone(),
            trace: kept.trace.clone(),
            accountable: false,
        });
        let messages = messages.collect();
        (messages, living.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(key: &str, expires_at_ms: u64) -> Kept {
        Kept {
            id: MessageId::generate(),
            accepted_at_us: 0,
            expires_at_ms,
            data: Bytes::from_static(b"1"),
            collapse_key: Some(key.into()),
            trace: None,
        }
    }

    #[test]
    fn collapse_keys_go_with_their_messages() {
        let mut mailbox = Mailbox::default();
        for (seq, (key, expires_at_ms)) in (1..).zip([("a", 10), ("b", 30), ("c", 20), ("d", 40)]) {
            mailbox.push(seq, kept(key, expires_at_ms));
        }
        assert_eq!(mailbox.expire(20, 0), 2);
        assert_eq!(mailbox.keys.keys().map(|key| &**key).collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(mailbox.pop_oldest(0, 20), Some(2));
        assert_eq!(mailbox.take_collapsed("d", 0, 20), Some(4));
        assert!(mailbox.keys.is_empty());
        assert_eq!(mailbox.bytes, 0);
        assert_eq!(mailbox.departures.iter().count(), 4);
    }

    #[test]
    fn an_emptied_mailbox_forgets_when_it_had_to_look() {
        let mut mailbox = Mailbox::default();
        mailbox.push(1, kept("a", 50));
        mailbox.push(2, kept("b", 10));
        assert_eq!(mailbox.expire(50, 0), 2);
        mailbox.push(3, kept("a", 20));
        assert!(!mailbox.mixed);
        assert!(!mailbox.is_due(19, 0));
        assert!(mailbox.is_due(20, 0));
    }
}
