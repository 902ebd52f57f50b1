//! A node's delivery without sockets and Redis: the embedded store on one side,
//! connections that swallow everything on the other. What is left to measure is
//! our own code.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use postrider::delivery::{Asked, Delivery, Opening, Options};
use postrider::metrics::Metrics;
use postrider::protocol::frame::{Dialect, HelloLimits};
use postrider::protocol::{Channel, Grant, MessageId, SessionId};
use postrider::session::{self, Identity, Session, Wire};
use postrider::store::{Append, Limits, NodeInfo, Start, memory};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a payload is: 128 bytes of JSON.
pub(crate) const PAYLOAD: &[u8] = br#"{"kind":"note","text":"0123456789012345678901234567890123456789012345678901234567890123456789","at":1234567890,"from":"somebod"}"#;
/// Its frame: four bytes of header.
const FRAME_BYTES: u64 = PAYLOAD.len() as u64 + 4;

#[derive(Default)]
struct Swallowed {
    bytes: AtomicU64,
    news: Notify,
}

/// A connection that takes everything at once and never says a word.
struct Sink(Arc<Swallowed>);

impl Wire for Sink {
    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        self.0.bytes.fetch_add(taken as u64, Ordering::Relaxed);
        self.0.news.notify_one();
        Ok(taken)
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn shutdown(&self) {}
}

/// A node with users and their sessions.
pub(crate) struct Rig {
    delivery: Delivery,
    swallowed: Arc<Swallowed>,
    channels: Vec<Channel>,
    sessions_each: u64,
    next: usize,
}

impl Rig {
    /// Starts it: so many users, so many plain sessions of each.
    pub(crate) async fn start(users: usize, sessions_each: usize) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Metrics::new("bench", "memory");
        let store = Arc::new(memory::Store::new(Limits::default()));
        let info = NodeInfo {
            address: "nowhere:0".to_owned(),
            version: "bench".to_owned(),
            started_at_ms: 0,
            sessions: 0,
            draining: false,
        };
        let started =
            Delivery::start(Options::default(), store, info, metrics.clone(), tasks.clone(), stop).await;
        let delivery = started.expect("the embedded store is there");
        let swallowed = Arc::new(Swallowed::default());
        let channels: Vec<Channel> =
            (0..users).map(|user| Channel::user(&format!("user-{user:05}")).expect("a name")).collect();
        let options = Arc::new(session::Options::default());
        for channel in &channels {
            for _ in 0..sessions_each {
                let session = Session::new(
                    SessionId::generate(),
                    Dialect::Plain,
                    Box::new(Sink(swallowed.clone())),
                    options.clone(),
                    delivery.events(),
                    &metrics,
                );
                session.identify(Identity { user: channel.clone(), device: None, topics: Grant::default() });
                tasks.spawn(session.clone().run(Bytes::new()));
                let opening = Opening {
                    session,
                    subscriptions: vec![(channel.clone(), Start::Cursor(None))],
                    issued_at_ms: None,
                    heartbeat: Duration::from_secs(25),
                    asked: Asked::default(),
                    limits: HelloLimits::default(),
                };
                delivery.open(opening).await.expect("nothing stands in its way");
            }
        }
        Self { delivery, swallowed, channels, sessions_each: sessions_each as u64, next: 0 }
    }

    fn append(&mut self) -> Append {
        let channel = self.channels[self.next % self.channels.len()].clone();
        self.next += 1;
        Append {
            id: MessageId::generate(),
            channel,
            data: Bytes::from_static(PAYLOAD),
            ttl_ms: 3_600_000,
            collapse_key: None,
            idempotency: None,
            trace: None,
        }
    }

    /// Pushes a batch, each message to the next user, and waits until every
    /// session has been written to.
    pub(crate) async fn deliver(&mut self, messages: usize) {
        let until =
            self.swallowed.bytes.load(Ordering::Relaxed) + messages as u64 * self.sessions_each * FRAME_BYTES;
        if messages == 1 {
            let append = self.append();
            self.delivery.push(append).await.expect("accepted");
        } else {
            let appends = (0..messages).map(|_| self.append()).collect();
            let pushed = self.delivery.push_batch(appends).await;
            assert!(pushed.iter().all(Result::is_ok), "accepted");
        }
        while self.swallowed.bytes.load(Ordering::Relaxed) < until {
            self.swallowed.news.notified().await;
        }
    }
}
