//! A TCP proxy that makes a network's trouble, one direction at a time.
//!
//! It stands between nodes and Redis, or between clients and nodes. Order is
//! always kept and nothing is ever altered: a network that TCP hides from its
//! users can only be late, silent or gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Chunks that are under way in one direction of one connection: beyond it the
/// sender's own buffers fill, as they would if the network took nothing.
const CHUNKS_MAX: usize = 64;

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the proxy.
    ToServer,
    /// Back.
    ToClient,
}

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// They pass, so much later.
    Delay(Duration),
    /// They are held until the mode changes; nobody is told.
    Blackhole,
}

/// One direction's switches.
#[derive(Debug)]
struct Lane {
    mode: watch::Sender<Mode>,
    /// Grows by one with every half-close.
    half_closes: watch::Sender<u64>,
}

impl Lane {
    fn new() -> Self {
        Self { mode: watch::channel(Mode::Pass).0, half_closes: watch::channel(0).0 }
    }
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    to_server: Lane,
    to_client: Lane,
    refusing: watch::Sender<bool>,
    /// Grows by one with every reset.
    resets: watch::Sender<u64>,
    connections: AtomicUsize,
}

/// A running proxy; dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            target,
            to_server: Lane::new(),
            to_client: Lane::new(),
            refusing: watch::channel(false).0,
            resets: watch::channel(0).0,
            connections: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens in one direction, to open connections as to new ones.
    pub fn set(&self, direction: Direction, mode: Mode) {
        self.lane(direction).mode.send_replace(mode);
    }

    /// Sets what happens in both directions.
    pub fn set_both(&self, mode: Mode) {
        self.set(Direction::ToServer, mode);
        self.set(Direction::ToClient, mode);
    }

    /// Whether new connections are reset at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.send_replace(refusing);
    }

    /// Resets every open connection, to both sides.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Ends one direction of every open connection in order; the other goes on.
    pub fn half_close(&self, direction: Direction) {
        self.lane(direction).half_closes.send_modify(|count| *count += 1);
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::ToServer => &self.shared.to_server,
            Direction::ToClient => &self.shared.to_client,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(serve(client, Arc::clone(&shared)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    // Subscribed before anything else, so that a reset cannot slip by.
    let mut resets = shared.resets.subscribe();
    if *shared.refusing.borrow() {
        reset(&client);
        return;
    }
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        reset(&client);
        return;
    };
    let nodelay = client.set_nodelay(true).and(server.set_nodelay(true));
    nodelay.expect("loopback sockets take the option");
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let was_reset = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let there = carry(client_in, server_out, &shared.to_server);
        let back = carry(server_in, client_out, &shared.to_client);
        tokio::select! {
            _ = async { tokio::join!(there, back) } => false,
            _ = resets.changed() => true,
        }
    };
    shared.connections.fetch_sub(1, Ordering::SeqCst);
    if was_reset {
        reset(&client);
        reset(&server);
    }
}

/// Makes the coming close a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    // It fails only where the peer was faster, and then there is nothing to reset.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// Carries one direction until it ends.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, lane: &Lane) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let mut half_closes = lane.half_closes.subscribe();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            // After a half-close nobody takes them: they are read and forgotten.
            drop(queue.send((Instant::now(), buffer[..count].to_vec())).await);
        }
    };
    let write = async {
        let mut mode = lane.mode.subscribe();
        loop {
            let next = tokio::select! {
                next = queued.recv() => next,
                _ = half_closes.changed() => None,
            };
            let Some((arrived, bytes)) = next else { break };
            tokio::select! {
                () = due(&mut mode, arrived) => {}
                _ = half_closes.changed() => break,
            }
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The other side may be gone already; then it needs no farewell.
        drop(to.shutdown().await);
        queued.close();
    };
    tokio::join!(read, write);
}

/// Waits until bytes that arrived then may go on.
async fn due(mode: &mut watch::Receiver<Mode>, arrived: Instant) {
    loop {
        let now = *mode.borrow_and_update();
        let switched = match now {
            Mode::Pass => return,
            Mode::Delay(delay) => {
                tokio::select! {
                    () = sleep_until(arrived + delay) => return,
                    switched = mode.changed() => switched,
                }
            }
            Mode::Blackhole => mode.changed().await,
        };
        if switched.is_err() {
            return;
        }
    }
}
