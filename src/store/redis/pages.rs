//! Reading mailboxes, with and without entering the directory first.

use ::redis::{Cmd, Pipeline, Value};

use crate::protocol::{Channel, Epoch, Message, NodeId, Position};
use crate::store::{Error, Gap, GapReason, Join, Page, Settled, Start};

use super::Store;
use super::append::read_record;
use super::channels::{GENERATION_MAX, add_route, add_to_index};
use super::error::corrupt;
use super::keys::Keys;
use super::link::Conn;
use super::reply::{self, Packed};
use super::scripts::Script;
use super::store::COUNT_MAX;

const REPLY: &str = "a page";
const JOIN: &str = "join a channel";

pub(super) async fn read(
    store: &Store,
    channel: &Channel,
    start: &Start,
    limit: usize,
) -> Result<Page, Error> {
    let conn = store.link.current()?;
    let mut command = begin(store, &conn, Script::Read, channel);
    // Where a join says which node.
    command.arg("").arg("").arg("");
    add_start(&mut command, start, limit);
    let value = store.link.call_one(&conn, "read a mailbox", command).await?;
    page(channel, start, limit, value)
}

pub(super) async fn join(store: &Store, join: &Join) -> Result<Page, Error> {
    join_many(store, std::slice::from_ref(join)).await.pop().expect("an answer to each")
}

/// What is plain goes in one call, in one trip; what is not, or turned out not to
/// be, in a call each, in another.
pub(super) async fn join_many(store: &Store, joins: &[Join]) -> Vec<Result<Page, Error>> {
    match try_joins(store, joins).await {
        Ok(pages) => pages,
        Err(error) => joins.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// The error of a trip that failed is the answer to every join.
async fn try_joins(store: &Store, joins: &[Join]) -> Result<Vec<Result<Page, Error>>, Error> {
    let conn = store.link.current()?;
    let mut pipeline = Pipeline::with_capacity(2);
    // The index first: a directory line that it lacks would outlive its node.
    add_to_indices(store, joins.iter(), &mut pipeline);
    let indices = pipeline.len();
    let plain: Vec<usize> = (0..joins.len()).filter(|at| is_plain(&joins[*at], joins[0].node)).collect();
    if !plain.is_empty() {
        pipeline.add_command(plain_command(store, &conn, plain.iter().map(|at| &joins[*at])));
    }
    let mut replies = store.link.call_all(&conn, JOIN, &pipeline).await?.into_iter().skip(indices);
    let mut pages: Vec<Option<Result<Page, Error>>> = joins.iter().map(|_| None).collect();
    let heads = reply::list(REPLY, replies.next().unwrap_or_default())?;
    for (at, head) in plain.into_iter().zip(heads) {
        let head = reply::bytes(REPLY, head)?;
        if !head.is_empty() {
            let head = Value::Array(vec![Value::BulkString(head)]);
            pages[at] = Some(page(&joins[at].channel, &joins[at].start, joins[at].limit, head));
        }
    }
    let left: Vec<&Join> =
        joins.iter().zip(&pages).filter_map(|(join, page)| page.is_none().then_some(join)).collect();
    let mut scripts = Pipeline::with_capacity(left.len());
    for join in &left {
        let mut script = begin(store, &conn, Script::Join, &join.channel);
        add_route(&mut script, join.node, join.generation, join.sessions);
        add_start(&mut script, &join.start, join.limit);
        script.arg(store.limits.cursors_max);
        scripts.add_command(script);
    }
    // And again: whoever leaves may have found the index before, and no line yet.
    add_to_indices(store, left.iter().copied(), &mut scripts);
    let mut rest = store.link.call(&conn, JOIN, &scripts).await?.into_iter();
    let answer = |(join, found): (&Join, Option<Result<Page, Error>>)| {
        found.unwrap_or_else(|| {
            let reply = rest.next().unwrap_or(Ok(Value::Nil))?;
            page(&join.channel, &join.start, join.limit, reply)
        })
    };
    Ok(joins.iter().zip(pages).map(answer).collect())
}

/// Notes the channels of joins in their nodes' indices.
fn add_to_indices<'a>(store: &Store, joins: impl Iterator<Item = &'a Join> + Clone, pipeline: &mut Pipeline) {
    for (at, join) in joins.clone().enumerate() {
        if joins.clone().take(at).all(|earlier| earlier.node != join.node) {
            let of_node = joins.clone().skip(at).filter(|other| other.node == join.node);
            pipeline.add_command(add_to_index(store, join.node, of_node.map(|join| &join.channel)));
        }
    }
}

/// Whether [`Script::Joins`] may do it.
fn is_plain(join: &Join, node: NodeId) -> bool {
    join.node == node && join.start == Start::Cursor(None)
}

fn plain_command<'a>(
    store: &Store,
    conn: &Conn,
    joins: impl ExactSizeIterator<Item = &'a Join> + Clone,
) -> Cmd {
    let mut command = Script::Joins.call(joins.len());
    for join in joins.clone() {
        command.arg(store.keys.meta(&join.channel));
    }
    command.arg(&conn.run).arg(store.limits.channel_retention_ms);
    for join in joins {
        command.arg(&line(join)[..]);
    }
    command
}

