//! Random histories of one channel, compared with [`crate::model`] step by step.

use std::sync::Arc;

use postrider::protocol::{Channel, Device, Epoch, MessageId, NodeId, Position};
use postrider::store::{Ack, Append, Limits, Settled, Start, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::backend::Backend;
use crate::model::{Kept, Model};
use crate::support::*;

/// Longer than a burst takes on a busy machine.
const SHORT_MS: u64 = 400;
const BURSTS: usize = 5;
const STEPS_PER_BURST: usize = 12;
/// A history is begun anew when the machine stalled within a burst.
const ATTEMPTS: usize = 10;
/// Seeds that once failed.
const KNOWN_SEEDS: [u64; 1] = [1];

/// The short-lived messages ended before what was done to them could be
/// compared: nothing is proven.
struct Stalled;

struct History<'a> {
    backend: &'a dyn Backend,
    rng: StdRng,
    store: Arc<dyn Store>,
    channel: Channel,
    node: NodeId,
    generation: u64,
    devices: [Device; 2],
    model: Model,
    /// What the store told its callers, summed up.
    told: Settled,
}

#[expect(clippy::print_stdout, reason = "shown only when the test fails, and then needed")]
pub(crate) async fn any_history_keeps_the_ledger_and_the_pages_right(backend: &dyn Backend) {
    let seeds = KNOWN_SEEDS.into_iter().chain((0..backend.random_histories()).map(|_| rand::random()));
    for seed in seeds {
        println!("history of seed {seed}; put it into KNOWN_SEEDS if it fails");
        let mut attempts = 0;
        while History::new(backend, seed).await.run().await.is_err() {
            attempts += 1;
            assert!(attempts < ATTEMPTS, "the machine is too slow to compare anything");
        }
    }
}

impl<'a> History<'a> {
    async fn new(backend: &'a dyn Backend, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mailbox_max = rng.random_range(5..45);
        let store = backend.open(Limits { mailbox_messages_max: mailbox_max, ..Limits::default() }).await;
        let node = NodeId::generate();
        Self {
            backend,
            rng,
            store,
            channel: channel("alice"),
            node,
            generation: 0,
            devices: [device("laptop"), device("phone")],
            model: Model { mailbox_max, ..Model::default() },
            told: Settled::default(),
        }
    }

    async fn run(mut self) -> Result<(), Stalled> {
        self.append().await;
        for _ in 0..BURSTS {
            for _ in 0..STEPS_PER_BURST {
                match self.rng.random_range(0..100) {
                    0..45 => self.append().await,
                    45..55 => self.append_ephemeral().await,
                    55..75 => self.receive().await,
                    75..80 => self.report().await,
                    80..93 => self.read().await?,
                    93..95 => self.withdraw().await?,
                    95..97 => self.claim_too_much().await,
                    _ => self.come_or_go().await,
                }
                self.compare().await?;
            }
            self.let_the_short_lived_expire().await;
            self.compare().await?;
        }
        Ok(())
    }

    /// Compares all that can be seen, provided nothing expired meanwhile.
    async fn compare(&mut self) -> Result<(), Stalled> {
        let info = self.store.inspect(&self.channel).await.expect("inspected");
        let page = read(&*self.store, &self.channel, Start::Oldest).await;
        let recent = self.store.recent(&self.channel, None, 1_000).await.expect("listed");
        self.unless_stalled().await?;
        self.told += page.settled;
        self.told += recent.settled;
        self.model.check_recent(&recent);
        self.model.check_page(&Start::Oldest, usize::MAX, &page);
        self.model.check(&info);
        assert_eq!(self.told, self.model.settled, "what callers were told");
        Ok(())
    }

    async fn unless_stalled(&self) -> Result<(), Stalled> {
        let now_ms = clock_ms(&*self.store).await;
        if now_ms >= self.model.next_expiry_ms() { Err(Stalled) } else { Ok(()) }
    }

    async fn append(&mut self) {
        let key = self.rng.random_bool(0.4).then(|| self.rng.random_range(0..3_u8));
        let short_lived = self.rng.random_bool(0.4);
        let append = Append {
            ttl_ms: if short_lived { SHORT_MS } else { LONG_MS },
            collapse_key: key.map(|key| key.to_string().into()),
            ..message(&self.channel, MessageId::generate())
        };
        let appended = self.store.append(append).await.expect("appended");
        self.told += appended.settled;
        assert_eq!(appended.routes.len(), usize::from(self.model.routed));
        let position = appended.position.expect("durable");
        self.model.append(
            position,
            Kept { id: appended.id, expires_at_ms: appended.expires_at_ms, short_lived, key },
        );
    }

    async fn append_ephemeral(&mut self) {
        let append = Append { ttl_ms: 0, ..message(&self.channel, 1) };
        self.told += self.store.append(append).await.expect("appended").settled;
        self.model.append_ephemeral();
    }

