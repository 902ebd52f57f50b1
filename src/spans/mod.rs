//! Spans of pushes and deliveries for a tracing system, sent as OTLP over HTTP
//! (JSON), off the way of messages.
//!
//! [`Spans::record`] never waits: what finds the queue full is dropped. One task
//! sends what has gathered; a batch that the collector does not take is tried a
//! few times and dropped, and the log says how many were. What this process
//! still holds when it is killed is lost: spans are hints for people.
//!
//! Written here rather than taken from the OpenTelemetry crates: it is two kinds
//! of span and one request, made with what is in the tree already, so it is in
//! every build and tested in every run, which a feature of dozens of crates
//! would not be.

mod export;
mod span;

pub use export::{Options, Spans};
pub use span::{Kind, Span};
