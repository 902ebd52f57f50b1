//! What arrived, against what was sent: nothing may be missing, come twice,
//! come late or come to somebody else.

use super::payload::{Stamp, Template};
use super::timing::Timing;

/// One numbering of messages: one sender's to one user.
#[derive(Debug, Default, Clone)]
pub(super) struct Stream {
    /// Numbers given out so far.
    pub(super) assigned: u32,
    /// Numbers whose push was not accepted: they may arrive or not.
    pub(super) refused: Vec<u32>,
}

/// What one socket has of one stream.
#[derive(Debug, Default, Clone)]
struct Progress {
    /// Everything below was seen, except `missing`.
    next: u32,
    missing: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    InOrder,
    Late,
    Again,
}

impl Progress {
    fn see(&mut self, seq: u32) -> Seen {
        if seq >= self.next {
            self.missing.extend(self.next..seq);
            self.next = seq + 1;
            return Seen::InOrder;
        }
        match self.missing.iter().position(|missing| *missing == seq) {
            Some(at) => {
                self.missing.swap_remove(at);
                Seen::Late
            }
            None => Seen::Again,
        }
    }

    fn lost(&self, stream: &Stream) -> u64 {
        let owed = |seq: &u32| !stream.refused.contains(seq);
        let behind = (self.next..stream.assigned).filter(owed).count();
        (self.missing.iter().filter(|seq| owed(seq)).count() + behind) as u64
    }
}

/// What was seen in all.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Distinct messages, each socket's counted.
    pub(super) delivered: u64,
    pub(super) repeated: u64,
    /// Behind a later one of the same stream.
    pub(super) out_of_order: u64,
    /// Meant for another user, or never sent.
    pub(super) misrouted: u64,
    /// Text that is none of ours, or was changed on its way.
    pub(super) damaged: u64,
    /// `gap` frames: the node says that something was lost.
    pub(super) gaps: u64,
}

/// The account of a run.
#[derive(Debug)]
pub(super) struct Tally {
    template: Template,
    pub(super) streams: Vec<Stream>,
    /// All streams go to one user, whom every socket listens to.
    shared: bool,
    /// By socket, and within it by stream.
    progress: Vec<Progress>,
    /// The order in which each socket saw what it saw, in one number.
    orders: Vec<u64>,
    pub(super) counts: Counts,
    pub(super) timing: Timing,
}

impl Tally {
    /// `shared`: every socket hears every stream; else socket and stream of the
    /// same number belong together.
    pub(super) fn new(template: Template, streams: usize, sockets: usize, shared: bool) -> Self {
        let each = if shared { streams } else { 1 };
        Self {
            template,
            streams: vec![Stream::default(); streams],
            shared,
            progress: vec![Progress::default(); sockets * each],
            orders: vec![0; sockets],
            counts: Counts::default(),
            timing: Timing::default(),
        }
    }

    /// How many sockets a message is for.
    pub(super) fn sockets_each(&self) -> u64 {
        if self.shared { self.orders.len() as u64 } else { 1 }
    }

    /// The bytes of every payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.template.bytes().len()
    }

    /// Takes down what a socket received.
    pub(super) fn receive(&mut self, socket: usize, text: &[u8], now_ns: u64) {
        let Some(Stamp { stream, seq, at_ns }) = self.template.read(text) else {
            self.counts.damaged += 1;
            return;
        };
        let number = stream as usize;
        let known = self.streams.get(number).is_some_and(|stream| seq < stream.assigned);
        if !known || (!self.shared && number != socket) {
            self.counts.misrouted += 1;
            return;
        }
        let at = if self.shared { socket * self.streams.len() + number } else { socket };
        match self.progress[at].see(seq) {
            Seen::InOrder => {}
            Seen::Late => self.counts.out_of_order += 1,
            Seen::Again => {
                self.counts.repeated += 1;
                return;
            }
        }
        self.counts.delivered += 1;
        let order = &mut self.orders[socket];
        *order = (order.rotate_left(5) ^ (u64::from(stream) << 32 | u64::from(seq)))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.timing.delivered(at_ns, now_ns);
    }

    /// Accepted messages that a socket should have and has not.
    pub(super) fn lost(&self) -> u64 {
        let each = if self.shared { self.streams.len() } else { 1 };
        let stream = |at: usize| &self.streams[if self.shared { at % each } else { at }];
        self.progress.iter().enumerate().map(|(at, progress)| progress.lost(stream(at))).sum()
    }

    /// Sockets of one user that saw another order than the first of them did.
    pub(super) fn orders_that_differ(&self) -> u64 {
        if !self.shared {
            return 0;
        }
        self.orders.iter().filter(|order| **order != self.orders[0]).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload;
    use super::*;

    fn tally(shared: bool) -> Tally {
        let mut tally = Tally::new(Template::new(64), 2, 2, shared);
        tally.streams.iter_mut().for_each(|stream| stream.assigned = 5);
        tally
    }

    fn receive(tally: &mut Tally, socket: usize, stream: u32, seq: u32) {
        let mut text = Template::new(64).bytes().to_vec();
        payload::write(Stamp { stream, seq, at_ns: 1 }, &mut text);
        tally.receive(socket, &text, 2);
    }

    #[test]
    fn what_is_missing_late_or_repeated_is_told_apart() {
        let mut tally = tally(false);
        for seq in [0, 1, 3, 3, 2, 1] {
            receive(&mut tally, 0, 0, seq);
        }
        let Counts { delivered, repeated, out_of_order, .. } = tally.counts;
        assert_eq!((delivered, repeated, out_of_order), (4, 2, 1));
        // One of this socket's, all five of the other's.
        assert_eq!(tally.lost(), 6);
        tally.streams[1].refused = vec![0, 4];
        assert_eq!(tally.lost(), 4);
    }

    #[test]
    fn what_is_another_users_or_was_never_sent_is_misrouted() {
        let mut tally = tally(false);
        receive(&mut tally, 0, 1, 0);
        receive(&mut tally, 0, 0, 5);
        receive(&mut tally, 0, 9, 0);
        tally.receive(0, b"hello", 2);
        assert_eq!((tally.counts.misrouted, tally.counts.damaged, tally.counts.delivered), (3, 1, 0));
    }

    #[test]
    fn sockets_of_one_user_must_agree_on_the_order() {
        let mut tally = tally(true);
        for (socket, stream) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            receive(&mut tally, socket, stream, 0);
        }
        assert_eq!(tally.orders_that_differ(), 0);
        for (socket, stream) in [(0, 0), (0, 1), (1, 1), (1, 0)] {
            receive(&mut tally, socket, stream, 1);
        }
        assert_eq!(tally.orders_that_differ(), 1);
        assert_eq!((tally.sockets_each(), tally.lost()), (2, 12));
    }
}
