//! What devices received and what became of ephemeral messages.

use ::redis::{Cmd, Pipeline, Value};

use crate::protocol::{Channel, Position};
use crate::store::{Ack, Error, Settled};

use super::Store;
use super::link::Conn;
use super::pages::begin;
use super::reply;
use super::scripts::Script;

const WHAT: &str = "acknowledge messages";
const REPLY: &str = "the answer to an acknowledgement";
/// Acknowledgements in one call of [`Script::Receives`]: Redis does nothing else
/// meanwhile.
const RECEIVES_MAX: usize = 64;

/// What is plain goes in few calls, in one trip; what is not, or turned out not
/// to be, in a call each, in another.
pub(super) async fn settle(store: &Store, acks: &[Ack]) -> Result<Settled, Error> {
    let plain: Vec<(&Ack, &Channel, Position)> = acks.iter().filter_map(plain).collect();
    let mut left: Vec<&Ack> = acks.iter().filter(|ack| self::plain(ack).is_none()).collect();
    let mut settled = Settled::default();
    let mut failed = None;
    if !plain.is_empty() {
        let conn = store.link.current()?;
        let mut pipeline = Pipeline::with_capacity(plain.len().div_ceil(RECEIVES_MAX));
        for part in plain.chunks(RECEIVES_MAX) {
            pipeline.add_command(receives(store, part));
        }
        let replies = store.link.call(&conn, WHAT, &pipeline).await?;
        for (part, reply) in plain.chunks(RECEIVES_MAX).zip(replies) {
            match reply.and_then(|reply| reply::list(REPLY, reply)) {
                Ok(answers) => {
                    for ((ack, ..), answer) in part.iter().zip(&answers) {
                        match answer {
                            Value::Int(..0) => left.push(ack),
                            newly => settled.received += reply::number(REPLY, newly)?,
                        }
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    if !left.is_empty() {
        let conn = store.link.current()?;
        let mut pipeline = Pipeline::with_capacity(left.len());
        for ack in &left {
            pipeline.add_command(command(store, &conn, ack));
        }
        let replies = store.link.call(&conn, WHAT, &pipeline).await?;
        for (ack, reply) in left.iter().zip(replies) {
            match reply.and_then(|value| moved(ack, value)) {
                Ok(moved) => settled += moved,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(settled), Err)
}

/// What [`Script::Receives`] may do.
fn plain(ack: &Ack) -> Option<(&Ack, &Channel, Position)> {
    match ack {
        Ack::Received { channel, device: None, position } => Some((ack, channel, *position)),
        Ack::Received { .. } | Ack::Ephemeral { .. } => None,
    }
}

fn receives(store: &Store, acks: &[(&Ack, &Channel, Position)]) -> Cmd {
    let mut command = Script::Receives.call(acks.len());
    for (_, channel, _) in acks {
        command.arg(store.keys.meta(channel));
    }
    for (.., position) in acks {
        command.arg(&position.epoch.bits().to_be_bytes()).arg(position.seq);
    }
    command
}

fn command(store: &Store, conn: &Conn, ack: &Ack) -> Cmd {
    match ack {
        Ack::Received { channel, device, position } => {
            let mut command = begin(store, conn, Script::Receive, channel);
            command
                .arg(device.as_ref().map_or("", |device| device.as_str()))
                .arg(&position.epoch.bits().to_be_bytes())
                .arg(position.seq)
                .arg(store.limits.cursors_max);
            command
        }
        Ack::Ephemeral { channel, received, dropped } => {
            let mut command = begin(store, conn, Script::Report, channel);
            command.arg(*received).arg(*dropped);
            command
        }
    }
}

fn moved(ack: &Ack, value: Value) -> Result<Settled, Error> {
    let counts = reply::list(REPLY, value)?;
    let count = |at: usize| reply::number(REPLY, counts.get(at).unwrap_or(&Value::Nil));
    let received = count(0)?;
    Ok(match ack {
        Ack::Received { .. } => Settled { received, expired: count(1)?, ..Settled::default() },
        Ack::Ephemeral { .. } => Settled { received, dropped_no_session: count(1)?, ..Settled::default() },
    })
}
