//! The part of the contract that decides who gets in: tickets, and who was
//! logged out.

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::Channel;

use super::{Error, Route};

/// The hash of a ticket: what is kept does not let anyone in.
pub type TicketHash = [u8; 32];

/// How a user stands with the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// When they were last logged out, if that is remembered.
    pub logged_out_at_ms: Option<u64>,
    /// The directory of their channel.
    pub routes: Vec<Route>,
}

/// Who gets in.
#[async_trait]
pub trait Access: Send + Sync {
    /// Keeps what a ticket stands for, for so long at most.
    async fn keep_ticket(&self, ticket: &TicketHash, grant: Bytes, ttl_ms: u64) -> Result<(), Error>;

    /// Takes what a ticket stands for: of all callers, one gets it. After a
    /// timeout it may be gone.
    async fn take_ticket(&self, ticket: &TicketHash) -> Result<Option<Bytes>, Error>;

    /// Notes that a user is logged out, and when: what was issued to them up to
    /// then is worth nothing any more. Never goes back.
    async fn log_out(&self, user: &Channel, remember_ms: u64) -> Result<u64, Error>;

    /// What was noted of a user, and where they are, as of one moment: who
    /// [joined](super::Store::join) before and who logs them out after it are
    /// both seen.
    async fn standing(&self, user: &Channel) -> Result<Standing, Error>;
}
