//! Accepting messages, many of them in one trip.

use std::collections::{HashMap, HashSet};

use ::redis::{Cmd, Pipeline, Value};
use bytes::{BufMut, BytesMut};

use crate::protocol::{Epoch, MessageId, Position};
use crate::store::{Append, Appended, Error, Settled};

use super::Store;
use super::error::corrupt;
use super::keys::Keys;
use super::link::Conn;
use super::meta::Meta;
use super::reply::{self, Packed};
use super::scripts::Script;
use super::store::MS_MAX;

const WHAT: &str = "append a message";
/// What the reply to an append is called when it cannot be read.
const REPLY: &str = "the answer to an append";
/// The version that a record begins with.
const RECORD_VERSION: u8 = 1;
const NEW: u64 = 0;
const REPEATED: u64 = 1;

/// Messages in one call of [`Script::Appends`]: Redis does nothing else meanwhile.
const APPENDS_MAX: usize = 64;

pub(super) async fn one(store: &Store, append: &Append) -> Result<Appended, Error> {
    many(store, std::slice::from_ref(append)).await.pop().expect("an answer to each")
}

/// What is plain goes in few calls, in one trip; what is not, or turned out not
/// to be, in a call each, in another.
pub(super) async fn many(store: &Store, appends: &[Append]) -> Vec<Result<Appended, Error>> {
    let mut answers: Vec<Option<Result<Appended, Error>>> = appends.iter().map(|_| None).collect();
    let calls = plain(appends);
    if !calls.is_empty() {
        try_plain(store, appends, &calls, &mut answers).await;
    }
    let left: Vec<usize> = (0..appends.len()).filter(|at| answers[*at].is_none()).collect();
    let each = each(store, left.iter().map(|at| &appends[*at])).await;
    for (at, answer) in left.into_iter().zip(each) {
        answers[at] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.expect("an answer to each")).collect()
}

/// Which appends [`Script::Appends`] may do, in calls: none that comes behind
/// another kind of append to its channel, or it would overtake that. A channel's
/// are in one call, or what a first one leaves would be overtaken by a second; more
/// than fit into one are none of these.
fn plain(appends: &[Append]) -> Vec<Vec<usize>> {
    let mut behind_others = HashSet::new();
    let mut is_plain = |append: &Append| {
        let plain = append.ttl_ms > 0 && append.collapse_key.is_none() && append.idempotency.is_none();
        if !plain {
            behind_others.insert(append.channel.clone());
        }
        plain && (behind_others.is_empty() || !behind_others.contains(&append.channel))
    };
    let plain: Vec<usize> = (0..appends.len()).filter(|at| is_plain(&appends[*at])).collect();
    if plain.len() <= APPENDS_MAX {
        return if plain.is_empty() { Vec::new() } else { vec![plain] };
    }
    let mut firsts = HashMap::with_capacity(plain.len());
    let first = |at: usize| (*firsts.entry(&appends[at].channel).or_insert(at), at);
    // By channel, and nearly always that already: none comes twice.
    let mut ordered: Vec<(usize, usize)> = plain.into_iter().map(first).collect();
    ordered.sort();
    let mut calls: Vec<Vec<usize>> = Vec::new();
    for channel in ordered.chunk_by(|one, next| one.0 == next.0) {
        let fit = channel.iter().take(APPENDS_MAX).map(|(_, at)| *at);
        match calls.last_mut() {
            Some(call) if call.len() + fit.len() <= APPENDS_MAX => call.extend(fit),
            _ => calls.push(fit.collect()),
        }
    }
    calls
}

/// Answers those that were done, or failed.
async fn try_plain(
    store: &Store,
    appends: &[Append],
    calls: &[Vec<usize>],
    answers: &mut [Option<Result<Appended, Error>>],
) {
    let replies = match store.link.current() {
        Ok(conn) => {
            let mut pipeline = Pipeline::with_capacity(calls.len());
            for call in calls {
                pipeline.add_command(plain_command(store, &conn, call.iter().map(|at| &appends[*at])));
            }
            store.link.call(&conn, WHAT, &pipeline).await
        }
        Err(error) => Err(error),
    };
    let replies = replies.unwrap_or_else(|error| vec![Err(error); calls.len()]);
    for (call, reply) in calls.iter().zip(replies) {
        match reply.and_then(|reply| PlainAnswers::read(reply, call.len())) {
            Ok(mut parts) => {
                for at in call {
                    answers[*at] = parts.next(&appends[*at]).transpose();
                }
            }
            Err(error) => call.iter().for_each(|at| answers[*at] = Some(Err(error.clone()))),
        }
    }
}

