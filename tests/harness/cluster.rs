//! Several nodes that meet in one Redis.

use super::{Node, NodeOptions, RedisServer};

/// A Redis and its nodes.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Where they meet.
    pub redis: RedisServer,
}

impl Cluster {
    /// A Redis without persistence and `count` nodes, all ready.
    pub async fn start(count: usize) -> Self {
        Self::start_on(RedisServer::start().await, count, NodeOptions::default()).await
    }

    /// Nodes on a Redis that runs already; its URL is filled in unless given.
    pub async fn start_on(redis: RedisServer, count: usize, mut options: NodeOptions) -> Self {
        options.redis.get_or_insert_with(|| redis.url());
        let nodes = (0..count).map(|_| Node::start(options.clone()));
        let nodes = futures_util::future::join_all(nodes).await;
        Self { nodes, redis }
    }
}
