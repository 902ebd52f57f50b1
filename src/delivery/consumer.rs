//! Reading this node's stream and showing what is in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::entry;
use crate::protocol::frame::Outgoing;
use crate::protocol::{Message, NodeId};
use crate::session::Token;
use crate::store::{self, Consumer, EntryId, StreamEntry};

use super::Delivery;
use super::held::Held;
use super::order::Accepted;
use super::order::Touched;
use super::replay::backoff;

/// How long finished entries gather while the reader waits for new ones.
const ACK_GATHER: Duration = Duration::from_millis(20);
/// Sockets from which on writing to them is what a batch costs: some of the next
/// messages had better share the writes.
const GATHER_SOCKETS: usize = 256;
/// So many messages share them well enough.
const GATHER_MESSAGES: u64 = 8;
/// The reader waits no longer than this for messages to share writes.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// What one batch of entries leaves to do once its locks are released.
#[derive(Default)]
struct Batch {
    touched: Touched,
    holes: Vec<Arc<Held>>,
    messages: u64,
}

impl Delivery {
    pub(super) async fn run_consumer(self) {
        let mut tries = 0;
        let (mut known, mut dispatched) = (self.node(), EntryId::default());
        while !self.inner.stop.is_cancelled() {
            let node = self.node();
            if node != known {
                (known, dispatched) = (node, EntryId::default());
            }
            let failure = tokio::select! {
                () = self.inner.stop.cancelled() => return,
                failure = self.consume(node, &mut dispatched, &mut tries) => failure,
            };
            match failure {
                Some(store::Error::Fenced) => {
                    self.inner.membership.ask_to_rejoin(node);
                    tokio::select! {
                        () = self.inner.stop.cancelled() => return,
                        () = self.inner.membership.changed_from(node) => {}
                    }
                }
                Some(error) => {
                    let error = self.noted(error);
                    tries += 1;
                    tracing::warn!(%error, tries, "reading the node stream failed; trying again");
                    tokio::time::sleep(backoff(tries)).await;
                }
                None => {}
            }
        }
    }

    /// Reads `node`'s stream until it fails, or until this node has another id.
    /// Entries up to `dispatched` were dispatched: should they be read again, what
    /// is ephemeral in them is not delivered a second time.
    async fn consume(&self, node: NodeId, dispatched: &mut EntryId, tries: &mut u32) -> Option<store::Error> {
        let inner = &self.inner;
        let mut consumer: Box<dyn Consumer> = match inner.store.consume(node).await {
            Ok(consumer) => consumer,
            Err(error) => return Some(error),
        };
        inner.entries.restart();
        let mut failed = false;
        while self.node() == node {
            if inner.entries.take_astray() {
                tracing::warn!("the store came back older: the node stream is read from its start");
                match inner.store.consume(node).await {
                    Ok(again) => consumer = again,
                    Err(error) => return Some(error),
                }
                inner.entries.restart();
            }
            let acks = inner.entries.take();
            inner.metrics.stream_acks.increment(acks.ids.len() as u64);
            match consumer.next(acks, inner.options.read_entries_max).await {
                Ok(entries) => {
                    *tries = 0;
                    let from_the_start = std::mem::take(&mut failed);
                    if let Some(last) = entries.last().map(|entry| entry.id) {
                        if from_the_start && entries[0].id <= *dispatched {
                            inner.entries.restart();
                        }
                        let gather = self.dispatch(entries, *dispatched);
                        *dispatched = last.max(*dispatched);
                        if let Some(gather) = gather {
                            tokio::time::sleep(gather).await;
                        }
                    }
                }
                Err(store::Error::Fenced) => return Some(store::Error::Fenced),
                Err(error) => {
                    let error = self.noted(error);
                    *tries += 1;
                    failed = true;
                    tracing::warn!(%error, tries, "reading the node stream failed; trying again");
                    tokio::time::sleep(backoff(*tries)).await;
                }
            }
        }
        None
    }

