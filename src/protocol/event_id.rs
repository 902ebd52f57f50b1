//! The ids of an event stream's events: where its session stands in all of its
//! channels, in one text, because a browser sends back only the last one.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Channel, Epoch, Position};

/// Channels of one session beside the user's own. A text of as many fits into
/// the header lines that proxies take.
pub const CHANNELS_MAX: usize = 256;
/// The longest text: as many channels, none of them with a small number.
const TEXT_BYTES_MAX: usize = 8 * 1_024;

/// No text of so many channels is longer.
#[must_use]
pub const fn text_bytes_max(channels: usize) -> usize {
    const OWN_BYTES_MAX: usize = 40;
    const OTHER_BYTES_MAX: usize = 4 + 8 + 8;
    OWN_BYTES_MAX + (channels * OTHER_BYTES_MAX).div_ceil(3) * 4
}

/// What stands for nothing: a channel to which nothing was ever sent.
const NOTHING: &str = "-";
/// Between the user's own position and the others.
const OTHERS: char = '~';
/// Before a position where delivery began, and that nothing was received at.
const BEGUN: char = '@';

/// A channel's name in an id: it only has to tell the channels of one session
/// apart, and epochs are random, so that a mistake would be told as a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u32);

impl Key {
    /// FNV-1a: the same on every node and in every release.
    fn of(channel: &Channel) -> Self {
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        Self(channel.as_str().bytes().fold(0x811c_9dc5, step))
    }
}

/// Where a session stands in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Everything up to here was given to it; none where nothing was ever sent.
    pub position: Option<Position>,
    /// Whether the position was given by an event: a client that names it says
    /// that it received what came up to there. Where delivery began, nothing was.
    pub received: bool,
}

/// Where a session stands in each of its channels.
///
/// With the user's own channel alone its text is the position itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    own: Mark,
    others: Vec<(Key, Mark)>,
}

impl EventId {
    /// Where the user's own channel stands.
    #[must_use]
    pub fn new(own: Mark) -> Self {
        Self { own, others: Vec::new() }
    }

    /// Moves in the user's own channel.
    pub fn set_own(&mut self, mark: Mark) {
        self.own = mark;
    }

    /// Moves in another channel.
    pub fn set(&mut self, channel: &Channel, mark: Mark) {
        let key = Key::of(channel);
        match self.others.iter_mut().find(|(known, _)| *known == key) {
            Some((_, at)) => *at = mark,
            None => self.others.push((key, mark)),
        }
    }

    /// Where the user's own channel stands.
    #[must_use]
    pub fn own(&self) -> Mark {
        self.own
    }

    /// Where another channel stands, if the id names it.
    #[must_use]
    pub fn of(&self, channel: &Channel) -> Option<Mark> {
        let key = Key::of(channel);
        self.others.iter().find(|(known, _)| *known == key).map(|(_, mark)| *mark)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.own.received {
            write!(f, "{BEGUN}")?;
        }
        match self.own.position {
            Some(position) => write!(f, "{position}")?,
            None => f.write_str(NOTHING)?,
        }
        if self.others.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.others.len() * 16);
        for (Key(key), mark) in &self.others {
            let (epoch, seq) = mark.position.map_or((0, 0), |position| (position.epoch.bits(), position.seq));
            bytes.extend(key.to_be_bytes());
            bytes.extend(epoch.to_be_bytes());
            put_number(&mut bytes, seq << 1 | u64::from(mark.received));
        }
        write!(f, "{OTHERS}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Text that is no id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event's id: send back the \"id\" of the last event you handled, unchanged")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseEventIdError);
        }
        let (own, others) = text.split_once(OTHERS).unwrap_or((text, ""));
        let (received, own) = own.strip_prefix(BEGUN).map_or((true, own), |own| (false, own));
        let position = match own {
            NOTHING => None,
            own => Some(own.parse().map_err(|_| ParseEventIdError)?),
        };
        let own = Mark { position, received };
        let bytes = URL_SAFE_NO_PAD.decode(others).map_err(|_| ParseEventIdError)?;
        let mut rest = bytes.as_slice();
        let mut others = Vec::new();
        while !rest.is_empty() {
            let (key, tail) = rest.split_first_chunk::<4>().ok_or(ParseEventIdError)?;
            let (epoch, tail) = tail.split_first_chunk::<8>().ok_or(ParseEventIdError)?;
            let (number, tail) = take_number(tail).ok_or(ParseEventIdError)?;
            let (seq, received) = (number >> 1, number & 1 == 1);
            rest = tail;
            if others.len() == CHANNELS_MAX {
                return Err(ParseEventIdError);
            }
            let epoch = u64::from_be_bytes(*epoch);
            let position = (epoch != 0 || seq != 0).then(|| Position::new(Epoch::from_bits(epoch), seq));
            others.push((Key(u32::from_be_bytes(*key)), Mark { position, received }));
        }
        Ok(Self { own, others })
    }
}