/// A line of the directory, as `layout.lua` has it.
fn line(join: &Join) -> [u8; 27] {
    let mut line = [0; 27];
    line[..16].copy_from_slice(&join.node.bits().to_be_bytes());
    line[16..23].copy_from_slice(&join.generation.min(GENERATION_MAX).to_be_bytes()[1..]);
    line[23..].copy_from_slice(&join.sessions.to_be_bytes());
    line
}

pub(super) fn begin(store: &Store, conn: &Conn, script: Script, channel: &Channel) -> Cmd {
    let mut command = script.call(Keys::CHANNEL_KEYS);
    store.keys.add_channel(&mut command, channel);
    command.arg(&conn.run).arg(&Epoch::random().bits().to_be_bytes()).arg(store.limits.channel_retention_ms);
    command
}

fn add_start(command: &mut Cmd, start: &Start, limit: usize) {
    command.arg(limit.min(COUNT_MAX));
    match start {
        Start::After(position) => {
            command.arg("after").arg(&position.epoch.bits().to_be_bytes()).arg(position.seq)
        }
        Start::Cursor(device) => {
            command.arg("cursor").arg(device.as_ref().map_or("", |device| device.as_str())).arg(0)
        }
        Start::CursorOrNow(device) => command.arg("cursor_or_now").arg(device.as_str()).arg(0),
        Start::Now => command.arg("now").arg("").arg(0),
        Start::Oldest => command.arg("oldest").arg("").arg(0),
    };
}

fn page(channel: &Channel, start: &Start, limit: usize, value: Value) -> Result<Page, Error> {
    let mut parts = reply::list(REPLY, value)?.into_iter();
    let head = parts.next().ok_or_else(|| corrupt(REPLY, "empty"))?;
    let mut packed = Packed::new(REPLY, reply::bytes(REPLY, head)?);
    let known = packed.number(1)? == 1;
    let head = packed.position()?;
    let after = packed.number(6)?;
    let reason = match packed.number(1)? {
        0 => None,
        1 => Some(GapReason::Trimmed),
        2 => Some(GapReason::Reset),
        other => return Err(corrupt(REPLY, format!("gap reason {other}"))),
    };
    let mut from = packed.position()?;
    let to = packed.position()?;
    if let Start::After(given) = start {
        // The very position, were it too great for a script's six bytes.
        from = *given;
    }
    let gap = reason.map(|reason| Gap { from: Some(from), to: known.then_some(to), reason });
    let expired = packed.number(4)?;

    let mut messages = Vec::with_capacity((parts.len() / 3).min(limit));
    let mut complete = true;
    while let (Some(id), Some(times), Some(record)) = (parts.next(), parts.next(), parts.next()) {
        if messages.len() == limit {
            complete = false;
            break;
        }
        messages.push(message(channel, head.epoch, id, times, record)?);
    }
    let settled = Settled { expired, ..Settled::default() };
    Ok(Page { head: known.then_some(head), after, gap, messages, complete, settled })
}

fn message(
    channel: &Channel,
    epoch: Epoch,
    id: Value,
    times: Value,
    record: Value,
) -> Result<Message, Error> {
    let entry_id = reply::text(REPLY, id)?;
    let seq = entry_id.split('-').next().and_then(|seq| seq.parse().ok());
    let seq = seq.ok_or_else(|| corrupt(REPLY, "an entry id without number"))?;
    let mut times = Packed::new(REPLY, reply::bytes(REPLY, times)?);
    let (accepted_at_us, expires_at_ms) = (times.number(7)?, times.number(6)?);
    let (id, trace, data) = read_record(reply::bytes(REPLY, record)?)?;
    Ok(Message {
        id,
        channel: channel.clone(),
        // Numbers go on across epochs, so all that is kept has a number in this one.
        position: Some(Position::new(epoch, seq)),
        accepted_at_us,
        expires_at_ms,
        data,
        trace,
        accountable: false,
    })
}