    /// Shows a batch of entries. Sockets are written once for the whole batch,
    /// and holes are filled only if the batch itself did not close them.
    ///
    /// Returns for how long to let the next messages gather, if a few went to
    /// many sockets: as long as that took. Whoever is rarely pushed to waits for
    /// nothing; where one message comes upon the other, a write carries several.
    pub(super) fn dispatch(&self, entries: Vec<StreamEntry>, dispatched: EntryId) -> Option<Duration> {
        let begun = Instant::now();
        let mut batch = Batch::default();
        for StreamEntry { id, payload } in entries {
            let token = self.inner.entries.begin(id);
            match entry::decode(payload) {
                Ok(entry) => {
                    for message in entry.messages {
                        self.show(message, &token, id <= dispatched, &mut batch);
                    }
                    entry.disconnects.iter().for_each(|channel| self.disconnect_here(channel));
                    entry.questions.into_iter().for_each(|question| self.answer_question(question));
                }
                // The mailboxes owe what it held; reading it again would not help.
                Err(error) => tracing::error!(entry = %id, %error, "an entry could not be read"),
            }
        }
        self.inner.metrics.stream_read_messages.record(batch.messages as f64);
        let sockets = batch.touched.flush();
        for held in batch.holes {
            self.fill(&held, false);
        }
        let wide = sockets >= GATHER_SOCKETS && batch.messages < GATHER_MESSAGES;
        wide.then(|| begun.elapsed().min(GATHER_MAX))
    }

    fn show(&self, message: Message, token: &Token, again: bool, batch: &mut Batch) {
        let inner = &self.inner;
        batch.messages += 1;
        let ephemeral = message.position.is_none();
        if ephemeral && again {
            return;
        }
        let Some(held) = inner.registry.get(&message.channel) else {
            // Its sessions have left; the mailbox owes it, wherever they are now.
            // If the directory does not know yet, it is told.
            inner.directory.changed(&message.channel, inner.options.linger);
            if ephemeral && message.accountable {
                inner.cursors.ephemeral(&message.channel, false);
            }
            return;
        };
        let outgoing = Arc::new(Outgoing::new(message));
        match held.accept(&outgoing, token, &mut batch.touched, inner.options.ahead_messages_max) {
            Accepted::Shown(sessions) => {
                inner.metrics.message_sessions.record(sessions as f64);
                if ephemeral && outgoing.message().accountable {
                    inner.cursors.ephemeral(&held.channel, sessions > 0);
                }
            }
            Accepted::Duplicate => inner.metrics.duplicates_dropped.increment(1),
            Accepted::Hole => batch.holes.push(held),
            Accepted::Early => {}
        }
    }

    /// Acknowledges entries that were done while the reader waited for others.
    pub(super) async fn run_entry_acks(self) {
        let inner = &self.inner;
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                () = inner.entries.done() => {}
            }
            tokio::time::sleep(ACK_GATHER).await;
            self.ack_entries().await;
        }
    }

    /// Acknowledges every entry that is done now.
    pub(super) async fn ack_entries(&self) {
        let inner = &self.inner;
        let acks = inner.entries.take();
        if acks.is_empty() {
            return;
        }
        inner.metrics.stream_acks.increment(acks.ids.len() as u64);
        if let Err(error) = inner.store.ack_entries(self.node(), &acks).await {
            self.noted(error);
            inner.entries.restore(acks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, attach_to, ephemeral, kept, start_on, until_the_end};
    use crate::session::Options;
    use crate::store::faulty::{self, Faults};
    use crate::store::{Limits, Start, Store as _, memory};

    #[tokio::test(start_paused = true)]
    async fn what_is_ephemeral_comes_once_though_the_stream_could_not_be_opened_again_at_once() {
        let shared = memory::Store::new(Limits::default());
        let faults = || Faults { deadline: Duration::from_millis(50), ..Faults::default() };
        let store = faulty::Store::new(Arc::new(shared.clone()), 1, faults());
        let delivery = start_on(Arc::new(store.clone())).await;
        let options = Arc::new(Options::default());
        let (_session, run, mut client) = attach_to(&delivery, options, alice(), Start::Now).await;
        let run = tokio::spawn(run);
        let payload = entry::encode([&ephemeral()].into_iter());
        shared.send(delivery.node(), payload).await.expect("sent");
        let before = shared.copy();
        while shared.stream_stats(delivery.node()).await.expect("answered").length > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The store comes back older, which is noticed while it is away again.
        store.set(Faults { cut: true, ..faults() });
        shared.restart(&before);
        delivery.inner.entries.oldest_pending(u64::MAX);
        tokio::time::sleep(Duration::from_millis(500)).await;
        store.set(faults());
        delivery.push(kept(&alice(), "\"the end\"".into())).await.expect("accepted");
        assert_eq!(until_the_end(&mut client).await, ["now", "the end"]);
        run.abort();
    }
}
