//! Every route, described.

use serde_json::{Value, json};

use crate::protocol::rest::{
    BatchAnswer, BatchBody, ChannelAnswer, DisconnectAnswer, ItemAnswer, NodesAnswer, PushAnswer, PushBody,
};
use crate::protocol::stats::StatsAnswer;
use crate::protocol::status::{
    CloseAnswer, EraseAnswer, MessageAnswer, PresenceAnswer, PresenceBody, RecentAnswer, SessionsAnswer,
    WithdrawAnswer,
};
use crate::protocol::tickets::LogoutAnswer;
use crate::protocol::{Channel, MessageId, SessionId};

use super::{Operation, Scope, receive};

/// What whoever asks the store may be told.
pub(super) const STORE: &[&str] = &["store_unavailable", "store_timeout", "internal"];

pub(super) fn all() -> Vec<Operation> {
    [send(), receive::all(), look(), inquire(), operate(), pages()].into_iter().flatten().collect()
}

fn send() -> Vec<Operation> {
    let key = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
    let key_text = "A retry with the same key and body is answered as the first time and delivered once.";
    let trace = json!({"type": "string", "maxLength": 64});
    let body = &["bad_request", "invalid_json", "invalid_idempotency_key", "body_incomplete", "body_timeout"];
    let message = &["body_too_large", "invalid_body"];
    let single = Operation::new("post", "/v1/push", "push", "Send")
        .says(
            "Push a message",
            "To one recipient or to a list of them: users, topics, everyone. Answered 202 once the message is kept; delivery goes on \
             from there. With a list the answer is a list, in the same order.",
        )
        .needs(Scope::Push)
        .takes("header", "Idempotency-Key", key_text, key.clone())
        .takes("header", "traceparent", "Carried along with the message.", trace.clone())
        .body::<PushBody>(json!({
            "to": "user:alice", "data": {"order": 42}, "ttl": 86_400, "collapse_key": "order-42",
        }))
        .answers_one_or_many::<PushAnswer, ItemAnswer>(202, "Kept, and on its way.", accepted())
        .refuses(body)
        .refuses(message)
        .refuses(&[
            "invalid_channel",
            "invalid_recipients",
            "invalid_ttl",
            "invalid_collapse_key",
            "idempotency_key_reused",
            "push_rate",
            "store_out_of_memory",
        ])
        .refuses(STORE)
        .sample("Shell", "curl", include_str!("../../../docs/examples/push.sh"))
        .sample("JavaScript", "JavaScript", include_str!("../../../docs/examples/push.mjs"))
        .sample("Python", "Python", include_str!("../../../docs/examples/push.py"));
    let batch = Operation::new("post", "/v1/push/batch", "pushBatch", "Send")
        .says("Push many messages", "Each has its own recipient and its own result, in the same order.")
        .needs(Scope::Push)
        .takes("header", "Idempotency-Key", "One for the whole batch.", key)
        .takes("header", "traceparent", "Carried along with each message.", trace)
        .body::<BatchBody>(json!({"messages": [
            {"to": "user:alice", "data": "for you"}, {"to": "user:bob", "data": "and for you", "ttl": 0},
        ]}))
        .answers::<BatchAnswer>(200, "One result for each message.", json!({"results": [batch_item()]}))
        .refuses(body)
        .refuses(message)
        .refuses(&["invalid_batch", "push_rate"])
        .sample("Shell", "curl", include_str!("../../../docs/examples/batch.sh"))
        .sample("JavaScript", "JavaScript", include_str!("../../../docs/examples/batch.mjs"))
        .sample("Python", "Python", include_str!("../../../docs/examples/batch.py"));
    vec![single, batch]
}

fn logout() -> Operation {
    Operation::new("post", "/v1/users/{user}/logout", "logOut", "Take away")
        .says(
            "Log a user out",
            "Closes the user's sessions on every node (4000), and makes worthless what was issued to them up to \
             now: tokens by their `iat` (those without one, too), tickets, answers of the auth hook.",
        )
        .needs(Scope::Admin)
        .takes("path", "user", "The user's name.", json!({"type": "string", "minLength": 1}))
        .answers::<LogoutAnswer>(202, "It is noted, and the nodes were told.", json!({
            "user": "user:alice", "nodes": 1, "tokens_before": "2026-11-24T19:02:11.482Z",
        }))
        .refuses(&["bad_request", "not_found", "invalid_channel", "store_out_of_memory"])
        .refuses(STORE)
}

