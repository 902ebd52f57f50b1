//! What integration tests stand on: real processes, and clients that remember.
//!
//! Test binaries share this folder with
//! `#[path = "../harness/mod.rs"] mod harness;`. It starts a private
//! `redis-server` ([`RedisServer`]) and postrider nodes ([`Node`]) as child
//! processes on loopback, talks to them as their users do ([`Api`], [`Socket`],
//! [`Device`]), and stands between them to make trouble ([`Proxy`]).
//!
//! Nothing here knows how the server works inside: it sees ports, exit codes
//! and what is on the wire. Everything that is started is killed when its
//! handle is dropped; when the test panics, the logs are printed first. Tests
//! wait for conditions ([`eventually`], [`until`]), never for durations.

#![allow(unused_imports, reason = "each test binary uses a part")]

mod answers;
mod api;
mod cluster;
mod device;
mod events;
mod net;
mod node;
mod process;
mod proxy;
mod redis_server;
pub mod rude;
mod socket;
mod wait;

pub use answers::Answers;
pub use api::{Answer, Api};
pub use cluster::Cluster;
pub use device::{Device, Received};
pub use events::{Event, EventStream, Listen};
pub use net::free_port;
pub use node::{Node, NodeOptions, run_command};
pub use process::{Process, find_program};
pub use proxy::{Direction, Mode, Proxy};
pub use redis_server::{Persistence, RedisOptions, RedisServer, StreamState};
pub use socket::{Closed, Dial, Refused, Socket};
pub use wait::{PATIENCE, eventually, settled, until};
