//! The reader of a node's own stream.
//!
//! Has a connection of its own, since a blocking read would hold up whatever
//! shares it. Redis forgets nothing that it gave out until it is acknowledged:
//! after an error, or when a caller gave up waiting, the reader opens another
//! connection and first asks for that again. Acknowledgements of a trip that
//! failed go with the next.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, Value};
use async_trait::async_trait;
use tokio::time::{sleep, timeout};

use crate::protocol::NodeId;
use crate::store::{Consumer, EntryAcks, EntryId, Error, StreamEntry};

use super::Store;
use super::connector::Connector;
use super::error::from_server;
use super::link::ask;
use super::nodes::{GROUP, add_acks, entries};
use super::reply;
use super::store::COUNT_MAX;

const WHAT: &str = "read the node stream";
/// There is one per stream.
const CONSUMER: &str = "c";
/// Short, so that acknowledgements and shutdown do not wait long behind it.
const BLOCK: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// As the shared connection's: what is read late is delivered late.
const BACKOFF_MAX: Duration = Duration::from_millis(250);

pub(super) struct Reader {
    connector: Connector,
    stream: String,
    /// Taken while a trip is under way: a caller that gives up leaves none, and
    /// with it goes whatever the abandoned read would still have answered.
    connection: Option<MultiplexedConnection>,
    /// Behind which pending entry to go on, while what was read before and not
    /// acknowledged is read again.
    again_behind: Option<EntryId>,
    /// Not known to have reached Redis.
    acks: EntryAcks,
    backoff: Option<Duration>,
}

impl Reader {
    pub(super) async fn open(store: &Store, node: NodeId) -> Result<Self, Error> {
        let mut reader = Self {
            connector: store.link.connector().clone(),
            stream: store.keys.stream(node),
            connection: None,
            again_behind: Some(EntryId::default()),
            acks: EntryAcks::default(),
            backoff: None,
        };
        reader.connection = Some(reader.connect().await?);
        Ok(reader)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let opened = self.connector.open(|_| Ok(())).await;
        opened.map(|(connection, _)| connection).map_err(Error::Unavailable)
    }

    /// One trip: acknowledgements, then a read, which blocks if it is for what
    /// is new.
    async fn trip(
        &self,
        connection: &mut MultiplexedConnection,
        entries_max: usize,
    ) -> Result<Vec<(EntryId, Option<StreamEntry>)>, Error> {
        let mut pipeline = Pipeline::new();
        add_acks(&mut pipeline, &self.stream, &self.acks);
        pipeline
            .cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(CONSUMER)
            .arg("COUNT")
            .arg(entries_max.clamp(1, COUNT_MAX));
        match self.again_behind {
            Some(behind) => pipeline.arg("STREAMS").arg(&self.stream).arg(behind.to_string()),
            None => {
                pipeline.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS").arg(&self.stream).arg(">")
            }
        };
        let deadline = BLOCK + self.connector.command_timeout;
        let replies = timeout(deadline, ask(connection, &pipeline))
            .await
            .map_err(|_| Error::Timeout { what: WHAT, after_ms: deadline.as_millis() as u64 })?
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        let mut read = Value::Nil;
        for reply in replies {
            match reply {
                Value::ServerError(error) => return Err(from_server(WHAT, &error)),
                value => read = value,
            }
        }
        match reply::pairs(WHAT, read)?.pop() {
            Some((_, list)) => entries(list),
            None => Ok(Vec::new()),
        }
    }

    async fn attempt(&mut self, entries_max: usize) -> Result<Vec<StreamEntry>, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                if let Some(pause) = self.backoff {
                    sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                }
                self.connect().await?
            }
        };
        loop {
            let again = self.again_behind;
            // Until this trip is over, what it reads counts as not returned.
            let behind = again.unwrap_or_default();
            let read = self.trip(&mut connection, entries_max).await;
            if read.is_err() {
                self.again_behind = Some(EntryId::default());
            }
            let read = read?;
            self.acks = EntryAcks::default();
            if again.is_none() {
                self.connection = Some(connection);
                return Ok(read.into_iter().filter_map(|(_, entry)| entry).collect());
            }
            let Some(last) = read.last().map(|(id, _)| *id) else {
                self.again_behind = None;
                continue;
            };
            self.again_behind = Some(last.max(behind));
            // Trimmed while pending: the mailboxes owe it, nobody can ack it but us.
            let gone = read.iter().filter(|(_, entry)| entry.is_none()).map(|(id, _)| *id);
            self.acks.ids.extend(gone);
            let found: Vec<_> = read.into_iter().filter_map(|(_, entry)| entry).collect();
            if !found.is_empty() {
                self.connection = Some(connection);
                return Ok(found);
            }
        }
    }
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&mut self, acks: EntryAcks, entries_max: usize) -> Result<Vec<StreamEntry>, Error> {
        self.acks.ids.extend(acks.ids);
        self.acks.trim_below = self.acks.trim_below.max(acks.trim_below);
        if self.connection.is_none() {
            // The last trip failed or was given up: it may have read something.
            self.again_behind = Some(EntryId::default());
        }
        let result = self.attempt(entries_max).await;
        self.backoff = match &result {
            Ok(_) => None,
            Err(_) => Some(self.backoff.map_or(BACKOFF_MIN, |pause| (pause * 2).min(BACKOFF_MAX))),
        };
        result
    }
}
