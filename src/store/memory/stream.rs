//! The stream of one node, with its consumer group.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::store::{EntryAcks, EntryId, StreamEntry, StreamStats};

use super::clock::Now;

/// What an entry takes beside its payload, roughly: for the byte cap.
const OVERHEAD_BYTES: usize = 96;

/// How many bytes to count for an entry.
pub(super) fn cost(payload: &[u8]) -> usize {
    OVERHEAD_BYTES + payload.len()
}

/// Entries by id, and how far the group has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    entries: BTreeMap<EntryId, Bytes>,
    last_id: EntryId,
    /// None once the node was fenced.
    group: Option<Group>,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Group {
    last_read: EntryId,
    /// Read and not acknowledged, with the time of reading.
    pending: BTreeMap<EntryId, Now>,
}

impl Stream {
    /// An empty stream whose group begins at its first entry.
    pub(super) fn with_group() -> Self {
        Self { group: Some(Group::default()), ..Self::default() }
    }

    pub(super) fn has_group(&self) -> bool {
        self.group.is_some()
    }

    pub(super) fn destroy_group(&mut self) {
        self.group = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an entry; returns whether the stream is at its cap, and so lost
    /// its oldest entries or is about to.
    pub(super) fn append(&mut self, payload: Bytes, entries_max: usize, now: Now) -> bool {
        self.last_id = self.last_id.successor().max(EntryId { ms: now.ms(), n: 0 });
        self.bytes += cost(&payload);
        self.entries.insert(self.last_id, payload);
        while self.entries.len() > entries_max
            && let Some((id, payload)) = self.entries.pop_first()
        {
            self.bytes -= cost(&payload);
            self.forget_pending(id);
        }
        self.entries.len() >= entries_max
    }

    /// Up to `limit` entries that were never read, which are pending from now on.
    pub(super) fn read_new(&mut self, limit: usize, now: Now) -> Vec<StreamEntry> {
        let Some(group) = &mut self.group else { return Vec::new() };
        let unread = self.entries.range((Bound::Excluded(group.last_read), Bound::Unbounded));
        let entries: Vec<_> = unread.take(limit).map(entry).collect();
        for entry in &entries {
            group.pending.insert(entry.id, now);
            group.last_read = entry.id;
        }
        entries
    }

    /// Up to `limit` pending entries above `after`.
    pub(super) fn read_pending(&self, after: EntryId, limit: usize) -> Vec<StreamEntry> {
        let Some(group) = &self.group else { return Vec::new() };
        let pending = group.pending.range((Bound::Excluded(after), Bound::Unbounded));
        pending.take(limit).filter_map(|(id, _)| self.entries.get_key_value(id).map(entry)).collect()
    }

    pub(super) fn acknowledge(&mut self, acks: &EntryAcks) {
        for id in &acks.ids {
            self.forget_pending(*id);
        }
        if let Some(below) = acks.trim_below {
            let kept = self.entries.split_off(&below);
            for (id, payload) in std::mem::replace(&mut self.entries, kept) {
                self.bytes -= cost(&payload);
                self.forget_pending(id);
            }
        }
    }

    /// The oldest entries, read or not.
    pub(super) fn oldest(&self, limit: usize) -> Vec<StreamEntry> {
        self.entries.iter().take(limit).map(entry).collect()
    }

    pub(super) fn delete(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(payload) = self.entries.remove(id) {
                self.bytes -= cost(&payload);
                self.forget_pending(*id);
            }
        }
    }

    pub(super) fn stats(&self, now: Now) -> StreamStats {
        let length = self.entries.len() as u64;
        let Some(group) = &self.group else {
            return StreamStats { length, lag: length, ..Default::default() };
        };
        let unread = self.entries.range((Bound::Excluded(group.last_read), Bound::Unbounded));
        let oldest = group.pending.values().min();
        StreamStats {
            length,
            lag: unread.count() as u64,
            pending: group.pending.len() as u64,
            oldest_pending_ms: oldest.map_or(0, |read_at| now.us.saturating_sub(read_at.us) / 1_000),
        }
    }

    fn forget_pending(&mut self, id: EntryId) {
        if let Some(group) = &mut self.group {
            group.pending.remove(&id);
        }
    }
}

fn entry((id, payload): (&EntryId, &Bytes)) -> StreamEntry {
    StreamEntry { id: *id, payload: payload.clone() }
}