/// Seven bits a byte, the lowest first, the eighth set on all but the last.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits: a byte holds them.
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The number, of the 53 bits of a position and one more, and what follows it.
fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (number < 1 << 54).then_some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position::new(Epoch::from_bits(epoch), seq)
    }

    fn topic(name: &str) -> Channel {
        format!("topic:{name}").parse().expect("valid")
    }

    fn received(position: Position) -> Mark {
        Mark { position: Some(position), received: true }
    }

    const BEGINNING: Mark = Mark { position: None, received: false };

    #[test]
    fn of_a_users_channel_alone_it_is_the_position() {
        assert_eq!(EventId::new(received(at(1, 42))).to_string(), "0000000000000001.42");
        let begun = Mark { received: false, ..received(at(1, 42)) };
        assert_eq!(EventId::new(begun).to_string(), "@0000000000000001.42");
        assert_eq!(EventId::new(BEGINNING).to_string(), "@-");
    }

    #[test]
    fn each_channel_has_its_own_position_and_one_that_is_not_named_has_none() {
        let mut id = EventId::new(received(at(1, 42)));
        id.set(&topic("a"), received(at(7, 300)));
        id.set(&topic("b"), BEGINNING);
        id.set(&topic("a"), received(at(7, 301)));
        let read: EventId = id.to_string().parse().expect("our own");
        assert_eq!(read, id);
        assert_eq!(read.own(), received(at(1, 42)));
        assert_eq!(read.of(&topic("a")), Some(received(at(7, 301))));
        assert_eq!(read.of(&topic("b")), Some(BEGINNING));
        assert_eq!(read.of(&topic("c")), None);
    }

    #[test]
    fn as_many_channels_as_there_may_be_fit_and_one_more_does_not() {
        let largest = received(at(u64::MAX, (1 << 53) - 1));
        let mut id = EventId::new(largest);
        for number in 0..CHANNELS_MAX {
            id.set(&topic(&number.to_string()), largest);
        }
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert!(id.to_string().len() <= text_bytes_max(CHANNELS_MAX));
        assert!(text_bytes_max(CHANNELS_MAX) <= TEXT_BYTES_MAX);
        id.set(&topic("one-more"), BEGINNING);
        assert_eq!(id.to_string().parse::<EventId>(), Err(ParseEventIdError));
    }

    #[test]
    fn look_alikes_are_refused() {
        for text in [
            "",
            "~",
            "@",
            "1",
            "@@-",
            "-~AAAA",
            "-~***",
            "0000000000000001.42 ",
            "-~AAAAAAAAAAAAAAAA_____________w",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(ParseEventIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_refused(text in "[-~.0-9a-fA-Z_]{0,60}") {
            let _ = text.parse::<EventId>();
        }

        #[test]
        fn text_form_round_trips(
            own in proptest::option::of((any::<u64>(), 0u64..1 << 53)),
            others in proptest::collection::vec((any::<u32>(), 1..=u64::MAX, 0u64..1 << 53, any::<bool>()), 0..20),
        ) {
            let mark = |epoch, seq, received| Mark { position: Some(at(epoch, seq)), received };
            let others = others.into_iter().map(|(key, epoch, seq, received)| (Key(key), mark(epoch, seq, received)));
            let own = own.map_or(BEGINNING, |(epoch, seq)| mark(epoch, seq, true));
            let id = EventId { own, others: others.collect() };
            prop_assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        }
    }
}
