//! What devices received and what became of ephemeral messages, in one trip.

use ::redis::{Pipeline, Value};

use crate::store::{Ack, Error, Settled};

use super::Store;
use super::pages::begin;
use super::reply;
use super::scripts::Script;

const REPLY: &str = "the answer to an acknowledgement";

pub(super) async fn settle(store: &Store, acks: &[Ack]) -> Result<Settled, Error> {
    let conn = store.link.current()?;
    let mut pipeline = Pipeline::with_capacity(acks.len());
    for ack in acks {
        let command = match ack {
            Ack::Received { channel, device, position } => {
                let mut command = begin(store, &conn, Script::Receive, channel);
                command
                    .arg(device.as_ref().map_or("", |device| device.as_str()))
                    .arg(&position.epoch.bits().to_be_bytes())
                    .arg(position.seq)
                    .arg(store.limits.cursors_max);
                command
            }
            Ack::Ephemeral { channel, received, dropped } => {
                let mut command = begin(store, &conn, Script::Report, channel);
                command.arg(*received).arg(*dropped);
                command
            }
        };
        pipeline.add_command(command);
    }
    let replies = store.link.call(&conn, "acknowledge messages", &pipeline).await?;
    let mut settled = Settled::default();
    let mut failed = None;
    for (ack, reply) in acks.iter().zip(replies) {
        match reply.and_then(|value| moved(ack, value)) {
            Ok(moved) => settled += moved,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(settled), Err)
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
