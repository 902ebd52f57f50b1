//! What is told of single messages: kept, or gone and why.

use bytes::Bytes;

use crate::protocol::status::{DeviceState, DropReason, MessageState};
use crate::protocol::{Device, MessageId, Position};

use super::Settled;

/// How long it is remembered why a message left its mailbox, at least, unless
/// [`DEPARTURES_MAX`] others left meanwhile.
pub const DEPARTURES_KEPT_MS: u64 = 600_000;
/// How many departures a channel remembers: the latest of each number modulo this.
pub const DEPARTURES_MAX: u64 = 256;
/// Devices whose progress is told with a message at most.
pub const DEVICES_MAX: usize = 1_000;

/// What is known of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Its id.
    pub id: MessageId,
    /// Its position, in the channel's present epoch.
    pub position: Position,
    /// When it was accepted, in microseconds.
    pub accepted_at_us: u64,
    /// When it stops being kept, in milliseconds.
    pub expires_at_ms: u64,
    /// Whether a device received it: while it was kept, if it is gone.
    pub received: bool,
    /// Why it is gone and since when; none while it is kept.
    pub left: Option<Departure>,
    /// Its payload, where that was asked for and while it is kept.
    pub data: Option<Bytes>,
}

/// How a message left its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Why.
    pub why: Why,
    /// When that was noted, in milliseconds: expiry is noted by whoever comes next.
    pub at_ms: u64,
}

/// Why a message left its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Expired,
    /// A newer one of its collapse key replaced it.
    Collapsed,
    /// The mailbox was full.
    Trimmed,
    /// It was taken back.
    Withdrawn,
}

impl Why {
    /// A number for what is stored.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Expired => 1,
            Self::Collapsed => 2,
            Self::Trimmed => 3,
            Self::Withdrawn => 4,
        }
    }

    /// The reason of that number.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        [Self::Expired, Self::Collapsed, Self::Trimmed, Self::Withdrawn]
            .into_iter()
            .find(|why| why.code() == code)
    }
}

impl Traced {
    /// Its class in the ledger, and why it was dropped, if it was.
    #[must_use]
    pub fn state(&self) -> (MessageState, Option<DropReason>) {
        match self.left.map(|left| left.why) {
            _ if self.received => (MessageState::Received, None),
            None => (MessageState::Waiting, None),
            Some(Why::Expired) => (MessageState::Expired, None),
            Some(Why::Collapsed) => (MessageState::Collapsed, None),
            Some(Why::Trimmed) => (MessageState::Dropped, Some(DropReason::MailboxFull)),
            Some(Why::Withdrawn) => (MessageState::Dropped, Some(DropReason::Withdrawn)),
        }
    }

    /// What became of it at a device that has been sent everything up to the
    /// number `written`. None: the device came later, and it was not meant for it.
    #[must_use]
    pub fn at(&self, device: &Progress, written: u64) -> Option<DeviceFate> {
        let seq = self.position.seq;
        if seq <= device.began {
            return None;
        }
        let past = device.seq >= seq;
        let (state, reason) = match self.left {
            None if past => (DeviceState::Acknowledged, None),
            None if written >= seq => (DeviceState::Written, None),
            None => (DeviceState::Waiting, None),
            Some(left) if past && self.received => {
                let in_time = device.at_ms <= left.at_ms;
                (if in_time { DeviceState::Acknowledged } else { DeviceState::Passed }, None)
            }
            Some(left) => match left.why {
                Why::Expired => (DeviceState::Expired, None),
                Why::Collapsed => (DeviceState::Collapsed, None),
                Why::Trimmed => (DeviceState::Dropped, Some(DropReason::MailboxFull)),
                Why::Withdrawn => (DeviceState::Dropped, Some(DropReason::Withdrawn)),
            },
        };
        let acknowledged = (state == DeviceState::Acknowledged).then_some(device.at_ms);
        let exactly = device.seq == seq;
        Some(DeviceFate {
            state,
            reason,
            acknowledged_at_ms: acknowledged.filter(|_| exactly),
            acknowledged_before_ms: acknowledged.filter(|_| !exactly),
        })
    }
}

/// What became of a message at one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFate {
    /// What.
    pub state: DeviceState,
    /// Why, when it was dropped.
    pub reason: Option<DropReason>,
    /// When its acknowledgement was noted, where that is known.
    pub acknowledged_at_ms: Option<u64>,
    /// By when it had been noted, where no more is known.
    pub acknowledged_before_ms: Option<u64>,
}

/// How far a device has come, in numbers of the channel's present epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The device.
    pub device: Device,
    /// Where it began: what is not above was never meant for it.
    pub began: u64,
    /// It acknowledged everything above `began` up to here.
    pub seq: u64,
    /// When that was noted, in milliseconds.
    pub at_ms: u64,
}

