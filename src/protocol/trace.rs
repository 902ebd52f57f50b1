//! What joins a delivery to its push: the sender's `traceparent` and request id,
//! as a message carries them in mailboxes and entries.
//!
//! One text: the `traceparent` alone, as the first release wrote it, or
//! `traceparent request-id`, a `-` standing for a missing `traceparent`. Readers
//! that know only the first form pass it on untouched.

/// The longest request id that is taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// The length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;
/// Where its trace id stands.
const TRACE_ID: std::ops::Range<usize> = 3..35;
/// Where the id of its sender's span stands.
const PARENT_ID: std::ops::Range<usize> = 36..52;
/// Where its flags stand; the lowest says whether it is recorded.
const FLAGS: std::ops::Range<usize> = 53..55;

/// Whether a caller's request id can be carried and logged.
#[must_use]
pub fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is a `traceparent` of version 00: `00-<32 hex>-<16 hex>-<2 hex>`,
/// in small letters, neither id all zero.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let some = |text: &str| text.bytes().any(|byte| byte != b'0');
    if text.len() != TRACEPARENT_BYTES || !text.is_ascii() {
        return false;
    }
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    let id = |part: Option<&str>, len| part.is_some_and(|part| part.len() == len && hex(part) && some(part));
    version == Some("00")
        && id(trace, 32)
        && id(parent, 16)
        && flags.is_some_and(|flags| flags.len() == 2 && hex(flags))
        && parts.next().is_none()
}

/// Both in one text; none when there is neither.
#[must_use]
pub fn join(traceparent: Option<&str>, request_id: Option<&str>) -> Option<Box<str>> {
    match (traceparent, request_id) {
        (None, None) => None,
        (Some(parent), None) => Some(parent.into()),
        (parent, Some(id)) => Some(format!("{} {id}", parent.unwrap_or("-")).into()),
    }
}

/// The `traceparent` of a carried text.
#[must_use]
pub fn traceparent(carried: &str) -> Option<&str> {
    carried.split(' ').next().filter(|parent| is_traceparent(parent))
}

/// The trace's id, as tracing systems look it up.
#[must_use]
pub fn trace_id(carried: &str) -> Option<&str> {
    traceparent(carried)?.get(TRACE_ID)
}

/// Where in a trace a message stands whose sender wants it recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The trace.
    pub trace_id: &'a str,
    /// The sender's own span.
    pub parent_id: &'a str,
}

/// The place of a message that is to be recorded; none when it has none, or
/// its sender said not to.
#[must_use]
pub fn sampled(carried: &str) -> Option<Context<'_>> {
    let parent = traceparent(carried)?;
    let flags = u8::from_str_radix(parent.get(FLAGS)?, 16).ok()?;
    let context = Context { trace_id: parent.get(TRACE_ID)?, parent_id: parent.get(PARENT_ID)? };
    (flags & 1 == 1).then_some(context)
}

/// The request id of a carried text.
#[must_use]
pub fn request_id(carried: &str) -> Option<&str> {
    carried.split_once(' ').map(|(_, id)| id).filter(|id| is_request_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn both_come_back_as_they_were() {
        for (parent, id) in
            [(Some(PARENT), None), (None, Some("req-7")), (Some(PARENT), Some("req-7")), (None, None)]
        {
            let carried = join(parent, id);
            let carried = carried.as_deref().unwrap_or_default();
            assert_eq!((traceparent(carried), request_id(carried)), (parent, id), "{carried}");
        }
        assert_eq!(trace_id(PARENT), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(join(Some(PARENT), None).as_deref(), Some(PARENT), "as the first release wrote it");
    }

    #[test]
    fn only_what_its_sender_wants_recorded_is() {
        let context = Context { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", parent_id: "00f067aa0ba902b7" };
        assert_eq!(sampled(PARENT), Some(context));
        assert_eq!(sampled(&format!("{PARENT} req-7")), Some(context));
        for text in [&PARENT.replace("-01", "-00"), "- req-7", ""] {
            assert_eq!(sampled(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_nothing() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert!(!is_traceparent(text), "{text}");
            assert_eq!(trace_id(text), None, "{text}");
        }
        for id in ["", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(!is_request_id(id), "{id}");
        }
    }
}
