//! One writer per target node.
//!
//! A writer sends what piled up while its previous entry was on the way: no
//! timer, no added latency when little happens, few operations when much does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::protocol::{Message, NodeId, entry};
use crate::store::Sent;

use super::Delivery;
use super::replay::backoff;

/// A writer without work for that long ends.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often an entry is tried before the mailboxes alone owe it.
const SEND_TRIES_MAX: u32 = 8;

/// The queues of the writers.
#[derive(Default)]
pub(super) struct Router {
    writers: Mutex<HashMap<NodeId, mpsc::Sender<Arc<Message>>>>,
}

impl Delivery {
    /// Hands a message to the writer of `node`. `false`: its queue is full, and
    /// the node will find the message in the mailbox.
    pub(super) fn route(&self, node: NodeId, message: &Arc<Message>) -> bool {
        let inner = &self.inner;
        let mut writers = inner.router.writers.lock().expect("no panic while held");
        let sent = match writers.get(&node) {
            Some(writer) => writer.try_send(message.clone()),
            None => Err(TrySendError::Closed(message.clone())),
        };
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                inner.metrics.entries_sent.with("overflow").increment(1);
                false
            }
            Err(TrySendError::Closed(message)) => {
                let (writer, queue) = mpsc::channel(inner.options.route_queue_max.max(1));
                let queued = writer.try_send(message).is_ok();
                writers.insert(node, writer);
                inner.tasks.spawn(self.clone().run_writer(node, queue));
                queued
            }
        }
    }

    /// Whether no writer has anything queued.
    pub(super) fn routes_idle(&self) -> bool {
        let writers = self.inner.router.writers.lock().expect("no panic while held");
        writers.values().all(|writer| writer.capacity() == writer.max_capacity())
    }

    async fn run_writer(self, node: NodeId, mut queue: mpsc::Receiver<Arc<Message>>) {
        let inner = &self.inner;
        let mut batch = Vec::new();
        loop {
            let received = tokio::select! {
                () = inner.stop.cancelled() => return,
                received = tokio::time::timeout(IDLE_MAX, queue.recv_many(&mut batch, inner.options.entry_messages_max)) => received,
            };
            if !matches!(received, Ok(count) if count > 0) {
                let mut writers = inner.router.writers.lock().expect("no panic while held");
                if queue.is_empty() {
                    writers.remove(&node);
                    return;
                }
                continue;
            }
            while !batch.is_empty() {
                let rest = batch.split_off(fitting(&batch, inner.options.entry_bytes_max));
                self.write(node, std::mem::replace(&mut batch, rest)).await;
            }
        }
    }

    /// Sends one entry, again if need be.
    async fn write(&self, node: NodeId, mut messages: Vec<Arc<Message>>) {
        let inner = &self.inner;
        let outcome = |outcome| inner.metrics.entries_sent.with(outcome).increment(1);
        for tries in 1..=SEND_TRIES_MAX {
            let payload = entry::encode(messages.iter().map(Arc::as_ref));
            match self.timed("send", inner.store.send(node, payload)).await {
                Ok(Sent::Stored { capped }) => {
                    outcome("stored");
                    inner.metrics.stream_capped.increment(u64::from(capped));
                    return;
                }
                Ok(Sent::NoStream) => {
                    outcome("no_stream");
                    return self.reroute(node, messages).await;
                }
                Err(error) => {
                    // It may have arrived, also when the connection broke under the
                    // call: what may arrive once only is not sent again.
                    messages.retain(|message| message.position.is_some());
                    self.noted(error);
                    if messages.is_empty() {
                        break;
                    }
                    tokio::select! {
                        () = inner.stop.cancelled() => break,
                        () = tokio::time::sleep(backoff(tries)) => {}
                    }
                }
            }
        }
        outcome("failed");
    }

    /// Looks up again where the addressees are, `gone` having left.
    async fn reroute(&self, gone: NodeId, messages: Vec<Arc<Message>>) {
        for message in messages.iter().filter(|message| message.position.is_some()) {
            let channel = std::slice::from_ref(&message.channel);
            let routes = match self.inner.store.drop_routes(gone, channel).await {
                Ok(()) => self.inner.store.routes(&message.channel).await,
                Err(error) => Err(error),
            };
            match routes {
                Ok(routes) => {
                    self.inner.metrics.reroutes.increment(1);
                    for route in routes.iter().filter(|route| route.node != gone) {
                        self.route(route.node, message);
                    }
                }
                // The mailbox owes it.
                Err(error) => drop(self.noted(error)),
            }
        }
    }
}

/// How many messages of `batch` fit into an entry: at least one.
pub(super) fn fitting(batch: &[Arc<Message>], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let over = batch.iter().position(|message| {
        bytes += entry::encoded_len(message);
        bytes > bytes_max
    });
    over.unwrap_or(batch.len()).max(1)
}
