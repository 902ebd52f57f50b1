//! One span, and how OTLP's JSON writes it.

use serde_json::{Value, json};

/// What a span's process did with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Took it from its sender.
    Producer,
    /// Gave it to a receiver.
    Consumer,
}

/// A piece of work with a beginning and an end, within somebody's trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace: 32 hex digits.
    pub trace_id: Box<str>,
    /// The span that it was done for: 16 hex digits.
    pub parent_id: Box<str>,
    /// Its own id, not zero.
    pub id: u64,
    /// What was done.
    pub name: &'static str,
    /// Its role.
    pub kind: Kind,
    /// Its beginning: microseconds since 1970.
    pub start_us: u64,
    /// Its end.
    pub end_us: u64,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, String)>,
}

impl Span {
    pub(super) fn json(&self) -> Value {
        let kind = match self.kind {
            Kind::Producer => 4,
            Kind::Consumer => 5,
        };
        json!({
            "traceId": self.trace_id,
            "spanId": format!("{:016x}", self.id),
            "parentSpanId": self.parent_id,
            "name": self.name,
            "kind": kind,
            "startTimeUnixNano": nanoseconds(self.start_us),
            // Two machines' clocks may disagree; no work ends before it began.
            "endTimeUnixNano": nanoseconds(self.end_us.max(self.start_us)),
            "attributes": attributes(self.attributes.iter().map(|(key, value)| (*key, value.as_str()))),
        })
    }
}

/// 64-bit numbers are texts in this JSON.
fn nanoseconds(us: u64) -> String {
    format!("{}", u128::from(us) * 1_000)
}

pub(super) fn attributes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Value> {
    pairs.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_the_protocol_says() {
        let span = Span {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            parent_id: "00f067aa0ba902b7".into(),
            id: 0xab,
            name: "deliver",
            kind: Kind::Consumer,
            start_us: 1_700_000_000_000_002,
            end_us: 1_700_000_000_000_001,
            attributes: vec![("messaging.message.id", "01".to_owned())],
        };
        let expected = json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "spanId": "00000000000000ab",
            "parentSpanId": "00f067aa0ba902b7",
            "name": "deliver",
            "kind": 5,
            "startTimeUnixNano": "1700000000000002000",
            "endTimeUnixNano": "1700000000000002000",
            "attributes": [{"key": "messaging.message.id", "value": {"stringValue": "01"}}],
        });
        assert_eq!(span.json(), expected);
    }
}
