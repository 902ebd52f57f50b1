//! Questions about messages and channels: nothing here is on a message's way.

use ::redis::{Cmd, Pipeline, Value};
use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::{Channel, Device, Epoch, MessageId, NodeId, Position};
use crate::store::{
    DEVICES_MAX, Departure, Erased, Error, Found, Inquiries, Progress, Recent, Route, Settled, Traced, Why,
    Withdrawn,
};

use super::Store;
use super::append::read_record;
use super::error::corrupt;
use super::meta::{self, DIRECTORY_AT};
use super::pages::begin;
use super::reply::{self, Packed};
use super::scripts::Script;
use super::store::COUNT_MAX;

const REPLY: &str = "what is known of a message";
/// By how much the clock that made a message's id may differ from Redis'.
const ID_CLOCK_SLACK_MS: u64 = 60_000;
/// Entries looked through in one call, and calls: more than a mailbox usually has.
const ENTRIES_PER_CALL: usize = 400;
const CALLS_MAX: usize = 64;
/// Payloads in one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// How long answers to a question are kept.
const ANSWERS_TTL_MS: u64 = 10_000;
/// A note of presence outlives the channel's last use by a day at least.
const ONLINE_TTL_MIN_MS: u64 = 24 * 60 * 60 * 1_000;

/// What every answer about messages begins with.
struct Head {
    epoch: Option<Epoch>,
    watermark: u64,
    settled: Settled,
}

