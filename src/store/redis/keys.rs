//! The only place that spells keys.
//!
//! `PREFIX:x:{NAME}`: one letter for what it is, and the channel or node as the
//! hash tag, so that whatever one script touches is in one slot. Braces and
//! percent signs of a name are escaped, or they would end the tag.

use ::redis::Cmd;

use crate::protocol::{Channel, MessageId, NodeId};

const META: char = 'm';
const BOX: char = 'b';
/// The keys of a channel in the order of `prelude.lua`: meta, box, keys, expiries,
/// lineage, cursors.
const CHANNEL: [char; 6] = [META, BOX, 'k', 'x', 'e', 'c'];
const IDEMPOTENCY: char = 'i';
const ONLINE: char = 'o';
const ANSWERS: char = 'a';
const TICKET: char = 't';
const LOGOUT: char = 'r';
const STREAM: char = 'q';
const HEARTBEAT: char = 'h';
const LEASE: char = 'l';
const INDEX: char = 'd';

/// Spells keys under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Appends a channel's keys to a script call.
    pub(super) fn add_channel(&self, command: &mut Cmd, channel: &Channel) {
        let mut key = self.key(META, channel.as_str());
        let letter = self.prefix.len() + 1;
        for kind in CHANNEL {
            key.replace_range(letter..=letter, kind.encode_utf8(&mut [0; 4]));
            command.arg(&key);
        }
    }

    /// Appends the keys of a channel's meta and box.
    pub(super) fn add_mailbox(&self, command: &mut Cmd, channel: &Channel) {
        let mut key = self.key(META, channel.as_str());
        command.arg(&key);
        let letter = self.prefix.len() + 1;
        key.replace_range(letter..=letter, BOX.encode_utf8(&mut [0; 4]));
        command.arg(&key);
    }

    /// How many keys [`add_channel`](Self::add_channel) appends.
    pub(super) const CHANNEL_KEYS: usize = CHANNEL.len();

    pub(super) fn meta(&self, channel: &Channel) -> String {
        self.key(META, channel.as_str())
    }

    /// A glob of all metas.
    pub(super) fn metas(&self) -> String {
        format!("{}:{META}:{{*", self.prefix)
    }

    /// The channel whose meta this key is.
    pub(super) fn channel_of_meta(&self, key: &str) -> Option<Channel> {
        let tag = key.strip_prefix(&*self.prefix)?.strip_prefix(":m:{")?.strip_suffix('}')?;
        unescape(tag)?.parse().ok()
    }

    pub(super) fn idempotency(&self, channel: &Channel, key: &[u8; 16]) -> Vec<u8> {
        let mut bytes = self.key(IDEMPOTENCY, channel.as_str()).into_bytes();
        bytes.extend_from_slice(key);
        bytes
    }

    /// Whether a channel is online, as far as was told.
    pub(super) fn online(&self, channel: &Channel) -> String {
        self.key(ONLINE, channel.as_str())
    }

    /// What a ticket stands for.
    pub(super) fn ticket(&self, ticket: &[u8; 32]) -> String {
        let hex: String = ticket.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{TICKET}:{{{hex}}}", self.prefix)
    }

    /// When a user was last logged out.
    pub(super) fn logout(&self, user: &Channel) -> String {
        self.key(LOGOUT, user.as_str())
    }

    /// The answers to a question.
    pub(super) fn answers(&self, question: MessageId) -> String {
        format!("{}:{ANSWERS}:{{{question}}}", self.prefix)
    }

    pub(super) fn stream(&self, node: NodeId) -> String {
        self.node(STREAM, node)
    }

    pub(super) fn heartbeat(&self, node: NodeId) -> String {
        self.node(HEARTBEAT, node)
    }

    pub(super) fn lease(&self, node: NodeId) -> String {
        self.node(LEASE, node)
    }

    /// The channels whose directories name the node.
    pub(super) fn index(&self, node: NodeId) -> String {
        self.node(INDEX, node)
    }

    pub(super) fn registry(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Which life the data is in.
    pub(super) fn life(&self) -> String {
        format!("{}:life", self.prefix)
    }

    fn node(&self, kind: char, node: NodeId) -> String {
        format!("{}:{kind}:{{{node}}}", self.prefix)
    }

    fn key(&self, kind: char, name: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + name.len() + 8);
        key.push_str(&self.prefix);
        key.push(':');
        key.push(kind);
        key.push_str(":{");
        let mut rest = name;
        while let Some(at) = rest.find(['%', '{', '}']) {
            key.push_str(&rest[..at]);
            key.push_str(match rest.as_bytes()[at] {
                b'%' => "%25",
                b'{' => "%7B",
                _ => "%7D",
            });
            rest = &rest[at + 1..];
        }
        key.push_str(rest);
        key.push('}');
        key
    }
}

