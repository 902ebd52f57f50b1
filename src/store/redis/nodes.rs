//! Heartbeats, the registry, and the sending side of node streams.

use ::redis::{Cmd, Pipeline, Value};

use crate::protocol::NodeId;
use crate::store::{Beat, EntryAcks, EntryId, Error, NodeInfo, NodeRecord, Sent, StreamEntry, StreamStats};

use super::Store;
use super::channels::INDEX_TTL_MS;
use super::error::corrupt;
use super::reply;
use super::scripts::Script;

/// The consumer group of every node stream.
pub(super) const GROUP: &str = "g";
/// The field of an entry that holds its payload.
const FIELD: &str = "e";

pub(super) async fn enrol(store: &Store, node: NodeId, info: &NodeInfo) -> Result<(), Error> {
    let conn = store.link.current()?;
    let mut command = Script::Enrol.call(2);
    command
        .arg(store.keys.stream(node))
        .arg(store.keys.heartbeat(node))
        .arg(GROUP)
        .arg(heartbeat(info)?)
        .arg(store.limits.heartbeat_ttl_ms);
    // In the registry first: a stream that nobody can find would stay for ever.
    register(store, node).await?;
    store.link.call_one(&conn, "enrol a node", command).await.map(|_| ())
}

pub(super) async fn beat(store: &Store, node: NodeId, info: &NodeInfo) -> Result<Beat, Error> {
    const WHAT: &str = "renew a heartbeat";
    let conn = store.link.current()?;
    let mut command = Script::Beat.call(5);
    command
        .arg(store.keys.heartbeat(node))
        .arg(store.keys.lease(node))
        .arg(store.keys.stream(node))
        .arg(store.keys.index(node))
        .arg(store.keys.life())
        .arg(heartbeat(info)?)
        .arg(store.limits.heartbeat_ttl_ms)
        .arg(INDEX_TTL_MS)
        .arg(&conn.life_note);
    let answer = reply::list(WHAT, store.link.call_one(&conn, WHAT, command).await?)?;
    let [beaten, now_us, outlived] = answer.as_slice() else {
        return Err(corrupt(WHAT, "three numbers expected"));
    };
    let outlived = reply::number(WHAT, outlived)? == 1;
    let (beaten, now_us) = (reply::number(WHAT, beaten)? == 1, reply::number(WHAT, now_us)?);
    // A node that was declared dead must not look alive in the registry either.
    let suspects = if beaten { register(store, node).await? } else { Vec::new() };
    if outlived {
        store.link.outlived(&conn);
    }
    Ok(Beat { fenced: !beaten, suspects, now_us })
}

/// Notes the beat in the registry; returns the other nodes that are silent.
async fn register(store: &Store, node: NodeId) -> Result<Vec<NodeId>, Error> {
    const WHAT: &str = "register a node";
    let conn = store.link.current()?;
    let mut command = Script::Register.call(1);
    command
        .arg(store.keys.registry())
        .arg(node.to_string())
        .arg(store.limits.heartbeat_ttl_ms + store.limits.heartbeat_grace_ms);
    let members = reply::list(WHAT, store.link.call_one(&conn, WHAT, command).await?)?;
    let mut suspects = Vec::with_capacity(members.len());
    for member in members {
        suspects.extend(node_id(member)?.filter(|suspect| *suspect != node));
    }
    Ok(suspects)
}

/// The node of a registry entry; none if a newer release wrote another form.
fn node_id(member: Value) -> Result<Option<NodeId>, Error> {
    Ok(reply::text("the registry", member)?.parse().ok())
}

fn heartbeat(info: &NodeInfo) -> Result<String, Error> {
    serde_json::to_string(info).map_err(|error| corrupt("a heartbeat", error.to_string()))
}

