//! What goes wrong when: drawn from a seed, so that it can be repeated.
//!
//! A node has one trouble at a time, and two of the nodes at least have none at
//! any moment: what the promises are about is that the others carry on.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Nodes that take part.
pub const NODES: usize = 4;
/// Nodes in trouble at the same time.
const TROUBLED_MAX: usize = 2;
/// What a rolling restart of all nodes may take.
const ROLL: Duration = Duration::from_secs(8);
/// What a node may take to be back after its trouble.
const MARGIN: Duration = Duration::from_millis(1_500);

/// How a network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Everything is late by so much.
    Latency(Duration),
    /// Bytes vanish on both ways, silently; they come late.
    Blackhole,
    /// Only what the server says vanishes.
    Deaf,
    /// Only what the client says vanishes.
    Mute,
    /// Open connections are reset once.
    Reset,
    /// Connections are reset, and so are new ones.
    Refused,
    /// The client's side of every connection ends, in order.
    HalfClose,
}

/// Something that goes wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// `kill -9` of a node.
    Kill { node: usize, lasting: Duration },
    /// SIGSTOP, then SIGCONT.
    Pause { node: usize, lasting: Duration },
    /// SIGTERM, and started again.
    Restart { node: usize },
    /// SIGTERM to one node after the other.
    Roll,
    /// Between a node and Redis.
    StoreLink { node: usize, cut: Cut, lasting: Duration },
    /// Between clients (receivers and senders) and a node.
    ClientLink { node: usize, cut: Cut, lasting: Duration },
    /// `kill -9` of Redis.
    RedisKill { lasting: Duration },
    /// Redis stands still.
    RedisPause { lasting: Duration },
    /// `kill -9` of Redis and of a node in the same moment; the node comes back
    /// so long after Redis.
    BothKill { node: usize, lasting: Duration, later: Duration },
    /// Whatever comes to a node's stream while it stands still is lost.
    Lose { node: usize, lasting: Duration },
}

/// A trouble and its moment, counted from the beginning of the storm.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When it begins.
    pub at: Duration,
    /// What it is.
    pub trouble: Trouble,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.3} s  {}", self.at.as_secs_f64(), self.trouble)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { node, lasting } => write!(f, "node {node}: kill -9, back after {lasting:?}"),
            Self::Pause { node, lasting } => write!(f, "node {node}: SIGSTOP for {lasting:?}"),
            Self::Restart { node } => write!(f, "node {node}: SIGTERM, started again"),
            Self::Roll => write!(f, "all nodes: SIGTERM one after the other"),
            Self::StoreLink { node, cut, lasting } => {
                write!(f, "node {node} to redis: {cut:?} for {lasting:?}")
            }
            Self::ClientLink { node, cut, lasting } => {
                write!(f, "clients to node {node}: {cut:?} for {lasting:?}")
            }
            Self::RedisKill { lasting } => write!(f, "redis: kill -9, back after {lasting:?}"),
            Self::RedisPause { lasting } => write!(f, "redis: SIGSTOP for {lasting:?}"),
            Self::BothKill { node, lasting, later } => {
                write!(f, "redis and node {node}: kill -9, back after {lasting:?}, the node {later:?} later")
            }
            Self::Lose { node, lasting } => {
                write!(f, "node {node}: what is sent to it within {lasting:?} is lost")
            }
        }
    }
}

/// Draws the troubles of a storm of that length.
pub fn draw(seed: u64, length: Duration) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    let mut busy_until = [Duration::ZERO; NODES];
    let mut redis_until = Duration::ZERO;
    // A roll waits until no node has trouble, and none gets any before it.
    let mut roll_due = false;
    let mut at = Duration::from_millis(1_000);
    while at < length {
        let free: Vec<usize> = (0..NODES).filter(|node| busy_until[*node] <= at).collect();
        let room = NODES - free.len() < TROUBLED_MAX;
        let node = free.get(rng.random_range(0..free.len().max(1))).copied().filter(|_| room);
        let trouble = match (rng.random_range(0..100), node) {
            _ if roll_due && free.len() == NODES => Trouble::Roll,
            (0..9, _) if redis_until <= at => redis_trouble(&mut rng),
            (9, _) => {
                roll_due = true;
                continue;
            }
            (10..27, Some(node)) if redis_until <= at && !roll_due => trouble_of_both(&mut rng, node),
            (27.., Some(node)) if !roll_due => node_trouble(&mut rng, node),
            _ => {
                at += Duration::from_millis(100);
                continue;
            }
        };
        match trouble {
            Trouble::RedisKill { lasting } | Trouble::RedisPause { lasting } => {
                redis_until = at + lasting + Duration::from_secs(4);
            }
            Trouble::BothKill { node, lasting, later } => {
                redis_until = at + lasting + Duration::from_secs(4);
                busy_until[node] = at + lasting + later + MARGIN;
            }
            Trouble::Lose { node, lasting } => {
                redis_until = at + lasting;
                busy_until[node] = at + lasting + MARGIN;
            }
            Trouble::Roll => {
                roll_due = false;
                busy_until = [at + ROLL; NODES];
            }
            Trouble::Restart { node } => busy_until[node] = at + MARGIN * 2,
            Trouble::Kill { node, lasting }
            | Trouble::Pause { node, lasting }
            | Trouble::StoreLink { node, lasting, .. }
            | Trouble::ClientLink { node, lasting, .. } => busy_until[node] = at + lasting + MARGIN,
        }
        events.push(Event { at, trouble });
        at += Duration::from_millis(rng.random_range(150..1_500));
    }
    events
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

