//! Acknowledgements on their way to the store, gathered into batches.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::protocol::{Channel, Device, Position};
use crate::store::Ack;

use super::Delivery;

/// Acknowledgements in one call, unless there are more than [`PARTS`] times that.
const PART_MIN: usize = 64;
/// A flush comes in so many parts at most, with a pause between them: what comes
/// at once keeps everything else waiting.
const PARTS: usize = 32;

/// What requests say waits up to so many: they name devices as they like, and
/// while the store is away nothing is written.
const REQUESTED_MAX: usize = 100_000;

/// The latest of each device and channel: a newer position replaces an older one.
/// Bounded by the sessions there are, and by [`REQUESTED_MAX`].
#[derive(Default)]
pub(super) struct Cursors {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    received: HashMap<(Channel, Option<Device>), Position>,
    ephemeral: HashMap<Channel, (u32, u32)>,
}

impl Cursors {
    /// A device (or a nameless session) received everything up to `position`.
    pub(super) fn received(&self, channel: &Channel, device: Option<&Device>, position: Position) {
        let mut pending = self.pending.lock().expect("no panic while held");
        let slot = pending.received.entry((channel.clone(), device.cloned())).or_insert(position);
        // Another epoch is a later one.
        if slot.epoch != position.epoch || slot.seq < position.seq {
            *slot = position;
        }
    }

    /// Whether so many wait that no request may add to them.
    pub(super) fn is_full(&self) -> bool {
        self.pending.lock().expect("no panic while held").received.len() >= REQUESTED_MAX
    }

    /// What became of an ephemeral message.
    pub(super) fn ephemeral(&self, channel: &Channel, received: bool) {
        let mut pending = self.pending.lock().expect("no panic while held");
        let counts = pending.ephemeral.entry(channel.clone()).or_default();
        if received {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    }

    fn take(&self) -> Vec<Ack> {
        let pending = std::mem::take(&mut *self.pending.lock().expect("no panic while held"));
        let received = pending.received.into_iter().map(|((channel, device), position)| Ack::Received {
            channel,
            device,
            position,
        });
        let ephemeral = pending.ephemeral.into_iter().map(|(channel, (received, dropped))| Ack::Ephemeral {
            channel,
            received,
            dropped,
        });
        received.chain(ephemeral).collect()
    }

    /// Keeps what could not be written, unless something newer came meanwhile.
    /// Ephemeral counts are not written twice: they may have been taken.
    fn restore(&self, acks: &[Ack]) {
        let mut pending = self.pending.lock().expect("no panic while held");
        for ack in acks {
            if let Ack::Received { channel, device, position } = ack {
                let slot = pending.received.entry((channel.clone(), device.clone())).or_insert(*position);
                if slot.epoch == position.epoch {
                    slot.seq = slot.seq.max(position.seq);
                }
            }
        }
    }
}

impl Delivery {
    pub(super) async fn run_cursors(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => break,
                () = tokio::time::sleep(self.inner.options.cursor_flush) => {}
            }
            self.flush_slowly(self.inner.options.cursor_flush / PARTS as u32 / 2).await;
        }
        self.flush_cursors().await;
    }

    /// Writes every acknowledgement that waits.
    pub(super) async fn flush_cursors(&self) {
        self.flush_slowly(Duration::ZERO).await;
    }

    async fn flush_slowly(&self, pause: Duration) {
        let acks = self.inner.cursors.take();
        let part = acks.len().div_ceil(PARTS).max(PART_MIN);
        for (at, batch) in acks.chunks(part).enumerate() {
            if at > 0 && !pause.is_zero() {
                tokio::select! {
                    () = self.inner.stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            match self.timed("acknowledge", self.inner.store.acknowledge(batch)).await {
                Ok(settled) => {
                    self.settled(settled);
                    self.tell_delivered(batch).await;
                }
                Err(error) => {
                    let error = self.noted(error);
                    tracing::debug!(%error, "acknowledgements wait for the store");
                    self.inner.cursors.restore(&acks[at * part..]);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    #[test]
    fn only_the_latest_position_of_a_device_is_written() {
        let cursors = Cursors::default();
        let channel = Channel::user("alice").expect("valid");
        let position = |seq| Position::new(Epoch::from_bits(1), seq);
        cursors.received(&channel, None, position(2));
        cursors.received(&channel, None, position(1));
        cursors.received(&channel, None, position(3));
        let acks = cursors.take();
        assert_eq!(acks, [Ack::Received { channel: channel.clone(), device: None, position: position(3) }]);
        cursors.received(&channel, None, position(4));
        cursors.restore(&acks);
        assert_eq!(cursors.take(), [Ack::Received { channel, device: None, position: position(4) }]);
        assert!(cursors.take().is_empty());
    }
    #[test]
    fn requests_cannot_pile_up_what_waits_for_the_store() {
        let cursors = Cursors::default();
        let channel = Channel::user("alice").expect("valid");
        for n in 0..REQUESTED_MAX {
            assert!(!cursors.is_full(), "{n} wait");
            let device = format!("d{n}").parse().expect("valid");
            cursors.received(&channel, Some(&device), Position::new(Epoch::from_bits(1), 1));
        }
        assert!(cursors.is_full());
    }
}
