//! The connection that all commands share, and the task that replaces it.
//!
//! Holds at most one [`Conn`]; whoever finds it broken takes it away, and from
//! then on every call fails at once until the supervisor has opened another.
//! Nothing here knows what is asked. A connection that timed out is not used
//! again: its late answers would only delay others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, PushInfo, PushKind, RedisError, Value};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::store::Error;

use super::connector::Connector;
use super::error::{breaks_connection, from_server};
use super::life::{self, Life};
use super::server::Facts;
use super::{ConnectError, scripts};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Pushes are refused for as long as a Redis that is back is not found: four
/// attempts a second cost a node nothing, nor a Redis that a hundred nodes wait for.
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long a connection must hold before its loss begins the pace anew.
const STABLE_AFTER: Duration = Duration::from_secs(2);

/// A live connection, and what was found behind it.
pub(super) struct Conn {
    connection: MultiplexedConnection,
    /// Which life of the data it leads to, short enough for every script call.
    pub(super) run: [u8; 8],
    /// The same as it is noted beside the data.
    pub(super) life_note: Vec<u8>,
    number: u64,
}

struct Shared {
    connector: Connector,
    life_key: String,
    current: ArcSwapOption<Conn>,
    /// Why there is no connection.
    trouble: ArcSwap<String>,
    lost: Notify,
    numbers: AtomicU64,
}

impl Shared {
    async fn open(self: &Arc<Self>) -> Result<(Conn, Facts), String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let shared: Weak<Self> = Arc::downgrade(self);
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection
                && let Some(shared) = shared.upgrade()
            {
                shared.lose(number, "the connection was closed");
            }
            Ok(())
        };
        let (mut connection, facts) = self.connector.open(on_push).await?;
        let load = scripts::load();
        let loaded = timeout(self.connector.command_timeout, ask(&mut connection, &load)).await;
        let loaded = loaded.map_err(|_| "the scripts were not loaded in time")?;
        for reply in loaded.map_err(|error| error.to_string())? {
            if let Value::ServerError(error) = reply {
                return Err(format!("it refuses a script: {error}"));
            }
        }
        let life =
            timeout(self.connector.command_timeout, life::of(&mut connection, &self.life_key, &facts)).await;
        let Life { run, note } = life.map_err(|_| "it did not say in time which life its data is in")??;
        Ok((Conn { connection, run, life_note: note, number }, facts))
    }

    /// Takes a connection out of use, if it is still the one in use.
    fn lose(&self, number: u64, why: &str) {
        let current = self.current.load_full();
        if current.as_ref().is_none_or(|conn| conn.number != number) {
            return;
        }
        // Before the connection goes, or a caller could find neither.
        self.trouble.store(Arc::new(why.to_owned()));
        let previous = self.current.compare_and_swap(&current, None);
        if previous.as_ref().is_some_and(|conn| conn.number == number) {
            tracing::warn!(address = %self.connector.address, why, "lost the connection to redis");
            self.lost.notify_one();
        }
    }

    async fn supervise(self: Arc<Self>) {
        let mut backoff = BACKOFF_MIN;
        let mut opened_at = Instant::now();
        loop {
            self.lost.notified().await;
            // One that broke at once proves nothing: the pace stays.
            if opened_at.elapsed() > STABLE_AFTER {
                backoff = BACKOFF_MIN;
            }
            loop {
                sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                match self.open().await {
                    Ok((conn, facts)) => {
                        if let Err(error) = facts.check(&self.connector.address) {
                            tracing::error!("redis came back changed: failed to {error}");
                        }
                        tracing::info!(address = %self.connector.address, "connected to redis again");
                        self.current.store(Some(Arc::new(conn)));
                        opened_at = Instant::now();
                        break;
                    }
                    Err(why) => {
                        tracing::debug!(address = %self.connector.address, why, "redis is still away");
                        self.trouble.store(Arc::new(why));
                    }
                }
            }
        }
    }
}

