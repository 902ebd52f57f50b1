//! The promises, kept by real processes: one file for each.
//!
//! Every test starts its own `redis-server` and its own nodes (the program as
//! users run it) on free loopback ports and talks to them from outside.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared: each test binary uses a part of it")]
mod harness;

mod tools;
mod traces;

mod audit;
mod auth;
mod balancers;
mod bench;
mod clients;
mod command_line;
mod drain;
mod errors;
mod event_source_client;
mod event_streams;
mod fencing;
mod healing;
mod hostile_clients;
mod hostile_connections;
mod idempotency;
mod inheritance;
mod limits;
mod logs;
mod mailbox;
mod memory;
mod metrics_page;
mod network;
mod node_ws_client;
mod openapi;
mod order;
mod pacing;
mod presence;
mod redis_away;
mod redis_isolation;
mod redis_memory;
mod redis_reset;
mod redis_restarts;
mod redis_tls;
mod resume;
mod routing;
mod rust_client;
mod slow;
mod slow_http;
mod spans;
mod status;
mod tokens;
mod topics;
mod watched;
mod webhooks;
