//! Senders behind a balancer that ask nothing twice: whatever is not accepted
//! at once fails the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::harness::Api;

/// The payload after which nothing comes.
pub(super) const LAST: &str = "that was all";
/// Between two pushes of one sender.
const PACE: Duration = Duration::from_millis(20);
const SENDERS: usize = 3;

/// Three of them, each with users of its own whom it pushes numbers in turn.
pub(super) struct Senders {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<u64>>>,
}

impl Senders {
    /// All of them with idempotency keys, or one without.
    pub(super) fn start(api: &Api, users: &[String], keyless: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shares = users.chunks(users.len().div_ceil(SENDERS)).enumerate();
        let tasks = shares.map(|(at, users)| {
            let with_key = at > 0 || !keyless;
            tokio::spawn(push_numbers(api.clone(), users.to_vec(), with_key, Arc::clone(&stop)))
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// How many numbers each user was sent, in the order of users.
    pub(super) async fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let counts = join_all(self.tasks).await;
        counts.into_iter().flat_map(|counts| counts.expect("every push is accepted at once")).collect()
    }
}

async fn push_numbers(api: Api, users: Vec<String>, with_key: bool, stop: Arc<AtomicBool>) -> Vec<u64> {
    let push = async |user: &String, data: Value| {
        let key = format!("{user}-{data}");
        let body = json!({"to": format!("user:{user}"), "data": data});
        let answer = api.try_push(&body, with_key.then_some(&*key)).await.expect("the balancer answers");
        assert_eq!(answer.status, 202, "{key}, with key: {with_key}: {}", answer.text);
    };
    let mut sent = vec![0; users.len()];
    while !stop.load(Ordering::SeqCst) {
        for (user, sent) in users.iter().zip(&mut sent) {
            push(user, json!(*sent)).await;
            *sent += 1;
            sleep(PACE).await;
        }
    }
    for user in &users {
        push(user, json!(LAST)).await;
    }
    sent
}
