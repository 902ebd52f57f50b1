//! The words that nodes, clients and the store exchange.
//!
//! Everything here is a value or a pure function: no sockets, no clocks, no
//! store. Whatever arrives from outside is parsed into one of these types or
//! refused, and every parser is bounded and never panics.

mod channel;
pub mod close;
pub mod entry;
pub mod event_id;
pub mod frame;
mod id;
mod message;
mod pattern;
mod position;
pub mod rest;
mod schema;
pub mod sse;
pub mod stats;
pub mod status;
pub mod tickets;
pub mod trace;
pub mod ws;

pub use channel::{Channel, ChannelError, DEVICE_BYTES_MAX, Device, DeviceError, NAME_BYTES_MAX};
pub use id::{MessageId, NodeId, ParseIdError, SessionId};
pub use message::Message;
pub use pattern::{Grant, PATTERNS_MAX, Pattern, PatternError};
pub use position::{Epoch, ParsePositionError, Position};
