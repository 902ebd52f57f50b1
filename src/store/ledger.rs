//! The ledger: accepted = received + waiting + expired + collapsed + dropped.

/// The counts of one channel, kept by whatever appends, trims or expires.
///
/// The classes exclude each other: a message leaves `waiting` once, for the
/// first of the others that applies. *Received* means by at least one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Answered 2xx.
    pub accepted: u64,
    /// Received by at least one device.
    pub received: u64,
    /// Expired before any device received it.
    pub expired: u64,
    /// Replaced, under its collapse key, before any device received it.
    pub collapsed: u64,
    /// Lost, by reason.
    pub dropped: Dropped,
}

/// Losses by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Trimmed from a full mailbox before any device received it.
    pub mailbox_full: u64,
    /// Ephemeral, and no session was there.
    pub no_session: u64,
    /// Ephemeral, and the node that had it never told what became of it.
    pub unreported: u64,
    /// Taken back by its sender before any device received it.
    pub withdrawn: u64,
}

impl Dropped {
    /// All losses.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.mailbox_full + self.no_session + self.unreported + self.withdrawn
    }
}

impl Ledger {
    /// What must be waiting if the counts are right; negative if they are not.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        let settled = self.received + self.expired + self.collapsed + self.dropped.total();
        self.accepted as i64 - settled as i64
    }
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.mailbox_full += other.mailbox_full;
        self.no_session += other.no_session;
        self.unreported += other.unreported;
        self.withdrawn += other.withdrawn;
    }
}

impl std::ops::AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.received += other.received;
        self.expired += other.expired;
        self.collapsed += other.collapsed;
        self.dropped += other.dropped;
    }
}
