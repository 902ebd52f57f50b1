//! What became of messages, who is there, and what is taken away.

use std::collections::HashMap;

use serde_json::value::RawValue;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::delivery::Sessions;
use crate::protocol::rest::{ChannelNode, rfc3339};
use crate::protocol::status::{
    ChannelPresence, CloseAnswer, DeviceAnswer, EraseAnswer, MessageAnswer, PRESENCE_CHANNELS_MAX,
    PresenceAnswer, PresenceBody, RECENT_MESSAGES_DEFAULT, RECENT_MESSAGES_MAX, RecentAnswer, SessionsAnswer,
    WithdrawAnswer,
};
use crate::protocol::{Channel, MessageId, Position, SessionId};
use crate::store::{Progress, Traced};

use super::auth::Need;
use super::{App, Problem, body};

/// How far each device was written to, by name.
type Written = HashMap<String, u64>;

impl App {
    pub(super) async fn message(
        &self,
        headers: &HeaderMap,
        id: &str,
        query: &str,
    ) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let (channel, id, near) = Query::of(query).message(id)?;
        let store = self.inner.delivery.store();
        let found = store.find(&channel, id, near).await?.ok_or_else(unknown_message)?;
        self.inner.delivery.settled(found.settled);
        let seq = found.message.position.seq;
        let open = found.message.left.is_none() && found.devices.iter().any(|device| device.seq < seq);
        let written = if open { self.written(&channel).await? } else { Written::new() };
        let answer = tell(&channel, &found.message, &found.devices, found.more_devices, &written);
        Ok(warp::reply::json(&answer).into_response())
    }

    pub(super) async fn withdraw(
        &self,
        headers: &HeaderMap,
        id: &str,
        query: &str,
    ) -> Result<Response, Problem> {
        self.authorize(headers, Need::Admin).await?;
        let (channel, id, near) = Query::of(query).message(id)?;
        let store = self.inner.delivery.store();
        let withdrawn = store.withdraw(&channel, id, near).await?.ok_or_else(unknown_message)?;
        self.inner.delivery.settled(withdrawn.settled);
        let (state, reason) = withdrawn.message.state();
        let answer = WithdrawAnswer {
            id,
            channel,
            pos: withdrawn.message.position,
            withdrawn: withdrawn.withdrawn,
            state,
            reason,
        };
        Ok(warp::reply::json(&answer).into_response())
    }

    pub(super) async fn recent(
        &self,
        headers: &HeaderMap,
        channel: &str,
        query: &str,
    ) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let channel: Channel = channel.parse()?;
        let query = Query::of(query);
        let limit = query.number("limit")?.map_or(RECENT_MESSAGES_DEFAULT, |limit| limit as usize);
        if limit == 0 || limit > RECENT_MESSAGES_MAX {
            let detail = format!("\"limit\" is 1 to {RECENT_MESSAGES_MAX}");
            return Err(Problem::invalid("invalid_limit", detail));
        }
        // Below 1 there is nothing; to the store 0 means the newest.
        let before = query.number("before")?.map(|before| before.max(1));
        let recent = self.inner.delivery.store().recent(&channel, before, limit).await?;
        self.inner.delivery.settled(recent.settled);
        let open = recent
            .messages
            .iter()
            .filter(|message| message.left.is_none())
            .any(|message| recent.devices.iter().any(|device| device.seq < message.position.seq));
        let written = if open { self.written(&channel).await? } else { Written::new() };
        let messages = recent
            .messages
            .iter()
            .map(|message| tell(&channel, message, &recent.devices, recent.more_devices, &written))
            .collect();
        Ok(warp::reply::json(&RecentAnswer { channel, messages, next: recent.next }).into_response())
    }

    /// How far each device was written to, as the nodes know that answer.
    async fn written(&self, channel: &Channel) -> Result<Written, Problem> {
        let Sessions { sessions, .. } = self.inner.delivery.sessions_of(channel).await?;
        let mut written = Written::new();
        for session in sessions.into_iter().filter(|session| session.outbox_bytes == 0) {
            if let (Some(device), Some(position)) = (session.device, session.pos) {
                let slot = written.entry(device).or_default();
                *slot = position.seq.max(*slot);
            }
        }
        Ok(written)
    }

    pub(super) async fn sessions(&self, headers: &HeaderMap, channel: &str) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let channel: Channel = channel.parse()?;
        let Sessions { sessions, more, unanswered } = self.inner.delivery.sessions_of(&channel).await?;
        let answer = SessionsAnswer { channel, sessions, more, unanswered };
        Ok(warp::reply::json(&answer).into_response())
    }

    pub(super) async fn close_session(
        &self,
        headers: &HeaderMap,
        channel: &str,
        session: &str,
    ) -> Result<Response, Problem> {
        self.authorize(headers, Need::Admin).await?;
        let channel: Channel = channel.parse()?;
        let id: SessionId = session.parse().map_err(|error| Problem::invalid("invalid_session", error))?;
        let closing = self.inner.delivery.close_session(&channel, id).await?;
        if !closing.closed && closing.unanswered.is_empty() {
            let detail = "no live node has that session of that channel; it may have ended already";
            return Err(Problem::new(StatusCode::NOT_FOUND, "session_unknown", detail));
        }
        let status = if closing.closed { StatusCode::OK } else { StatusCode::ACCEPTED };
        let answer = CloseAnswer { id, closed: closing.closed, unanswered: closing.unanswered };
        Ok(warp::reply::with_status(warp::reply::json(&answer), status).into_response())
    }

    /// First what is kept, then the sessions: a device that is sent away cannot
    /// leave a cursor behind.
    pub(super) async fn erase(&self, headers: &HeaderMap, channel: &str) -> Result<Response, Problem> {
        self.authorize(headers, Need::Admin).await?;
        let channel: Channel = channel.parse()?;
        let erased = self.inner.delivery.store().erase(&channel).await?;
        let nodes = self.inner.delivery.disconnect(&channel).await?;
        let answer = EraseAnswer { channel, messages: erased.messages, devices: erased.devices, nodes };
        Ok(warp::reply::json(&answer).into_response())
    }

    pub(super) async fn presence(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let PresenceBody { channels } = body::parse(body, r#"the body is {"channels": ["user:alice", …]}"#)?;
        if channels.is_empty() || channels.len() > PRESENCE_CHANNELS_MAX {
            let detail = format!("\"channels\" lists 1 to {PRESENCE_CHANNELS_MAX} channels");
            return Err(Problem::invalid("invalid_channels", detail));
        }
        let channels = channels.iter().map(|channel| channel.parse()).collect::<Result<Vec<Channel>, _>>()?;
        let routes = self.inner.delivery.store().presence(&channels).await?;
        let channels = channels.into_iter().zip(routes).map(|(channel, routes)| ChannelPresence {
            channel,
            online: !routes.is_empty(),
            sessions: routes.iter().map(|route| route.sessions).sum(),
            nodes: routes
                .iter()
                .map(|route| ChannelNode { node: route.node, sessions: route.sessions })
                .collect(),
        });
        Ok(warp::reply::json(&PresenceAnswer { channels: channels.collect() }).into_response())
    }
}