pub(super) async fn list(store: &Store) -> Result<Vec<NodeRecord>, Error> {
    const WHAT: &str = "list nodes";
    let conn = store.link.current()?;
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("TIME");
    pipeline.cmd("ZRANGE").arg(store.keys.registry()).arg(0).arg(-1).arg("WITHSCORES");
    let mut replies = store.link.call_all(&conn, WHAT, &pipeline).await?.into_iter();
    let now_ms = time_ms(replies.next().unwrap_or_default())?;
    let mut registered = Vec::new();
    for (member, beat_at) in reply::pairs(WHAT, replies.next().unwrap_or_default())? {
        let beat_at_ms = reply::number(WHAT, &beat_at)?;
        registered.extend(node_id(member)?.map(|id| (id, beat_at_ms)));
    }
    let mut pipeline = Pipeline::with_capacity(registered.len());
    for (id, _) in &registered {
        pipeline.cmd("GET").arg(store.keys.heartbeat(*id));
    }
    let heartbeats = store.link.call_all(&conn, WHAT, &pipeline).await?;
    let mut nodes = Vec::with_capacity(registered.len());
    for ((id, beat_at_ms), heartbeat) in registered.into_iter().zip(heartbeats) {
        let heartbeat = reply::bytes(WHAT, heartbeat)?;
        if heartbeat.is_empty() {
            continue;
        }
        let info =
            serde_json::from_slice(&heartbeat).map_err(|error| corrupt("a heartbeat", error.to_string()))?;
        nodes.push(NodeRecord { id, info, beat_age_ms: now_ms.saturating_sub(beat_at_ms) });
    }
    Ok(nodes)
}

fn time_ms(value: Value) -> Result<u64, Error> {
    const WHAT: &str = "the time";
    let parts = reply::list(WHAT, value)?;
    let [seconds, micros] = parts.as_slice() else { return Err(corrupt(WHAT, "two numbers expected")) };
    Ok(reply::number(WHAT, seconds)? * 1_000 + reply::number(WHAT, micros)? / 1_000)
}

pub(super) async fn send(store: &Store, node: NodeId, entry: &[u8]) -> Result<Sent, Error> {
    const WHAT: &str = "send an entry";
    let conn = store.link.current()?;
    let stream = store.keys.stream(node);
    let entries_max = store.limits.stream_entries_max;
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("XADD").arg(&stream).arg("NOMKSTREAM");
    pipeline.arg("MAXLEN").arg("~").arg(entries_max).arg("*").arg(FIELD).arg(entry);
    pipeline.cmd("XLEN").arg(&stream);
    let replies = store.link.call_all(&conn, WHAT, &pipeline).await?;
    let [id, length] = replies.as_slice() else { return Err(corrupt(WHAT, "two answers expected")) };
    if *id == Value::Nil {
        return Ok(Sent::NoStream);
    }
    Ok(Sent::Stored { capped: reply::number(WHAT, length)? >= entries_max as u64 })
}

/// Appends the commands that acknowledge entries and trim below them.
pub(super) fn add_acks(pipeline: &mut Pipeline, stream: &str, acks: &EntryAcks) {
    if !acks.ids.is_empty() {
        pipeline.cmd("XACK").arg(stream).arg(GROUP);
        for id in &acks.ids {
            pipeline.arg(id.to_string());
        }
    }
    if let Some(below) = acks.trim_below {
        pipeline.cmd("XTRIM").arg(stream).arg("MINID").arg(below.to_string());
    }
}

pub(super) async fn ack_entries(store: &Store, node: NodeId, acks: &EntryAcks) -> Result<(), Error> {
    let conn = store.link.current()?;
    let mut pipeline = Pipeline::new();
    add_acks(&mut pipeline, &store.keys.stream(node), acks);
    store.link.call_all(&conn, "acknowledge entries", &pipeline).await.map(|_| ())
}

