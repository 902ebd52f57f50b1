//! One channel: what an append, a read or an acknowledgement does to it.
//!
//! No locks and no clock here: whoever calls holds the channel and says what
//! time it is. Every change of the ledger is told to exactly one caller as
//! [`Settled`]: the one that made it or, for changes that housekeeping or an
//! inspection made, the next that comes.

use std::mem;
use std::sync::Arc;

use crate::protocol::{Channel, Device, NodeId, Position};
use crate::store::{
    Append, Appended, ChannelInfo, DEVICES_MAX, Error, Gap, GapReason, Ledger, Page, Route, Settled, Start,
};

use super::clock::{Circumstances, Now};
use super::cursors::Cursors;
use super::mailbox::{Kept, Mailbox};
use super::numbering::{Meaning, Numbering};
use super::recall::{Answer, Recall};

/// Appends leave expired messages lying for so long, so that they do not look
/// for them each time; reads never show them.
const EXPIRY_SLACK_MS: u64 = 10_000;
/// How long a node may take to report what became of an ephemeral message.
const REPORT_PATIENCE_MS: u64 = 60_000;
/// What a channel and each of its cursors and routes take, roughly.
const OVERHEAD_BYTES: usize = 512;
const LINE_OVERHEAD_BYTES: usize = 128;

/// All that is kept of one channel.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// None until something was pushed.
    pub(super) numbering: Option<Numbering>,
    pub(super) floor: u64,
    pub(super) watermark: u64,
    pub(super) durable: Ledger,
    pub(super) ephemeral: Ledger,
    pub(super) ephemeral_accepted_at_ms: u64,
    pub(super) mailbox: Mailbox,
    pub(super) directory: Vec<Route>,
    pub(super) cursors: Cursors,
    pub(super) recall: Recall,
    /// Moved in the ledger and not told to anyone yet.
    pub(super) untold: Settled,
    pub(super) touched_at_ms: u64,
    pub(super) counted_bytes: usize,
}

impl State {
    /// Accepts a message.
    pub(super) fn append(&mut self, append: Append, at: Circumstances<'_>) -> Result<Appended, Error> {
        let now_ms = at.now.ms();
        self.touched_at_ms = now_ms;
        if let Some(asked) = &append.idempotency
            && let Some(answer) = self.recall.find(asked, now_ms)?
        {
            return Ok(self.appended(answer, true));
        }
        let idempotency = append.idempotency;
        let numbering = self.numbering.get_or_insert_with(|| Numbering::new(at.run));
        let position = (append.ttl_ms > 0).then(|| numbering.advance(at.run));
        let answer = Answer {
            id: append.id,
            position,
            accepted_at_us: at.now.us,
            expires_at_ms: now_ms.saturating_add(append.ttl_ms),
        };
        match position {
            Some(position) => self.keep(position.seq, append, answer, at),
            None => self.pass_on(now_ms),
        }
        if let Some(asked) = &idempotency {
            self.recall.remember(asked, answer, now_ms.saturating_add(at.limits.idempotency_window_ms));
        }
        Ok(self.appended(answer, false))
    }

    fn appended(&mut self, answer: Answer, repeated: bool) -> Appended {
        Appended {
            id: answer.id,
            position: answer.position,
            accepted_at_us: answer.accepted_at_us,
            expires_at_ms: answer.expires_at_ms,
            routes: self.directory.clone(),
            repeated,
            settled: if repeated { Settled::default() } else { mem::take(&mut self.untold) },
        }
    }

    fn keep(&mut self, seq: u64, append: Append, answer: Answer, at: Circumstances<'_>) {
        self.expire(at.now.ms(), EXPIRY_SLACK_MS);
        let collapse_key: Option<Arc<str>> = append.collapse_key.map(Into::into);
        let watermark = self.watermark;
        let replaced = collapse_key.as_deref();
        let replaced = replaced.and_then(|key| self.mailbox.take_collapsed(key, watermark, at.now.ms()));
        if let Some(old) = replaced
            && old > self.watermark
        {
            self.durable.collapsed += 1;
            self.untold.collapsed += 1;
        }
        self.durable.accepted += 1;
        let kept = Kept {
            id: answer.id,
            accepted_at_us: answer.accepted_at_us,
            expires_at_ms: answer.expires_at_ms,
            data: append.data,
            collapse_key,
            trace: append.trace,
        };
        self.mailbox.push(seq, kept);
        self.trim(at.limits.mailbox_messages_max, at.now.ms());
    }

