//! `GET /v1/channels/{channel}`, `DELETE …/sessions` and `GET /v1/nodes`.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::protocol::Channel;
use crate::protocol::rest::{
    ChannelAnswer, ChannelNode, CursorAnswer, DisconnectAnswer, NodeAnswer, NodesAnswer, rfc3339,
};
use crate::protocol::status::StreamAnswer;
use crate::store::{Ledger, StreamStats};

use super::auth::Need;
use super::{App, Problem};

/// Streams measured at once.
const STREAMS_AT_ONCE: usize = 16;

impl App {
    pub(super) async fn channel(&self, headers: &HeaderMap, channel: &str) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let channel: Channel = channel.parse()?;
        let store = self.inner.delivery.store();
        let info = store.inspect(&channel).await?;
        // Presence is the directory intersected with the live nodes.
        let routes = store.presence(std::slice::from_ref(&channel)).await?;
        let routes = routes.into_iter().flatten();
        let nodes: Vec<_> =
            routes.map(|route| ChannelNode { node: route.node, sessions: route.sessions }).collect();
        let cursors = info.cursors.iter().map(|cursor| CursorAnswer {
            device: cursor.device.to_string(),
            pos: cursor.position,
            at: rfc3339(cursor.at_ms),
        });
        let answer = ChannelAnswer {
            online: !nodes.is_empty(),
            sessions: nodes.iter().map(|node| node.sessions).sum(),
            nodes,
            head: info.head,
            mailbox: info.mailbox_messages,
            cursors: cursors.collect(),
            more_cursors: info.more_cursors,
            ledger: ledger(&info.ledger),
            channel,
        };
        Ok(warp::reply::json(&answer).into_response())
    }

    pub(super) async fn disconnect(&self, headers: &HeaderMap, channel: &str) -> Result<Response, Problem> {
        self.authorize(headers, Need::Admin).await?;
        let channel: Channel = channel.parse()?;
        let nodes = self.inner.delivery.disconnect(&channel).await?;
        let answer = warp::reply::json(&DisconnectAnswer { nodes });
        Ok(warp::reply::with_status(answer, StatusCode::ACCEPTED).into_response())
    }

    pub(super) async fn nodes(&self, headers: &HeaderMap) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let store = self.inner.delivery.store();
        let mut nodes = store.nodes().await?;
        nodes.sort_by_key(|node| node.id);
        let stream = async |node| store.stream_stats(node).await.ok().map(stream_answer);
        let nodes =
            futures_util::stream::iter(nodes).map(|node| async move { (stream(node.id).await, node) });
        let nodes: Vec<_> = nodes.buffered(STREAMS_AT_ONCE).collect().await;
        let nodes = nodes.into_iter().map(|(stream, node)| NodeAnswer {
            id: node.id,
            address: node.info.address,
            version: node.info.version,
            started_at: rfc3339(node.info.started_at_ms),
            sessions: node.info.sessions,
            draining: node.info.draining,
            heartbeat_age_ms: node.beat_age_ms,
            stream,
        });
        Ok(warp::reply::json(&NodesAnswer { nodes: nodes.collect() }).into_response())
    }
}

fn stream_answer(stats: StreamStats) -> StreamAnswer {
    let StreamStats { length, lag, pending, oldest_pending_ms } = stats;
    StreamAnswer { length, lag, pending, oldest_pending_ms }
}

fn ledger(ledger: &Ledger) -> BTreeMap<&'static str, i64> {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    BTreeMap::from([
        ("accepted", count(ledger.accepted)),
        ("received", count(ledger.received)),
        ("waiting", ledger.waiting()),
        ("expired", count(ledger.expired)),
        ("collapsed", count(ledger.collapsed)),
        ("dropped", count(ledger.dropped.total())),
    ])
}
