//! What is told of a channel's messages, kept and gone.

use crate::protocol::{MessageId, Position};
use crate::store::{Erased, Found, Progress, Recent, Settled, Traced, Why, Withdrawn};

use super::channel::State;
use super::clock::Now;
use super::departures::Gone;
use super::mailbox::Kept;
use super::numbering::Meaning;

impl State {
    /// One message, kept or gone.
    pub(super) fn find(&mut self, id: MessageId, now: Now) -> Option<Found> {
        self.expire(now.ms(), 0);
        let message = self.trace(id)?;
        let devices = self.devices();
        Some(Found { message, devices, more_devices: false, settled: std::mem::take(&mut self.untold) })
    }

    fn trace(&self, id: MessageId) -> Option<Traced> {
        let kept = self.mailbox.entries().find(|(_, kept)| kept.id == id);
        if let Some((seq, kept)) = kept {
            return Some(self.kept(seq, kept, false));
        }
        self.mailbox.departures.iter().find(|gone| gone.kept.id == id).map(|gone| self.gone(gone))
    }

    /// The newest messages below a number.
    pub(super) fn recent(&mut self, before: Option<u64>, limit: usize, now: Now) -> Recent {
        self.expire(now.ms(), 0);
        let below = |seq: &u64| before.is_none_or(|before| *seq < before);
        let kept = self.mailbox.entries().filter(|(seq, _)| below(seq));
        let kept = kept.map(|(seq, kept)| self.kept(seq, kept, true));
        let gone = self.mailbox.departures.iter().filter(|gone| below(&gone.seq)).map(|gone| self.gone(gone));
        let mut messages: Vec<_> = kept.chain(gone).collect();
        messages.sort_by_key(|message| std::cmp::Reverse(message.position.seq));
        let more = messages.len() > limit;
        messages.truncate(limit);
        let next = messages.last().filter(|_| more).map(|last| last.position.seq);
        let devices = self.devices();
        Recent { messages, next, devices, more_devices: false, settled: std::mem::take(&mut self.untold) }
    }

    /// Takes a message out of the mailbox.
    pub(super) fn withdraw(&mut self, id: MessageId, now: Now) -> Option<Withdrawn> {
        self.expire(now.ms(), 0);
        let kept = self.mailbox.entries().find(|(_, kept)| kept.id == id).map(|(seq, _)| seq);
        if let Some(seq) = kept {
            self.mailbox.take(seq, Why::Withdrawn, self.watermark, now.ms());
            if seq > self.watermark {
                self.durable.dropped.withdrawn += 1;
                self.untold.dropped_withdrawn += 1;
            }
        }
        let message = self.trace(id)?;
        let settled = std::mem::take(&mut self.untold);
        Some(Withdrawn { message, withdrawn: kept.is_some(), settled })
    }

    /// Forgets everything but where sessions are and which keys were used.
    pub(super) fn erase(&mut self) -> Erased {
        let erased = Erased { messages: self.mailbox.len() as u64, devices: self.cursors.len() as u64 };
        *self = Self {
            directory: std::mem::take(&mut self.directory),
            recall: std::mem::take(&mut self.recall),
            untold: Settled::default(),
            touched_at_ms: self.touched_at_ms,
            counted_bytes: self.counted_bytes,
            ..Self::default()
        };
        erased
    }

    /// The highest position that any device received.
    pub(super) fn watermark(&self) -> Option<Position> {
        self.head().map(|head| Position::new(head.epoch, self.watermark))
    }

    fn position(&self, seq: u64) -> Position {
        let epoch = self.head().map_or(crate::protocol::Epoch::from_bits(0), |head| head.epoch);
        Position::new(epoch, seq)
    }

    fn kept(&self, seq: u64, kept: &Kept, data: bool) -> Traced {
        Traced {
            id: kept.id,
            position: self.position(seq),
            accepted_at_us: kept.accepted_at_us,
            expires_at_ms: kept.expires_at_ms,
            received: seq <= self.watermark,
            left: None,
            data: data.then(|| kept.data.clone()),
        }
    }

    fn gone(&self, gone: &Gone) -> Traced {
        Traced {
            id: gone.kept.id,
            position: self.position(gone.seq),
            accepted_at_us: gone.kept.accepted_at_us,
            expires_at_ms: gone.kept.expires_at_ms,
            received: gone.received,
            left: Some(gone.left),
            data: None,
        }
    }

    /// How far each device is, in numbers of the present epoch.
    fn devices(&self) -> Vec<Progress> {
        let Some(numbering) = &self.numbering else { return Vec::new() };
        let head = numbering.head().seq;
        let progress = |(device, cursor): (&crate::protocol::Device, &super::cursors::Cursor)| {
            let (seq, began) = match cursor.place.map(|place| (place.seq, numbering.meaning(place))) {
                None => (0, 0),
                Some((seq, Meaning::Valid | Meaning::Ahead)) => (seq.min(head), cursor.began.min(head)),
                Some((seq, Meaning::Lost(end))) => (seq.min(end), cursor.began.min(end)),
                Some((_, Meaning::Unknown)) => (0, 0),
            };
            Progress { device: device.clone(), began, seq, at_ms: cursor.at_ms }
        };
        self.cursors.iter().map(progress).collect()
    }
}
