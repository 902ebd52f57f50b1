//! One live socket.
//!
//! A [`Session`] owns a connection that has been upgraded to WebSocket, or whose
//! answer is a stream of events: it frames, queues, pings and closes. It does not
//! know where messages come from or who keeps them: whoever hands it frames
//! learns what became of them through [`Events`].
//!
//! - [`Session::queue`] appends a message; [`Session::flush`] writes what the
//!   socket takes at once, on the caller's thread. What it does not take waits
//!   in the *outbox*, and the session's own task ([`Session::run`]) goes on when
//!   the socket is writable again.
//! - The outbox is bounded in frames and bytes; a message that does not fit
//!   closes the session as slow. Nothing is dropped quietly.
//! - A queued frame holds its entry's [`Token`] until it is written, until the
//!   session closes, or until the outbox has not been empty for a second,
//!   whichever is first.
//! - One task per session, no timer per session: a [`Wheel`] of the node asks
//!   each session now and then what is due. Without it nothing ever times out.
//! - An idle session holds no buffer: reads share one per thread.
//! - An event stream is a session that is only written to. What its client
//!   sends is thrown away, its pings are comments that nobody answers, and its
//!   close is an event. Each message is preceded by an id, the session's own,
//!   that says where it stands then: see [`Session::follow`].
//!
//! # Order
//!
//! Whoever flushes holds the session's flushing flag, not its lock, while it
//! reports; whoever comes meanwhile leaves its frames in the outbox, where the
//! holder finds them before it lets go of the flag. So one thread at a time
//! writes and reports, and [`Events::written`] is called in the order of the
//! frames. No event is raised and no token dropped while the lock is held.
//!
//! # Failure
//!
//! A connection that breaks ends the run with [`Ending::Lost`]; a run that is
//! dropped ends the session as well. Either way [`Events::closed`] is called
//! once, after every token has been given back.

mod confirm;
mod keepalive;
mod options;
mod outbox;
pub mod pipe;
mod run;
mod send;
mod socket;
mod state;
mod tick;
mod trail;
mod waiting;
mod wheel;
mod wire;

use std::sync::Arc;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, Outgoing};
use crate::protocol::{Channel, Device, Grant, Position};

pub use options::Options;
pub use run::Run;
pub use socket::Session;
pub use wheel::Wheel;
pub use wire::Wire;

/// What a queued frame holds on to, so that its entry is not acknowledged
/// before the frame is written: dropping the last clone is the news.
pub type Token = Arc<dyn Hold>;

/// Anything that a [`Token`] can stand for.
pub trait Hold: Send + Sync {}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, as the channel that is theirs.
    pub user: Channel,
    /// The device, if the client named it.
    pub device: Option<Device>,
    /// The topics that it may subscribe to.
    pub topics: Grant,
}

/// What queueing a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Queued {
    /// Nothing was waiting: call [`Session::flush`] once after this batch.
    First,
    /// Something waits already, and whoever writes that writes this too.
    Already,
    /// The session is closing and did not take the message.
    Closed,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// This side closed it, with this code.
    Ours(CloseCode),
    /// The peer closed it; [`CloseCode::NORMAL`] when it gave no code.
    Peers(CloseCode),
    /// The connection broke without a close, or the run was dropped.
    Lost,
}

impl Ending {
    /// A stable name for metrics and logs: the code's, or `lost`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ours(code) | Self::Peers(code) => code.label(),
            Self::Lost => "lost",
        }
    }
}

/// What a session tells whoever handed it frames.
///
/// Called on the thread of whoever flushes or on the session's task, so
/// nothing here may block. Calls back into the session are fine.
pub trait Events: Send + Sync + 'static {
    /// These were written to the socket in full; called in their order, once
    /// for each write that finished any.
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]);

    /// A plain client that named its device has everything of this channel up
    /// to this position: the Pong to a Ping written behind it came back.
    fn confirmed(&self, session: &Arc<Session>, channel: &Channel, position: Position);

    /// The client sent an envelope. `pong` and unknown types are not told. Of a
    /// plain client, only `auth` is, and only while it has no identity.
    fn frame(&self, session: &Arc<Session>, frame: ClientFrame);

    /// The session is over; called once, after everything else.
    fn closed(&self, session: &Arc<Session>, ending: Ending);
}

#[cfg(test)]
mod tests;
