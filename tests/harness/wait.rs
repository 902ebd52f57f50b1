//! Waiting for conditions.

use std::ops::AsyncFnMut;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take that should hold almost at once: generous,
/// because two cores may run several tests and their servers at the same time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds.
///
/// # Panics
/// When it does not within the time given.
pub async fn eventually(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    until(within, what, async || condition().await.then_some(())).await;
}

/// Polls until there is an answer.
///
/// # Panics
/// When there is none within the time given.
pub async fn until<T>(within: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not so after {within:?}: {what}");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
