//! Positions: an epoch and a sequence number in a channel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One unbroken life of a channel's numbering.
///
/// Random, so that it follows no node's clock and is never chosen twice. It is
/// renewed at the first append after the store lost the channel or restarted;
/// the store remembers where the earlier epochs ended (their *lineage*), so
/// that a position of an earlier epoch is understood and a lost tail noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch that nobody has seen.
    #[must_use]
    pub fn random() -> Self {
        // Nought is the epoch of [`Position::BEGINNING`].
        Self(rand::random::<u64>().max(1))
    }

    /// The epoch of these 64 bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The epoch's 64 bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParsePositionError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParsePositionError)
    }
}

/// Where a message stands in its channel: opaque to clients, `epoch.seq` to us.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The numbering this position belongs to.
    pub epoch: Epoch,
    /// Dense within the epoch; the first message of a channel is 1.
    pub seq: u64,
}

/// Text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: send back the \"pos\" of the last message you handled, unchanged")]
pub struct ParsePositionError;

impl Position {
    /// Before the first message, of whatever epoch: where whoever was there
    /// before anything was pushed goes on.
    pub const BEGINNING: Self = Self { epoch: Epoch(0), seq: 0 };

    /// The position of this epoch and sequence number.
    #[must_use]
    pub fn new(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('.').ok_or(ParsePositionError)?;
        let canonical = seq == "0" || (!seq.starts_with('0') && seq.bytes().all(|b| b.is_ascii_digit()));
        // Redis scripts compute in doubles: beyond 2^53 numbers would blur.
        let seq = seq.parse::<u64>().ok().filter(|seq| canonical && *seq < 1 << 53);
        Ok(Self { epoch: epoch.parse()?, seq: seq.ok_or(ParsePositionError)? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_form_round_trips(epoch: u64, seq in 0u64..1 << 53) {
            let position = Position::new(Epoch::from_bits(epoch), seq);
            prop_assert_eq!(position.to_string().parse::<Position>(), Ok(position));
        }

        #[test]
        fn any_text_parses_to_itself_or_is_refused(text in "\\PC{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn look_alikes_are_refused() {
        for text in [
            "",
            ".",
            "0123456789abcdef",
            "0123456789abcdef.",
            "0123456789abcdef.01",
            "0123456789ABCDEF.1",
            "+123456789abcdef.1",
            "0123456789abcdef.+1",
            "0123456789abcdef.9007199254740992",
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }
}
