//! What Redis still holds of a node, and nodes whose death is soon noticed.

use postrider::protocol::NodeId;
use redis::AsyncCommands;
use serde_json::Value;

use crate::harness::{Api, PATIENCE, RedisServer, settled};

/// Heartbeats that lapse soon, so that tests need not wait long: a node is
/// given up two seconds after its last beat.
pub(crate) const SHORT_LIVES: &str =
    "heartbeat_ttl_ms = 1500\nheartbeat_interval_ms = 300\nheartbeat_grace_ms = 500\n";

pub(crate) fn stream_of(node: &str) -> String {
    format!("postrider:q:{{{node}}}")
}

pub(crate) fn lease_of(node: &str) -> String {
    format!("postrider:l:{{{node}}}")
}

/// Stream, heartbeat, lease and index by their keys; the registry entry; and
/// every channel whose directory names the node.
pub(crate) async fn traces(redis: &RedisServer, node: &str) -> Vec<String> {
    let mut connection = redis.connection().await;
    let id: NodeId = node.parse().expect("a node id");
    let id = id.bits().to_be_bytes();
    let keys: Vec<Vec<u8>> =
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("KEYS is answered");
    let mut found = Vec::new();
    for key in keys {
        let name = String::from_utf8_lossy(&key).into_owned();
        if name.contains(node) {
            found.push(name);
        } else if name.contains(":m:") {
            let meta: Vec<u8> = connection.get(&key).await.expect("GET is answered");
            if meta.windows(id.len()).any(|window| window == id) {
                found.push(format!("directory in {name}"));
            }
        }
    }
    let registered: Option<f64> =
        connection.zscore("postrider:nodes", node).await.expect("ZSCORE is answered");
    found.extend(registered.map(|_| "registry".to_owned()));
    found
}

/// Waits until nothing is left of a node.
pub(crate) async fn forgotten(redis: &RedisServer, node: &str) {
    settled(PATIENCE, "nothing is left of the dead node", async || {
        let left = traces(redis, node).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Pushes numbers to ann; each must be accepted.
pub(crate) async fn push_numbers(api: &Api, numbers: std::ops::Range<u32>) {
    for n in numbers {
        api.push_to("ann", n).await;
    }
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(Value::from).collect()
}
