//! The node's face: routes, the WebSocket upgrade, problem documents.
//!
//! | route | |
//! |---|---|
//! | `POST /v1/push` | one message to one recipient or several |
//! | `POST /v1/push/batch` | many messages, one result each |
//! | `GET /v1/ws`, `GET /` with an upgrade | a session |
//! | `GET /v1/channels/{channel}` | who is online and how far they are |
//! | `DELETE /v1/channels/{channel}` | forget all that is kept of it |
//! | `GET /v1/channels/{channel}/messages` | the latest messages and their fates |
//! | `GET /v1/channels/{channel}/sessions` | its live sessions |
//! | `DELETE /v1/channels/{channel}/sessions` | close them |
//! | `DELETE /v1/channels/{channel}/sessions/{session}` | close one |
//! | `POST /v1/presence` | who of many is online |
//! | `GET`, `DELETE /v1/messages/{id}?channel=` | what became of a message; take it back |
//! | `GET /v1/nodes` | the live nodes |
//! | `GET /v1/stats` | this node's numbers |
//! | `GET /healthz` | the process runs |
//! | `GET /readyz` | it takes traffic |
//! | `GET /metrics` | for Prometheus |
//! | `GET /openapi.json` | all of this, described |
//! | `GET /`, `GET /console`, `GET /docs` | pages: to try it, to operate it, to read about it |
//! | `GET /assets/{file}` | what the pages are made of |
//!
//! Only this module knows warp. It refuses to know Redis, and what a session
//! does once it is attached. A refusal is a [`Problem`]; a warp rejection means
//! only "try the next route".

pub mod auth;
mod body;
mod channels;
mod client;
pub mod credentials;
mod error;
mod handshake;
mod health;
mod inquiries;
mod inquiry_routes;
mod openapi;
mod pages;
mod proxy_protocol;
mod push;
mod routes;
mod server;
mod service;
mod stats;
mod trace;
mod unstalled;
mod visitor;
mod websocket;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use client::{ClientAddress, TrustedProxies, network};
pub use error::Problem;
pub use server::{BindError, Server};

use crate::delivery::Delivery;
use crate::metrics::Metrics;
use crate::session::{self, Wheel};

use auth::Authenticator;

/// What the node accepts from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest request body.
    pub body_bytes_max: usize,
    /// Messages in one batch.
    pub batch_messages_max: usize,
    /// How long a message is kept when the sender does not say.
    pub ttl_default: Duration,
    /// How long a sender may ask for.
    pub ttl_max: Duration,
    /// Origins whose pages may open sessions with a cookie, besides the node's own.
    pub allowed_origins: Vec<String>,
    /// Peers that are believed when they say whom they speak for.
    pub trusted_proxies: TrustedProxies,
    /// Whether connections of trusted proxies begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Sessions at once, those included that have not said yet whose they are.
    pub connections_max: usize,
    /// Upgrades in one second.
    pub handshakes_per_second_max: NonZeroU32,
    /// How long a client may take for its request's head, or to authenticate.
    pub handshake_timeout: Duration,
    /// The kernel's send buffer of each session; its own choice when absent.
    pub send_buffer_bytes: Option<u32>,
    /// The kernel's receive buffer of each session; its own choice when absent.
    pub receive_buffer_bytes: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 * 1_024,
            batch_messages_max: 100,
            ttl_default: Duration::from_secs(3_600),
            ttl_max: Duration::from_secs(7 * 24 * 3_600),
            allowed_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            connections_max: 10_000,
            handshakes_per_second_max: NonZeroU32::new(5_000).expect("not zero"),
            handshake_timeout: Duration::from_secs(10),
            send_buffer_bytes: Some(64 * 1_024),
            receive_buffer_bytes: Some(16 * 1_024),
        }
    }
}

/// What every route works with.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    session_options: Arc<session::Options>,
    delivery: Delivery,
    events: Arc<dyn session::Events>,
    authenticator: Authenticator,
    wheel: Wheel,
    metrics: Metrics,
    tasks: TaskTracker,
    draining: CancellationToken,
    handshakes: governor::DefaultDirectRateLimiter,
    /// A place for each upgraded connection, whether it says who it is or not.
    places: Arc<Semaphore>,
}

/// What an [`App`] is made of.
pub struct Parts {
    /// What is accepted from outside.
    pub options: Options,
    /// What bounds a session.
    pub session_options: session::Options,
    /// The node's delivery.
    pub delivery: Delivery,
    /// Who may receive and send.
    pub authenticator: Authenticator,
    /// The sessions' timers.
    pub wheel: Wheel,
    /// The node's numbers.
    pub metrics: Metrics,
    /// What sessions run under.
    pub tasks: TaskTracker,
    /// Once cancelled, upgrades are refused.
    pub draining: CancellationToken,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { options, session_options, delivery, authenticator, wheel, metrics, tasks, draining } =
            parts;
        let quota = governor::Quota::per_second(options.handshakes_per_second_max);
        let inner = Inner {
            events: delivery.events(),
            session_options: Arc::new(session_options),
            handshakes: governor::RateLimiter::direct(quota),
            places: Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS))),
            options,
            delivery,
            authenticator,
            wheel,
            metrics,
            tasks,
            draining,
        };
        Self { inner: Arc::new(inner) }
    }
}
