//! When the storm is over: nothing of the dead is left, and the books balance.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use postrider::protocol::{Channel, NodeId};
use postrider::store::{self, Location, Store};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::harness::{RedisServer, run_command};
use crate::model::Model;
use crate::schedule::NODES;
use crate::senders;

/// How long survivors may take to bury the last dead: expiry, grace, leases.
const BURIED_WITHIN: Duration = Duration::from_secs(30);
/// How long the last acknowledgements may take.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// A look at Redis, past every proxy.
pub async fn open(redis: &RedisServer) -> Arc<dyn Store> {
    let location = Location::Redis {
        url: redis.url(),
        tls: store::redis::TlsFiles::default(),
        prefix: "postrider".to_owned(),
    };
    store::open(location, store::Limits::default()).await.expect("redis is there")
}

/// Nothing is left of the dead, and the streams of the living are empty.
pub async fn check_nodes(redis: &RedisServer, store: &Arc<dyn Store>, model: &Model) {
    let left = soon(BURIED_WITHIN, async || only_the_living(redis, &**store).await).await;
    if let Err(left) = left {
        model.complain(format!("after {BURIED_WITHIN:?}: {left}"));
    }
}

/// Users are looked for only where they can be, and the books balance. What a
/// node wrote after its own burial is found by the next push: there was one.
pub async fn check_channels(store: &Arc<dyn Store>, model: &Model, users: usize) {
    let left = soon(SETTLED_WITHIN, async || no_stale_lines(&**store, users).await).await;
    if let Err(left) = left {
        model.complain(left);
    }
    let deadline = Instant::now() + SETTLED_WITHIN;
    for user in 0..users {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(difference) = soon(left, async || books_balance(store, model, user).await).await {
            let sent = model.of_user(user);
            model.complain(format!("the books of user {user}: {difference}; sent: {sent:?}"));
        }
    }
}

/// What an operator would run finds everything in order, in as many channels as
/// there are users, and counts what the model counts.
pub async fn audit(redis: &RedisServer, model: &Model, users: usize) {
    let (code, said) = run_command(&["audit", "--redis", &redis.url(), "--json"], &[]).await;
    let found: Value = serde_json::from_str(said.trim()).unwrap_or_default();
    let of_users: Vec<_> = (0..users).map(|user| model.of_user(user)).collect();
    let least: u64 = of_users.iter().map(|sent| sent.accepted).sum();
    let most: u64 = of_users.iter().map(|sent| sent.tried).sum();
    let accepted = found["totals"]["accepted"].as_u64();
    let right = code == Some(0)
        && found["clean"] == true
        && found["channels"] == users
        && accepted.is_some_and(|accepted| (least..=most).contains(&accepted));
    if !right {
        model.complain(format!("audit ended with {code:?} (accepted: {least} to {most}): {said}"));
    }
}

/// Tries until it succeeds or the time is over.
async fn soon(within: Duration, mut attempt: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        let result = attempt().await;
        if result.is_ok() || Instant::now() >= deadline {
            return result;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn living(store: &dyn Store) -> Result<HashSet<NodeId>, String> {
    let nodes = store.nodes().await.map_err(|error| error.to_string())?;
    Ok(nodes.iter().map(|node| node.id).collect())
}

async fn only_the_living(redis: &RedisServer, store: &dyn Store) -> Result<(), String> {
    let living = living(store).await?;
    if living.len() != NODES {
        return Err(format!("{} nodes live: {living:?}", living.len()));
    }
    let keys = traces(redis).await;
    let dead: Vec<_> = keys.iter().filter(|(node, _)| !living.contains(node)).collect();
    if !dead.is_empty() {
        return Err(format!("left of the dead: {dead:?}"));
    }
    for node in living {
        let stats = store.stream_stats(node).await.map_err(|error| error.to_string())?;
        if stats.length + stats.pending > 0 {
            return Err(format!("the stream of {node} is not empty: {stats:?}"));
        }
    }
    Ok(())
}

async fn no_stale_lines(store: &dyn Store, users: usize) -> Result<(), String> {
    let living = living(store).await?;
    for user in 0..users {
        let info = store.inspect(&channel(user)).await.map_err(|error| error.to_string())?;
        if let Some(route) = info.routes.iter().find(|route| !living.contains(&route.node)) {
            return Err(format!("user {user} is still looked for at {route:?}"));
        }
    }
    Ok(())
}

/// Every key and registration that names a node.
async fn traces(redis: &RedisServer) -> Vec<(NodeId, String)> {
    let mut connection = redis.connection().await;
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("postrider:[qhld]:*")
        .query_async(&mut connection)
        .await
        .expect("KEYS is answered");
    let registered: Vec<String> = ::redis::cmd("ZRANGE")
        .arg(&["postrider:nodes", "0", "-1"])
        .query_async(&mut connection)
        .await
        .expect("ZRANGE is answered");
    let node_of = |key: String| {
        let tag = key.split_once('{').map_or(&*key, |(_, rest)| rest.trim_end_matches('}'));
        tag.parse().ok().map(|node| (node, key.clone()))
    };
    keys.into_iter().chain(registered).filter_map(node_of).collect()
}

fn channel(user: usize) -> Channel {
    senders::channel(user).parse().expect("a channel")
}

async fn books_balance(store: &Arc<dyn Store>, model: &Model, user: usize) -> Result<(), String> {
    let sent = model.of_user(user);
    let info = store.inspect(&channel(user)).await.map_err(|error| error.to_string())?;
    let ledger = info.ledger;
    let complaint = |text: &str| Err(format!("{text}: {info:?}"));
    if ledger.waiting() != i64::try_from(info.waiting_counted).unwrap_or(i64::MAX) {
        return complaint("the sum is not what waits");
    }
    if ledger.accepted < sent.accepted || ledger.accepted > sent.tried {
        return complaint("the wrong number was accepted");
    }
    if ledger.received < sent.kept {
        return complaint("not everything kept was received");
    }
    // What is ephemeral counts as unreported only after a minute.
    if ledger.waiting() > i64::try_from(sent.ephemeral).unwrap_or(i64::MAX) || ledger.dropped.mailbox_full > 0
    {
        return complaint("something waits or was dropped");
    }
    if info.head.is_none_or(|head| head.seq < sent.highest) {
        return complaint("the head is below what was answered");
    }
    Ok(())
}