fn tell(
    channel: &Channel,
    message: &Traced,
    devices: &[Progress],
    more_devices: bool,
    written: &Written,
) -> MessageAnswer {
    let (state, reason) = message.state();
    let devices = devices.iter().filter_map(|device| {
        let written = written.get(device.device.as_str()).copied().unwrap_or(0);
        let fate = message.at(device, written)?;
        Some(DeviceAnswer {
            device: device.device.to_string(),
            state: fate.state,
            reason: fate.reason,
            acknowledged_at: fate.acknowledged_at_ms.map(rfc3339),
            acknowledged_before: fate.acknowledged_before_ms.map(rfc3339),
        })
    });
    MessageAnswer {
        id: message.id,
        channel: channel.clone(),
        pos: message.position,
        state,
        reason,
        accepted_at: rfc3339(message.accepted_at_us / 1_000),
        expires_at: rfc3339(message.expires_at_ms),
        left_at: message.left.map(|left| rfc3339(left.at_ms)),
        data: message.data.as_deref().and_then(json),
        devices: devices.collect(),
        more_devices,
    }
}

/// A payload was JSON when it was accepted.
fn json(data: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(data).ok()?;
    RawValue::from_string(text.to_owned()).ok()
}

fn unknown_message() -> Problem {
    let detail = "this channel knows no such message: it was never accepted for it, was ephemeral (ttl 0), or \
                  has been gone for longer than is remembered";
    Problem::new(StatusCode::NOT_FOUND, "message_unknown", detail)
}

/// A query string's parameters.
struct Query(HashMap<String, String>);

impl Query {
    fn of(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The message that a path's id, `channel` and, to find it sooner, `pos` name.
    fn message(&self, id: &str) -> Result<(Channel, MessageId, Option<Position>), Problem> {
        let id = id.parse().map_err(|error| Problem::invalid("invalid_message_id", error))?;
        let Some(channel) = self.0.get("channel") else {
            let detail = "say in which channel: ?channel=user:alice";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "missing_channel", detail));
        };
        let near = self.0.get("pos").map(|pos| pos.parse()).transpose();
        let near = near.map_err(|error| Problem::invalid("invalid_position", error))?;
        Ok((channel.parse()?, id, near))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let number = self.0.get(name).map(|text| text.parse()).transpose();
        number.map_err(|_| Problem::invalid("invalid_query", format!("\"{name}\" must be a number")))
    }
}