    fn pass_on(&mut self, now_ms: u64) {
        self.ephemeral.accepted += 1;
        self.ephemeral_accepted_at_ms = now_ms;
        if self.directory.is_empty() {
            self.ephemeral.dropped.no_session += 1;
            self.untold.dropped_no_session += 1;
        }
    }

    fn trim(&mut self, messages_max: usize, now_ms: u64) {
        if self.mailbox.len() <= messages_max.saturating_add(messages_max / 20) {
            return;
        }
        while self.mailbox.len() > messages_max
            && let Some(seq) = self.mailbox.pop_oldest(self.watermark, now_ms)
        {
            self.floor = seq;
            if seq > self.watermark {
                self.durable.dropped.mailbox_full += 1;
                self.untold.dropped_mailbox_full += 1;
            }
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64, slack_ms: u64) {
        if self.mailbox.is_due(now_ms, slack_ms) {
            let expired = self.mailbox.expire(now_ms, self.watermark);
            self.durable.expired += expired;
            self.untold.expired += expired;
        }
    }

    /// Reads behind `start`.
    pub(super) fn read(
        &mut self,
        channel: &Channel,
        start: &Start,
        limit: usize,
        at: Circumstances<'_>,
    ) -> Page {
        let now_ms = at.now.ms();
        self.expire(now_ms, 0);
        let (after, gap) = self.resolve(start, at.run);
        let head = self.head();
        let (messages, complete) = match head {
            Some(head) => self.mailbox.read((channel, head.epoch), after, limit, now_ms),
            None => (Vec::new(), true),
        };
        Page { head, after, gap, messages, complete, settled: mem::take(&mut self.untold) }
    }

    /// Notes where a device begins that joins for the first time.
    pub(super) fn place(&mut self, start: &Start, page: &Page, at: Circumstances<'_>) {
        if let Start::Cursor(Some(device)) | Start::CursorOrNow(device) = start {
            let place = page.head.map(|head| Position::new(head.epoch, page.after));
            self.cursors.place(device, place, at.now.ms(), at.limits.cursors_max);
        }
    }

    /// Where reading from `start` begins, and what is lost before that.
    fn resolve(&mut self, start: &Start, run: u64) -> (u64, Option<Gap>) {
        let Some(numbering) = &mut self.numbering else {
            let given = if let Start::After(given) = start { Some(*given) } else { None };
            let lost = given.filter(|given| given.seq > 0);
            return (0, lost.map(|from| Gap { from: Some(from), to: None, reason: GapReason::Reset }));
        };
        let head = numbering.head();
        let watermark = Position::new(head.epoch, self.watermark);
        let cursor = |device| {
            let place = self.cursors.get(device)?;
            Some(place.unwrap_or(Position::new(head.epoch, 0)))
        };
        let from = match start {
            Start::Now => return (head.seq, None),
            Start::Oldest => return (self.floor, None),
            Start::After(Position::BEGINNING) => Position::new(head.epoch, 0),
            Start::After(given) => *given,
            Start::Cursor(None) => watermark,
            Start::Cursor(Some(device)) => cursor(device).unwrap_or(watermark),
            Start::CursorOrNow(device) => cursor(device).unwrap_or(head),
        };
        let (after, reset) = match numbering.meaning(from) {
            Meaning::Valid => (from.seq, false),
            Meaning::Lost(end) => (end, true),
            Meaning::Unknown => (self.floor, true),
            Meaning::Ahead => {
                // Did the store come back older? No number may mean two messages.
                numbering.renew_in(run);
                (numbering.head().seq, true)
            }
        };
        let trimmed = after < self.floor;
        let after = after.max(self.floor);
        let reason = match (reset, trimmed) {
            (true, _) => GapReason::Reset,
            (false, true) => GapReason::Trimmed,
            (false, false) => return (after, None),
        };
        let to = Position::new(numbering.head().epoch, after);
        // As the reader put it.
        let from = if let Start::After(given) = start { *given } else { from };
        (after, Some(Gap { from: Some(from), to: Some(to), reason }))
    }

    /// The last position, if anything was ever pushed.
    pub(super) fn head(&self) -> Option<Position> {
        self.numbering.as_ref().map(Numbering::head)
    }

    /// A device, or a nameless session, received everything up to `position`.
    pub(super) fn receive(
        &mut self,
        device: Option<&Device>,
        position: Position,
        at: Circumstances<'_>,
    ) -> Settled {
        let valid = self.numbering.as_ref().is_some_and(|n| n.meaning(position) == Meaning::Valid);
        if !valid {
            return Settled::default();
        }
        let now_ms = at.now.ms();
        self.touched_at_ms = now_ms;
        self.expire(now_ms, 0);
        if let Some(device) = device {
            self.cursors.receive(device, position, self.watermark, now_ms, at.limits.cursors_max);
        }
        if position.seq > self.watermark {
            let received = self.mailbox.count(self.watermark, position.seq);
            self.watermark = position.seq;
            self.durable.received += received;
            self.untold.received += received;
        }
        mem::take(&mut self.untold)
    }

    /// A node reports what became of ephemeral messages.
    pub(super) fn report(&mut self, received: u32, dropped: u32) -> Settled {
        let received = u64::from(received).min(self.ephemeral_waiting());
        self.ephemeral.received += received;
        self.untold.received += received;
        let dropped = u64::from(dropped).min(self.ephemeral_waiting());
        self.ephemeral.dropped.no_session += dropped;
        self.untold.dropped_no_session += dropped;
        mem::take(&mut self.untold)
    }

    fn ephemeral_waiting(&self) -> u64 {
        // Reports are cut to what waits, so it is never negative.
        self.ephemeral.waiting().unsigned_abs()
    }

    /// Enters or changes a node's line unless a newer one is there.
    pub(super) fn set_route(&mut self, route: Route, now: Now) -> bool {
        self.touched_at_ms = now.ms();
        match self.directory.iter_mut().find(|line| line.node == route.node) {
            Some(line) if line.generation > route.generation => false,
            Some(line) => {
                *line = route;
                true
            }
            None => {
                self.directory.push(route);
                true
            }
        }
    }

    /// Removes a node's line unless it is of a generation above `up_to`.
    pub(super) fn remove_route(&mut self, node: NodeId, up_to: u64) -> bool {
        let lines = self.directory.len();
        self.directory.retain(|line| line.node != node || line.generation > up_to);
        self.directory.len() < lines
    }

    pub(super) fn routes(&self) -> &[Route] {
        &self.directory
    }

    /// Everything, settled first.
    pub(super) fn inspect(&mut self, now: Now) -> ChannelInfo {
        self.expire(now.ms(), 0);
        let overdue = now.ms() > self.ephemeral_accepted_at_ms.saturating_add(REPORT_PATIENCE_MS);
        let unreported = if overdue { self.ephemeral_waiting() } else { 0 };
        self.ephemeral.dropped.unreported += unreported;
        self.untold.dropped_unreported += unreported;
        let mut routes = self.directory.clone();
        routes.sort_by_key(|line| line.node);
        let mut ledger = self.durable;
        ledger += self.ephemeral;
        ChannelInfo {
            head: self.head().filter(|head| head.seq > 0),
            floor: self.floor,
            watermark: self.watermark,
            mailbox_messages: self.mailbox.len() as u64,
            waiting_counted: self.mailbox.count(self.watermark, u64::MAX) + self.ephemeral_waiting(),
            ledger,
            routes,
            more_cursors: self.cursors.len() > DEVICES_MAX,
            cursors: self.cursors.list(DEVICES_MAX),
        }
    }

    /// Frees what nobody will ask for again.
    pub(super) fn tidy(&mut self, now: Now) {
        self.expire(now.ms(), 0);
        self.recall.forget_old(now.ms());
        self.mailbox.departures.forget_old(now.ms());
    }

    /// Whether nothing is left worth keeping. What is in the directory stays:
    /// whoever holds the channel relies on its numbers.
    pub(super) fn is_over(&self, at: Circumstances<'_>) -> bool {
        let now_ms = at.now.ms();
        let idle_ms = now_ms.saturating_sub(self.touched_at_ms);
        self.directory.is_empty()
            && ((self.numbering.is_none() && self.cursors.is_empty())
                || idle_ms >= at.limits.channel_retention_ms)
            && self.mailbox.is_over(now_ms)
            && self.recall.is_over(now_ms)
    }

    /// What was counted towards the byte cap last.
    pub(super) fn counted_bytes(&self) -> usize {
        self.counted_bytes
    }

    /// What to count towards the byte cap now.
    pub(super) fn count_bytes(&mut self) -> usize {
        let lines = self.cursors.len() + self.directory.len();
        self.counted_bytes =
            OVERHEAD_BYTES + lines * LINE_OVERHEAD_BYTES + self.mailbox.bytes() + self.recall.bytes();
        self.counted_bytes
    }
}
