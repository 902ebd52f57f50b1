//! REST bodies of letting users in and logging them out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Channel;

/// Whom a ticket is for; empty, or without `user`: for whoever asks, by their own token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default)]
pub struct TicketBody {
    /// The user's name; for backends, whose key has the scope `tickets`.
    #[schema(min_length = 1, max_length = 200, pattern = r"^\S+$")]
    pub user: Option<String>,
    /// The topics that the session may subscribe to: names or beginnings, like `orders.*`. Only with `user`.
    pub topics: Option<Vec<String>>,
    /// The device that the session is for.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    pub device: Option<String>,
    /// Seconds that the session may last; it may not end by itself otherwise. Only with `user`.
    #[schema(minimum = 1, maximum = 31536000)]
    pub expires_in: Option<u64>,
    /// Seconds that the ticket is good for; 30 unless given.
    #[schema(minimum = 1, maximum = 300)]
    pub ttl: Option<u64>,
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TicketAnswer {
    /// To be shown once, as `?ticket=`.
    pub ticket: String,
    /// When it is worth nothing any more.
    pub expires_at: String,
}

/// A logout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogoutAnswer {
    /// Whose.
    pub user: Channel,
    /// Nodes that were told to close the user's sessions.
    pub nodes: u32,
    /// Tokens, tickets and hook answers issued up to then are refused from now on.
    pub tokens_before: String,
}