#[async_trait]
impl Inquiries for Store {
    async fn find(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Found>, Error> {
        let mut settled = Settled::default();
        // The id tells when it was made; whatever that clock was, all is looked
        // through at last.
        let made_ms = (id.bits() >> 80) as u64;
        let mut from_us = made_ms.saturating_sub(ID_CLOCK_SLACK_MS).max(1) * 1_000;
        let mut next = 0;
        for _ in 0..CALLS_MAX {
            let Some((look, message)) = self.look(channel, id, near, from_us, next).await? else {
                return Ok(None);
            };
            settled += look.settled;
            match message {
                Ok(message) => {
                    let Look { devices, more_devices, .. } = look;
                    return Ok(Some(Found { message, devices, more_devices, settled }));
                }
                Err(0) if from_us == 0 => return Ok(None),
                // Not where its time says: look at everything.
                Err(0) => (from_us, next) = (0, 1),
                Err(following) => (from_us, next) = (0, following),
            }
        }
        Ok(None)
    }

    async fn recent(&self, channel: &Channel, before: Option<u64>, limit: usize) -> Result<Recent, Error> {
        let conn = self.link.current()?;
        let mut command = begin(self, &conn, Script::Recent, channel);
        command.arg(DEVICES_MAX).arg(before.unwrap_or(0)).arg(limit.min(COUNT_MAX)).arg(PAGE_BYTES_MAX);
        let value = self.link.call_one(&conn, "list messages", command).await?;
        let mut parts = reply::list(REPLY, value)?.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        let head = head([next(), next(), next(), next()])?;
        let (more_devices, devices) = (reply::number(REPLY, &next())? == 1, devices(next())?);
        let left = reply::number(REPLY, &next())? == 1;
        let departures = reply::list(REPLY, next())?;
        let Some(epoch) = head.epoch else {
            let settled = head.settled;
            return Ok(Recent { messages: Vec::new(), next: None, devices, more_devices, settled });
        };
        let mut messages = Vec::new();
        while let (Some(id), Some(times), Some(record)) = (parts.next(), parts.next(), parts.next()) {
            messages.push(kept(epoch, head.watermark, id, times, record)?);
        }
        // Of what is gone, only what belongs between the entries that were listed.
        let lowest = if left { messages.last().map_or(u64::MAX, |last| last.position.seq) } else { 0 };
        for departure in departures {
            let gone = traced(epoch, reply::bytes(REPLY, departure)?)?;
            let seq = gone.position.seq;
            if seq >= lowest && before.is_none_or(|before| seq < before) {
                messages.push(gone);
            }
        }
        messages.sort_by_key(|message| std::cmp::Reverse(message.position.seq));
        let more = left || messages.len() > limit;
        messages.truncate(limit);
        let next = messages.last().filter(|_| more).map(|last| last.position.seq);
        Ok(Recent { messages, next, devices, more_devices, settled: head.settled })
    }

    async fn withdraw(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Withdrawn>, Error> {
        const WHAT: &str = "withdraw a message";
        let Some(found) = self.find(channel, id, near).await? else { return Ok(None) };
        if found.message.left.is_some() {
            return Ok(Some(Withdrawn { message: found.message, withdrawn: false, settled: found.settled }));
        }
        let conn = self.link.current()?;
        let mut command = begin(self, &conn, Script::Withdraw, channel);
        let position = found.message.position;
        command.arg(&id.bits().to_be_bytes()).arg(position.seq);
        let counts = reply::list(WHAT, self.link.call_one(&conn, WHAT, command).await?)?;
        let count = |at: usize| reply::number(WHAT, counts.get(at).unwrap_or(&Value::Nil));
        let (withdrawn, unreceived, expired) = (count(0)? == 1, count(1)?, count(2)?);
        let mut settled = found.settled;
        settled.expired += expired;
        settled.dropped_withdrawn += unreceived;
        // As it is now, whoever was first.
        let now = self.find(channel, id, Some(position)).await?;
        settled += now.as_ref().map_or_else(Settled::default, |now| now.settled);
        let message = now.map_or(found.message, |now| now.message);
        Ok(Some(Withdrawn { message, withdrawn, settled }))
    }

    async fn erase(&self, channel: &Channel) -> Result<Erased, Error> {
        const WHAT: &str = "erase a channel";
        let conn = self.link.current()?;
        let command = begin(self, &conn, Script::Erase, channel);
        let counts = reply::list(WHAT, self.link.call_one(&conn, WHAT, command).await?)?;
        let count = |at: usize| reply::number(WHAT, counts.get(at).unwrap_or(&Value::Nil));
        Ok(Erased { messages: count(0)?, devices: count(1)? })
    }

    async fn presence(&self, channels: &[Channel]) -> Result<Vec<Vec<Route>>, Error> {
        const WHAT: &str = "read presence";
        let mut directories = meta::directories(self, WHAT, channels).await?;
        let mut nodes: Vec<NodeId> = directories.iter().flatten().map(|route| route.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let conn = self.link.current()?;
        let mut pipeline = Pipeline::with_capacity(nodes.len());
        for node in &nodes {
            pipeline.cmd("EXISTS").arg(self.keys.heartbeat(*node));
        }
        let beating = self.link.call_all(&conn, WHAT, &pipeline).await?;
        let mut live = Vec::with_capacity(nodes.len());
        for (node, beats) in nodes.into_iter().zip(beating) {
            if reply::number(WHAT, &beats)? == 1 {
                live.push(node);
            }
        }
        for routes in &mut directories {
            routes.retain(|route| route.sessions > 0 && live.binary_search(&route.node).is_ok());
            routes.sort_by_key(|route| route.node);
        }
        Ok(directories)
    }

    async fn answer(&self, question: MessageId, node: NodeId, answer: Bytes) -> Result<(), Error> {
        let conn = self.link.current()?;
        let key = self.keys.answers(question);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("HSET").arg(&key).arg(node.to_string()).arg(&answer[..]);
        pipeline.cmd("PEXPIRE").arg(&key).arg(ANSWERS_TTL_MS);
        self.link.call_all(&conn, "answer a question", &pipeline).await.map(|_| ())
    }

    async fn answers(&self, question: MessageId) -> Result<Vec<(NodeId, Bytes)>, Error> {
        const WHAT: &str = "read answers";
        let conn = self.link.current()?;
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(self.keys.answers(question));
        let mut answers = Vec::new();
        for (node, answer) in reply::pairs(WHAT, self.link.call_one(&conn, WHAT, command).await?)? {
            let node = reply::text(WHAT, node)?.parse();
            let node = node.map_err(|error| corrupt(WHAT, format!("{error}")))?;
            answers.push((node, reply::bytes(WHAT, answer)?.into()));
        }
        Ok(answers)
    }

    async fn turn(&self, channel: &Channel, online: bool) -> Result<bool, Error> {
        const WHAT: &str = "note presence";
        let conn = self.link.current()?;
        let mut command = Script::Turn.call(2);
        command
            .arg(self.keys.meta(channel))
            .arg(self.keys.online(channel))
            .arg(u8::from(online))
            .arg(DIRECTORY_AT)
            .arg(self.limits.channel_retention_ms.max(ONLINE_TTL_MIN_MS));
        Ok(reply::number(WHAT, &self.link.call_one(&conn, WHAT, command).await?)? == 1)
    }

    async fn watermarks(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let metas = meta::read(self, "read watermarks", channels).await?;
        Ok(metas.into_iter().map(|meta| meta.map(|meta| meta.watermark)).collect())
    }
}

/// One look at a channel.
struct Look {
    devices: Vec<Progress>,
    more_devices: bool,
    settled: Settled,
}

impl Store {
    /// One call of `find.lua`: nothing if the channel is unknown; else the
    /// message, or where to look on.
    async fn look(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
        from_us: u64,
        next: u64,
    ) -> Result<Option<(Look, Result<Traced, u64>)>, Error> {
        let conn = self.link.current()?;
        let mut command = begin(self, &conn, Script::Find, channel);
        command.arg(DEVICES_MAX).arg(&id.bits().to_be_bytes());
        match near {
            Some(near) => command.arg(&near.epoch.bits().to_be_bytes()).arg(near.seq),
            None => command.arg("").arg(0),
        };
        command.arg(from_us).arg(next).arg(ENTRIES_PER_CALL);
        let value = self.link.call_one(&conn, "find a message", command).await?;
        let mut parts = reply::list(REPLY, value)?.into_iter();
        let mut part = || parts.next().unwrap_or_default();
        let head = head([part(), part(), part(), part()])?;
        let Some(epoch) = head.epoch else { return Ok(None) };
        let found = reply::bytes(REPLY, part())?;
        let following = reply::number(REPLY, &part())?;
        let more_devices = reply::number(REPLY, &part())? == 1;
        let look = Look { devices: devices(part())?, more_devices, settled: head.settled };
        let message = if found.is_empty() { Err(following) } else { Ok(traced(epoch, found)?) };
        Ok(Some((look, message)))
    }
}

fn head([known, epoch, watermark, lost]: [Value; 4]) -> Result<Head, Error> {
    let known = reply::number(REPLY, &known)? == 1;
    let epoch = reply::bytes(REPLY, epoch)?;
    let epoch = known.then(|| Packed::new(REPLY, epoch).number(8)).transpose()?.map(Epoch::from_bits);
    let settled = Settled { expired: reply::number(REPLY, &lost)?, ..Settled::default() };
    Ok(Head { epoch, watermark: reply::number(REPLY, &watermark)?, settled })
}

/// Reads what scripts call a departure.
fn traced(epoch: Epoch, bytes: Vec<u8>) -> Result<Traced, Error> {
    let mut packed = Packed::new(REPLY, bytes);
    let id = MessageId::from_bits(packed.id_bits()?);
    let position = Position::new(epoch, packed.number(6)?);
    let why = Why::of_code(packed.number(1)? as u8);
    let received = packed.number(1)? == 1;
    let (accepted_at_us, expires_at_ms) = (packed.number(7)?, packed.number(6)?);
    let at_ms = packed.number(6)?;
    let left = why.map(|why| Departure { why, at_ms });
    Ok(Traced { id, position, accepted_at_us, expires_at_ms, received, left, data: None })
}

fn kept(epoch: Epoch, watermark: u64, entry: Value, times: Value, record: Value) -> Result<Traced, Error> {
    let entry = reply::text(REPLY, entry)?;
    let seq = entry.split('-').next().and_then(|seq| seq.parse().ok());
    let seq: u64 = seq.ok_or_else(|| corrupt(REPLY, "an entry id without number"))?;
    let mut times = Packed::new(REPLY, reply::bytes(REPLY, times)?);
    let (accepted_at_us, expires_at_ms) = (times.number(7)?, times.number(6)?);
    let (id, _, data) = read_record(reply::bytes(REPLY, record)?)?;
    let position = Position::new(epoch, seq);
    let (received, data) = (seq <= watermark, Some(data));
    Ok(Traced { id, position, accepted_at_us, expires_at_ms, received, left: None, data })
}

fn devices(value: Value) -> Result<Vec<Progress>, Error> {
    let mut devices = Vec::new();
    for (device, progress) in reply::pairs(REPLY, value)? {
        let device = Device::from_store(&reply::text(REPLY, device)?)
            .map_err(|error| corrupt(REPLY, format!("{error}")))?;
        let mut packed = Packed::new(REPLY, reply::bytes(REPLY, progress)?);
        let (seq, at_ms, began) = (packed.number(6)?, packed.number(6)?, packed.number(6)?);
        devices.push(Progress { device, began, seq, at_ms });
    }
    devices.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(devices)
}
