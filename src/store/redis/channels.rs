//! Directories, heads, and all that is known of a channel.

use ::redis::{Cmd, Pipeline, Value};

use crate::protocol::{Channel, Device, NodeId, Position};
use crate::store::{ChannelInfo, Cursor, DEVICES_MAX, Dropped, Error, Ledger, Route};

use super::Store;
use super::error::corrupt;
use super::meta;
use super::pages::begin;
use super::reply::{self, Packed};
use super::scripts::Script;

/// How long the index of a node outlives its last beat; live nodes renew it.
pub(super) const INDEX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long that of a node without a stream is kept.
const STRAY_INDEX_TTL_MS: u64 = 10_000;
/// Scripts compute in doubles; no node makes so many registrations.
pub(super) const GENERATION_MAX: u64 = (1 << 53) - 1;
/// Commands in one pipeline, so that a long list does not keep others waiting.
const PART: usize = 200;
const SCAN_KEYS: usize = 1_000;
const INFO: &str = "what is known of a channel";

/// Appends what `route.lua` wants to know.
pub(super) fn add_route(command: &mut Cmd, node: NodeId, generation: u64, sessions: u32) {
    command.arg(&node.bits().to_be_bytes()).arg(generation.min(GENERATION_MAX)).arg(sessions);
}

/// Notes channels in the node's index.
pub(super) fn add_to_index<'a>(
    store: &Store,
    node: NodeId,
    channels: impl Iterator<Item = &'a Channel>,
) -> Cmd {
    let mut command = Script::Index.call(2);
    command.arg(store.keys.index(node)).arg(store.keys.stream(node));
    command.arg(INDEX_TTL_MS).arg(STRAY_INDEX_TTL_MS);
    for channel in channels {
        command.arg(channel.as_str());
    }
    command
}

pub(super) async fn leave(
    store: &Store,
    node: NodeId,
    channel: &Channel,
    generation: u64,
    sessions: u32,
) -> Result<(), Error> {
    const WHAT: &str = "leave a channel";
    let conn = store.link.current()?;
    let mut command = begin(store, &conn, Script::Leave, channel);
    add_route(&mut command, node, generation, sessions);
    let line_left = reply::number(WHAT, &store.link.call_one(&conn, WHAT, command).await?)? > 0;
    let index_again = || add_to_index(store, node, std::iter::once(channel));
    if line_left {
        // Whoever made it may have been cut off before the index knew.
        return store.link.call_one(&conn, WHAT, index_again()).await.map(|_| ());
    }
    // Only now may the index forget it. A join that came in between has its
    // line, and gets its place in the index back.
    let index = store.keys.index(node);
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("SREM").arg(&index).arg(channel.as_str());
    pipeline.cmd("GET").arg(store.keys.meta(channel));
    let replies = store.link.call_all(&conn, WHAT, &pipeline).await?;
    let routes = meta::routes(replies.into_iter().nth(1).unwrap_or_default())?;
    if routes.iter().any(|route| route.node == node) {
        store.link.call_one(&conn, WHAT, index_again()).await?;
    }
    Ok(())
}

pub(super) async fn drop_routes(store: &Store, node: NodeId, channels: &[Channel]) -> Result<(), Error> {
    for part in channels.chunks(PART) {
        let conn = store.link.current()?;
        let index = store.keys.index(node);
        let mut pipeline = Pipeline::with_capacity(part.len() + 1);
        for channel in part {
            let mut command = begin(store, &conn, Script::Leave, channel);
            add_route(&mut command, node, GENERATION_MAX, 0);
            pipeline.add_command(command);
        }
        // Behind the lines: cut short, it is done again.
        pipeline.cmd("SREM").arg(&index);
        for channel in part {
            pipeline.arg(channel.as_str());
        }
        store.link.call_all(&conn, "drop routes of a node", &pipeline).await?;
    }
    Ok(())
}