fn unescape(tag: &str) -> Option<String> {
    let mut parts = tag.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let rest = [("25", '%'), ("7B", '{'), ("7D", '}')]
            .into_iter()
            .find_map(|(code, c)| Some((c, part.strip_prefix(code)?)));
        let (c, rest) = rest?;
        name.push(c);
        name.push_str(rest);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What Redis hashes: the text between the first brace and the next closing one.
    fn tag(key: &str) -> &str {
        let rest = &key[key.find('{').expect("a tag") + 1..];
        &rest[..rest.find('}').expect("a tag's end")]
    }

    fn channel_keys(keys: &Keys, channel: &Channel) -> Vec<String> {
        let mut command = Cmd::new();
        keys.add_channel(&mut command, channel);
        let text = |arg| match arg {
            ::redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => panic!("a key"),
        };
        command.args_iter().map(text).collect()
    }

    proptest! {
        #[test]
        fn all_keys_of_a_channel_share_a_tag_and_meta_names_it(name in "[a-z{}%:é*0-9]{1,20}") {
            let keys = Keys::new("p");
            let channel = Channel::user(&name).expect("valid");
            let spelled = channel_keys(&keys, &channel);
            prop_assert_eq!(spelled.len(), Keys::CHANNEL_KEYS);
            prop_assert_eq!(&spelled[0], &keys.meta(&channel));
            let idempotency = keys.idempotency(&channel, &[b'}'; 16]);
            for key in spelled.iter().map(String::as_str).chain([&*String::from_utf8_lossy(&idempotency)]) {
                prop_assert_eq!(tag(key), tag(&spelled[0]));
            }
            let distinct: std::collections::HashSet<_> = spelled.iter().collect();
            prop_assert_eq!(distinct.len(), spelled.len());
            prop_assert_eq!(keys.channel_of_meta(&spelled[0]), Some(channel));
        }

        #[test]
        fn two_channels_never_share_a_tag(a in "[a{}%7BD25]{1,6}", b in "[a{}%7BD25]{1,6}") {
            let keys = Keys::new("p");
            let meta = |name: &str| keys.meta(&Channel::user(name).expect("valid"));
            prop_assert_eq!(a == b, tag(&meta(&a)) == tag(&meta(&b)));
        }
    }

    /// Every key that a channel and a node have under a prefix.
    fn all_keys(prefix: &str, channel: &Channel, node: NodeId) -> Vec<Vec<u8>> {
        let keys = Keys::new(prefix);
        let mut all: Vec<_> = channel_keys(&keys, channel).into_iter().map(String::into_bytes).collect();
        all.push(keys.idempotency(channel, &[b':'; 16]));
        let question = MessageId::from_bits(1);
        all.extend(
            [
                keys.online(channel),
                keys.answers(question),
                keys.stream(node),
                keys.heartbeat(node),
                keys.lease(node),
                keys.index(node),
                keys.registry(),
                keys.life(),
            ]
            .map(String::into_bytes),
        );
        all
    }

    /// Any name that is one, with the letters that keys are made of among it.
    fn name() -> impl Strategy<Value = Channel> {
        let odd = "[{}%:*?\\[\\]mbkxecioaqhld.7BD25]{1,12}";
        let long = proptest::collection::vec("[a{}%é]", crate::protocol::NAME_BYTES_MAX / 2)
            .prop_map(|parts| parts.concat());
        prop_oneof![4 => odd, 2 => "\\PC{1,40}", 1 => long]
            .prop_filter_map("no name", |name| Channel::user(&name).ok())
    }

    proptest! {
        #[test]
        fn no_name_leads_to_a_key_of_another_channel_or_cluster(
            (a, b) in ("[abm:._-]{1,5}", "[abm:._-]{1,5}"), (one, other) in (name(), name()),
        ) {
            let node = NodeId::from_bits(7);
            let (of_a, of_b) = (all_keys(&a, &one, node), all_keys(&b, &other, node));
            for key in &of_a {
                prop_assert!(key.starts_with(format!("{a}:").as_bytes()), "what rules of access go by");
            }
            if a != b {
                prop_assert!(of_a.iter().all(|key| !of_b.contains(key)), "{a} and {b}");
            } else if one != other {
                let of_channel = Keys::CHANNEL_KEYS + 2;
                prop_assert!(of_a[..of_channel].iter().all(|key| !of_b.contains(key)), "{one} and {other}");
            }
            let meta = Keys::new(&a).meta(&one);
            prop_assert_eq!(Keys::new(&b).channel_of_meta(&meta).is_some(), a == b);
        }
    }

    #[test]
    fn what_would_end_a_key_is_no_name() {
        let long = "n".repeat(crate::protocol::NAME_BYTES_MAX + 1);
        for name in ["", "a\0b", "a b", "a\r\nFLUSHALL", "a\u{2028}b", &long] {
            assert!(Channel::user(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn foreign_keys_name_no_channel() {
        let keys = Keys::new("p");
        for key in ["p:b:{user:a}", "q:m:{user:a}", "p:m:{user:a", "p:m:{user:%41}", "p:m:{nobody}"] {
            assert_eq!(keys.channel_of_meta(key), None, "{key}");
        }
    }
}
