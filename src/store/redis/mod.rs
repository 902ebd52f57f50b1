//! The store in Redis: where nodes meet.
//!
//! Everything that must be atomic is one script on one channel's or one node's
//! slot ([`scripts`]); everything else is a pipeline. [`link`] keeps the
//! connection, [`keys`] alone spells keys, the rest turns calls into commands
//! and replies into the contract's types. Refuses to know of sockets, sessions
//! and HTTP, and keeps nothing between calls but the connection.
//!
//! # Invariants
//! - All keys of a channel share a hash slot, and all of a node; no script of a
//!   channel touches two slots.
//! - Every key expires, the registry, the note of the data's life and the streams
//!   of enrolled nodes excepted.
//! - A channel's numbers go on for as long as its meta lives, and meta outlives
//!   its mailbox; an epoch is renewed at the first append in another life of the
//!   data ([`life`]): Redis restarted, or was a replica in between.
//!
//! # Failure
//! A call fails at once with `Unavailable` while there is no connection, with
//! `Timeout` when no answer comes, and never retries what Redis may have run.
//! Whatever breaks the connection, a task of the store's own opens the next
//! one, backing off with jitter. Callers may be dropped at any time.

mod access;
mod acks;
mod append;
mod channels;
mod connector;
mod consumer;
mod error;
mod inquiries;
mod keys;
mod life;
mod link;
mod meta;
mod nodes;
mod options;
mod pages;
mod reclaim;
mod reply;
mod scripts;
mod server;
mod store;
mod tls;

pub use options::{ConnectError, Options, TlsFiles};
pub use store::Store;