fn look() -> Vec<Operation> {
    let channel = Operation::new("get", "/v1/channels/{channel}", "getChannel", "Look")
        .says(
            "Look at a channel",
            "Who is online and where, what is kept, how far each device has come, and what became of all \
             that was ever sent.",
        )
        .needs(Scope::Read)
        .in_path::<Channel>("channel", "Like `user:alice`, `topic:orders.42` or `all`.")
        .answers::<ChannelAnswer>(200, "The channel; one that was never used is empty.", channel_example())
        .refuses(&["bad_request", "not_found", "invalid_channel"])
        .refuses(STORE)
        .sample("Shell", "curl", include_str!("../../../docs/examples/channel.sh"))
        .sample("JavaScript", "JavaScript", include_str!("../../../docs/examples/channel.mjs"))
        .sample("Python", "Python", include_str!("../../../docs/examples/channel.py"));
    let disconnect =
        Operation::new("delete", "/v1/channels/{channel}/sessions", "closeSessions", "Take away")
            .says("Close a channel's sessions", "On every node; they are closed with 4000 and stay away.")
            .needs(Scope::Admin)
            .in_path::<Channel>("channel", "Like `user:alice`, `topic:orders.42` or `all`.")
            .answers::<DisconnectAnswer>(202, "The nodes were told.", json!({"nodes": 1}))
            .refuses(&["bad_request", "not_found", "invalid_channel"])
            .refuses(STORE);
    let nodes = Operation::new("get", "/v1/nodes", "listNodes", "Look")
        .says("List the live nodes", "Any node answers for all of them.")
        .needs(Scope::Read)
        .answers::<NodesAnswer>(200, "The nodes whose heartbeat lives.", nodes_example())
        .refuses(&["bad_request"])
        .refuses(STORE);
    let stats = Operation::new("get", "/v1/stats", "getStats", "Look")
        .says(
            "Read one node's numbers",
            "Of the node that answers: totals, histograms and its stream, as the console shows them.",
        )
        .needs(Scope::Read)
        .answers_from::<StatsAnswer>(200, "The numbers.")
        .refuses(&["bad_request"]);
    vec![channel, disconnect, logout(), nodes, stats]
}

/// What is asked about a channel's messages and sessions, and what is taken away.
fn inquire() -> Vec<Operation> {
    let of_channel = |method, path, id, tag| {
        Operation::new(method, path, id, tag)
            .in_path::<Channel>("channel", "Like `user:alice`, `topic:orders.42` or `all`.")
            .refuses(&["bad_request", "not_found", "invalid_channel"])
            .refuses(STORE)
    };
    let recent = of_channel("get", "/v1/channels/{channel}/messages", "listMessages", "Look")
        .says("List a channel's latest messages", "Newest first, each with what became of it.")
        .needs(Scope::Read)
        .takes("query", "limit", "How many.", json!({"type": "integer", "minimum": 1, "maximum": 100}))
        .takes("query", "before", "`next` of the page before.", json!({"type": "integer", "minimum": 0}))
        .answers_from::<RecentAnswer>(200, "The messages.")
        .refuses(&["invalid_limit", "invalid_query"]);
    let sessions = of_channel("get", "/v1/channels/{channel}/sessions", "listSessions", "Look")
        .says("List a channel's sessions", "The live ones, asked of the nodes that have them.")
        .needs(Scope::Read)
        .answers_from::<SessionsAnswer>(200, "The sessions.");
    let close =
        of_channel("delete", "/v1/channels/{channel}/sessions/{session}", "closeSession", "Take away")
            .says("Close one session", "Wherever it is; it is closed with 4000 and stays away.")
            .needs(Scope::Admin)
            .in_path::<SessionId>("session", "From the list of sessions.")
            .answers_from::<CloseAnswer>(200, "It is closed.")
            .answers_from::<CloseAnswer>(202, "Some nodes did not answer: they may close it yet.")
            .refuses(&["invalid_session", "session_unknown"]);
    let erase = of_channel("delete", "/v1/channels/{channel}", "eraseChannel", "Take away")
        .says("Forget a channel", "All that is kept of it; its sessions are closed.")
        .needs(Scope::Admin)
        .answers_from::<EraseAnswer>(200, "It is forgotten.");
    let presence = Operation::new("post", "/v1/presence", "presence", "Look")
        .says("Ask who of many is online", "Up to 1,000 channels at once.")
        .needs(Scope::Read)
        .body::<PresenceBody>(json!({"channels": ["user:alice", "user:bob"]}))
        .answers_from::<PresenceAnswer>(200, "One for each, in the order asked.")
        .refuses(&["bad_request", "invalid_json", "body_incomplete", "body_timeout", "body_too_large"])
        .refuses(&["invalid_body", "invalid_channel", "invalid_channels"])
        .refuses(STORE);
    let on_message = |method, id, tag| {
        let channel = json!({"$ref": "#/components/schemas/Channel"});
        Operation::new(method, "/v1/messages/{id}", id, tag)
            .in_path::<MessageId>("id", "As the push answered.")
            .asks("channel", "The channel it was pushed to.", channel)
            .takes("query", "pos", "Its position, to find it sooner.", json!({"type": "string"}))
            .refuses(&["bad_request", "missing_channel", "message_unknown", "invalid_message_id"])
            .refuses(&["invalid_channel", "invalid_position"])
            .refuses(STORE)
    };
    let fate = on_message("get", "getMessage", "Look")
        .says("Ask what became of a message", "By device: waiting, written, acknowledged, or why not.")
        .needs(Scope::Read)
        .answers_from::<MessageAnswer>(200, "The message and its fate.");
    let withdraw = on_message("delete", "withdrawMessage", "Take away")
        .says("Take a message back", "Devices that have not received it do not get it any more.")
        .needs(Scope::Admin)
        .answers_from::<WithdrawAnswer>(200, "It is not kept any more.");
    vec![recent, sessions, close, erase, presence, fate, withdraw]
}

