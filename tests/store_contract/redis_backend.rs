//! Runs the Redis store on a server of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use postrider::store::{Limits, Store, redis};

use crate::backend::Backend;
use crate::redis_server::RedisServer;

/// One server; every store has a prefix of its own, and only the rights that
/// `deploy/redis/users.acl` gives.
pub(crate) struct RedisBackend {
    server: Mutex<RedisServer>,
    opened: AtomicU64,
}

pub(crate) async fn start() -> RedisBackend {
    RedisBackend { server: Mutex::new(RedisServer::start_restricted()), opened: AtomicU64::new(0) }
}

impl RedisBackend {
    fn with_server<T>(&self, what: impl FnOnce(&mut RedisServer) -> T) -> T {
        what(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn open(&self, limits: Limits) -> Arc<dyn Store> {
        let url = self.with_server(|server| server.restricted_url());
        let prefix = format!("postrider:t{}", self.opened.fetch_add(1, Ordering::Relaxed));
        let options = redis::Options { url, prefix, ..Default::default() };
        Arc::new(redis::Store::connect(options, limits).await.expect("connected"))
    }

    async fn restart(&self) {
        self.with_server(|server| {
            server.save();
            server.crash_and_start();
        });
    }

    async fn begin_life(&self) {
        let stores = self.opened.load(Ordering::Relaxed);
        self.with_server(|server| {
            for store in 0..stores {
                let life = rand::random::<u64>();
                assert_eq!(server.ask(&format!("SET postrider:t{store}:life {life:020}")), "+OK");
            }
            // Lives are asked for when connections are opened.
            assert!(server.ask("CLIENT KILL TYPE normal").starts_with(':'));
        });
    }

    async fn save(&self) {
        self.with_server(|server| server.save());
    }

    async fn lose(&self) {
        self.with_server(RedisServer::crash_and_start);
    }

    fn random_histories(&self) -> u64 {
        2
    }
}
