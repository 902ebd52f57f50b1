//! Accepting connections.
//!
//! Our own loop instead of warp's server: it sets socket options, bounds
//! connections and the time a request's head may take, and tracks every
//! connection under the node's tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::ClientAddress;
use super::service::Service;
use super::unstalled::Unstalled;
use super::{App, Options, proxy_protocol};

/// Connections beyond the sessions' limit, for requests.
const REQUEST_CONNECTIONS: usize = 1_024;
/// Connections that wait to be accepted: a crash elsewhere brings thousands at once.
const BACKLOG: u32 = 4_096;
/// The largest request head, and what hyper reads at once.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
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
    pub async fn run(self, app: App, stop: CancellationToken) {
        let service = Service::new(&app);
        let slots =
            Arc::new(Semaphore::new(app.inner.options.connections_max.saturating_add(REQUEST_CONNECTIONS)));
        loop {
            let slot = tokio::select! {
                () = stop.cancelled() => return,
                slot = slots.clone().acquire_owned() => slot.expect("never closed"),
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        // The peer has gone already: reading will say so.
                        tracing::debug!(%error, "a socket option could not be set");
                    }
                    let connection = Connection { stream, peer: peer.ip().into(), service: service.clone() };
                    let (app, stop) = (app.clone(), stop.clone());
                    let tasks = app.inner.tasks.clone();
                    tasks.spawn(async move {
                        connection.serve(&app.inner.options, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: ClientAddress,
    service: Service,
}

impl Connection {
    async fn serve(mut self, options: &Options, stop: CancellationToken) {
        let head_timeout = options.handshake_timeout;
        if options.proxy_protocol && options.trusted_proxies.include(self.peer) {
            let header = tokio::select! {
                () = stop.cancelled() => return,
                header = timeout(head_timeout, proxy_protocol::read(&mut self.stream)) => header,
            };
            match header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(client) => self.peer = client.unwrap_or(self.peer),
                Err(error) => {
                    return tracing::debug!(peer = %self.peer, %error, "a proxy's connection was refused");
                }
            }
        }
        self.service.peer(self.peer);
        serve(self.stream, self.service, stop, head_timeout).await;
    }
}

async fn serve(stream: TcpStream, service: Service, stop: CancellationToken, head_timeout: Duration) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Unstalled::new(stream)), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
