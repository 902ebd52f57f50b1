//! Confirmation by ping: how a plain device shows that it has what was written.
//!
//! A socket that took bytes proves nothing about the device. The Pong to a Ping
//! that was written behind them does: it confirms every position written before
//! that Ping. One such Ping is outstanding at a time, so a busy session pays for
//! one round trip after another and not for one per message.
//!
//! Knows no socket and reads no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Channel, Position};

/// Where a session stands in its channels: few, so a list is a map.
pub(super) type Positions = Vec<(Channel, Position)>;

/// Whether a Ping is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// No: nothing is unconfirmed, or a Ping is on its way.
    Nothing,
    /// Yes, but not before then.
    At(Instant),
    /// Yes.
    Now,
}

/// One session's confirmations.
#[derive(Debug, Default)]
pub(super) struct Confirm {
    /// Highest positions written since the last Ping was.
    written: Positions,
    /// The number of the Ping in the outbox.
    queued: Option<u64>,
    /// The number of the Ping on the wire, and what its Pong confirms.
    asked: Option<(u64, Positions)>,
    last_at: Option<Instant>,
}

impl Confirm {
    /// Notes that a message was written in full.
    pub(super) fn message_written(&mut self, channel: &Channel, position: Position) {
        match self.written.iter_mut().find(|(known, _)| known == channel) {
            // Frames are written in order, so the latest is the highest.
            Some((_, highest)) => *highest = position,
            None => self.written.push((channel.clone(), position)),
        }
    }

    /// Whether to queue a Ping, `waiting` saying that messages stand before it.
    pub(super) fn want(&self, now: Instant, interval: Duration, waiting: bool) -> Want {
        if self.queued.is_some() || self.asked.is_some() || (self.written.is_empty() && !waiting) {
            return Want::Nothing;
        }
        match self.last_at.map(|last_at| last_at + interval) {
            Some(due_at) if due_at > now => Want::At(due_at),
            _ => Want::Now,
        }
    }

    /// Notes that the Ping of this number was queued.
    pub(super) fn ping_queued(&mut self, number: u64, now: Instant) {
        self.queued = Some(number);
        self.last_at = Some(now);
    }

    /// Notes that the queued Ping was written: its Pong confirms all before it.
    pub(super) fn ping_written(&mut self) {
        if let Some(number) = self.queued.take() {
            self.asked = Some((number, std::mem::take(&mut self.written)));
        }
    }

    /// What a Pong of this number confirms, if it was waited for. A peer may
    /// answer only the latest of several Pings, so a later number will do.
    pub(super) fn pong(&mut self, number: u64) -> Option<Positions> {
        self.asked.take_if(|(asked, _)| *asked <= number).map(|(_, positions)| positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    const INTERVAL: Duration = Duration::from_millis(250);

    fn at(seq: u64) -> Position {
        Position::new(Epoch::from_bits(1), seq)
    }

    fn channel(name: &str) -> Channel {
        Channel::user(name).expect("valid")
    }

    #[test]
    fn a_pong_confirms_what_was_written_before_its_ping_and_no_more() {
        let mut confirm = Confirm::default();
        confirm.message_written(&channel("a"), at(1));
        confirm.message_written(&channel("a"), at(2));
        confirm.message_written(&channel("b"), at(9));
        confirm.ping_queued(1, Instant::now());
        confirm.ping_written();
        confirm.message_written(&channel("a"), at(3));
        assert_eq!(confirm.pong(1), Some(vec![(channel("a"), at(2)), (channel("b"), at(9))]));
        assert_eq!(confirm.pong(1), None, "a Pong counts once");
    }

    #[test]
    fn one_ping_is_outstanding_at_a_time() {
        let now = Instant::now();
        let mut confirm = Confirm::default();
        assert_eq!(confirm.want(now, INTERVAL, false), Want::Nothing);
        assert_eq!(confirm.want(now, INTERVAL, true), Want::Now);
        confirm.ping_queued(1, now);
        confirm.message_written(&channel("a"), at(1));
        assert_eq!(confirm.want(now + INTERVAL, INTERVAL, true), Want::Nothing, "queued");
        confirm.ping_written();
        confirm.message_written(&channel("a"), at(2));
        assert_eq!(confirm.want(now + INTERVAL, INTERVAL, true), Want::Nothing, "on the wire");
        confirm.pong(1);
        assert_eq!(confirm.want(now, INTERVAL, false), Want::At(now + INTERVAL));
        assert_eq!(confirm.want(now + INTERVAL, INTERVAL, false), Want::Now);
    }

    #[test]
    fn an_earlier_pong_confirms_nothing_and_a_later_one_does() {
        let mut confirm = Confirm::default();
        confirm.message_written(&channel("a"), at(1));
        confirm.ping_queued(5, Instant::now());
        assert_eq!(confirm.pong(5), None, "not even written yet");
        confirm.ping_written();
        assert_eq!(confirm.pong(4), None);
        assert_eq!(confirm.pong(6), Some(vec![(channel("a"), at(1))]));
    }
}
