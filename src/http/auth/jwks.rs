//! Keys that an issuer publishes at a URL (RFC 7517): fetched, kept, renewed.
//!
//! Keys that were once fetched serve until others come: while the URL is away,
//! whoever could connect still can. They are looked at again when they are old,
//! and when a token names a key that is not among them, at most once in
//! [`PAUSE`]: strangers with made-up tokens must not turn a node into a hammer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::http::fetch::Resource;
use crate::metrics::Metrics;

use super::keys::{self, Key};

/// The least time between two fetches once there are keys.
const PAUSE: Duration = Duration::from_secs(10);
/// The same while there are none.
const PAUSE_WITHOUT: Duration = Duration::from_secs(1);
/// How long a fetch may take: somebody's handshake may wait for it.
const WITHIN: Duration = Duration::from_secs(5);
/// Far more than any issuer's keys.
const SET_BYTES_MAX: usize = 256 * 1_024;

struct Fetched {
    keys: Vec<Key>,
    at: Instant,
}

/// The keys at one URL.
pub(super) struct Jwks {
    resource: Resource,
    refresh: Duration,
    fetched: ArcSwapOption<Fetched>,
    /// When it was last asked; held while it is.
    asked_at: Mutex<Option<Instant>>,
    refreshing: AtomicBool,
    metrics: Metrics,
    tasks: TaskTracker,
}

impl Jwks {
    /// Prepares, and fetches for the first time in the background.
    pub(super) fn start(
        url: &Url,
        refresh: Duration,
        metrics: &Metrics,
        tasks: &TaskTracker,
    ) -> Result<Arc<Self>, String> {
        let jwks = Arc::new(Self {
            resource: Resource::new(url, WITHIN, SET_BYTES_MAX)?,
            refresh,
            fetched: ArcSwapOption::empty(),
            asked_at: Mutex::default(),
            refreshing: AtomicBool::new(false),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        if tokio::runtime::Handle::try_current().is_ok() {
            jwks.refresh_behind();
        }
        Ok(jwks)
    }

    /// What `look` makes of the keys there are; none before the first fetch.
    pub(super) fn with<T>(self: &Arc<Self>, look: impl FnOnce(&[Key]) -> T) -> Option<T> {
        let fetched = self.fetched.load();
        let fetched = fetched.as_deref()?;
        if fetched.at.elapsed() >= self.refresh {
            self.refresh_behind();
        }
        Some(look(&fetched.keys))
    }

    fn refresh_behind(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let jwks = self.clone();
        self.tasks.spawn(async move {
            jwks.renew().await;
            jwks.refreshing.store(false, Ordering::Relaxed);
        });
    }

    /// Fetches, unless that was done a moment ago. Whoever comes while somebody
    /// else fetches waits for that.
    pub(super) async fn renew(&self) {
        let mut asked_at = self.asked_at.lock().await;
        let pause = if self.fetched.load().is_some() { PAUSE } else { PAUSE_WITHOUT };
        if asked_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let fetched = self.resource.get(&HeaderMap::new()).await.and_then(|(status, body)| {
            if status == StatusCode::OK {
                keys::from_set(&body)
            } else {
                Err(format!("it answered {status}"))
            }
        });
        *asked_at = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                tracing::debug!(jwks = ?self.resource, keys = keys.len(), "fetched keys for tokens");
                self.metrics.jwks_fetches.with("fetched").increment(1);
                self.fetched.store(Some(Arc::new(Fetched { keys, at: Instant::now() })));
            }
            Err(error) => {
                tracing::warn!(jwks = ?self.resource, error, "keys for tokens could not be fetched");
                self.metrics.jwks_fetches.with("failed").increment(1);
            }
        }
    }
}