/// Owns the connection; dropping it ends the supervisor.
pub(super) struct Link {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Link {
    /// Opens the first connection, and sees to it that there is one from then on.
    pub(super) async fn open(connector: Connector, life_key: String) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared {
            connector,
            life_key,
            current: ArcSwapOption::empty(),
            trouble: ArcSwap::default(),
            lost: Notify::new(),
            numbers: AtomicU64::new(0),
        });
        let address = shared.connector.address.to_string();
        let (conn, facts) = shared
            .open()
            .await
            .map_err(|detail| ConnectError::Unreachable { address: address.clone(), detail })?;
        facts.check(&address)?;
        shared.current.store(Some(Arc::new(conn)));
        let supervisor = tokio::spawn(Arc::clone(&shared).supervise()).abort_handle();
        Ok(Self { shared, supervisor })
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.shared.connector
    }

    pub(super) fn is_connected(&self) -> bool {
        self.shared.current.load().is_some()
    }

    /// Opens another connection: the life that this one was opened in is over.
    pub(super) fn outlived(&self, conn: &Conn) {
        self.shared.lose(conn.number, "its data went back to an earlier state, or is gone");
    }

    /// The connection in use.
    pub(super) fn current(&self) -> Result<Arc<Conn>, Error> {
        let current = self.shared.current.load_full();
        current.ok_or_else(|| Error::Unavailable(self.shared.trouble.load().as_ref().clone()))
    }

    /// Sends commands in one go; each answer or error stands for itself.
    pub(super) async fn call(
        &self,
        conn: &Conn,
        what: &'static str,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = self.shared.connector.command_timeout;
        let mut connection = conn.connection.clone();
        let replies = match timeout(deadline, ask_knowing_scripts(&mut connection, pipeline)).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => {
                let why = error.to_string();
                self.shared.lose(conn.number, &why);
                return Err(Error::Unavailable(why));
            }
            Err(_) => {
                self.shared.lose(conn.number, "a command was not answered in time");
                return Err(Error::Timeout { what, after_ms: deadline.as_millis() as u64 });
            }
        };
        let judge = |reply| match reply {
            Value::ServerError(error) => {
                if breaks_connection(error.code()) {
                    self.shared.lose(conn.number, &error.to_string());
                }
                Err(from_server(what, &error))
            }
            value => Ok(value),
        };
        Ok(replies.into_iter().map(judge).collect())
    }

    /// [`call`](Self::call) for commands that mean nothing without one another:
    /// the first error is the answer.
    pub(super) async fn call_all(
        &self,
        conn: &Conn,
        what: &'static str,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        self.call(conn, what, pipeline).await?.into_iter().collect()
    }

    /// Sends one command.
    pub(super) async fn call_one(
        &self,
        conn: &Conn,
        what: &'static str,
        command: ::redis::Cmd,
    ) -> Result<Value, Error> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        Ok(self.call_all(conn, what, &pipeline).await?.pop().unwrap_or_default())
    }
}

/// Server errors are among the replies, so that none hides another's.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    pipeline: &Pipeline,
) -> Result<Vec<Value>, RedisError> {
    let replies = connection.send_packed_commands(pipeline, 0, pipeline.len()).await?;
    if replies.len() == pipeline.len() {
        return Ok(replies);
    }
    Err((::redis::ErrorKind::Client, "redis answered another number of commands").into())
}

/// Loads the scripts and repeats the calls that were refused for want of them
/// (`SCRIPT FLUSH` on a server that did not restart): they did nothing yet.
async fn ask_knowing_scripts(
    connection: &mut MultiplexedConnection,
    pipeline: &Pipeline,
) -> Result<Vec<Value>, RedisError> {
    let mut replies = ask(connection, pipeline).await?;
    let unknown = |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT");
    if !replies.iter().any(unknown) {
        return Ok(replies);
    }
    ask(connection, &scripts::load()).await?;
    let mut again = Pipeline::new();
    for (command, _) in pipeline.cmd_iter().zip(&replies).filter(|(_, reply)| unknown(reply)) {
        again.add_command(command.clone());
    }
    let mut repeated = ask(connection, &again).await?.into_iter();
    for reply in replies.iter_mut().filter(|reply| unknown(reply)) {
        *reply = repeated.next().unwrap_or_default();
    }
    Ok(replies)
}
