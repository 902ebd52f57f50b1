//! The routes of those who receive, described.

use serde_json::{Value, json};

use crate::protocol::rest::AcksBody;
use crate::protocol::tickets::{TicketAnswer, TicketBody};

use super::operations::STORE;
use super::{Operation, Scope};

pub(super) fn all() -> Vec<Operation> {
    let name = json!({"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9._-]+$"});
    let socket = Operation::new("get", "/v1/ws", "connect", "Receive")
        .says(
            "Open a session",
            "A WebSocket. Without a subprotocol each frame is bare `data`; with `postrider.v1+json` frames are \
             JSON envelopes that can be acknowledged and resumed. The token may come as a bearer token, as the \
             subprotocol `bearer.<base64url>`, in the first frame, as the cookie `token`, or as a `?ticket=`.",
        )
        .needs(Scope::User)
        .takes("query", "device", "A name for this device that you choose and keep.", name.clone())
        .takes("query", "from", "Where to begin.", json!({"type": "string", "enum": ["now", "oldest"]}))
        .takes("query", "pos", "Begin behind this position.", json!({"type": "string"}))
        .takes("query", "topic", "A topic to listen to; as often as there are.", topics())
        .takes("query", "resume", "`1`: positions follow in the first frame.", json!({"type": "string"}))
        .takes("query", "ticket", "A ticket, where nothing else can carry a token.", json!({"type": "string"}))
        .takes("query", "token", "The token itself; better a ticket.", json!({"type": "string"}))
        .answers_empty(101, "The socket is open; a refusal that browsers must see is a close frame.")
        .refuses(&["bad_request", "websocket_key", "upgrade_required", "websocket_version"])
        .refuses(&["draining", "handshake_rate", "address_limit"])
        .sample("JavaScript", "JavaScript", include_str!("../../../docs/examples/listen.mjs"));
    vec![socket, stream(name.clone()), acks(name), ticket()]
}

fn topics() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn stream(name: Value) -> Operation {
    let text = json!({"type": "string"});
    Operation::new("get", "/v1/events", "listen", "Receive")
        .says(
            "Open an event stream",
            "Server-sent events, with the order, resume and gaps of a socket: `hello`, `message`, `gap`, \
             `error`, `drain`, `close`. Their data are the envelopes of `postrider.v1+json`. A node that drains or is \
             full answers with a stream that ends at once and says when to come back.",
        )
        .needs(Scope::User)
        .takes("query", "device", "A name for this device that you choose and keep.", name)
        .takes("query", "from", "Where to begin.", json!({"type": "string", "enum": ["now", "oldest"]}))
        .takes("query", "pos", "Begin behind the event of this id.", text.clone())
        .takes("query", "positions", "Begin behind these, as JSON by channel.", text.clone())
        .takes(
            "query",
            "topic",
            "A topic to listen to, as often as you like: up to `limits.topics_max`, 254 at most. Those beyond \
             are told in an `error`.",
            topics(),
        )
        .takes("query", "ticket", "A ticket, where nothing else can carry a token.", text.clone())
        .takes("query", "token", "The token itself; better a ticket.", text.clone())
        .takes("header", "Last-Event-ID", "The last event handled: begin behind it.", text.clone())
        .answers_as(200, "The stream; the schema is of each event.", "text/event-stream", event(), None)
        .refuses(&["bad_request", "invalid_token", "origin", "host", "invalid_parameter"])
        .sample("JavaScript", "JavaScript", include_str!("../../../docs/examples/events.mjs"))
}

/// One event of a stream, by its fields.
fn event() -> Value {
    json!({
        "type": "object",
        "properties": {
            "event": {"type": "string", "enum": ["hello", "message", "gap", "drain", "error", "close"]},
            "id": {"type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json"},
            "retry": {"type": "integer", "minimum": 0},
        },
    })
}

fn acks(name: Value) -> Operation {
    Operation::new("post", "/v1/events/acks", "acknowledge", "Receive")
        .says(
            "Acknowledge messages of an event stream",
            "Any node takes it. Cumulative: each position stands for all before it in its channel.",
        )
        .needs(Scope::User)
        .asks("device", "Who received them.", name)
        .body::<AcksBody>(json!({"positions": {"user:alice": "9c1f03b5a7d2e4c6.17"}}))
        .answers_empty(204, "Taken; written to the store within a second.")
        .refuses(&["bad_request", "invalid_json", "body_incomplete", "body_timeout", "body_too_large"])
        .refuses(&["invalid_body", "invalid_channel", "invalid_channels", "invalid_parameter"])
        .refuses(&["invalid_token", "origin", "host", "ack_rate", "store_unavailable"])
}

fn ticket() -> Operation {
    Operation::new("post", "/v1/tickets", "issueTicket", "Receive")
        .says(
            "Get a ticket",
            "To be shown once, on any node, as `?ticket=` where no header can be sent and a token in an address \
             would end in logs. By a user's own token for that user, without a body; by a backend, whose key has \
             the scope `tickets`, for the `user` it names.",
        )
        .needs(Scope::Ticket)
        .body::<TicketBody>(json!({"user": "alice", "topics": ["orders.*"], "device": "phone", "ttl": 30}))
        .answers::<TicketAnswer>(201, "The ticket.", json!({
            "ticket": "q3J1b0gxWkFvS2p2bE5xM3h1V1l6Q2JtVnlTa1ZvUlE", "expires_at": "2026-11-24T19:02:11.482Z",
        }))
        .refuses(&["bad_request", "invalid_json", "body_incomplete", "body_timeout", "body_too_large"])
        .refuses(&["invalid_body", "invalid_channel", "invalid_ttl", "origin", "host", "store_out_of_memory"])
        .refuses(STORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handshake_may_say_in_its_query_is_described() {
        let both = ["device", "from", "pos", "ticket", "token", "topic"];
        for (path, own) in [("/v1/ws", "resume"), ("/v1/events", "positions")] {
            let operation = all().into_iter().find(|one| one.path == path).expect("described");
            let in_query = operation.parameters.iter().filter(|one| one["in"] == "query");
            let mut names: Vec<_> = in_query.filter_map(|one| one["name"].as_str()).collect();
            names.sort_unstable();
            let mut expected = [&both[..], &[own]].concat();
            expected.sort_unstable();
            assert_eq!(names, expected, "{path}");
        }
    }
}
