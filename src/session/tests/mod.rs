//! Sessions over in-memory pipes, under a clock that the tests turn.

mod closing;
mod events;
mod keepalive;
mod model;
mod size;
mod tcp;
mod writing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pipe::{Client, Received, pipe};
use super::*;
use crate::metrics::Metrics;
use crate::protocol::frame::Dialect;
use crate::protocol::{Epoch, Grant, Message, MessageId, SessionId};

/// Room for every frame of a test that does not mean to fill it.
const AMPLE: usize = 1 << 20;

/// An id whose first ping is due at the end of the interval, out of the way.
fn late_ping() -> SessionId {
    SessionId::from_bits(0xffff)
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Written(Vec<u64>),
    Confirmed(u64),
    Frame(ClientFrame),
    Closed(Ending),
}

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<Told>>);

impl Log {
    fn add(&self, told: Told) {
        self.0.lock().expect("no panic while held").push(told);
    }

    fn all(&self) -> Vec<Told> {
        self.0.lock().expect("no panic while held").clone()
    }

    fn seqs_written(&self) -> Vec<u64> {
        let seqs = |told| if let Told::Written(seqs) = told { seqs } else { Vec::new() };
        self.all().into_iter().flat_map(seqs).collect()
    }

    fn seqs_confirmed(&self) -> Vec<u64> {
        let seq = |told| if let Told::Confirmed(seq) = told { Some(seq) } else { None };
        self.all().into_iter().filter_map(seq).collect()
    }

    fn endings(&self) -> Vec<Ending> {
        let ending = |told| if let Told::Closed(ending) = told { Some(ending) } else { None };
        self.all().into_iter().filter_map(ending).collect()
    }
}

impl Events for Log {
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]) {
        assert!(session.outbox_bytes() < usize::MAX, "the lock is not held");
        let seq = |outgoing: &Arc<Outgoing>| outgoing.message().position.map_or(0, |position| position.seq);
        self.add(Told::Written(messages.iter().map(seq).collect()));
    }

    fn confirmed(&self, _: &Arc<Session>, channel: &Channel, position: Position) {
        assert_eq!(channel, &alice());
        self.add(Told::Confirmed(position.seq));
    }

    fn frame(&self, _: &Arc<Session>, frame: ClientFrame) {
        self.add(Told::Frame(frame));
    }

    fn closed(&self, session: &Arc<Session>, ending: Ending) {
        assert!(session.is_closing());
        self.add(Told::Closed(ending));
    }
}

/// Counts the tokens that are still held somewhere.
#[derive(Debug, Default, Clone)]
struct Held(Arc<AtomicUsize>);

struct Holder(Held);

impl Hold for Holder {}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Held {
    fn token(&self) -> Token {
        self.0.fetch_add(1, Ordering::SeqCst);
        Arc::new(Holder(self.clone()))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A session whose task is not running yet, and its client.
struct Parts {
    session: Arc<Session>,
    client: Client,
    log: Arc<Log>,
    metrics: Metrics,
}

impl Parts {
    fn new(dialect: Dialect, capacity: usize, options: Options) -> Self {
        let (near, far) = pipe(capacity);
        let (log, metrics) = (Arc::new(Log::default()), Metrics::new("0", "none"));
        let events: Arc<dyn Events> = Arc::<Log>::clone(&log);
        let session = Session::new(late_ping(), dialect, Box::new(near), Arc::new(options), events, &metrics);
        Self { session, client: Client::new(far), log, metrics }
    }
}

/// A session whose task and wheel are running, and its client.
struct Rig {
    session: Arc<Session>,
    client: Client,
    log: Arc<Log>,
    metrics: Metrics,
    task: JoinHandle<()>,
    _wheel: DropGuard,
}

impl Rig {
    fn new(dialect: Dialect, capacity: usize) -> Self {
        Self::with(dialect, capacity, Options::default(), Bytes::new())
    }

    fn with(dialect: Dialect, capacity: usize, options: Options, leftover: Bytes) -> Self {
        let Parts { session, client, log, metrics } = Parts::new(dialect, capacity, options);
        let (wheel, cancel) = (Wheel::new(), CancellationToken::new());
        wheel.add(&session);
        tokio::spawn(wheel.run(cancel.clone()));
        let task = tokio::spawn(Arc::clone(&session).run(leftover));
        Self { session, client, log, metrics, task, _wheel: cancel.drop_guard() }
    }

    fn identify(&self, device: Option<&str>) {
        let device = device.map(|device| device.parse().expect("valid"));
        self.session.identify(Identity { user: alice(), device, topics: Grant::default() });
    }

    /// Queues a message and flushes when told to, as a router does.
    fn push(&self, seq: u64, token: Option<&Token>) -> Queued {
        let queued = self.session.queue(&outgoing(seq), token);
        if queued == Queued::First {
            self.session.flush();
        }
        queued
    }

    /// The value of the gauge that the session keeps.
    fn gauged_bytes(&self) -> String {
        let page = self.metrics.render();
        let line = page.lines().find(|line| line.starts_with("postrider_outbox_bytes ")).expect("declared");
        line.rsplit(' ').next().expect("a value").to_owned()
    }
}

fn alice() -> Channel {
    Channel::user("alice").expect("valid")
}

/// A message that a plain client reads as its number.
fn outgoing(seq: u64) -> Arc<Outgoing> {
    outgoing_of(seq, seq.to_string())
}

fn outgoing_of(seq: u64, data: String) -> Arc<Outgoing> {
    Arc::new(Outgoing::new(Message {
        id: MessageId::from_bits(u128::from(seq)),
        channel: alice(),
        position: Some(Position::new(Epoch::from_bits(1), seq)),
        accepted_at_us: 0,
        expires_at_ms: 0,
        data: data.into(),
        trace: None,
        accountable: false,
    }))
}

fn text(seq: u64) -> Received {
    Received::Text(seq.to_string())
}

/// Waits for a condition, by the paused clock at most an hour.
async fn eventually(mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the condition is met in time");
}

/// Lets every other task run until all of them wait, without moving the clock far.
async fn quiesce() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
