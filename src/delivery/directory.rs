//! Telling the directory when sessions leave.
//!
//! Entries are written at once when a session comes ([`super::attach`]) and
//! corrected a moment after it left, so that a reconnect costs nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::Channel;

use super::Delivery;

/// How often due changes are looked for.
const TICK: Duration = Duration::from_millis(250);

/// Channels whose number of sessions fell.
#[derive(Default)]
pub(super) struct Changes {
    due: Mutex<HashMap<Channel, Change>>,
}

struct Change {
    at: Instant,
    /// A removal that the store did not take: its generation.
    owed: Option<u64>,
}

impl Changes {
    /// A session left `channel`; correct the entry after `linger`.
    pub(super) fn changed(&self, channel: &Channel, linger: Duration) {
        let at = Instant::now() + linger;
        let mut due = self.due.lock().expect("no panic while held");
        due.entry(channel.clone()).or_insert(Change { at, owed: None });
    }

    fn owe(&self, channel: Channel, generation: u64) {
        let at = Instant::now() + Duration::from_secs(1);
        let mut due = self.due.lock().expect("no panic while held");
        due.entry(channel).or_insert(Change { at, owed: None }).owed = Some(generation);
    }

    fn take(&self, now: Instant) -> Vec<(Channel, Option<u64>)> {
        let mut due = self.due.lock().expect("no panic while held");
        due.extract_if(|_, change| change.at <= now).map(|(channel, change)| (channel, change.owed)).collect()
    }

    fn is_empty(&self) -> bool {
        self.due.lock().expect("no panic while held").is_empty()
    }
}

impl Delivery {
    pub(super) async fn run_directory(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            self.correct_directory(Instant::now()).await;
        }
    }

    /// Corrects every entry that is due at `now`.
    pub(super) async fn correct_directory(&self, now: Instant) {
        use futures_util::StreamExt as _;
        let changes = futures_util::stream::iter(self.inner.directory.take(now));
        changes.for_each_concurrent(32, |(channel, owed)| self.correct_entry(channel, owed)).await;
    }

    async fn correct_entry(&self, channel: Channel, owed: Option<u64>) {
        let released = self.inner.registry.release(&channel);
        let Some((sessions, generation)) = released.or(owed.map(|generation| (0, generation))) else {
            return;
        };
        if let Err(error) = self.inner.store.leave(self.node(), &channel, generation, sessions).await {
            self.noted(error);
            self.inner.directory.owe(channel, generation);
        }
    }

    /// Corrects every entry now and until the store took them all, or `deadline`.
    pub(super) async fn leave_all(&self, deadline: Instant) {
        while !self.inner.directory.is_empty() && Instant::now() < deadline {
            self.correct_directory(Instant::now() + Duration::from_secs(3_600)).await;
            if !self.inner.directory.is_empty() {
                tokio::time::sleep(TICK).await;
            }
        }
    }
}
