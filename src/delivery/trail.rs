//! The log lines by which a delivery is joined to its push: both carry the
//! message's id, and the request and trace ids that its sender gave.
//!
//! At level debug, since they are as many as the messages.

use crate::protocol::frame::Outgoing;
use crate::protocol::trace;
use crate::session::Session;
use crate::store::Appended;

use super::push::Parts;

/// The store took a message.
pub(super) fn accepted(parts: &Parts, appended: &Appended) {
    let carried = parts.trace.as_deref().unwrap_or_default();
    tracing::debug!(
        id = %appended.id,
        channel = %parts.channel,
        position = appended.position.map(tracing::field::display),
        repeated = appended.repeated,
        request_id = trace::request_id(carried),
        trace_id = trace::trace_id(carried),
        "accepted"
    );
}

/// A socket took a message.
pub(super) fn written(session: &Session, message: &Outgoing, now_us: u64) {
    let message = message.message();
    let carried = message.trace.as_deref().unwrap_or_default();
    tracing::debug!(
        id = %message.id,
        channel = %message.channel,
        position = message.position.map(tracing::field::display),
        session = %session.id(),
        waited_ms = now_us.saturating_sub(message.accepted_at_us) / 1_000,
        request_id = trace::request_id(carried),
        trace_id = trace::trace_id(carried),
        "written"
    );
}
