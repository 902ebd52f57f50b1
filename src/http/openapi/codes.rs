//! Every stable code that a problem can carry.

/// One code.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) code: &'static str,
    pub(super) status: u16,
    /// When it comes, for the document.
    pub(super) when: &'static str,
}

const fn code(status: u16, code: &'static str, when: &'static str) -> Code {
    Code { code, status, when }
}

pub(super) const CODES: &[Code] = &[
    code(400, "bad_request", "the request cannot be read"),
    code(400, "invalid_query", "the query string cannot be read"),
    code(400, "invalid_json", "the body is not JSON"),
    code(400, "invalid_idempotency_key", "the Idempotency-Key is empty, too long or not ASCII"),
    code(400, "body_incomplete", "the body ended early"),
    code(400, "websocket_key", "Sec-WebSocket-Key is missing or malformed"),
    code(400, "missing_channel", "the query does not say in which channel"),
    code(401, "unauthorized", "no API key, or not one of this server's"),
    code(401, "invalid_token", "no token, or not a valid one: the detail says why"),
    code(403, "origin", "pages of this origin may not do this"),
    code(403, "host", "a node without authentication answers only to names that are surely its own"),
    code(403, "forbidden", "the key's scopes do not allow it"),
    code(404, "not_found", "there is no such resource"),
    code(404, "message_unknown", "the channel knows no such message"),
    code(404, "session_unknown", "no live node has that session of that channel"),
    code(405, "method_not_allowed", "the resource does not take that method"),
    code(408, "body_timeout", "the body did not come in time"),
    code(413, "body_too_large", "the body is above the limit"),
    code(422, "invalid_body", "the body is JSON but not of the form that is asked for"),
    code(422, "invalid_channel", "no channel has that form"),
    code(422, "invalid_channels", "none or too many channels"),
    code(422, "invalid_message_id", "a message's id is a ULID"),
    code(422, "invalid_session", "a session's id is a ULID"),
    code(422, "invalid_parameter", "a parameter or Last-Event-ID cannot be used: the detail says which"),
    code(422, "invalid_position", "a position is sent back as it was given"),
    code(422, "invalid_limit", "the limit is outside of what is allowed"),
    code(422, "invalid_recipients", "none or too many recipients"),
    code(422, "invalid_batch", "none or too many messages"),
    code(422, "invalid_ttl", "the TTL is above the longest one allowed"),
    code(422, "invalid_collapse_key", "the collapse key is empty or too long"),
    code(422, "idempotency_key_reused", "the Idempotency-Key was used with another body"),
    code(426, "upgrade_required", "the resource speaks WebSocket"),
    code(426, "websocket_version", "another version of WebSocket than 13"),
    code(429, "push_rate", "the sender has pushed all that it may in a second"),
    code(500, "internal", "the node's log says what failed"),
    code(503, "store_unavailable", "the store cannot be reached; nothing was accepted"),
    code(503, "store_timeout", "the store did not answer in time; retry with the same Idempotency-Key"),
    code(503, "draining", "the node is about to leave; connect to another"),
    code(503, "address_limit", "the client's address has all the sessions that one may have"),
    code(503, "ack_rate", "too many acknowledgements at once"),
    code(503, "handshake_rate", "too many connections at once"),
    code(503, "auth_unavailable", "keys or tokens cannot be checked now"),
    code(507, "store_out_of_memory", "the store is full"),
];

/// The entry of a code.
///
/// # Panics
/// When an operation names a code that is not listed.
pub(super) fn find(name: &str) -> &'static Code {
    CODES.iter().find(|code| code.code == name).unwrap_or_else(|| panic!("{name} is in no list of codes"))
}
