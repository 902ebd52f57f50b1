//! One node: its delivery, its sockets, and how it starts and ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postrider::delivery::{self, Asked, Delivery, OpenError, Opening};
use postrider::metrics::Metrics;
use postrider::protocol::close::CloseCode;
use postrider::protocol::frame::{Dialect, HelloLimits};
use postrider::protocol::{Channel, Grant, NodeId, Position, SessionId};
use postrider::session::pipe::{Client, pipe};
use postrider::session::{self, Identity, Session, Wheel};
use postrider::store::{NodeInfo, Store};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::faults::Faults;
use crate::store::FaultyStore;

/// A node of the simulation.
pub(crate) struct Node {
    pub(crate) delivery: Delivery,
    pub(crate) faults: Arc<Faults>,
    /// Takes connections and pushes.
    open: AtomicBool,
    metrics: Metrics,
    wheel: Wheel,
    loops: CancellationToken,
    tasks: TaskTracker,
    sockets: Mutex<Vec<AbortHandle>>,
    sessions: Mutex<Vec<(SessionId, Channel)>>,
    session_options: Arc<session::Options>,
    socket_bytes: usize,
}

/// How a client connects.
pub(crate) struct Wish {
    pub(crate) user: Channel,
    pub(crate) device: Option<postrider::protocol::Device>,
    pub(crate) dialect: Dialect,
    /// What it wants to hear.
    pub(crate) channel: Channel,
    pub(crate) position: Option<Position>,
}

/// A connection, and when its session was attached (an error: it never will be).
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) opened: oneshot::Receiver<()>,
}

impl Node {
    /// Starts one; tries for as long as the store is in its way.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        faults: Arc<Faults>,
        enrolled: Arc<Mutex<Vec<NodeId>>>,
        session_options: session::Options,
        socket_bytes: usize,
    ) -> Arc<Self> {
        let store: Arc<dyn Store> = Arc::new(FaultyStore::new(store, faults.clone(), enrolled));
        let metrics = Metrics::new("simulated", "memory");
        let (tasks, loops) = (TaskTracker::new(), CancellationToken::new());
        let info = NodeInfo {
            address: "simulated".into(),
            version: "simulated".into(),
            started_at_ms: 0,
            sessions: 0,
            draining: false,
        };
        let delivery = loop {
            let options = delivery::Options::default();
            let started = Delivery::start(
                options,
                store.clone(),
                info.clone(),
                metrics.clone(),
                tasks.clone(),
                loops.clone(),
            );
            match started.await {
                Ok(delivery) => break delivery,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let wheel = Wheel::new();
        tasks.spawn(wheel.clone().run(loops.clone()));
        Arc::new(Self {
            delivery,
            faults,
            open: AtomicBool::new(true),
            metrics,
            wheel,
            loops,
            tasks,
            sockets: Mutex::default(),
            sessions: Mutex::default(),
            session_options: Arc::new(session_options),
            socket_bytes,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// What the server does with a new socket.
    pub(crate) fn connect(&self, wish: Wish) -> Connection {
        let (near, far) = pipe(self.socket_bytes);
        let session = Session::new(
            SessionId::generate(),
            wish.dialect,
            Box::new(near),
            self.session_options.clone(),
            self.delivery.events(),
            &self.metrics,
        );
        self.wheel.add(&session);
        let run = tokio::spawn(session.clone().run(Bytes::new())).abort_handle();
        let Wish { user, device, channel, position, .. } = wish;
        let topics = Grant::topics(["*"]).expect("valid");
        let identity = Identity { user, device, topics };
        let asked = Asked {
            topics: channel.topic_name().map(str::to_owned).into_iter().collect(),
            positions: position.map(|position| (channel.to_string(), position)).into_iter().collect(),
            ..Asked::default()
        };
        // Nothing is sent to the user of a topic's session: only who sends finds
        // what was written late into a directory.
        let given = asked.topics.is_empty().then(|| (channel.clone(), asked.start(&identity, &channel)));
        let subscriptions: Vec<_> = given.into_iter().collect();
        session.identify(identity);
        let limits = HelloLimits::default();
        self.sessions.lock().expect("no panic while held").push((session.id(), channel));
        let heartbeat = self.session_options.heartbeat_interval;
        let opening =
            Opening { session: session.clone(), subscriptions, asked, issued_at_ms: None, heartbeat, limits };
        let (told, opened) = oneshot::channel();
        let delivery = self.delivery.clone();
        let opening = tokio::spawn(async move {
            match delivery.open(opening).await {
                // The client may have gone meanwhile.
                Ok(()) => drop(told.send(())),
                Err(OpenError::Store(_)) => session.close(CloseCode::STORE_AWAY, "the store is away"),
                Err(OpenError::Closed | OpenError::LoggedOut | OpenError::TooMany) => {}
            }
        });
        let mut sockets = self.sockets.lock().expect("no panic while held");
        sockets.retain(|task| !task.is_finished());
        sockets.extend([run, opening.abort_handle()]);
        Connection { client: Client::new(far), opened }
    }

    /// How many sessions it has on a channel.
    pub(crate) fn sessions_of(&self, channel: &Channel) -> u32 {
        let sessions = self.sessions.lock().expect("no panic while held");
        let attached = sessions.iter().filter(|(id, held)| held == channel && self.delivery.is_attached(*id));
        attached.count() as u32
    }

    /// Breaks every socket.
    pub(crate) fn break_sockets(&self) {
        self.sockets.lock().expect("no panic while held").drain(..).for_each(|task| task.abort());
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        self.open.store(false, Ordering::Relaxed);
        self.faults.die();
        self.break_sockets();
        self.loops.cancel();
    }

    /// `SIGTERM`; says whether the stream was handed over.
    pub(crate) async fn drain(&self, window: Duration, deadline: Duration) -> bool {
        self.open.store(false, Ordering::Relaxed);
        let until = Instant::now() + deadline;
        self.delivery.announce_drain();
        self.delivery.send_sessions_away(window, until).await;
        let handed_over = self.delivery.leave(until).await;
        self.loops.cancel();
        self.tasks.close();
        // What hangs in the store hangs; the process would end.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        self.break_sockets();
        self.faults.die();
        handed_over
    }
}
