//! Accepting connections.
//!
//! Our own loop instead of warp's server: it sets socket options, bounds
//! connections and the time a request's head may take, and tracks every
//! connection under the node's tasks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Gauge;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::ClientAddress;
use super::service::{Face, Service};
use super::takeover::Watched;
use super::unstalled::Unstalled;
use super::{App, proxy_protocol};

/// Connections beyond the sessions' limit, for requests.
const REQUEST_CONNECTIONS: usize = 1_024;
/// Connections that wait to be accepted: a crash elsewhere brings thousands at once.
const BACKLOG: u32 = 4_096;
/// The largest request head, and what hyper reads at once.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// How long a connection that came before the end may take to say what it
/// wants: its request was on the way.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address could not be listened on. The text follows "failed to".
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}; is another process using it? choose one with --listen")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A bound listener: connections wait in it until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds an address; port 0 chooses one.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| BindError { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then requests under way are finished.
    pub async fn run(self, app: App, face: Face, stop: CancellationToken) {
        let service = Service::new(&app, face);
        let slots =
            Arc::new(Semaphore::new(app.inner.options.connections_max.saturating_add(REQUEST_CONNECTIONS)));
        // Once it ends: what may still come out of the backlog.
        let mut last = BACKLOG;
        loop {
            let slot = tokio::select! {
                biased;
                slot = slots.clone().acquire_owned() => slot.expect("never closed"),
                () = stop.cancelled() => return,
            };
            let accepted = tokio::select! {
                // What waits to be accepted when the end comes is served: closing the listener would reset it.
                biased;
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            if stop.is_cancelled() {
                last = last.saturating_sub(1);
                if last == 0 {
                    return;
                }
            }
            match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        // The peer has gone already: reading will say so.
                        tracing::debug!(%error, "a socket option could not be set");
                    }
                    let connection =
                        Connection { stream, peer: peer.ip().into(), service: service.connected() };
                    let (app, stop) = (app.clone(), stop.clone());
                    let tasks = app.inner.tasks.clone();
                    let slot = Slot::of(&app, slot);
                    tasks.spawn(async move {
                        connection.serve(&app, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The place of a connection that is no session, or not yet.
struct Slot {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Slot {
    fn of(app: &App, permit: OwnedSemaphorePermit) -> Self {
        let open = app.inner.metrics.http_connections.clone();
        open.increment(1.0);
        Self { _permit: permit, open }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

struct Connection {
    stream: TcpStream,
    peer: ClientAddress,
    service: Service,
}

impl Connection {
    async fn serve(mut self, app: &App, stop: CancellationToken) {
        let (options, headers) = (&app.inner.options, &app.inner.metrics.proxy_headers);
        let head_timeout = options.handshake_timeout;
        if options.proxy_protocol && options.trusted_proxies.include(self.peer) {
            let header = tokio::select! {
                () = late(&stop) => return,
                header = timeout(head_timeout, proxy_protocol::read(&mut self.stream)) => header,
            };
            match header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(client) => {
                    headers.with(if client.is_some() { "taken" } else { "own" }).increment(1);
                    self.peer = client.unwrap_or(self.peer);
                }
                Err(error) => {
                    headers.with("refused").increment(1);
                    return tracing::debug!(peer = %self.peer, %error, "a proxy's connection was refused");
                }
            }
        }
        // Proxies have as many connections as they need; their clients' sessions are counted.
        let is_proxy = options.trusted_proxies.include(self.peer);
        let place = if is_proxy { None } else { Some(app.inner.addresses.take(self.peer)) };
        if matches!(place, Some(None)) {
            app.refused("address");
            return tracing::debug!(peer = %self.peer, "an address has all the connections that one may have");
        }
        self.service.peer(self.peer);
        if serve(self.stream, self.service, stop, head_timeout).await == Some(Cut::HeadTime) {
            app.inner.metrics.requests_limited.with("head_time").increment(1);
        }
    }
}

/// Why a connection was given up.
#[derive(Debug, PartialEq, Eq)]
enum Cut {
    /// A request's head did not come in time.
    HeadTime,
}

/// Serves requests until the connection ends or one of them takes it over.
async fn serve(
    stream: TcpStream,
    service: Service,
    stop: CancellationToken,
    head_timeout: Duration,
) -> Option<Cut> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES_MAX);
    // Answers are short: copying one behind its head costs less than `writev` does.
    builder.writev(false);
    let takeover = service.takeover();
    let io = TokioIo::new(Watched::new(Unstalled::new(stream), takeover.clone()));
    let mut connection = builder.serve_connection(io, service);
    let (mut stopped, mut late) = (pin!(stop.cancelled()), pin!(late(&stop)));
    let (mut stopping, mut leaving) = (false, false);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(ended);
            }
            if takeover.is_instead() {
                return Poll::Ready(Ok(()));
            }
            stopping = stopping || stopped.as_mut().poll(cx).is_ready();
            // Before its first request hyper would close it unheard.
            let leaves = stopping && !leaving && (takeover.was_asked() || late.as_mut().poll(cx).is_ready());
            if !leaves {
                return Poll::Pending;
            }
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
        return error.is_timeout().then_some(Cut::HeadTime);
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().into_inner().into_inner();
    match takeover.take() {
        Some(begin) => begin(stream, parts.read_buf),
        None => {
            // Fails only when the peer has gone already.
            let _ = stream.shutdown().await;
        }
    }
    None
}

/// A moment after `stop`.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FIRST_REQUEST_WITHIN).await;
}
