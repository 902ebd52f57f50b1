//! Which entries of the node stream are done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::session::{Hold, Token};
use crate::store::{EntryAcks, EntryId};

/// An acknowledgement is on its way for no longer than this.
const ASTRAY_MS: u64 = 10_000;

/// Follows entries from being read to being acknowledged.
///
/// Entries are begun in stream order. The stream may be trimmed below the
/// first that is not done: trimming behind the last acknowledged one would
/// delete what is still owed.
#[derive(Default)]
pub(super) struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    done: Notify,
    /// The stream holds what was read and is not followed here.
    astray: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Bumped when the stream is read from its start again: tokens of before
    /// then mean nothing any more.
    reading: u64,
    open: VecDeque<(EntryId, bool)>,
    /// How many entries went out of `open` at the front.
    gone: u64,
    last: Option<EntryId>,
    done: Vec<EntryId>,
}

struct EntryToken {
    shared: Arc<Shared>,
    reading: u64,
    index: u64,
}

impl Hold for EntryToken {}

impl Drop for EntryToken {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().expect("no panic while held");
        if state.reading != self.reading {
            return;
        }
        let at = usize::try_from(self.index - state.gone).expect("fewer entries than addresses");
        state.open[at].1 = true;
        let id = state.open[at].0;
        state.done.push(id);
        while state.open.front().is_some_and(|(_, done)| *done) {
            state.open.pop_front();
            state.gone += 1;
        }
        let first = state.done.len() == 1;
        drop(state);
        if first {
            self.shared.done.notify_one();
        }
    }
}

impl Tracker {
    /// The token of an entry that was read.
    pub(super) fn begin(&self, id: EntryId) -> Token {
        let mut state = self.shared.state.lock().expect("no panic while held");
        let index = state.gone + state.open.len() as u64;
        state.open.push_back((id, false));
        state.last = state.last.max(Some(id));
        Arc::new(EntryToken { shared: self.shared.clone(), reading: state.reading, index })
    }

    /// What is done and was not taken yet.
    pub(super) fn take(&self) -> EntryAcks {
        let mut state = self.shared.state.lock().expect("no panic while held");
        let ids = std::mem::take(&mut state.done);
        let trim_below = match state.open.front() {
            Some((id, _)) => Some(*id),
            None => state.last.map(EntryId::successor),
        };
        EntryAcks { trim_below: trim_below.filter(|_| !ids.is_empty()), ids }
    }

    /// Gives back what could not be acknowledged.
    pub(super) fn restore(&self, acks: EntryAcks) {
        let mut state = self.shared.state.lock().expect("no panic while held");
        state.done.extend(acks.ids);
    }

    /// Forgets everything: the stream is about to be read from its start.
    pub(super) fn restart(&self) {
        let mut state = self.shared.state.lock().expect("no panic while held");
        let reading = state.reading + 1;
        *state = State { reading, ..State::default() };
    }

    /// The store says that its oldest entry that was read and not acknowledged
    /// is that old. If none is followed here, it came back older than its answers
    /// were, and has to be read again.
    pub(super) fn oldest_pending(&self, age_ms: u64) {
        let state = self.shared.state.lock().expect("no panic while held");
        let astray = age_ms >= ASTRAY_MS && state.open.is_empty() && state.done.is_empty();
        self.shared.astray.store(astray, Ordering::Relaxed);
    }

    /// Whether the stream has to be read from its start; once.
    pub(super) fn take_astray(&self) -> bool {
        self.shared.astray.swap(false, Ordering::Relaxed)
    }

    /// Waits until something is done.
    pub(super) async fn done(&self) {
        self.shared.done.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, n: 0 }
    }

    #[test]
    fn the_stream_is_trimmed_only_below_the_first_entry_that_is_not_done() {
        let tracker = Tracker::default();
        let (first, second, third) = (tracker.begin(id(1)), tracker.begin(id(2)), tracker.begin(id(3)));
        drop(second);
        assert_eq!(tracker.take(), EntryAcks { ids: vec![id(2)], trim_below: Some(id(1)) });
        drop(first);
        assert_eq!(tracker.take(), EntryAcks { ids: vec![id(1)], trim_below: Some(id(3)) });
        assert!(tracker.take().is_empty());
        drop(third);
        assert_eq!(tracker.take(), EntryAcks { ids: vec![id(3)], trim_below: Some(id(3).successor()) });
    }

    #[test]
    fn an_entry_is_done_when_its_last_clone_is_dropped() {
        let tracker = Tracker::default();
        let token = tracker.begin(id(1));
        let frame = token.clone();
        drop(token);
        assert!(tracker.take().is_empty());
        drop(frame);
        assert_eq!(tracker.take().ids, [id(1)]);
    }

    #[test]
    fn tokens_of_before_a_restart_mean_nothing() {
        let tracker = Tracker::default();
        let stale = tracker.begin(id(1));
        tracker.restart();
        let _fresh = tracker.begin(id(1));
        drop(stale);
        assert!(tracker.take().is_empty());
    }

    #[test]
    fn what_was_read_long_ago_and_is_followed_no_more_is_read_again() {
        let tracker = Tracker::default();
        let token = tracker.begin(EntryId { ms: 1, n: 1 });
        tracker.oldest_pending(ASTRAY_MS);
        assert!(!tracker.take_astray(), "somebody still reads it");
        drop(token);
        tracker.oldest_pending(ASTRAY_MS);
        assert!(!tracker.take_astray(), "it is about to be acknowledged");
        let _ = tracker.take();
        tracker.oldest_pending(ASTRAY_MS - 1);
        assert!(!tracker.take_astray(), "it is being acknowledged");
        tracker.oldest_pending(ASTRAY_MS);
        assert!(tracker.take_astray() && !tracker.take_astray());
    }
}