fn plain_command<'a>(
    store: &Store,
    conn: &Conn,
    appends: impl ExactSizeIterator<Item = &'a Append> + Clone,
) -> Cmd {
    let mut command = Script::Appends.call(appends.len() * 2);
    for append in appends.clone() {
        store.keys.add_mailbox(&mut command, &append.channel);
    }
    command.arg(&conn.run).arg(store.limits.mailbox_messages_max);
    for append in appends.clone() {
        command.arg(&record(append)[..]);
    }
    let mut ttls: Vec<u64> = appends.map(|append| append.ttl_ms.min(MS_MAX)).collect();
    // Nearly always all are the same: one is told.
    while let [.., before, last] = ttls[..]
        && before == last
    {
        ttls.pop();
    }
    command.arg(ttls);
    command
}

/// The answers of one call of [`Script::Appends`].
struct PlainAnswers {
    accepted_at_us: u64,
    rest: std::vec::IntoIter<Value>,
}

impl PlainAnswers {
    fn read(reply: Value, count: usize) -> Result<Self, Error> {
        let mut rest = reply::list(REPLY, reply)?.into_iter();
        let at = rest.next().unwrap_or_default();
        let accepted_at_us = Packed::new(REPLY, reply::bytes(REPLY, at)?).number(7)?;
        if rest.len() != count {
            return Err(corrupt(REPLY, format!("{} answers to {count} appends", rest.len())));
        }
        Ok(Self { accepted_at_us, rest })
    }

    /// The next answer; none if nothing was done.
    fn next(&mut self, append: &Append) -> Result<Option<Appended>, Error> {
        let answer = reply::bytes(REPLY, self.rest.next().unwrap_or_default())?;
        if answer.is_empty() {
            return Ok(None);
        }
        let (Meta { head, .. }, routes) = Meta::with_routes(answer)?;
        Ok(Some(Appended {
            id: append.id,
            position: Some(Position::new(head.epoch, head.seq + 1)),
            accepted_at_us: self.accepted_at_us,
            expires_at_ms: self.accepted_at_us / 1_000 + append.ttl_ms.min(MS_MAX),
            routes,
            repeated: false,
            settled: Settled::default(),
        }))
    }
}

async fn each<'a>(
    store: &Store,
    appends: impl ExactSizeIterator<Item = &'a Append> + Clone,
) -> Vec<Result<Appended, Error>> {
    let failed = |error: &Error| appends.clone().map(|_| Err(error.clone())).collect();
    let conn = match store.link.current() {
        Ok(conn) => conn,
        Err(error) => return failed(&error),
    };
    let mut pipeline = Pipeline::with_capacity(appends.len());
    for append in appends.clone() {
        pipeline.add_command(command(store, &conn, append));
    }
    match store.link.call(&conn, WHAT, &pipeline).await {
        Ok(replies) => {
            let reply = |(append, reply): (_, Result<Value, Error>)| reply.and_then(|v| appended(append, v));
            appends.clone().zip(replies).map(reply).collect()
        }
        Err(error) => failed(&error),
    }
}

fn command(store: &Store, conn: &Conn, append: &Append) -> Cmd {
    let ephemeral = append.ttl_ms == 0;
    let script = if ephemeral { Script::Ephemeral } else { Script::Append };
    let mut command = script.call(Keys::CHANNEL_KEYS + usize::from(append.idempotency.is_some()));
    store.keys.add_channel(&mut command, &append.channel);
    if let Some(idempotency) = &append.idempotency {
        command.arg(store.keys.idempotency(&append.channel, &idempotency.key));
    }
    command
        .arg(&conn.run)
        .arg(&Epoch::random().bits().to_be_bytes())
        .arg(store.limits.channel_retention_ms)
        .arg(&record(append)[..])
        .arg(append.ttl_ms.min(MS_MAX))
        .arg(store.limits.mailbox_messages_max);
    // Arguments cost: those that most pushes do without are left out.
    if append.collapse_key.is_some() || append.idempotency.is_some() {
        command.arg(append.collapse_key.as_deref().unwrap_or_default());
    }
    if let Some(idempotency) = &append.idempotency {
        command.arg(&idempotency.fingerprint).arg(store.limits.idempotency_window_ms);
    }
    command
}