fn operate() -> Vec<Operation> {
    let status = |values: &[&str]| {
        json!({
            "type": "object",
            "required": ["status"],
            "properties": {"status": {"type": "string", "enum": values}, "reason": {"type": "string"}},
        })
    };
    let json = "application/json";
    let healthz = Operation::new("get", "/healthz", "healthz", "Operate")
        .says("Is the process alive?", "Restart on this one. It asks nothing of the store.")
        .answers_as(200, "It runs.", json, status(&["ok"]), Some(json!({"status": "ok"})))
        .refuses(&["bad_request"]);
    let readyz = Operation::new("get", "/readyz", "readyz", "Operate")
        .says("Does the node take traffic?", "Balance on this one.")
        .answers_as(200, "It does.", json, status(&["ready"]), Some(json!({"status": "ready"})))
        .answers_as(
            503,
            "It does not: the store is away, or it is draining.",
            json,
            status(&["not_ready"]),
            Some(json!({"status": "not_ready", "reason": "draining"})),
        )
        .refuses(&["bad_request"]);
    let metrics = Operation::new("get", "/metrics", "metrics", "Operate")
        .says("Scrape the node", "For Prometheus, in its text format.")
        .answers_as(200, "The metrics.", "text/plain", json!({"type": "string"}), None)
        .refuses(&["bad_request"]);
    let openapi = Operation::new("get", "/openapi.json", "openapi", "Operate")
        .says("Read this document", "")
        .answers_as(200, "This document.", json, json!({"type": "object"}), None)
        .refuses(&["bad_request"]);
    vec![healthz, readyz, metrics, openapi]
}

fn pages() -> Vec<Operation> {
    let html = json!({"type": "string"});
    let page = |path, id, summary, description| {
        Operation::new("get", path, id, "Pages")
            .says(summary, description)
            .answers_as(200, "The page.", "text/html", html.clone(), None)
            .refuses(&["bad_request"])
    };
    let asset = Operation::new("get", "/assets/{file}", "asset", "Pages")
        .says("Part of a page", "Styles and scripts of the pages.")
        .takes("path", "file", "Its name.", json!({"type": "string"}))
        .answers_as(200, "A style sheet.", "text/css", html.clone(), None)
        .also_as(200, "text/javascript", html.clone())
        .also_as(200, "image/svg+xml", html.clone())
        .answers_empty(304, "Not changed since it was read.")
        .refuses(&["bad_request", "not_found"]);
    vec![
        page(
            "/",
            "home",
            "Try it",
            "A message on your screen within a minute; a WebSocket when the request is an upgrade.",
        )
        .answers_empty(101, "As `/v1/ws`, when the request is an upgrade.")
        .refuses(&[
            "websocket_key",
            "upgrade_required",
            "websocket_version",
            "draining",
            "handshake_rate",
            "address_limit",
        ]),
        page(
            "/console",
            "console",
            "The console",
            "Nodes, rates, users. What it shows needs an API key where there are any.",
        ),
        page("/docs", "docs", "Read the API", "This document, rendered."),
        asset,
    ]
}

fn accepted() -> Value {
    json!({
        "id": "01JZ8Q6V3M5N8R2T4W6Y8A0B2C", "channel": "user:alice", "pos": "9c1f03b5a7d2e4c6.17",
        "nodes": 1, "sessions": 2, "expires_at": "2026-11-24T19:02:11.482Z",
    })
}

fn batch_item() -> Value {
    let mut item = accepted();
    item["status"] = json!(202);
    item
}

fn channel_example() -> Value {
    json!({
        "channel": "user:alice", "online": true, "sessions": 2,
        "nodes": [{"node": "01JZ8Q6V3M5N8R2T4W6Y8A0B2D", "sessions": 2}],
        "head": "9c1f03b5a7d2e4c6.17", "mailbox": 3,
        "cursors": [{"device": "phone", "pos": "9c1f03b5a7d2e4c6.17", "at": "2026-11-24T19:02:11.482Z"}],
        "ledger": {"accepted": 17, "received": 17, "waiting": 0, "expired": 0, "collapsed": 0, "dropped": 0},
    })
}

fn nodes_example() -> Value {
    json!({"nodes": [{
        "id": "01JZ8Q6V3M5N8R2T4W6Y8A0B2D", "address": "10.0.0.5:8080", "version": "0.1.0",
        "started_at": "2026-11-24T19:02:11.482Z", "sessions": 2, "draining": false, "heartbeat_age_ms": 310,
        "stream": {"length": 0, "lag": 0, "pending": 0, "oldest_pending_ms": 0},
    }]})
}
