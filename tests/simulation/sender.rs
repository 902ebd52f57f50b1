//! Senders: they push through any node and try again until they are answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::protocol::MessageId;
use postrider::store::{Append, Error, Idempotency};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use crate::model::PushId;
use crate::world::{Phase, World};

/// What a message lives that must not expire within a run.
const LASTING_MS: u64 = 3_600_000;
/// How long a sender waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One sender.
pub(crate) struct Sender {
    pub(crate) world: Arc<World>,
    pub(crate) rng: StdRng,
}

/// One push, the same at every try.
struct Pushing {
    id: PushId,
    append: Append,
    /// Tries before the sender gives up.
    tries_max: u32,
}

impl Sender {
    pub(crate) async fn run(mut self) {
        while self.world.phase() == Phase::Chaos {
            let pause_max = self.world.plan.push_pause_max;
            sleep(pause_max.mul_f64(self.rng.random())).await;
            let burst = if self.rng.random_bool(0.1) { self.rng.random_range(2..12) } else { 1 };
            let pushes = (0..burst).map(|_| {
                let pushing = self.draw();
                self.world.clone().push(pushing, self.rng.random())
            });
            let pushes: Vec<_> = pushes.collect();
            futures_util::future::join_all(pushes).await;
        }
    }

    fn draw(&mut self) -> Pushing {
        let rng = &mut self.rng;
        let user = rng.random_range(0..self.world.plan.users.len());
        let (mut ttl_ms, mut collapse_key) = (LASTING_MS, None);
        match rng.random_range(0..40) {
            0 => ttl_ms = 0,
            1 => ttl_ms = rng.random_range(1..3_000),
            2 => collapse_key = Some("key".into()),
            _ => {}
        }
        let tries_max = if rng.random_bool(0.05) { 1 } else { u32::MAX };
        self.world.draft(user, ttl_ms, collapse_key, tries_max)
    }
}

impl World {
    fn draft(&self, user: usize, ttl_ms: u64, collapse_key: Option<Box<str>>, tries_max: u32) -> Pushing {
        let lasting = ttl_ms == LASTING_MS && collapse_key.is_none();
        let (id, payload) = self.model(|model| model.begin_push(user, lasting, ttl_ms == 0));
        let append = Append {
            id: MessageId::generate(),
            channel: self.model(|model| model.channels[user].clone()),
            data: Bytes::from(format!("{payload:?}")),
            ttl_ms,
            collapse_key,
            idempotency: Some(Idempotency { key: (id as u128).to_be_bytes(), fingerprint: [0; 8] }),
            trace: None,
        };
        Pushing { id, append, tries_max }
    }

    /// One push that lasts, for each user.
    pub(crate) async fn push_to_all(self: &Arc<Self>) {
        let pushes = (0..self.plan.users.len())
            .map(|user| self.clone().push(self.draft(user, LASTING_MS, None, u32::MAX), user as u64));
        futures_util::future::join_all(pushes.collect::<Vec<_>>()).await;
    }

    async fn push(self: Arc<Self>, pushing: Pushing, seed: u64) {
        let mut rng = <StdRng as rand::SeedableRng>::seed_from_u64(seed);
        for _ in 0..pushing.tries_max {
            if self.phase() == Phase::Over {
                return;
            }
            if let Some(node) = self.pick(&mut rng) {
                let append = Append { id: MessageId::generate(), ..pushing.append.clone() };
                match timeout(PATIENCE, node.delivery.push(append)).await {
                    Ok(Ok(pushed)) => {
                        return self.model(|model| model.push_accepted(pushing.id, pushed.position));
                    }
                    // An HTTP client sees its node die; a frozen one it leaves to itself.
                    Err(_) | Ok(Err(Error::Unavailable(_) | Error::Timeout { .. })) => {}
                    Ok(Err(error)) => {
                        return self.model(|model| model.violation(format!("a push failed: {error}")));
                    }
                }
            }
            sleep(Duration::from_millis(rng.random_range(10..400))).await;
        }
    }
}
