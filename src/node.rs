//! The composition root: builds a node, runs it, stops it in order.
//!
//! | task | ends | if it fails |
//! |---|---|---|
//! | accept loop, request connections | at the drain | logged, goes on |
//! | sessions | closed by the drain | closed, counted by code |
//! | heartbeat, consumer, writers, acks, cursors, directory, heal, audit | when all sessions have left | logged, tried again |
//! | metrics' samples, ends of tokens | with these | cannot |
//! | fetching keys for tokens | when it is done | logged, the last keys serve |
//! | webhook lanes, spans | a moment after these | tried again, then dropped and counted |
//! | timer wheel | last | cannot |
//!
//! Nothing here is retried at the start: a store that cannot be reached then is
//! an error an operator should see at once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::delivery::{self, Delivery, Follower};
use crate::http::auth::Authenticator;
use crate::http::{self, App, BindError, Face, Server, TrustedProxies};
use crate::metrics::Metrics;
use crate::session::{self, Wheel};
use crate::shutdown::Shutdown;
use crate::spans::{self, Spans};
use crate::store::{self, NodeInfo, Store};
use crate::webhook;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long tasks may take to end once they were told to.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// Why a node could not run. The text follows "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// The store did not let the node in.
    #[error("join the cluster: could not {0}")]
    Join(#[from] store::Error),
    /// Spans could not be sent.
    #[error("set up otlp_url: {0}")]
    Spans(String),
    /// Who may connect and send cannot be told.
    #[error("set up authentication: {0}")]
    Auth(String),
    /// The webhook could not be set up.
    #[error("set up the webhook: {0}")]
    Webhook(String),
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    delivery: Delivery,
    /// From here on upgrades are refused.
    refusing: CancellationToken,
    /// Ends the accept loop.
    serving: CancellationToken,
    /// Ends everything else.
    loops: CancellationToken,
    tasks: TaskTracker,
    drain: Drain,
}

/// How a node leaves.
#[derive(Debug, Clone, Copy)]
struct Drain {
    delay: Duration,
    window: Duration,
    deadline: Duration,
}

/// Opens the store that a configuration names.
///
/// # Errors
/// When it cannot be reached, or is set up so that it could not keep messages.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>, store::OpenError> {
    let location = match &config.redis {
        None => store::Location::Memory,
        Some(url) => store::Location::Redis {
            url: url.expose().to_owned(),
            tls: config.redis_tls(),
            prefix: config.redis_prefix.clone(),
        },
    };
    store::open(location, config.limits()).await
}

/// Runs a node until `shutdown` drains it, and drains it.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let store = open_store(&config).await?;
    let node = Node::start(&config, store).await?;
    shutdown.draining().cancelled().await;
    node.stop().await;
    Ok(())
}

