//! Postrider delivers messages to people's devices.
//!
//! A backend sends `POST /v1/push` to any node; every device of the addressee,
//! on whichever node its WebSocket is, receives the message, in order, each
//! once. Nodes are identical and meet only in Redis.
//!
//! # Layout
//!
//! `main → node → http → delivery → session, store → protocol`
//!
//! | module | knows | refuses to know |
//! |---|---|---|
//! | [`protocol`] | the words: ids, channels, positions, frames, entries, close codes | any I/O |
//! | [`store`] | what is kept: mailboxes, directory, node streams, cursors, ledger; two implementations, one contract | sockets, HTTP |
//! | [`session`] | one live socket: its outbox, its keepalive, its frames | the store |
//! | [`delivery`] | which sessions hold which channel; how an entry becomes frames and when it is acknowledged | HTTP |
//! | [`http`] | routes, the upgrade, problem documents | Redis |
//! | [`webhook`] | sending news to a URL, signed and retried | where news comes from |
//! | [`spans`] | sending spans to a collector | what they are of |
//! | [`node`] | the composition root: builds, spawns, stops | |
//! | [`client`] | a device that stays connected, for programs and for `listen` | all but [`protocol`] |
//! | [`cli`] | the command line: `serve`, and clients of the public API | everything behind [`node`] |
//! | [`config`] | flags, environment and file, gathered into every component's `Options` | |
//! | [`metrics`], [`logging`], [`shutdown`] | numbers; log lines; stopping | anything of ours |
//!
//! Arrows never turn; `tests/tidy.rs` reads the `use` lines and fails on a
//! wrong one. News travels upward through a trait or channel that the lower
//! module defines.
//!
//! # Invariants
//!
//! - A push is answered 2xx only after its message is in the store.
//! - A channel's sequence numbers are dense within an epoch and never reused.
//! - A node-stream entry is acknowledged when the last frame made of it is
//!   written, or when the mailbox owes it: [`delivery`] says when exactly.
//! - Everything has a limit: queue, batch, body, retry, wait.

pub mod cli;
pub mod client;
pub mod config;
pub mod delivery;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod protocol;
pub mod session;
pub mod shutdown;
pub mod spans;
pub mod store;
pub mod webhook;
