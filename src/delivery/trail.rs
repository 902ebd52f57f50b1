//! What joins a delivery to its push: log lines, and spans for a tracing system.
//!
//! The lines carry the message's id, and the request and trace ids that its
//! sender gave; at level debug, since they are as many as the messages. Spans are
//! only of messages whose sender wants them (`traceparent`, sampled). The id of a
//! push's span follows from the message's, so a delivery on any node knows whose
//! child it is.

use crate::protocol::frame::Outgoing;
use crate::protocol::trace;
use crate::protocol::{Channel, Message, MessageId};
use crate::session::Session;
use crate::spans::{Kind, Span, Spans};
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
pub(super) fn written(spans: Option<&Spans>, session: &Session, message: &Outgoing, now_us: u64) {
    let message = message.message();
    if let Some(spans) = spans {
        delivered(spans, session, message, now_us);
    }
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

/// The random half of the message's id, which is not zero but for a joker.
fn span_of(id: MessageId) -> u64 {
    (id.bits() as u64).max(1)
}

/// The span of a push, once the store has taken its message.
pub(super) fn pushed(spans: &Spans, parts: &Parts, appended: &Appended, now_us: u64) {
    let Some(context) = parts.trace.as_deref().and_then(trace::sampled) else { return };
    // A retry is work of its own, in whatever trace; the deliveries are the first one's.
    let id = if appended.repeated { rand::random::<u64>().max(1) } else { span_of(appended.id) };
    let mut attributes = attributes(appended.id, &parts.channel);
    attributes.push(("postrider.repeated", appended.repeated.to_string()));
    spans.record(Span {
        trace_id: context.trace_id.into(),
        parent_id: context.parent_id.into(),
        id,
        name: "push",
        kind: Kind::Producer,
        start_us: parts.begun_us,
        end_us: now_us,
        attributes,
    });
}

/// The span of a delivery: from its acceptance to the socket.
fn delivered(spans: &Spans, session: &Session, message: &Message, now_us: u64) {
    let Some(context) = message.trace.as_deref().and_then(trace::sampled) else { return };
    let mut attributes = attributes(message.id, &message.channel);
    attributes.push(("postrider.session.id", session.id().to_string()));
    spans.record(Span {
        trace_id: context.trace_id.into(),
        parent_id: format!("{:016x}", span_of(message.id)).into(),
        id: rand::random::<u64>().max(1),
        name: "deliver",
        kind: Kind::Consumer,
        start_us: message.accepted_at_us,
        end_us: now_us,
        attributes,
    });
}

/// By the names of OpenTelemetry's conventions where it has some.
fn attributes(id: MessageId, channel: &Channel) -> Vec<(&'static str, String)> {
    vec![
        ("messaging.system", "postrider".to_owned()),
        ("messaging.message.id", id.to_string()),
        ("messaging.destination.name", channel.to_string()),
    ]
}
