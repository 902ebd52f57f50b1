//! All measured sockets of this process: where each connects to, and as whom.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::ValueEnum;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::frame;
use super::names::Names;
use super::receiver::{Desk, Phase, Receiver, Turn};
use super::signer::Signer;
use crate::protocol::frame::SUBPROTOCOL;
use crate::session::pipe;

/// Connections from one address to one node: fewer than there are ports.
pub(super) const PER_SOURCE: usize = 20_000;

/// What kind of client a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    /// Bare payloads, no device named: what is written counts as received.
    Plain,
    /// Bare payloads to a named device: the node asks by Ping what arrived.
    Device,
    /// Envelopes, acknowledged every quarter of a second.
    Envelope,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// One socket, its user's only one.
    Each,
    /// Every socket: all are the first one's user's.
    OneUser,
    /// Every socket: each is a user's own, and follows the topic.
    Topic,
}

impl Audience {
    /// Whether every socket receives every message.
    pub(super) fn is_shared(self) -> bool {
        self != Self::Each
    }

    /// What the channels' names begin with.
    pub(super) fn kind(self) -> &'static str {
        if self == Self::Topic { "topic:" } else { "user:" }
    }
}

/// Where sockets connect to, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    /// Socket n goes to the n-th of them, round and round.
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) client: Client,
    pub(super) names: Names,
    /// The user of the first socket.
    pub(super) first_user: u32,
    pub(super) audience: Audience,
    /// Which address of 127.0.0.0/16 the first sockets connect from.
    pub(super) source: Option<u16>,
    pub(super) signer: Signer,
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Receivers {
    doors: Doors,
    all: Vec<Receiver>,
    open: usize,
    /// How often each was connected, so that it comes to another node next time.
    journeys: Vec<u32>,
}

impl Receivers {
    pub(super) fn new(doors: Doors, sockets: usize) -> Self {
        let all = (0..sockets).map(|_| Receiver::new()).collect();
        Self { doors, all, open: 0, journeys: vec![0; sockets] }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Sockets that receive now.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn client(&self) -> Client {
        self.doors.client
    }

    /// Whether a socket is on its way to being open.
    pub(super) fn is_joining(&self, index: usize) -> bool {
        !matches!(self.all[index].phase, Phase::Closed | Phase::Open)
    }

    pub(super) fn begun_ns(&self, index: usize) -> u64 {
        self.all[index].begun_ns
    }

    /// Starts to connect a socket.
    pub(super) fn begin(&mut self, index: usize, registry: &Registry, now_ns: u64) -> io::Result<()> {
        let node = self.node_of(index);
        let mut stream = match self.source_of(index) {
            Some(source) => connect_from(source, node)?,
            None => TcpStream::connect(node)?,
        };
        registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let receiver = &mut self.all[index];
        receiver.stream = Some(stream);
        receiver.phase = Phase::Connecting;
        receiver.begun_ns = now_ns;
        self.journeys[index] += 1;
        Ok(())
    }

    /// Looks at a socket that has something.
    pub(super) fn ready(&mut self, index: usize, readable: bool, desk: &mut Desk<'_>) -> Turn {
        if self.all[index].phase == Phase::Connecting {
            let handshake = self.handshake(index);
            match self.all[index].connected(handshake.as_bytes()) {
                Turn::Nothing => {}
                ended => return self.turned(index, ended),
            }
        }
        if !readable {
            return Turn::Nothing;
        }
        let turn = self.all[index].read(index, desk);
        self.turned(index, turn)
    }

    fn turned(&mut self, index: usize, turn: Turn) -> Turn {
        match &turn {
            Turn::Opened => self.open += 1,
            Turn::Ended(_) => self.close(index),
            Turn::Nothing => {}
        }
        turn
    }

    fn close(&mut self, index: usize) {
        if self.all[index].phase == Phase::Open {
            self.open -= 1;
        }
        self.all[index].close();
    }

    /// Leaves, with a close frame or as if the network had gone. `false`: it
    /// was not open.
    pub(super) fn leave(&mut self, index: usize, politely: bool) -> bool {
        if self.all[index].phase != Phase::Open {
            return false;
        }
        if politely {
            // Failing means that the connection has gone, which was asked for.
            let _ = self.all[index].write(&pipe::frame(frame::CLOSE, &1000_u16.to_be_bytes()));
        }
        self.close(index);
        true
    }

    /// Acknowledges what envelope clients received since the last time.
    pub(super) fn acknowledge(&mut self) {
        for index in 0..self.all.len() {
            if !self.all[index].unacknowledged {
                continue;
            }
            let receiver = &self.all[index];
            let position = String::from_utf8_lossy(&receiver.position);
            let (audience, names) = (self.doors.audience, &self.doors.names);
            let number = if audience.is_shared() { 0 } else { self.user_of(index) };
            let (kind, name) = (audience.kind(), names.name(number));
            let ack = format!(r#"{{"type":"ack","positions":{{"{kind}{name}":"{position}"}}}}"#);
            let receiver = &mut self.all[index];
            receiver.unacknowledged = false;
            let _ = receiver.write(&pipe::frame(frame::TEXT, ack.as_bytes()));
        }
    }

    fn user_of(&self, index: usize) -> u32 {
        let one = self.doors.audience == Audience::OneUser;
        let number = if one { 0 } else { u32::try_from(index).unwrap_or(u32::MAX) };
        self.doors.first_user + number
    }

    fn node_of(&self, index: usize) -> SocketAddr {
        let nodes = &self.doors.nodes;
        nodes[(index + self.journeys[index] as usize) % nodes.len()]
    }

    fn source_of(&self, index: usize) -> Option<Ipv4Addr> {
        let first = self.doors.source.or_else(|| {
            let loopback = self.doors.nodes.iter().all(|node| node.ip().is_loopback() && node.is_ipv4());
            (loopback && self.all.len() > PER_SOURCE).then_some(1)
        })?;
        let number = usize::from(first) + index / PER_SOURCE;
        Some(Ipv4Addr::new(127, 0, 1 + (number / 250) as u8, (number % 250) as u8 + 1))
    }

    fn handshake(&self, index: usize) -> String {
        let (doors, receiver) = (&self.doors, &self.all[index]);
        let user = doors.names.name(self.user_of(index));
        let position = String::from_utf8_lossy(&receiver.position);
        let mut query = Vec::new();
        if doors.client != Client::Plain {
            query.push("device=bench".to_owned());
        }
        if doors.audience == Audience::Topic {
            query.push(format!("topic={}", doors.names.name(0)));
        }
        if doors.client == Client::Envelope && self.journeys[index] > 1 {
            query.push(match position.as_ref() {
                // Nothing was ever sent when the socket was there before.
                "" => "from=oldest".to_owned(),
                position => format!("pos={position}"),
            });
        }
        let query = query.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        // RFC 6455 wants this key random; nobody in between needs to be fooled here.
        let mut text = format!(
            "GET /v1/ws{mark}{query} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: cG9zdHJpZGVyLWJlbmNoIQ==\r\ncookie: token={}\r\n",
            self.node_of(index),
            doors.signer.token(&user),
        );
        if doors.client == Client::Envelope {
            text += &format!("sec-websocket-protocol: {SUBPROTOCOL}\r\n");
        }
        text + "\r\n"
    }
}

fn connect_from(source: Ipv4Addr, node: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    match socket.connect(&node.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
