//! What happens in one run, drawn from its seed.

use std::time::Duration;

use postrider::protocol::{Channel, Device};
use postrider::session;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::faults::Rates;

/// Which promises can be held a run to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The store never restarts: nothing is lost, nobody hears of a gap.
    Steady,
    /// The store restarts with all it had: the same.
    Restarts,
    /// The store comes back older, or empty.
    Loses,
    /// Small mailboxes: messages are trimmed, and whoever missed them is told.
    Trims,
}

impl Flavour {
    /// Whether positions may go on in another epoch.
    pub(crate) fn restarts(self) -> bool {
        matches!(self, Self::Restarts | Self::Loses)
    }
}

/// A disaster.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A node dies; another takes its place after so long.
    Kill(usize, Duration),
    /// A node leaves in order; the same.
    Drain(usize, Duration),
    /// A node stands still for so long.
    Freeze(usize, Duration),
    /// A node cannot reach the store for so long.
    CutOff(usize, Duration),
    /// No node can.
    StoreAway(Duration),
    /// Every socket of a node breaks.
    Sockets(usize),
    /// The store restarts with what it had so long ago.
    Restart(Duration),
    /// The store restarts with nothing.
    Flush,
}

/// A kind of client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Resumes with its position, acknowledges if it has a name.
    Envelope(Option<Device>),
    /// Bare payloads, `?device=`.
    Device(Device),
    /// Bare payloads.
    Nameless,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) flavour: Flavour,
    pub(crate) nodes: usize,
    /// The clients of each channel.
    pub(crate) users: Vec<Vec<Kind>>,
    /// The channels: users' own, topics, and everyone's.
    pub(crate) channels: Vec<Channel>,
    pub(crate) senders: usize,
    /// What a sender waits between two pushes at most.
    pub(crate) push_pause_max: Duration,
    /// How long things go wrong.
    pub(crate) chaos: Duration,
    pub(crate) rates: Rates,
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) session: session::Options,
    /// What a socket's buffers hold.
    pub(crate) socket_bytes: usize,
    pub(crate) mailbox_messages_max: usize,
    /// Whether clients stop reading now and then.
    pub(crate) stalls: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let flavour = match rng.random_range(0..100) {
            0..55 => Flavour::Steady,
            55..70 => Flavour::Restarts,
            70..85 => Flavour::Loses,
            _ => Flavour::Trims,
        };
        let nodes = rng.random_range(2..=4);
        let chaos = Duration::from_millis(rng.random_range(6_000..16_000));
        let tight = flavour == Flavour::Trims || rng.random_bool(0.2);
        let users: Vec<_> = (0..rng.random_range(1..=4)).map(|_| clients(rng)).collect();
        Self {
            seed,
            flavour,
            nodes,
            channels: channels(seed, users.len()),
            users,
            senders: rng.random_range(1..=4),
            push_pause_max: Duration::from_millis(rng.random_range(40..600)),
            chaos,
            rates: rates(rng),
            events: events(rng, flavour, nodes, chaos),
            session: session::Options {
                outbox_messages_max: if tight { rng.random_range(4..20) } else { 1_000 },
                heartbeat_interval: Duration::from_secs(3),
                pong_timeout: Duration::from_secs(2),
                write_stall_max: Duration::from_secs(3),
                ..session::Options::default()
            },
            socket_bytes: if tight { rng.random_range(200..2_000) } else { 64 * 1_024 },
            mailbox_messages_max: if flavour == Flavour::Trims { rng.random_range(5..40) } else { 100_000 },
            stalls: tight || rng.random_bool(0.3),
        }
    }
}

fn clients(rng: &mut StdRng) -> Vec<Kind> {
    let count = rng.random_range(1..=3);
    let kind = |at: usize| {
        let device = format!("device{at}").parse::<Device>().expect("valid");
        match rng.random_range(0..10) {
            0..3 => Kind::Envelope(None),
            3..5 => Kind::Envelope(Some(device)),
            5..8 => Kind::Device(device),
            _ => Kind::Nameless,
        }
    };
    (0..count).map(kind).collect()
}

/// Drawn apart, so that a seed that found something still means the same.
fn channels(seed: u64, count: usize) -> Vec<Channel> {
    let rng = &mut StdRng::seed_from_u64(seed ^ 0x0a11);
    let channel = |at: usize| match rng.random_range(0..10) {
        0..2 if at + 1 == count => Channel::all(),
        0..4 => Channel::topic(&format!("topic{at}")).expect("valid"),
        _ => Channel::user(&format!("user{at}")).expect("valid"),
    };
    (0..count).map(channel).collect()
}

fn rates(rng: &mut StdRng) -> Rates {
    let mut rate = |most: f64| if rng.random_bool(0.6) { most * rng.random::<f64>() } else { 0.0 };
    Rates {
        refused: rate(0.08),
        unheard: rate(0.04),
        unanswered: rate(0.04),
        late: rate(0.04),
        entry_lost: rate(0.1),
        entry_delayed: rate(0.2),
        entry_repeated: rate(0.1),
        latency_max: Duration::from_millis(rng.random_range(0..30)),
    }
}

fn events(rng: &mut StdRng, flavour: Flavour, nodes: usize, chaos: Duration) -> Vec<(Duration, Event)> {
    let count = rng.random_range(0..6);
    let mut events: Vec<_> = (0..count)
        .map(|_| {
            let node = rng.random_range(0..nodes);
            let back = Duration::from_millis(rng.random_range(100..4_000));
            // A heartbeat's life and grace are 5 s.
            let long = Duration::from_millis(rng.random_range(100..9_000));
            let event = match rng.random_range(0..12) {
                0..3 => Event::Kill(node, back),
                3..5 => Event::Drain(node, back),
                5..8 => Event::Freeze(node, long),
                8..10 => Event::CutOff(node, long),
                10 => Event::Sockets(node),
                _ => Event::StoreAway(long),
            };
            (chaos.mul_f64(rng.random()), event)
        })
        .collect();
    for _ in 0..rng.random_range(1..=2) {
        let at = chaos.mul_f64(rng.random());
        match flavour {
            Flavour::Restarts => events.push((at, Event::Restart(Duration::ZERO))),
            Flavour::Loses if rng.random_bool(0.3) => events.push((at, Event::Flush)),
            Flavour::Loses => {
                events.push((at, Event::Restart(Duration::from_millis(rng.random_range(0..4_000)))));
            }
            Flavour::Steady | Flavour::Trims => {}
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events
}
