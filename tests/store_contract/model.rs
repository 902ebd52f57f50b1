//! One channel, as simply as it can be said: what the random histories of
//! [`crate::random`] compare the stores with.

use std::collections::BTreeMap;

use postrider::protocol::status::MessageState;
use postrider::protocol::{Device, Epoch, MessageId, Position};
use postrider::store::{ChannelInfo, Gap, GapReason, Ledger, Page, Recent, Settled, Start};

use crate::support::gap;

/// A message in the mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) id: MessageId,
    pub(crate) expires_at_ms: u64,
    pub(crate) short_lived: bool,
    pub(crate) key: Option<u8>,
}

/// What a channel must look like.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Every epoch with its end, oldest first; the last one is still open.
    pub(crate) epochs: Vec<(Epoch, u64)>,
    pub(crate) mailbox_max: usize,
    pub(crate) mailbox: BTreeMap<u64, Kept>,
    pub(crate) floor: u64,
    pub(crate) watermark: u64,
    pub(crate) cursors: BTreeMap<Device, u64>,
    pub(crate) routed: bool,
    pub(crate) ephemeral_waiting: u64,
    pub(crate) ledger: Ledger,
    pub(crate) settled: Settled,
    /// Every message there ever was with a TTL, and its class.
    pub(crate) fates: BTreeMap<u64, (MessageId, MessageState)>,
}

impl Model {
    pub(crate) fn head(&self) -> Position {
        let (epoch, seq) = *self.epochs.last().expect("appended before");
        Position::new(epoch, seq)
    }

    /// The first expiry that is still to come.
    pub(crate) fn next_expiry_ms(&self) -> u64 {
        self.mailbox.values().map(|kept| kept.expires_at_ms).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn append(&mut self, position: Position, kept: Kept) {
        match self.epochs.last_mut() {
            Some((epoch, end)) => {
                assert_eq!(position, Position::new(*epoch, *end + 1));
                *end += 1;
            }
            None => {
                assert_eq!(position.seq, 1);
                self.epochs.push((position.epoch, 1));
            }
        }
        self.ledger.accepted += 1;
        let old = self.mailbox.iter().find(|(_, old)| old.key.is_some() && old.key == kept.key);
        if let Some(seq) = old.map(|(seq, _)| *seq) {
            self.mailbox.remove(&seq);
            if seq > self.watermark {
                self.becomes(seq, MessageState::Collapsed);
                self.ledger.collapsed += 1;
                self.settled.collapsed += 1;
            }
        }
        self.fates.insert(position.seq, (kept.id, MessageState::Waiting));
        self.mailbox.insert(position.seq, kept);
        if self.mailbox.len() > self.mailbox_max + self.mailbox_max / 20 {
            while self.mailbox.len() > self.mailbox_max {
                let (seq, _) = self.mailbox.pop_first().expect("not empty");
                self.floor = seq;
                if seq > self.watermark {
                    self.becomes(seq, MessageState::Dropped);
                    self.ledger.dropped.mailbox_full += 1;
                    self.settled.dropped_mailbox_full += 1;
                }
            }
        }
    }

    pub(crate) fn append_ephemeral(&mut self) {
        self.ledger.accepted += 1;
        if self.routed {
            self.ephemeral_waiting += 1;
        } else {
            self.ledger.dropped.no_session += 1;
            self.settled.dropped_no_session += 1;
        }
    }

    pub(crate) fn expire(&mut self, now_ms: u64) {
        let watermark = self.watermark;
        let due = self.mailbox.extract_if(.., |_, kept| kept.expires_at_ms <= now_ms);
        let expired: Vec<u64> = due.map(|(seq, _)| seq).filter(|seq| *seq > watermark).collect();
        self.ledger.expired += expired.len() as u64;
        self.settled.expired += expired.len() as u64;
        expired.into_iter().for_each(|seq| self.becomes(seq, MessageState::Expired));
    }

    pub(crate) fn receive(&mut self, device: Option<&Device>, epoch: Epoch, seq: u64) {
        let Some((_, end)) = self.epochs.iter().find(|(known, _)| *known == epoch) else { return };
        if seq > *end {
            return;
        }
        if let Some(device) = device {
            let cursor = self.cursors.entry(device.clone()).or_default();
            *cursor = seq.max(*cursor);
        }
        if seq > self.watermark {
            let news: Vec<u64> = self.mailbox.range(self.watermark + 1..=seq).map(|(seq, _)| *seq).collect();
            news.iter().for_each(|seq| self.becomes(*seq, MessageState::Received));
            let received = news.len() as u64;
            self.watermark = seq;
            self.ledger.received += received;
            self.settled.received += received;
        }
    }

    /// The message of that number is taken back, if it is still there.
    pub(crate) fn withdraw(&mut self, seq: u64) -> bool {
        let kept = self.mailbox.remove(&seq).is_some();
        if kept && seq > self.watermark {
            self.becomes(seq, MessageState::Dropped);
            self.ledger.dropped.withdrawn += 1;
            self.settled.dropped_withdrawn += 1;
        }
        kept
    }

    fn becomes(&mut self, seq: u64, state: MessageState) {
        self.fates.get_mut(&seq).expect("appended before").1 = state;
    }

    /// All that is kept is listed, newest first, and whatever is listed has the
    /// class that it should have.
    pub(crate) fn check_recent(&self, recent: &Recent) {
        let seqs: Vec<u64> = recent.messages.iter().map(|message| message.position.seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a > b), "{seqs:?}");
        let listed: Vec<u64> =
            recent.messages.iter().rev().filter(|m| m.left.is_none()).map(|m| m.position.seq).collect();
        assert_eq!(listed, self.mailbox.keys().copied().collect::<Vec<_>>(), "{self:#?}");
        for message in &recent.messages {
            let (id, state) = self.fates[&message.position.seq];
            assert_eq!((message.id, message.state().0), (id, state), "{message:?} in {self:#?}");
        }
    }