impl Node {
    /// Binds, enters the cluster, and serves.
    ///
    /// # Errors
    /// When the address is taken or the store is away.
    pub async fn start(config: &Config, store: Arc<dyn Store>) -> Result<Self, Error> {
        let server = Server::bind(config.listen)?;
        let admin = config.admin_listen.map(Server::bind).transpose()?;
        let address = server.address();
        let tasks = TaskTracker::new();
        let [refusing, serving, loops] = std::array::from_fn(|_| CancellationToken::new());
        let metrics = Metrics::new(VERSION, store.kind());
        tasks.spawn(metrics.clone().run(loops.clone()));
        metrics.sessions_max.set(config.connections_max as f64);
        let kind = store.kind();
        let info = NodeInfo {
            address: config.advertise.clone().unwrap_or_else(|| address.to_string()),
            version: VERSION.to_owned(),
            started_at_ms: now_ms(),
            sessions: 0,
            draining: false,
        };
        let follower = webhook(config, &metrics, &tasks, &loops)?;
        let spans = spans(config, &info.address, &tasks, &loops)?;
        let delivery = Delivery::start(
            delivery::Options { follower, spans, ..delivery_options(config) },
            store,
            info,
            metrics.clone(),
            tasks.clone(),
            loops.clone(),
        )
        .await?;
        let authenticator =
            Authenticator::new(&config.auth_options(), &metrics, &tasks).map_err(Error::Auth)?;
        let wheel = Wheel::new();
        tasks.spawn(wheel.clone().run(loops.clone()));
        let app = App::new(http::Parts {
            options: http_options(config),
            session_options: session_options(config),
            delivery: delivery.clone(),
            authenticator,
            wheel,
            metrics,
            tasks: tasks.clone(),
            draining: refusing.clone(),
            stop: loops.clone(),
        });
        if let Some(admin) = admin {
            tracing::info!(address = %admin.address(), "listening for operators");
            tasks.spawn(admin.run(app.clone(), Face::Operators, serving.clone()));
        }
        tasks.spawn(server.run(app, Face::Everybody, serving.clone()));
        if kind == "memory" {
            tracing::warn!(
                "the store is this process's memory: one node only, and nothing survives a restart; \
                 --redis redis://127.0.0.1:6379 keeps messages and lets nodes meet"
            );
        }
        tracing::info!(%address, node = %delivery.node(), store = kind, "listening");
        let drain =
            Drain { delay: config.drain_delay, window: config.drain_window, deadline: config.drain_deadline };
        Ok(Self { address, delivery, refusing, serving, loops, tasks, drain })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its delivery.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Leaves in order: unready, then sessions asked to go, then the stream
    /// handed over, then everything ended.
    pub async fn stop(self) {
        let Drain { delay, window, deadline } = self.drain;
        let begun = Instant::now();
        let sessions = self.delivery.sessions();
        tracing::info!(sessions, "draining");
        self.delivery.announce_drain();
        // Load balancers need a moment to notice.
        tokio::time::sleep(delay).await;
        self.refusing.cancel();
        let until = begun + deadline;
        self.delivery.send_sessions_away(window.min(deadline), until).await;
        self.serving.cancel();
        let handed_over = self.delivery.leave(until).await;
        self.loops.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSING_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some tasks did not end in time");
        }
        tracing::info!(handed_over, seconds = begun.elapsed().as_secs_f64(), "drained");
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn delivery_options(config: &Config) -> delivery::Options {
    delivery::Options {
        heal_interval: config.heal_interval,
        ledger_audit_interval: config.ledger_audit_interval,
        sessions_per_user_max: config.sessions_per_user_max,
        cursor_flush: config.cursor_flush,
        topics_max: config.session_topics_max,
        heartbeat_interval: config.heartbeat_interval,
        heartbeat_ttl: config.heartbeat_ttl,
        reclaim_after: config.heartbeat_ttl + config.heartbeat_grace,
        ..delivery::Options::default()
    }
}

/// The webhook, if one is set up.
fn webhook(
    config: &Config,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Arc<dyn Follower>>, Error> {
    let (Some(url), Some(secret)) = (&config.webhook_url, &config.webhook_secret) else { return Ok(None) };
    let options = webhook::Options {
        url: url.parse().map_err(|error| Error::Webhook(format!("{error}")))?,
        secret: webhook::Secret::parse(secret.expose()).map_err(|error| Error::Webhook(error.to_string()))?,
        events: config.webhook_events.clone(),
        queue_max: config.webhook_queue_max,
    };
    let webhook = webhook::Webhook::start(&options, metrics, tasks, stop);
    Ok(Some(Arc::new(webhook.map_err(|error| Error::Webhook(error.to_string()))?)))
}

/// Where spans go, if anywhere.
fn spans(
    config: &Config,
    instance: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Spans>, Error> {
    let Some(url) = &config.otlp_url else { return Ok(None) };
    let url = url.parse().map_err(|error| Error::Spans(format!("{error}")))?;
    let options = spans::Options { url, instance: instance.to_owned(), version: VERSION };
    Spans::start(&options, tasks, stop).map(Some).map_err(|error| Error::Spans(error.to_string()))
}

fn session_options(config: &Config) -> session::Options {
    session::Options {
        outbox_messages_max: config.outbox_messages_max,
        outbox_bytes_max: config.outbox_bytes_max,
        frame_bytes_max: config.frame_bytes_max,
        heartbeat_interval: config.ping_interval,
        pong_timeout: config.pong_timeout,
        frames_per_second_max: u32::try_from(config.frames_per_second_max).unwrap_or(u32::MAX),
        ..session::Options::default()
    }
}

fn http_options(config: &Config) -> http::Options {
    let bytes = |bytes: Option<usize>| bytes.and_then(|bytes| u32::try_from(bytes).ok());
    let rate = u32::try_from(config.handshakes_per_second_max).unwrap_or(u32::MAX);
    http::Options {
        body_bytes_max: config.body_bytes_max,
        batch_messages_max: config.batch_messages_max,
        ttl_default: config.ttl_default,
        ttl_max: config.ttl_max,
        cors: config.cors,
        apart: config.admin_listen.is_some(),
        connections_per_address_max: config.connections_per_address_max,
        handshake_timeout: config.handshake_timeout,
        token_leeway: config.jwt_leeway,
        logout_memory: config.logout_memory,
        push_rate_max: config.push_rate_max.map(|rate| u32::try_from(rate).unwrap_or(u32::MAX)),
        allowed_origins: config.allowed_origins.clone(),
        advertised: config.advertise.clone(),
        trusted_proxies: TrustedProxies::new(&config.trusted_proxies),
        proxy_protocol: config.proxy_protocol,
        connections_max: config.connections_max,
        handshakes_per_second_max: NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN),
        send_buffer_bytes: bytes(config.socket_send_buffer_bytes),
        receive_buffer_bytes: bytes(config.socket_receive_buffer_bytes),
    }
}
