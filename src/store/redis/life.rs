//! Which life the data is in: epochs are renewed in each.
//!
//! A life ends when what was accepted in it may have been taken back. Another
//! process tells (its `run_id`), and so does a server that was a replica in
//! between: what it was sent then replaced what it had, and it has another
//! replication id since. Both are kept beside the data, so that all nodes agree,
//! and so that data which comes from elsewhere brings the life that it was in.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, Value};

use super::link::ask;
use super::scripts::Script;
use super::server::Facts;

/// Which life a connection leads to.
#[derive(Default)]
pub(super) struct Life {
    /// What every script call brings; zeros if the server does not tell who it is.
    pub(super) run: [u8; 8],
    /// What is noted beside the data; empty if nothing is.
    pub(super) note: Vec<u8>,
}

/// Asks for the life, which this begins if it is new.
pub(super) async fn of(
    connection: &mut MultiplexedConnection,
    key: &str,
    facts: &Facts,
) -> Result<Life, String> {
    let Some(run_id) = facts.run_id() else { return Ok(Life::default()) };
    let fresh: [u8; 8] = rand::random();
    let mut pipeline = Pipeline::with_capacity(1);
    let mut call = Script::Life.call(1);
    call.arg(key).arg(run_id).arg(facts.replication_id()).arg(u8::from(facts.was_promoted()));
    call.arg(&facts.first_life()).arg(&fresh);
    pipeline.add_command(call);
    let answer = ask(connection, &pipeline).await.map_err(|error| error.to_string())?;
    match answer.into_iter().next() {
        Some(Value::BulkString(note)) => match note.last_chunk() {
            Some(run) => Ok(Life { run: *run, note }),
            None => Err("the life of its data is not eight bytes".to_owned()),
        },
        Some(Value::ServerError(error)) => Err(format!("it does not say which life its data is in: {error}")),
        _ => Err("it answers something else than the life of its data".to_owned()),
    }
}