/// The answer to [`find`](super::Inquiries::find).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The message.
    pub message: Traced,
    /// The channel's devices, by name.
    pub devices: Vec<Progress>,
    /// Whether there are more than [`DEVICES_MAX`].
    pub more_devices: bool,
    /// What looking moved in the ledger.
    pub settled: Settled,
}

/// The answer to [`recent`](super::Inquiries::recent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// Newest first.
    pub messages: Vec<Traced>,
    /// Where the next page begins; none on the last one.
    pub next: Option<u64>,
    /// The channel's devices, by name.
    pub devices: Vec<Progress>,
    /// Whether there are more than [`DEVICES_MAX`].
    pub more_devices: bool,
    /// What looking moved in the ledger.
    pub settled: Settled,
}

/// The answer to [`withdraw`](super::Inquiries::withdraw).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// The message as it is now.
    pub message: Traced,
    /// Whether this call took it out of the mailbox.
    pub withdrawn: bool,
    /// What that moved in the ledger.
    pub settled: Settled,
}

/// The answer to [`erase`](super::Inquiries::erase).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages that were in the mailbox.
    pub messages: u64,
    /// Devices that had a cursor.
    pub devices: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn message(seq: u64, received: bool, left: Option<(Why, u64)>) -> Traced {
        Traced {
            id: MessageId::from_bits(1),
            position: Position::new(Epoch::from_bits(1), seq),
            accepted_at_us: 0,
            expires_at_ms: 100,
            received,
            left: left.map(|(why, at_ms)| Departure { why, at_ms }),
            data: None,
        }
    }

    fn device(began: u64, seq: u64, at_ms: u64) -> Progress {
        Progress { device: "phone".parse().expect("valid"), began, seq, at_ms }
    }

    fn state(message: &Traced, device: &Progress, written: u64) -> Option<DeviceState> {
        message.at(device, written).map(|fate| fate.state)
    }

    #[test]
    fn what_is_kept_waits_until_it_is_written_and_acknowledged() {
        let kept = message(5, false, None);
        assert_eq!(kept.state(), (MessageState::Waiting, None));
        assert_eq!(state(&kept, &device(0, 4, 9), 4), Some(DeviceState::Waiting));
        assert_eq!(state(&kept, &device(0, 4, 9), 5), Some(DeviceState::Written));
        let exact = message(5, true, None).at(&device(0, 5, 9), 5).expect("meant for it");
        assert_eq!((exact.acknowledged_at_ms, exact.acknowledged_before_ms), (Some(9), None));
        let later = message(5, true, None).at(&device(0, 7, 9), 7).expect("meant for it");
        assert_eq!((later.acknowledged_at_ms, later.acknowledged_before_ms), (None, Some(9)));
    }

    #[test]
    fn a_device_that_came_later_has_nothing_to_do_with_it() {
        assert_eq!(message(5, true, None).at(&device(5, 5, 9), 5), None);
        assert_eq!(state(&message(6, false, None), &device(5, 5, 9), 0), Some(DeviceState::Waiting));
    }

    #[test]
    fn what_is_gone_is_what_it_became_unless_the_device_was_in_time() {
        let classes = [
            (Why::Expired, DeviceState::Expired, None),
            (Why::Collapsed, DeviceState::Collapsed, None),
            (Why::Trimmed, DeviceState::Dropped, Some(DropReason::MailboxFull)),
            (Why::Withdrawn, DeviceState::Dropped, Some(DropReason::Withdrawn)),
        ];
        for (why, state, reason) in classes {
            let fate = |received, device: &Progress| {
                let fate = message(5, received, Some((why, 50))).at(device, 0).expect("meant for it");
                (fate.state, fate.reason)
            };
            assert_eq!(fate(false, &device(0, 4, 90)), (state, reason), "it was behind");
            assert_eq!(fate(false, &device(0, 6, 90)), (state, reason), "nobody had it when it went");
            assert_eq!(fate(true, &device(0, 5, 50)), (DeviceState::Acknowledged, None));
            assert_eq!(fate(true, &device(0, 6, 51)), (DeviceState::Passed, None), "nobody knows");
            assert_eq!(fate(true, &device(0, 4, 51)), (state, reason), "another device had it");
        }
        assert_eq!(message(5, true, Some((Why::Expired, 50))).state(), (MessageState::Received, None));
        let withdrawn = message(5, false, Some((Why::Withdrawn, 50))).state();
        assert_eq!(withdrawn, (MessageState::Dropped, Some(DropReason::Withdrawn)));
    }

    #[test]
    fn reasons_have_numbers_of_their_own() {
        for why in [Why::Expired, Why::Collapsed, Why::Trimmed, Why::Withdrawn] {
            assert_eq!(Why::of_code(why.code()), Some(why));
        }
        assert_eq!(Why::of_code(0), None);
    }
}