pub(super) async fn stream_stats(store: &Store, node: NodeId) -> Result<StreamStats, Error> {
    const WHAT: &str = "measure a node stream";
    let conn = store.link.current()?;
    let stream = store.keys.stream(node);
    let mut pipeline = Pipeline::with_capacity(4);
    pipeline.cmd("TIME");
    pipeline.cmd("XLEN").arg(&stream);
    pipeline.cmd("XPENDING").arg(&stream).arg(GROUP);
    pipeline.cmd("XINFO").arg("GROUPS").arg(&stream);
    let mut replies = store.link.call(&conn, WHAT, &pipeline).await?.into_iter();
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
    let now_ms = time_ms(next()?)?;
    let length = reply::number(WHAT, &next()?)?;
    // Number, smallest id, greatest id, consumers.
    let pending = reply::list(WHAT, unless_gone(next())?)?;
    let groups = reply::list(WHAT, unless_gone(next())?)?;
    let oldest_pending_ms = match pending.get(1) {
        Some(Value::BulkString(id)) => {
            let id: EntryId = String::from_utf8_lossy(id).parse()?;
            now_ms.saturating_sub(id.ms)
        }
        _ => 0,
    };
    let pending = reply::number(WHAT, pending.first().unwrap_or(&Value::Nil))?;
    // Redis does not always know; what was read and acknowledged is trimmed.
    let lag = lag(groups)?.unwrap_or_else(|| length.saturating_sub(pending));
    Ok(StreamStats { length, lag, pending, oldest_pending_ms })
}

/// A stream or group that is gone has nothing pending.
fn unless_gone(reply: Result<Value, Error>) -> Result<Value, Error> {
    match reply {
        Err(Error::Fenced | Error::Refused { .. }) => Ok(Value::Nil),
        reply => reply,
    }
}

fn lag(groups: Vec<Value>) -> Result<Option<u64>, Error> {
    const WHAT: &str = "a consumer group";
    for group in groups {
        for (field, value) in reply::pairs(WHAT, group)? {
            if reply::text(WHAT, field)? == "lag" && value != Value::Nil {
                return Ok(Some(reply::number(WHAT, &value)?));
            }
        }
    }
    Ok(None)
}

pub(super) async fn retire(store: &Store, node: NodeId) -> Result<bool, Error> {
    const WHAT: &str = "retire a node";
    let conn = store.link.current()?;
    let mut command = Script::Retire.call(3);
    command.arg(store.keys.stream(node)).arg(store.keys.index(node)).arg(store.keys.heartbeat(node));
    let retired = reply::number(WHAT, &store.link.call_one(&conn, WHAT, command).await?)? == 1;
    if retired {
        unregister(store, node).await?;
    }
    Ok(retired)
}

/// The last trace of a node. Were it left behind, others would suspect the node,
/// find nothing, and bury it again.
pub(super) async fn unregister(store: &Store, node: NodeId) -> Result<(), Error> {
    let conn = store.link.current()?;
    let mut command = Cmd::new();
    command.arg("ZREM").arg(store.keys.registry()).arg(node.to_string());
    store.link.call_one(&conn, "unregister a node", command).await.map(|_| ())
}

/// Entries of a stream as `XRANGE` and `XREADGROUP` list them. An entry that was
/// trimmed while it was pending has no payload.
pub(super) fn entries(value: Value) -> Result<Vec<(EntryId, Option<StreamEntry>)>, Error> {
    const WHAT: &str = "a node stream";
    let mut entries = Vec::new();
    for entry in reply::list(WHAT, value)? {
        let mut parts = reply::list(WHAT, entry)?.into_iter();
        let id: EntryId = reply::text(WHAT, parts.next().unwrap_or_default())?.parse()?;
        let mut fields = reply::pairs(WHAT, parts.next().unwrap_or_default())?;
        let payload = fields.pop().map(|(_, payload)| reply::bytes(WHAT, payload)).transpose()?;
        entries.push((id, payload.map(|payload| StreamEntry { id, payload: payload.into() })));
    }
    Ok(entries)
}
