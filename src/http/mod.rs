//! The node's face: routes, the WebSocket upgrade, problem documents.
//!
//! | route | |
//! |---|---|
//! | `POST /v1/push` | one message to one recipient or several |
//! | `POST /v1/push/batch` | many messages, one result each |
//! | `GET /v1/ws`, `GET /` with an upgrade | a session |
//! | `GET /v1/events` | a session as server-sent events |
//! | `POST /v1/events/acks` | what a device received of them |
//! | `GET /v1/channels/{channel}` | who is online and how far they are |
//! | `DELETE /v1/channels/{channel}` | forget all that is kept of it |
//! | `GET /v1/channels/{channel}/messages` | the latest messages and their fates |
//! | `GET /v1/channels/{channel}/sessions` | its live sessions |
//! | `DELETE /v1/channels/{channel}/sessions` | close them |
//! | `DELETE /v1/channels/{channel}/sessions/{session}` | close one |
//! | `POST /v1/presence` | who of many is online |
//! | `GET`, `DELETE /v1/messages/{id}?channel=` | what became of a message; take it back |
//! | `POST /v1/tickets` | something to show once in place of a token |
//! | `POST /v1/users/{user}/logout` | make a user's tokens worthless and close their sessions |
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

mod addresses;
pub mod auth;
mod body;
mod channels;
mod client;
pub mod credentials;
mod cross_site;
mod entering;
mod error;
mod events;
mod expiry;
mod fetch;
mod gate;
mod handshake;
mod health;
mod inquiries;
mod inquiry_routes;
mod openapi;
mod pages;
mod permit;
mod proxy_protocol;
mod push;
mod rate;
mod renewals;
mod routes;
mod server;
mod service;
mod stats;
mod takeover;
mod tickets;
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
pub use service::Face;

use crate::delivery::Delivery;
use crate::metrics::Metrics;
use crate::session::{self, Wheel};

use addresses::Addresses;
use auth::Authenticator;
use expiry::Expiries;
use gate::Gate;
use rate::Rates;

/// Requests with acknowledgements in a second, for each handshake that may come in
/// one. Both have a token checked and the store asked; but everyone's message is
/// acknowledged by all at once, and whoever were refused for that would reconnect.
const ACKS_PER_HANDSHAKE: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

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
    /// For how long after its end a token is taken.
    pub token_leeway: Duration,
    /// How long a logout is remembered.
    pub logout_memory: Duration,
    /// Messages that one sender may push in a second; any number when absent.
    pub push_rate_max: Option<u32>,
    /// Origins whose pages may open sessions with a cookie, besides the node's own.
    pub allowed_origins: Vec<String>,
    /// How others are told to reach this node, `host:port`.
    pub advertised: Option<String>,
    /// Whether pages of these origins may use the REST API, too.
    pub cors: bool,
    /// Whether what operators look at is served at a listener of its own.
    pub apart: bool,
    /// Sessions, and connections that are none yet, of one address.
    pub connections_per_address_max: Option<usize>,
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
            token_leeway: Duration::from_secs(30),
            logout_memory: Duration::from_secs(30 * 24 * 3_600),
            push_rate_max: None,
            allowed_origins: Vec::new(),
            advertised: None,
            cors: false,
            apart: false,
            connections_per_address_max: None,
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
    gate: Gate,
    expiries: Arc<Expiries>,
    wheel: Wheel,
    metrics: Metrics,
    tasks: TaskTracker,
    draining: CancellationToken,
    handshakes: governor::DefaultDirectRateLimiter,
    acks: governor::DefaultDirectRateLimiter,
    push_rates: Option<Rates>,
    /// Sessions by address.
    session_addresses: Arc<Addresses>,
    /// Connections that are no sessions yet, by address.
    addresses: Arc<Addresses>,
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
    /// Once cancelled, everything ends.
    pub stop: CancellationToken,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            options,
            session_options,
            delivery,
            authenticator,
            wheel,
            metrics,
            tasks,
            draining,
            stop,
        } = parts;
        let expiries = Arc::new(Expiries::new(options.token_leeway));
        tasks.spawn(expiries.clone().run(stop));
        let handshakes = options.handshakes_per_second_max;
        let limiter = |per_second| governor::RateLimiter::direct(governor::Quota::per_second(per_second));
        let inner = Inner {
            events: delivery.events(),
            session_options: Arc::new(session_options),
            acks: limiter(handshakes.saturating_mul(ACKS_PER_HANDSHAKE)),
            handshakes: limiter(handshakes),
            session_addresses: Addresses::new(options.connections_per_address_max),
            addresses: Addresses::new(options.connections_per_address_max),
            push_rates: options.push_rate_max.map(Rates::new),
            places: Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS))),
            gate: Gate::new(authenticator, delivery.store().clone(), options.allowed_origins.clone()),
            expiries,
            options,
            delivery,
            wheel,
            metrics,
            tasks,
            draining,
        };
        Self { inner: Arc::new(inner) }
    }
}
