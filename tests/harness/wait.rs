//! Waiting for conditions.

use std::fmt::Debug;
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
    settled(within, what, async || attempt().await.ok_or(())).await
}

/// Polls until an attempt succeeds.
///
/// # Panics
/// When none does within the time given, with what the last one came to.
pub async fn settled<T, E: Debug>(
    within: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        let last = match attempt().await {
            Ok(answer) => return answer,
            Err(last) => last,
        };
        assert!(Instant::now() < deadline, "still not so after {within:?}: {what}: {last:?}");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