pub(super) async fn routes(store: &Store, channel: &Channel) -> Result<Vec<Route>, Error> {
    let conn = store.link.current()?;
    let mut command = Cmd::new();
    command.arg("GET").arg(store.keys.meta(channel));
    meta::routes(store.link.call_one(&conn, "read a directory", command).await?)
}

pub(super) async fn heads(store: &Store, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
    let metas = meta::read(store, "read heads", channels).await?;
    Ok(metas.into_iter().map(|meta| meta.map(|meta| meta.head)).collect())
}

pub(super) async fn inspect(store: &Store, channel: &Channel) -> Result<ChannelInfo, Error> {
    let conn = store.link.current()?;
    let mut command = begin(store, &conn, Script::Inspect, channel);
    command.arg(DEVICES_MAX);
    let value = store.link.call_one(&conn, "inspect a channel", command).await?;
    let mut parts = reply::list(INFO, value)?.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let known = reply::number(INFO, &next())? == 1;
    let epoch = reply::bytes(INFO, next())?;
    let mut numbers = [0; 14];
    for number in &mut numbers {
        *number = reply::number(INFO, &next())?;
    }
    let [seq, floor, watermark, entries, waiting, received, expired, collapsed, full, ephemeral @ ..] =
        numbers;
    let [e_accepted, e_received, no_session, unreported, withdrawn] = ephemeral;
    let mut routes = Packed::new(INFO, reply::bytes(INFO, next())?).routes()?;
    routes.sort_by_key(|route| route.node);
    let mut cursors = Vec::new();
    for (device, cursor) in reply::pairs(INFO, next())? {
        let cursor = read_cursor(device, cursor)?;
        // The place of a device that came before the first message is no position.
        cursors.extend(Some(cursor).filter(|cursor| cursor.position.epoch.bits() != 0));
    }
    cursors.sort_by(|a, b| a.device.cmp(&b.device));
    let more_cursors = reply::number(INFO, &next())? == 1;
    let head = match known && seq > 0 {
        true => {
            let epoch = Packed::new(INFO, epoch).number(8)?;
            Some(Position::new(crate::protocol::Epoch::from_bits(epoch), seq))
        }
        false => None,
    };
    let dropped = Dropped { mailbox_full: full, no_session, unreported, withdrawn };
    Ok(ChannelInfo {
        head,
        floor,
        watermark,
        mailbox_messages: entries,
        waiting_counted: waiting,
        ledger: Ledger {
            accepted: seq + e_accepted,
            received: received + e_received,
            expired,
            collapsed,
            dropped,
        },
        routes,
        cursors,
        more_cursors,
    })
}

fn read_cursor(device: Value, cursor: Value) -> Result<Cursor, Error> {
    let device = reply::text(INFO, device)?;
    let device = Device::from_store(&device).map_err(|error| corrupt(INFO, format!("{error}")))?;
    let mut packed = Packed::new(INFO, reply::bytes(INFO, cursor)?);
    Ok(Cursor { device, position: packed.position()?, at_ms: packed.number(6)? })
}

pub(super) async fn list(store: &Store, cursor: u64) -> Result<(u64, Vec<Channel>), Error> {
    const WHAT: &str = "list channels";
    let conn = store.link.current()?;
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(cursor).arg("MATCH").arg(store.keys.metas()).arg("COUNT").arg(SCAN_KEYS);
    let mut reply = reply::list(WHAT, store.link.call_one(&conn, WHAT, scan).await?)?.into_iter();
    let next = reply::number(WHAT, &reply.next().unwrap_or_default())?;
    let mut channels = Vec::new();
    for key in reply::list(WHAT, reply.next().unwrap_or_default())? {
        // A channel's name is UTF-8; other keys of this shape are not ours.
        channels.extend(reply::text(WHAT, key).ok().and_then(|key| store.keys.channel_of_meta(&key)));
    }
    // A directory alone is no channel that anything was accepted for.
    let heads = heads(store, &channels).await?;
    let mut known = heads.iter().map(Option::is_some);
    channels.retain(|_| known.next().unwrap_or(false));
    Ok((next, channels))
}
