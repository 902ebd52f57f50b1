//! Nothing accepted is lost, whatever breaks.
//!
//! A real `redis-server` that syncs every write, four nodes as child processes,
//! networks in between that can be cut, and a storm of troubles drawn from a
//! seed. Senders try again until they are answered 202; devices reconnect
//! elsewhere. A model knows what was accepted and who has received what.
//!
//! `scripts/chaos` runs longer storms, and the plain load at its full size.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared: each test binary uses a part of it")]
mod harness;

#[allow(unreachable_pub, reason = "modules of a test binary")]
mod aftermath;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod model;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod receivers;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod schedule;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod senders;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod stage;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod storm;

use std::time::Duration;

/// Long enough for a dozen troubles, short enough for every run of the suite.
const SHORT: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_in_the_first_storm() {
    storm::run(1, SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_in_the_second_storm() {
    storm::run(2, SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_in_the_third_storm() {
    storm::run(3, SHORT).await;
}

/// As long and as often as asked: `CHAOS_SEED`, `CHAOS_STORMS`, `CHAOS_SECONDS`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by scripts/chaos"]
async fn storms_as_asked() {
    let asked = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
        Err(_) => default,
    };
    let length = Duration::from_secs(asked("CHAOS_SECONDS", 30));
    let first = asked("CHAOS_SEED", 1);
    for seed in first..first + asked("CHAOS_STORMS", 1) {
        storm::run(seed, length).await;
    }
}