/// What the box keeps of a message; an ephemeral one is not kept.
fn record(append: &Append) -> BytesMut {
    let data: &[u8] = if append.ttl_ms == 0 { &[] } else { &append.data };
    let key = append.collapse_key.as_deref().unwrap_or_default().as_bytes();
    let trace = append.trace.as_deref().unwrap_or_default().as_bytes();
    // Lengths are two bytes; both come from bounded headers and bodies.
    let key = &key[..key.len().min(usize::from(u16::MAX))];
    let trace = &trace[..trace.len().min(usize::from(u16::MAX))];
    let mut record = BytesMut::with_capacity(21 + key.len() + trace.len() + data.len());
    record.put_u8(RECORD_VERSION);
    record.put_u128(append.id.bits());
    record.put_u16(key.len() as u16);
    record.put_u16(trace.len() as u16);
    record.put_slice(key);
    record.put_slice(trace);
    record.put_slice(data);
    record
}

/// Reads a record back: id, trace and data.
pub(super) fn read_record(bytes: Vec<u8>) -> Result<(MessageId, Option<Box<str>>, bytes::Bytes), Error> {
    const WHAT: &str = "a mailbox entry";
    let mut packed = Packed::new(WHAT, bytes);
    let version = packed.number(1)?;
    if version != u64::from(RECORD_VERSION) {
        return Err(corrupt(WHAT, format!("its version is {version}, this release knows {RECORD_VERSION}")));
    }
    let id = MessageId::from_bits(packed.id_bits()?);
    let (key_len, trace_len) = (packed.number(2)? as usize, packed.number(2)? as usize);
    packed.take(key_len)?;
    let trace = packed.take(trace_len)?;
    let trace = std::str::from_utf8(&trace).map_err(|_| corrupt(WHAT, "its trace is not UTF-8"))?;
    let trace = (!trace.is_empty()).then(|| trace.into());
    Ok((id, trace, packed.rest()))
}

fn appended(append: &Append, value: Value) -> Result<Appended, Error> {
    let mut packed = Packed::new(REPLY, reply::bytes(REPLY, value)?);
    let (repeated, id) = match packed.number(1)? {
        NEW => (false, append.id),
        REPEATED => (true, MessageId::from_bits(packed.id_bits()?)),
        other => return Err(corrupt(REPLY, format!("it begins with {other}"))),
    };
    let position = packed.position()?;
    let accepted_at_us = packed.number(7)?;
    let expires_at_ms = packed.number(6)?;
    let mut settled = Settled::default();
    if !repeated {
        settled.expired = packed.number(4)?;
        settled.collapsed = packed.number(4)?;
        settled.dropped_mailbox_full = packed.number(4)?;
        settled.dropped_no_session = packed.number(4)?;
    }
    Ok(Appended {
        id,
        position: (position.seq > 0).then_some(position),
        accepted_at_us,
        expires_at_ms,
        routes: packed.routes()?,
        repeated,
        settled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip(
            data: Vec<u8>, key in proptest::option::of("[a-z]{1,40}"), trace in proptest::option::of("[0-9a-f-]{1,55}"),
        ) {
            let append = Append {
                id: MessageId::generate(),
                channel: "all".parse().expect("valid"),
                data: data.clone().into(),
                ttl_ms: 1,
                collapse_key: key.map(Into::into),
                idempotency: None,
                trace: trace.map(Into::into),
            };
            let (id, trace, read) = read_record(record(&append).to_vec()).expect("read");
            prop_assert_eq!((id, trace, &read[..]), (append.id, append.trace, &data[..]));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = read_record(bytes.clone());
            let append = Append {
                id: MessageId::generate(),
                channel: "all".parse().expect("valid"),
                data: bytes::Bytes::new(),
                ttl_ms: 1,
                collapse_key: None,
                idempotency: None,
                trace: None,
            };
            let _ = appended(&append, Value::BulkString(bytes));
        }
    }
}