    pub(crate) fn report(&mut self, received: u64, dropped: u64) {
        self.ephemeral_waiting -= received + dropped;
        self.ledger.received += received;
        self.ledger.dropped.no_session += dropped;
        self.settled.received += received;
        self.settled.dropped_no_session += dropped;
    }

    /// Where a read from `start` begins, and the gap it tells of. Not for
    /// positions ahead of the head, which renew the epoch.
    fn resolve(&self, start: &Start) -> (u64, Option<Gap>) {
        let head = self.head();
        let lost_to = |reason, from| gap(Some(from), Some(Position::new(head.epoch, self.floor)), reason);
        let (asked, after) = match start {
            Start::Now => return (head.seq, None),
            Start::Oldest => return (self.floor, None),
            Start::Cursor(device) => {
                let cursor = device.as_ref().and_then(|device| self.cursors.get(device));
                (None, cursor.copied().unwrap_or(self.watermark))
            }
            Start::CursorOrNow(device) => match self.cursors.get(device) {
                Some(cursor) => (None, *cursor),
                None => return (head.seq, None),
            },
            Start::After(Position::BEGINNING) => (Some(Position::BEGINNING), 0),
            Start::After(given) => {
                let known = self.epochs.iter().find(|(epoch, _)| *epoch == given.epoch);
                let Some((_, end)) = known else {
                    return (self.floor, lost_to(GapReason::Reset, *given));
                };
                if given.seq > *end {
                    let after = (*end).max(self.floor);
                    let to = Position::new(head.epoch, after);
                    return (after, gap(Some(*given), Some(to), GapReason::Reset));
                }
                (Some(*given), given.seq)
            }
        };
        if after >= self.floor {
            return (after, None);
        }
        // The epoch under which a cursor was stored is the store's to remember.
        let from = asked.unwrap_or(Position::new(head.epoch, after));
        (self.floor, lost_to(GapReason::Trimmed, from))
    }

    pub(crate) fn check_page(&self, start: &Start, limit: usize, page: &Page) {
        let (after, gap) = self.resolve(start);
        let kept: Vec<_> = self.mailbox.range(after + 1..).map(|(seq, kept)| (*seq, kept.id)).collect();
        let shown: Vec<_> = page.messages.iter().map(|m| (m.position.expect("durable").seq, m.id)).collect();
        assert_eq!(shown, kept[..kept.len().min(limit)], "{start:?} in {self:#?}");
        assert_eq!((page.head, page.after), (Some(self.head()), after), "{start:?} in {self:#?}");
        assert_eq!(page.complete, kept.len() <= limit, "{start:?} in {self:#?}");
        let by_seq = |gap: Option<Gap>| gap.map(|gap| (gap.from.map(|p| p.seq), gap.to, gap.reason));
        match start {
            Start::Cursor(_) | Start::CursorOrNow(_) => {
                assert_eq!(by_seq(page.gap), by_seq(gap), "{start:?} in {self:#?}")
            }
            _ => assert_eq!(page.gap, gap, "{start:?} in {self:#?}"),
        }
    }

    pub(crate) fn check(&self, info: &ChannelInfo) {
        assert_eq!(info.ledger, self.ledger, "{self:#?}");
        let waiting = self.mailbox.range(self.watermark + 1..).count() as u64 + self.ephemeral_waiting;
        assert_eq!(info.waiting_counted, waiting, "{self:#?}");
        assert_eq!(info.ledger.waiting(), i64::try_from(waiting).expect("small"), "{self:#?}");
        assert_eq!(info.head, Some(self.head()));
        assert_eq!((info.floor, info.watermark), (self.floor, self.watermark), "{self:#?}");
        assert_eq!(info.mailbox_messages, self.mailbox.len() as u64, "{self:#?}");
        let cursors: Vec<_> = info.cursors.iter().map(|c| (c.device.clone(), c.position.seq)).collect();
        assert_eq!(cursors, self.cursors.clone().into_iter().collect::<Vec<_>>(), "{self:#?}");
        // Every class but acceptance is told to exactly one caller, when it happens.
        let told = Ledger {
            accepted: self.ledger.accepted,
            received: self.settled.received,
            expired: self.settled.expired,
            collapsed: self.settled.collapsed,
            dropped: postrider::store::Dropped {
                mailbox_full: self.settled.dropped_mailbox_full,
                no_session: self.settled.dropped_no_session,
                unreported: self.settled.dropped_unreported,
                withdrawn: self.settled.dropped_withdrawn,
            },
        };
        assert_eq!(told, info.ledger);
    }
}
