//! Nothing accepted is lost, whatever breaks.
//!
//! A real `redis-server` that syncs every write, four nodes as child processes,
//! networks in between that can be cut, and a storm of troubles drawn from a
//! seed. Senders, to users, topics and everyone, try again until they are answered
//! 202; devices, on sockets and event streams, reconnect elsewhere. A model knows
//! what was accepted and who has received what.
//!
//! `scripts/chaos` runs longer storms, and the plain load at its full size.

#![expect(clippy::print_stdout, reason = "a storm prints its seed, its schedule and its counts")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared: each test binary uses a part of it")]
mod harness;

#[allow(unreachable_pub, reason = "modules of a test binary")]
mod aftermath;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod figures;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod model;
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod plain_load;
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
#[allow(unreachable_pub, reason = "modules of a test binary")]
mod streams;

use std::time::Duration;

use figures::Figures;
use plain_load::{Blow, Load};

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

/// A load that a debug build carries beside other tests.
const LIGHT: Load = Load { clients: 100, per_second: 100, lasting: Duration::from_secs(6) };
/// The load that peers were measured with.
const FULL: Load = Load { clients: 1_000, per_second: 500, lasting: Duration::from_secs(15) };

async fn carries(load: Load, blow: Blow) -> Figures {
    let figures = plain_load::run(load, blow).await;
    println!("plain load, {blow:?}, {load:?}:\n{figures}");
    assert_eq!(figures.lost, 0, "accepted and lost");
    if blow == Blow::RedisKilled {
        let late = figures.refused_outside.iter().max().copied().unwrap_or_default();
        assert!(late < Duration::from_secs(1), "refused {late:?} after redis was back");
    } else {
        assert_eq!(figures.refused, 0, "refused although redis was there");
    }
    figures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_node_get_everything_as_soon_as_they_are_elsewhere() {
    let figures = carries(LIGHT, Blow::NodeKilled).await;
    assert!(!figures.after_connect.is_empty(), "nobody missed anything: the test proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_were_cut_off_get_everything_when_they_are_back() {
    let figures = carries(LIGHT, Blow::ClientsCut).await;
    assert!(!figures.after_connect.is_empty(), "nobody missed anything: the test proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_refused_only_while_redis_is_away() {
    carries(LIGHT, Blow::RedisKilled).await;
}

/// The same at the size at which peers were measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by scripts/chaos --plain-load"]
async fn the_plain_load_at_its_full_size() {
    for blow in [Blow::NodeKilled, Blow::ClientsCut, Blow::RedisKilled] {
        carries(FULL, blow).await;
    }
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
