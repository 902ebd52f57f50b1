//! Epochs and sequence numbers of one channel.

use crate::protocol::{Epoch, Position};

/// Earlier epochs that are remembered.
const LINEAGE_MAX: usize = 16;

/// Where a channel's numbers stand, and where they stood before.
#[derive(Debug, Clone)]
pub(super) struct Numbering {
    epoch: Epoch,
    seq: u64,
    /// The life of the store in which the epoch was last appended to.
    run: u64,
    /// Earlier epochs with their ends, newest first.
    lineage: Vec<(Epoch, u64)>,
}

/// What a position means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It was given out, and what it stood for was not taken back.
    Valid,
    /// Its epoch ended at this number, before the position.
    Lost(u64),
    /// It is of the current epoch and was never given out.
    Ahead,
    /// Its epoch is unknown.
    Unknown,
}

impl Numbering {
    pub(super) fn new(run: u64) -> Self {
        Self { epoch: Epoch::random(), seq: 0, run, lineage: Vec::new() }
    }

    pub(super) fn head(&self) -> Position {
        Position::new(self.epoch, self.seq)
    }

    /// The next number, in a new epoch if the store was restarted since the last.
    pub(super) fn advance(&mut self, run: u64) -> Position {
        self.renew_in(run);
        self.seq += 1;
        self.head()
    }

    /// Begins a new epoch if the store was restarted since this one did; numbers go on.
    pub(super) fn renew_in(&mut self, run: u64) {
        if self.run == run {
            return;
        }
        self.run = run;
        self.lineage.insert(0, (self.epoch, self.seq));
        self.lineage.truncate(LINEAGE_MAX);
        self.epoch = Epoch::random();
    }

    pub(super) fn meaning(&self, position: Position) -> Meaning {
        if position.epoch == self.epoch {
            return if position.seq <= self.seq { Meaning::Valid } else { Meaning::Ahead };
        }
        let mut end = self.seq;
        for (epoch, seq) in &self.lineage {
            // What a later epoch lost is lost to the earlier ones too.
            end = end.min(*seq);
            if *epoch == position.epoch {
                return if position.seq <= end { Meaning::Valid } else { Meaning::Lost(end) };
            }
        }
        Meaning::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering(ends: &[u64], seq: u64) -> Numbering {
        let lineage = (1..).zip(ends).map(|(bits, end)| (Epoch::from_bits(bits), *end)).collect();
        Numbering { epoch: Epoch::from_bits(0), seq, run: 0, lineage }
    }

    fn meaning(numbering: &Numbering, epoch: u64, seq: u64) -> Meaning {
        numbering.meaning(Position::new(Epoch::from_bits(epoch), seq))
    }

    #[test]
    fn a_position_is_valid_up_to_the_end_of_its_epoch() {
        let numbering = numbering(&[7, 4], 9);
        assert_eq!(meaning(&numbering, 0, 9), Meaning::Valid);
        assert_eq!(meaning(&numbering, 0, 10), Meaning::Ahead);
        assert_eq!(meaning(&numbering, 1, 7), Meaning::Valid);
        assert_eq!(meaning(&numbering, 1, 8), Meaning::Lost(7));
        assert_eq!(meaning(&numbering, 2, 4), Meaning::Valid);
        assert_eq!(meaning(&numbering, 2, 5), Meaning::Lost(4));
        assert_eq!(meaning(&numbering, 3, 0), Meaning::Unknown);
    }

    #[test]
    fn what_a_later_epoch_lost_is_lost_to_the_earlier_ones() {
        let numbering = numbering(&[3, 5], 9);
        assert_eq!(meaning(&numbering, 2, 3), Meaning::Valid);
        assert_eq!(meaning(&numbering, 2, 4), Meaning::Lost(3));
    }

    #[test]
    fn only_a_restart_renews_the_epoch() {
        let mut numbering = Numbering::new(1);
        let first = numbering.advance(1);
        assert_eq!(numbering.advance(1), Position::new(first.epoch, 2));
        let renewed = numbering.advance(2);
        assert_eq!(renewed.seq, 3);
        assert_ne!(renewed.epoch, first.epoch);
        assert_eq!(numbering.lineage, [(first.epoch, 2)]);
    }
}
