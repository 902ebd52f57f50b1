//! Accepting a push.

use std::sync::Arc;

use crate::protocol::close::CloseCode;
use crate::protocol::{Channel, Message, MessageId, Position, entry};
use crate::store::{self, Append, Appended, Sent};

use super::finished::Finished;
use super::together::Call;
use super::{Delivery, trail};

/// Pushes that share a trip at most.
const PUSHES_MAX: usize = 256;

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The message's id.
    pub id: MessageId,
    /// Its position; none when ephemeral.
    pub position: Option<Position>,
    /// When it expires: milliseconds since 1970.
    pub expires_at_ms: u64,
    /// Nodes it was handed to.
    pub nodes: u32,
    /// Sessions these nodes have for the channel.
    pub sessions: u32,
}

impl Delivery {
    /// Accepts one message: kept once this returns `Ok`. What was begun is
    /// finished even if the caller goes away.
    ///
    /// # Errors
    /// When the store did not confirm it; then it may still arrive, once.
    pub async fn push(&self, append: Append) -> Result<Pushed, store::Error> {
        let Some(taken) = self.inner.pushes.call(append) else {
            return Err(store::Error::Unavailable("too many pushes wait for it".to_owned()));
        };
        if taken.to_begin {
            self.inner.tasks.spawn(self.clone().run_pushes());
        }
        let gone = |_| Err(store::Error::Unavailable("the node is stopping".to_owned()));
        taken.answer.await.unwrap_or_else(gone)
    }

    /// Makes trips until no push waits.
    async fn run_pushes(self) {
        let mut trips = self.inner.pushes.trips();
        // Connections that have a push ready are read first: it shares the first
        // trip. Else a thread that was busy would begin with one of many.
        step_aside().await;
        while let Some(calls) = trips.take(PUSHES_MAX) {
            let (mut appends, mut callers) =
                (Vec::with_capacity(calls.len()), Vec::with_capacity(calls.len()));
            for Call { what, answer } in calls {
                callers.push((self.parts(&what), answer));
                appends.push(what);
            }
            let appended = self.timed("append", self.inner.store.append_batch(appends)).await;
            let pushed: Vec<_> = callers
                .into_iter()
                .zip(appended)
                .map(|((parts, answer), appended)| (answer, self.finish(parts, appended)))
                .collect();
            // Addressees are waited for: their entries leave before the answers.
            step_aside().await;
            for (answer, pushed) in pushed {
                // A caller that went away does not need to know.
                let _ = answer.send(pushed);
            }
        }
    }

    /// Accepts many messages in one trip; answers in input order.
    pub async fn push_batch(&self, appends: Vec<Append>) -> Vec<Result<Pushed, store::Error>> {
        let delivery = self.clone();
        let push = async move {
            let parts: Vec<_> = appends.iter().map(|append| delivery.parts(append)).collect();
            let appended = delivery.timed("append_batch", delivery.inner.store.append_batch(appends)).await;
            parts
                .into_iter()
                .zip(appended)
                .map(|(parts, appended)| delivery.finish(parts, appended))
                .collect()
        };
        Finished::new(&self.inner.tasks, push).await
    }

    /// Closes every session of a channel, on every node. Returns how many nodes
    /// were told.
    ///
    /// # Errors
    /// When the directory could not be read.
    pub async fn disconnect(&self, channel: &Channel) -> Result<u32, store::Error> {
        let store = &self.inner.store;
        let mut told = 0;
        for route in store.routes(channel).await.map_err(|error| self.noted(error))? {
            match store.send(route.node, entry::encode_disconnect(channel)).await {
                Ok(Sent::Stored { .. }) => told += 1,
                Ok(Sent::NoStream) => {}
                Err(error) => return Err(self.noted(error)),
            }
        }
        Ok(told)
    }

    /// Closes this node's sessions of a channel.
    pub(super) fn disconnect_here(&self, channel: &Channel) {
        let Some(held) = self.inner.registry.get(channel) else { return };
        for session in held.sessions() {
            session.close(CloseCode::DISCONNECTED, "disconnected by the application");
        }
    }

    /// The beginning of a push: what is needed of it later.
    fn parts(&self, append: &Append) -> Parts {
        Parts {
            channel: append.channel.clone(),
            data: append.data.clone(),
            trace: append.trace.clone(),
            // Only spans have a beginning.
            begun_us: self.inner.options.spans.as_ref().map_or(0, |_| self.inner.clock.now_us()),
        }
    }

    fn finish(&self, parts: Parts, appended: Result<Appended, store::Error>) -> Result<Pushed, store::Error> {
        let metrics = &self.inner.metrics;
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                let result = match &error {
                    store::Error::Unavailable(_) | store::Error::Timeout { .. } => "unavailable",
                    store::Error::OutOfMemory => "out_of_memory",
                    store::Error::IdempotencyMismatch => "mismatch",
                    _ => "failed",
                };
                metrics.pushes.with(result).increment(1);
                return Err(self.noted(error));
            }
        };
        metrics.pushes.with(if appended.repeated { "repeated" } else { "accepted" }).increment(1);
        if !appended.repeated {
            metrics.ledger_messages.with("accepted").increment(1);
        }
        if let Some(spans) = &self.inner.options.spans {
            trail::pushed(spans, &parts, &appended, self.inner.clock.now_us());
        }
        trail::accepted(&parts, &appended);
        self.settled(appended.settled);
        if let Some(position) = appended.position.filter(|_| !appended.repeated && self.follows_expiry()) {
            self.await_expiry(&parts.channel, appended.id, position, appended.expires_at_ms);
        }
        let (nodes, sessions) = self.hand_over(parts, &appended);
        metrics.push_nodes.record(f64::from(nodes));
        let Appended { id, position, expires_at_ms, .. } = appended;
        Ok(Pushed { id, position, expires_at_ms, nodes, sessions })
    }

    /// Gives the message to the writers of the nodes that hold its channel. A
    /// repeated push is routed again, in case the first try died before it did;
    /// receivers drop what they have. An ephemeral one must not come twice.
    fn hand_over(&self, parts: Parts, appended: &Appended) -> (u32, u32) {
        if appended.repeated && appended.position.is_none() {
            return (0, 0);
        }
        let message = Message {
            id: appended.id,
            channel: parts.channel,
            position: appended.position,
            accepted_at_us: appended.accepted_at_us,
            expires_at_ms: appended.expires_at_ms,
            data: parts.data,
            trace: parts.trace,
            accountable: false,
        };
        let ephemeral = message.position.is_none();
        let accountable = ephemeral.then(|| Arc::new(Message { accountable: true, ..message.clone() }));
        let message = Arc::new(message);
        let (mut nodes, mut sessions) = (0, 0);
        for (at, route) in appended.routes.iter().enumerate() {
            let copy = accountable.as_ref().filter(|_| at == 0).unwrap_or(&message);
            if self.route(route.node, copy) {
                nodes += 1;
                sessions += route.sessions;
            }
        }
        (nodes, sessions)
    }
}

/// Lets the tasks go first that are awake already. `yield_now` would also ask the
/// system what else has come, which costs more than it brings.
async fn step_aside() {
    let mut stepped = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut stepped, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// What routing needs of a push once the store has taken the rest.
pub(super) struct Parts {
    pub(super) channel: Channel,
    data: bytes::Bytes,
    pub(super) trace: Option<Box<str>>,
    /// By the store's clock, if spans are wanted.
    pub(super) begun_us: u64,
}
