//! What a request says.

use serde::Serialize;

use crate::delivery::{Event, Kind, News};
use crate::protocol::rest::rfc3339;
use crate::protocol::{Channel, MessageId, NodeId, Position};

/// The name of a kind of news, in bodies and settings.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Online => "online",
        Kind::Offline => "offline",
        Kind::Delivered => "delivered",
        Kind::Expired => "expired",
    }
}

/// The kind of a piece of news.
pub(super) fn kind(event: &Event) -> Kind {
    match event {
        Event::Online => Kind::Online,
        Event::Offline => Kind::Offline,
        Event::Delivered { .. } => Kind::Delivered,
        Event::Expired { .. } => Kind::Expired,
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Presence { channel: &'a Channel, node: NodeId },
    Delivered { channel: &'a Channel, device: Option<&'a str>, pos: Position },
    Expired { channel: &'a Channel, id: MessageId, pos: Position, accepted_at: String, expires_at: String },
}

/// The body of the request that tells it.
pub(super) fn body(news: &News) -> Vec<u8> {
    let channel = &news.channel;
    let data = match &news.event {
        Event::Online | Event::Offline => Data::Presence { channel, node: news.node },
        Event::Delivered { device, position } => {
            Data::Delivered { channel, device: device.as_ref().map(|device| device.as_str()), pos: *position }
        }
        Event::Expired { id, position, accepted_at_ms, expires_at_ms } => Data::Expired {
            channel,
            id: *id,
            pos: *position,
            accepted_at: rfc3339(*accepted_at_ms),
            expires_at: rfc3339(*expires_at_ms),
        },
    };
    let body = Body { r#type: name(kind(&news.event)), timestamp: rfc3339(news.at_ms), data };
    serde_json::to_vec(&body).expect("texts and numbers")
}
