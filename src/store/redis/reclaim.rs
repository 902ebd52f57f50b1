//! Inheriting what a dead node left.

use ::redis::Cmd;

use crate::protocol::{Channel, NodeId};
use crate::store::{Burial, EntryId, Error, StreamEntry};

use super::Store;
use super::nodes::{GROUP, entries, unregister};
use super::reply;
use super::scripts::Script;
use super::store::COUNT_MAX;

pub(super) async fn fence(store: &Store, dead: NodeId, by: NodeId) -> Result<bool, Error> {
    const WHAT: &str = "fence a node";
    let conn = store.link.current()?;
    let mut score = Cmd::new();
    score.arg("ZSCORE").arg(store.keys.registry()).arg(dead.to_string());
    let registered = store.link.call_one(&conn, WHAT, score).await? != ::redis::Value::Nil;
    let mut command = Script::Fence.call(3);
    command
        .arg(store.keys.heartbeat(dead))
        .arg(store.keys.lease(dead))
        .arg(store.keys.stream(dead))
        .arg(GROUP)
        .arg(by.to_string())
        .arg(store.limits.lease_ttl_ms)
        .arg(u8::from(registered));
    Ok(reply::number(WHAT, &store.link.call_one(&conn, WHAT, command).await?)? == 1)
}

pub(super) async fn orphans(store: &Store, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error> {
    let conn = store.link.current()?;
    let mut command = Cmd::new();
    command
        .arg("XRANGE")
        .arg(store.keys.stream(dead))
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(limit.min(COUNT_MAX));
    let value = store.link.call_one(&conn, "read a dead node's stream", command).await?;
    Ok(entries(value)?.into_iter().filter_map(|(_, entry)| entry).collect())
}

pub(super) async fn discard(
    store: &Store,
    dead: NodeId,
    by: NodeId,
    entries: &[EntryId],
) -> Result<(), Error> {
    const WHAT: &str = "discard entries that were handed on";
    let conn = store.link.current()?;
    let mut command = Script::Discard.call(2);
    command.arg(store.keys.lease(dead)).arg(store.keys.stream(dead)).arg(by.to_string());
    command.arg(store.limits.lease_ttl_ms);
    for id in entries {
        command.arg(id.to_string());
    }
    match reply::number(WHAT, &store.link.call_one(&conn, WHAT, command).await?)? {
        0 => Err(Error::Fenced),
        _ => Ok(()),
    }
}

pub(super) async fn orphaned_channels(
    store: &Store,
    dead: NodeId,
    limit: usize,
) -> Result<Vec<Channel>, Error> {
    const WHAT: &str = "list a dead node's channels";
    let conn = store.link.current()?;
    let index = store.keys.index(dead);
    let mut command = Cmd::new();
    command.arg("SRANDMEMBER").arg(&index).arg(limit.min(COUNT_MAX));
    let (mut channels, mut strange) = (Vec::new(), Vec::new());
    for member in reply::list(WHAT, store.link.call_one(&conn, WHAT, command).await?)? {
        let name = reply::text(WHAT, member)?;
        match name.parse() {
            Ok(channel) => channels.push(channel),
            Err(_) => strange.push(name),
        }
    }
    if !strange.is_empty() {
        // Nobody could ever drop them, and the node would never be buried.
        tracing::warn!(node = %dead, count = strange.len(), "a dead node's index held names of no channel");
        let mut command = Cmd::new();
        command.arg("SREM").arg(&index).arg(strange);
        store.link.call_one(&conn, WHAT, command).await?;
    }
    Ok(channels)
}

pub(super) async fn bury(store: &Store, dead: NodeId, by: NodeId) -> Result<Burial, Error> {
    const WHAT: &str = "bury a node";
    let conn = store.link.current()?;
    let mut command = Script::Bury.call(4);
    command
        .arg(store.keys.lease(dead))
        .arg(store.keys.stream(dead))
        .arg(store.keys.index(dead))
        .arg(store.keys.heartbeat(dead))
        .arg(by.to_string());
    let burial = match reply::number(WHAT, &store.link.call_one(&conn, WHAT, command).await?)? {
        0 => return Ok(Burial::Refused),
        1 => Burial::Done,
        _ => Burial::Already,
    };
    // Another slot, hence another call: until it is made others find the node
    // in the registry, take the lease of nothing, and bury it again.
    unregister(store, dead).await?;
    Ok(burial)
}