fn redis_trouble(rng: &mut StdRng) -> Trouble {
    if rng.random_bool(0.6) {
        Trouble::RedisKill { lasting: millis(rng, 50..3_000) }
    } else {
        Trouble::RedisPause { lasting: millis(rng, 200..3_000) }
    }
}

fn trouble_of_both(rng: &mut StdRng, node: usize) -> Trouble {
    if rng.random_bool(0.4) {
        Trouble::BothKill { node, lasting: millis(rng, 50..3_000), later: millis(rng, 0..2_000) }
    } else {
        Trouble::Lose { node, lasting: millis(rng, 200..900) }
    }
}

fn node_trouble(rng: &mut StdRng, node: usize) -> Trouble {
    match rng.random_range(0..100) {
        0..30 => Trouble::Kill { node, lasting: millis(rng, 100..5_000) },
        // The longer half is longer than a heartbeat lives and is mourned.
        30..40 => Trouble::Pause { node, lasting: millis(rng, 50..2_000) },
        40..52 => Trouble::Pause { node, lasting: millis(rng, 4_000..7_000) },
        52..62 => Trouble::Restart { node },
        62..82 => Trouble::StoreLink { node, cut: cut(rng), lasting: millis(rng, 200..6_000) },
        _ => Trouble::ClientLink { node, cut: cut(rng), lasting: millis(rng, 200..4_000) },
    }
}

fn cut(rng: &mut StdRng) -> Cut {
    match rng.random_range(0..7) {
        0 => Cut::Latency(millis(rng, 5..300)),
        1 => Cut::Blackhole,
        2 => Cut::Deaf,
        3 => Cut::Mute,
        4 => Cut::Reset,
        5 => Cut::Refused,
        _ => Cut::HalfClose,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    fn text(seed: u64) -> String {
        draw(seed, Duration::from_secs(60)).iter().map(|event| format!("{event}\n")).collect()
    }

    #[test]
    fn a_seed_draws_the_same_storm_again_and_another_seed_another() {
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        assert!(text(1).lines().count() > 20, "{}", text(1));
    }

    /// A trouble that the schedule stopped drawing would be one that nothing tries.
    #[test]
    fn every_trouble_is_drawn() {
        let drawn: Vec<_> = (0..20).flat_map(|seed| draw(seed, Duration::from_secs(60))).collect();
        let (node, lasting, later) = (0, Duration::ZERO, Duration::ZERO);
        let cut = Cut::Reset;
        for trouble in [
            Trouble::Kill { node, lasting },
            Trouble::Pause { node, lasting },
            Trouble::Restart { node },
            Trouble::Roll,
            Trouble::StoreLink { node, cut, lasting },
            Trouble::ClientLink { node, cut, lasting },
            Trouble::RedisKill { lasting },
            Trouble::RedisPause { lasting },
            Trouble::BothKill { node, lasting, later },
            Trouble::Lose { node, lasting },
        ] {
            let alike = |event: &&Event| discriminant(&event.trouble) == discriminant(&trouble);
            assert!(drawn.iter().filter(alike).count() > 3, "{trouble}");
        }
        let cuts: BTreeSet<_> = drawn
            .iter()
            .filter_map(|event| match event.trouble {
                Trouble::StoreLink { cut, .. } => Some(("redis", cut)),
                Trouble::ClientLink { cut, .. } => Some(("clients", cut)),
                _ => None,
            })
            .map(|(side, cut)| (side, format!("{cut:?}").split('(').next().map(str::to_owned)))
            .collect();
        assert_eq!(cuts.len(), 14, "{cuts:?}");
    }
}
