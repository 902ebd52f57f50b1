//! News sent to a URL of the operator's, signed, off the way of messages.
//!
//! [`Webhook`] takes news without waiting and puts it into one of a few bounded
//! lanes; a channel's news stays in one lane, and so in order. Each lane is one
//! task, which tries a piece of news until it is taken or given up: nothing
//! overtakes it meanwhile. What finds its lane full is dropped and counted.
//!
//! # Semantics
//! At least once per piece of news that this process lives to hand over: a
//! receiver whose answer got lost sees it again, under the same `webhook-id`. At
//! most that: what waits in memory is lost with the process. Receivers that must
//! know ask the REST API.
//!
//! Requests follow the Standard Webhooks convention: `webhook-id`,
//! `webhook-timestamp` (seconds, of the try) and `webhook-signature`, which is
//! `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

mod body;
mod lane;
mod sign;

pub use lane::{Options, Webhook};
pub use sign::{Secret, SecretError};