    /// A position of any epoch, now and then beyond its end.
    fn any_position(&mut self) -> Position {
        let (epoch, end) = self.model.epochs[self.rng.random_range(0..self.model.epochs.len())];
        let current = epoch == self.model.head().epoch;
        Position::new(epoch, self.rng.random_range(0..=if current { end } else { end + 2 }))
    }

    async fn receive(&mut self) {
        let device = self.rng.random_bool(0.7).then(|| self.devices[self.rng.random_range(0..2)].clone());
        let mut position = self.any_position();
        match self.rng.random_range(0..10) {
            0 => position.seq = self.model.head().seq + 1,
            1 => position.epoch = Epoch::random(),
            _ => {}
        }
        let ack = received(&self.channel, device.as_ref(), position.epoch, position.seq);
        self.told += self.store.acknowledge(&[ack]).await.expect("acknowledged");
        self.model.receive(device.as_ref(), position.epoch, position.seq);
    }

    async fn report(&mut self) {
        let received = self.rng.random_range(0..=self.model.ephemeral_waiting);
        let dropped = self.rng.random_range(0..=self.model.ephemeral_waiting - received);
        let ack = Ack::Ephemeral {
            channel: self.channel.clone(),
            received: u32::try_from(received).expect("small"),
            dropped: u32::try_from(dropped).expect("small"),
        };
        self.told += self.store.acknowledge(&[ack]).await.expect("acknowledged");
        self.model.report(received, dropped);
    }

    async fn read(&mut self) -> Result<(), Stalled> {
        let start = match self.rng.random_range(0..8) {
            0 => Start::Now,
            1 => Start::Oldest,
            2 => Start::Cursor(None),
            3 => Start::Cursor(Some(self.devices[self.rng.random_range(0..2)].clone())),
            4 => Start::CursorOrNow(self.devices[self.rng.random_range(0..2)].clone()),
            5 => Start::After(Position::BEGINNING),
            6 => Start::After(Position::new(Epoch::random(), self.rng.random_range(0..9))),
            _ => Start::After(self.any_position()),
        };
        let limit = self.rng.random_range(1..20);
        let page = self.store.read(&self.channel, &start, limit).await.expect("read");
        self.unless_stalled().await?;
        self.told += page.settled;
        self.model.check_page(&start, limit, &page);
        Ok(())
    }

    async fn withdraw(&mut self) -> Result<(), Stalled> {
        let (seq, id) = {
            let at = self.rng.random_range(0..self.model.fates.len());
            let (seq, (id, _)) = self.model.fates.iter().nth(at).expect("within bounds");
            (*seq, *id)
        };
        let near = self.rng.random_bool(0.5).then(|| Position::new(self.model.head().epoch, seq));
        let withdrawn = self.store.withdraw(&self.channel, id, near).await.expect("withdrawn");
        self.unless_stalled().await?;
        let kept = self.model.withdraw(seq);
        match withdrawn {
            Some(withdrawn) => {
                self.told += withdrawn.settled;
                assert_eq!((withdrawn.message.id, withdrawn.withdrawn), (id, kept), "{:#?}", self.model);
            }
            None => assert!(!kept, "{seq} was not found in {:#?}", self.model),
        }
        Ok(())
    }

    /// A position that was never given out changes nothing, but in another life of
    /// the data it makes the store renew the epoch.
    async fn claim_too_much(&mut self) {
        let head = self.model.head();
        let claim = Start::After(Position::new(head.epoch, head.seq + self.rng.random_range(1..5)));
        let page = read(&*self.store, &self.channel, claim.clone()).await;
        self.told += page.settled;
        assert_eq!(page.head, Some(head));
        self.backend.begin_life().await;
        until_reachable(&*self.store).await;
        let page = read(&*self.store, &self.channel, claim).await;
        self.told += page.settled;
        let renewed = page.head.expect("known");
        assert!(self.model.epochs.iter().all(|(epoch, _)| *epoch != renewed.epoch));
        self.model.epochs.push((renewed.epoch, head.seq));
        // Older ones are forgotten.
        let excess = self.model.epochs.len().saturating_sub(17);
        self.model.epochs.drain(..excess);
    }

    async fn come_or_go(&mut self) {
        self.generation += 1;
        if self.model.routed {
            self.store.leave(self.node, &self.channel, self.generation, 0).await.expect("left");
        } else {
            let page =
                self.store.join(&join(self.node, &self.channel, self.generation)).await.expect("joined");
            self.told += page.settled;
        }
        self.model.routed = !self.model.routed;
    }

    async fn let_the_short_lived_expire(&mut self) {
        let short_lived = self.model.mailbox.values().filter(|kept| kept.short_lived);
        let Some(last) = short_lived.map(|kept| kept.expires_at_ms).max() else { return };
        // Now and then long enough for a whole mailbox to be gone.
        let extra = if self.rng.random_bool(0.1) { SHORT_MS / 4 + 1_100 } else { 0 };
        clock_passes(&*self.store, last + extra).await;
        let page = read(&*self.store, &self.channel, Start::Now).await;
        self.told += page.settled;
        self.model.expire(clock_ms(&*self.store).await);
    }
}
