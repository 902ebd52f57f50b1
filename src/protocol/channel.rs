//! What a message is addressed to, and who receives it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name behind `user:` or `topic:`, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// The longest device id, in bytes.
pub const DEVICE_BYTES_MAX: usize = 64;

/// What a message is addressed to: `user:alice`, `topic:orders.42` or `all`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// Text that names no channel, with what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The part before the colon is missing or unknown.
    #[error("a channel is 'user:NAME', 'topic:NAME' or 'all'")]
    Kind,
    /// The name is empty, too long, or holds characters that names cannot.
    #[error("a name is 1 to {NAME_BYTES_MAX} bytes without spaces or control characters")]
    Name,
    /// A topic's name holds a `*`, which means something else where topics are granted.
    #[error("a topic's name holds no '*': name one topic; only grants have patterns")]
    Wildcard,
}

impl Channel {
    /// The channel of one user.
    ///
    /// # Errors
    /// When `name` is no valid name.
    pub fn user(name: &str) -> Result<Self, ChannelError> {
        format!("user:{name}").parse()
    }

    /// The channel of one topic. The kind may be there already: `topic:orders.42`.
    ///
    /// # Errors
    /// When `name` is no valid name.
    pub fn topic(name: &str) -> Result<Self, ChannelError> {
        format!("topic:{}", name.strip_prefix("topic:").unwrap_or(name)).parse()
    }

    /// The channel of everyone.
    #[must_use]
    pub fn all() -> Self {
        static ALL: LazyLock<Channel> = LazyLock::new(|| Channel("all".into()));
        ALL.clone()
    }

    /// The whole text: `user:alice`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user whose channel this is, if it is one's.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        self.0.strip_prefix("user:")
    }

    /// The topic whose channel this is, if it is one's.
    #[must_use]
    pub fn topic_name(&self) -> Option<&str> {
        self.0.strip_prefix("topic:")
    }
}

pub(super) fn valid_name(name: &str, bytes_max: usize) -> bool {
    !name.is_empty() && name.len() <= bytes_max && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

impl FromStr for Channel {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self(text.into()));
        }
        let (kind, name) = text.split_once(':').ok_or(ChannelError::Kind)?;
        if !matches!(kind, "user" | "topic") {
            return Err(ChannelError::Kind);
        }
        if !valid_name(name, NAME_BYTES_MAX) {
            return Err(ChannelError::Name);
        }
        if kind == "topic" && name.contains('*') {
            return Err(ChannelError::Wildcard);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A client-chosen, stable name of one of a user's devices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(Arc<str>);

/// Text that cannot name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device is 1 to {DEVICE_BYTES_MAX} of A-Z a-z 0-9 . _ -, like 'phone'")]
pub struct DeviceError;

impl Device {
    /// The text as the client sent it, behind its user's name in a channel of
    /// many users.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device as a channel knows it: by its own name in its user's channel,
    /// and in any other behind that of its user, as `alice/phone`.
    #[must_use]
    pub fn within(&self, channel: &Channel, user: &Channel) -> Self {
        match user.user_name() {
            Some(name) if channel != user => Self(format!("{name}/{}", self.0).into()),
            _ => self.clone(),
        }
    }

    /// Whose it is, if [`within`](Self::within) says.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(user, _)| user)
    }

    /// A name as [`within`](Self::within) makes it: what the store kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_store(text: &str) -> Result<Self, DeviceError> {
        // A device's name has no slash; a user's may.
        let (user, device) =
            text.rsplit_once('/').map_or((None, text), |(user, device)| (Some(user), device));
        let valid = valid_device(device) && user.is_none_or(|user| valid_name(user, NAME_BYTES_MAX));
        if valid { Ok(Self(text.into())) } else { Err(DeviceError) }
    }
}

fn valid_device(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= DEVICE_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if valid_device(text) { Ok(Self(text.into())) } else { Err(DeviceError) }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_parse() {
        for text in ["user:alice", "user:auth0|5f7", "user:a:b", "user:a*b", "topic:orders.42", "all"] {
            assert_eq!(text.parse::<Channel>().map(|c| c.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Channel::user("alice").expect("valid").user_name(), Some("alice"));
        assert_eq!(Channel::topic("orders.42"), Channel::topic("topic:orders.42"));
        assert_eq!(Channel::topic("orders.42").expect("valid").topic_name(), Some("orders.42"));
        assert_eq!("all".parse(), Ok(Channel::all()));
    }

    #[test]
    fn other_text_is_refused() {
        let long = format!("user:{}", "a".repeat(NAME_BYTES_MAX + 1));
        for text in
            ["", "alice", "room:x", "user:", "user:a b", "user:a\nb", "all:x", "topic:a.*", long.as_str()]
        {
            assert!(text.parse::<Channel>().is_err(), "{text}");
        }
    }

    #[test]
    fn device_names_are_plain() {
        assert!("phone-2.a_B".parse::<Device>().is_ok());
        for text in ["", "a b", "a:b", "é", &"x".repeat(DEVICE_BYTES_MAX + 1)] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn where_users_meet_a_device_is_named_with_its_user() {
        let (alice, topic) = (Channel::user("a/b").expect("valid"), Channel::topic("t").expect("valid"));
        let phone: Device = "phone".parse().expect("valid");
        assert_eq!(phone.within(&alice, &alice), phone);
        let named = phone.within(&topic, &alice);
        assert_eq!((named.as_str(), phone.within(&Channel::all(), &alice)), ("a/b/phone", named.clone()));
        assert_eq!(Device::from_store("a/b/phone"), Ok(named));
        assert_eq!(Device::from_store("phone"), Ok(phone));
        for text in ["", "/phone", "alice/", "a b/phone", "alice/é"] {
            assert!(Device::from_store(text).is_err(), "{text}");
        }
    }
}
