//! The limits of a session, each with its reason.

use std::time::Duration;

/// What bounds a session.
#[derive(Debug, Clone)]
pub struct Options {
    /// Frames that may wait for a socket; one more closes the session as slow.
    /// A default mailbox holds as many, so whoever falls behind further than
    /// that is better served by a fresh replay.
    pub outbox_messages_max: usize,
    /// Bytes that may wait for a socket. Ten thousand stalled sockets at 1 MiB
    /// are the most that a node of 16 GiB should ever have to hold.
    pub outbox_bytes_max: usize,
    /// The largest message a client may send: an `ack` of hundreds of channels
    /// fits into 64 KiB, and nothing longer is ever needed.
    pub frame_bytes_max: usize,
    /// Frames that a client may send in a second; what comes beyond is left in its
    /// socket until the next. An `ack` for each message of a full mailbox passes.
    pub frames_per_second_max: u32,
    /// How often a session is pinged. Well under the 60 s after which common
    /// load balancers drop a silent connection.
    pub heartbeat_interval: Duration,
    /// How long a ping may go unanswered. A mobile network that needs longer
    /// than 10 s for a round trip is gone.
    pub pong_timeout: Duration,
    /// How long a socket may take no byte while something waits for it.
    pub write_stall_max: Duration,
    /// How long a frame may wait before it gives back its token, so that one
    /// slow socket does not keep a node's stream from being trimmed.
    pub token_stall_max: Duration,
    /// The least time between two pings that ask a plain device whether it has
    /// what was written: each costs a frame both ways.
    pub confirm_interval: Duration,
    /// How long a closing session waits for its last frames to be taken and for
    /// the peer's close.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            outbox_messages_max: 1_000,
            outbox_bytes_max: 1024 * 1024,
            frame_bytes_max: 64 * 1024,
            frames_per_second_max: 2_000,
            heartbeat_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            write_stall_max: Duration::from_secs(10),
            token_stall_max: Duration::from_secs(1),
            confirm_interval: Duration::from_millis(250),
            close_timeout: Duration::from_secs(2),
        }
    }
}
