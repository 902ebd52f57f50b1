//! What a client tells: messages, and how its connection fares.

use std::fmt;
use std::time::Duration;

use super::backoff::{Then, after_close};
use super::progress::{Gap, Message, Session};

/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What a client has to tell.
#[derive(Debug)]
pub enum Event {
    /// The socket is open; a session's beginning follows, but to plain clients.
    Opened,
    /// The session is set up.
    Connected(Session),
    /// A message. Unless acknowledgements are manual, it is acknowledged when the
    /// next event is asked for.
    Message(Message),
    /// A payload, as a plain client gets it.
    Payload(String),
    /// Messages were lost: fetch your state anew.
    Gap(Gap),
    /// The server did not understand something.
    Complaint {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
    },
    /// There is no connection now; the next try begins after `retry_in`.
    Disconnected {
        /// Why.
        trouble: Trouble,
        /// How long until the next try.
        retry_in: Duration,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server closed it, with this code of [`crate::protocol::close`].
    Closed {
        /// The code.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The node asked to be left, and was.
    Moved,
    /// It broke.
    Lost(String),
    /// It never came to be.
    Unreachable(String),
    /// The handshake was answered with something else.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its header.
        retry_after: Option<String>,
        /// A problem document, as a rule.
        body: Vec<u8>,
    },
    /// There is no token now.
    Tokenless(String),
    /// What is asked for cannot be.
    Impossible(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code, reason } => write!(f, "the server closed the connection: {reason} ({code})"),
            Self::Moved => f.write_str("the node is leaving"),
            Self::Lost(why) => write!(f, "the connection broke: {why}"),
            Self::Unreachable(text) | Self::Impossible(text) => f.write_str(text),
            Self::Refused { status, .. } => write!(f, "the server answered {status}"),
            Self::Tokenless(why) => write!(f, "no token: {why}"),
        }
    }
}

impl Trouble {
    /// What it asks of a client.
    #[must_use]
    pub fn then(&self) -> Then {
        match self {
            Self::Closed { code, .. } => after_close(*code),
            Self::Moved => Then::Now,
            Self::Lost(_) | Self::Unreachable(_) | Self::Tokenless(_) => Then::BackOff,
            Self::Refused { status, .. } if *status >= 500 || *status == 429 => Then::BackOff,
            Self::Refused { .. } | Self::Impossible(_) => Then::StayAway,
        }
    }

    /// The least wait that the server asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Refused { retry_after: Some(text), .. } = self else { return None };
        let seconds = text.trim().parse().ok().map(Duration::from_secs)?;
        Some(seconds.min(RETRY_AFTER_MAX))
    }

    pub(super) fn refuses_token(&self) -> bool {
        matches!(self, Self::Closed { code, .. } if code / 100 == 44)
    }
}

/// The end: no reconnect can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// For good. The text follows "failed to".
    #[error("stay connected: {0}")]
    Final(Trouble),
    /// What came is no frame of a node's.
    #[error("read a frame of the server: {0}")]
    NoFrame(String),
}
