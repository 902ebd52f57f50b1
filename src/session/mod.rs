//! One live socket.
//!
//! A [`Session`] owns a connection that has been upgraded to WebSocket: it
//! frames, queues, pings and closes. It does not know where messages come from
//! or who keeps them: whoever hands it frames learns what became of them
//! through [`Events`].
//!
//! - [`Session::send`] writes to the socket at once when the socket takes it,
//!   on the caller's thread; what it does not take waits in the *outbox*, and
//!   the session's own task goes on when the socket is writable again.
//! - The outbox is bounded in frames and bytes; a message that does not fit
//!   closes the session as slow. Nothing is dropped quietly.
//! - A queued frame holds its entry's [`Token`] until it is written, until the
//!   session closes, or until it was stalled for a second, whichever is first.
//! - One task per session, no timer per session: a [`Wheel`] of the node asks
//!   each session now and then what is due.

/// What a queued frame holds on to, so that its entry is not acknowledged
/// before the frame is written: dropping the last clone is the news.
pub type Token = std::sync::Arc<dyn Hold>;

/// Anything that a [`Token`] can stand for.
pub trait Hold: Send + Sync {}
