//! Which channels somebody may use.
//!
//! A [`Pattern`] is a channel, byte for byte, or the beginning of channels with
//! a `*` for the rest. The `*` is the last character, and what stands before it
//! is no letter or digit: `orders.*` can be granted, while `orders.4*`, which
//! would mean `orders.42` as well, is a mistake and refused. There is no other
//! wildcard and nothing to escape; a name that holds a `*` (a user's may) is
//! matched by a beginning alone. A [`Grant`] is a short list of patterns.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::channel::valid_name;
use super::{Channel, ChannelError, NAME_BYTES_MAX};

/// Patterns in one grant: what a token of 8 KiB holds if they are not very long.
pub const PATTERNS_MAX: usize = 64;

/// One channel (`user:alice`, `topic:orders.42`, `all`), or all with one
/// beginning (`user:*`, `topic:orders.*`, `*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

/// Text that is no pattern, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It names neither a channel nor the beginning of one.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A `*` in the middle, or more than one.
    #[error("a '*' stands for the rest of a name: only as the last character, as in 'orders.*'")]
    Wildcard,
    /// A `*` behind a letter or digit.
    #[error(
        "a '*' stands alone or behind a separator, as in 'orders.*': 'orders.4*' would be 'orders.42' too"
    )]
    Separator,
    /// More than a grant holds.
    #[error("a grant has at most {PATTERNS_MAX} patterns: use a beginning, as in 'orders.*'")]
    Many,
}

impl Pattern {
    /// The pattern of topics, written as their names are: `orders.42`,
    /// `orders.*`, `*`. The kind may be there, too: `topic:orders.42`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn topic(text: &str) -> Result<Self, PatternError> {
        format!("topic:{}", text.strip_prefix("topic:").unwrap_or(text)).parse()
    }

    /// Whether `channel` is one of those meant.
    #[must_use]
    pub fn matches(&self, channel: &Channel) -> bool {
        let channel = channel.as_str();
        match self.0.strip_suffix('*') {
            Some(beginning) => channel.len() > beginning.len() && channel.starts_with(beginning),
            None => *self.0 == *channel,
        }
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(beginning) = text.strip_suffix('*') else {
            if text.contains('*') {
                return Err(PatternError::Wildcard);
            }
            return Ok(Self(text.parse::<Channel>()?.as_str().into()));
        };
        if beginning.contains('*') {
            return Err(PatternError::Wildcard);
        }
        if beginning.is_empty() {
            return Ok(Self(text.into()));
        }
        let (kind, name) = beginning.split_once(':').ok_or(ChannelError::Kind)?;
        if !matches!(kind, "user" | "topic") {
            return Err(ChannelError::Kind.into());
        }
        if !name.is_empty() && !valid_name(name, NAME_BYTES_MAX) {
            return Err(ChannelError::Name.into());
        }
        if name.ends_with(char::is_alphanumeric) {
            return Err(PatternError::Separator);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The channels that somebody may use: those that any of a few patterns means.
/// The default is none. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grant(Option<Arc<[Pattern]>>);

impl Grant {
    /// What these patterns mean.
    ///
    /// # Errors
    /// When there are more than [`PATTERNS_MAX`].
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, PatternError> {
        if patterns.len() > PATTERNS_MAX {
            return Err(PatternError::Many);
        }
        Ok(Self((!patterns.is_empty()).then(|| patterns.into())))
    }

    /// Every channel.
    #[must_use]
    pub fn everything() -> Self {
        static EVERYTHING: LazyLock<Grant> =
            LazyLock::new(|| Grant(Some(Arc::new([Pattern(Box::from("*"))]))));
        EVERYTHING.clone()
    }

    /// Topics, written as [`Pattern::topic`] takes them: a token's claim.
    ///
    /// # Errors
    /// What is wrong with the first that is no pattern, or when there are too many.
    pub fn topics<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        // One more than may be, so that a hostile list is not read to its end.
        let patterns: Result<Vec<_>, _> =
            names.into_iter().take(PATTERNS_MAX + 1).map(Pattern::topic).collect();
        Self::new(patterns?)
    }

    /// Whether `channel` may be used.
    #[must_use]
    pub fn allows(&self, channel: &Channel) -> bool {
        self.patterns().iter().any(|pattern| pattern.matches(channel))
    }

    /// The patterns, as they were given.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.patterns()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn channel(text: &str) -> Channel {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_pattern_means_one_channel_or_all_with_one_beginning() {
        for (text, meant, not_meant) in [
            ("topic:orders.42", vec!["topic:orders.42"], vec!["topic:orders.421", "topic:orders.4", "all"]),
            (
                "topic:orders.*",
                vec!["topic:orders.42", "topic:orders.4.2"],
                vec!["topic:orders.", "topic:orders"],
            ),
            ("topic:*", vec!["topic:orders.42"], vec!["user:orders.42", "all"]),
            ("user:*", vec!["user:alice", "user:a*b"], vec!["topic:alice", "all"]),
            ("user:auth0|*", vec!["user:auth0|5"], vec!["user:auth0"]),
            ("all", vec!["all"], vec!["user:all", "topic:all"]),
            ("*", vec!["all", "user:alice", "topic:orders.42"], vec![]),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), text);
            meant.iter().for_each(|meant| assert!(pattern.matches(&channel(meant)), "{text} {meant}"));
            not_meant.iter().for_each(|other| assert!(!pattern.matches(&channel(other)), "{text} {other}"));
        }
    }

    #[test]
    fn what_could_mean_more_than_was_thought_is_refused_with_what_to_write() {
        use PatternError::{Channel as Other, Separator, Wildcard};
        let long = format!("topic:{}.*", "a".repeat(NAME_BYTES_MAX));
        for (text, error) in [
            ("topic:orders.4*", Separator),
            ("topic:é*", Separator),
            ("user:alice*", Separator),
            ("topic:*.42", Wildcard),
            ("topic:a.**", Wildcard),
            ("**", Wildcard),
            ("user:a*b", Wildcard),
            ("", Other(ChannelError::Kind)),
            ("al*", Other(ChannelError::Kind)),
            ("all:*", Other(ChannelError::Kind)),
            ("room:*", Other(ChannelError::Kind)),
            ("topic:", Other(ChannelError::Name)),
            ("topic:a .*", Other(ChannelError::Name)),
            ("topic:a\n.*", Other(ChannelError::Name)),
            (long.as_str(), Other(ChannelError::Name)),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn topics_may_be_written_with_their_kind_or_without() {
        for (text, whole) in
            [("orders.42", "topic:orders.42"), ("topic:orders.*", "topic:orders.*"), ("*", "topic:*")]
        {
            assert_eq!(Pattern::topic(text).map(|pattern| pattern.to_string()).as_deref(), Ok(whole));
        }
        // Whatever stands there, only topics are meant.
        for text in ["all", "user:alice", "user:*", "*"] {
            let pattern = Pattern::topic(text).expect("valid");
            assert!(!pattern.matches(&channel("all")) && !pattern.matches(&channel("user:alice")), "{text}");
        }
    }

    #[test]
    fn a_grant_is_the_sum_of_its_patterns_and_bounded() {
        let grant = Grant::topics(["orders.*", "news"]).expect("valid");
        for (text, allowed) in
            [("topic:orders.42", true), ("topic:news", true), ("topic:new", false), ("all", false)]
        {
            assert_eq!(grant.allows(&channel(text)), allowed, "{text}");
        }
        assert!(!Grant::default().allows(&channel("all")));
        assert!(Grant::everything().allows(&channel("all")));
        let many = |count| Grant::topics(std::iter::repeat_n("news", count));
        assert_eq!(many(PATTERNS_MAX).map(|grant| grant.patterns().len()), Ok(PATTERNS_MAX));
        assert_eq!(many(PATTERNS_MAX + 1), Err(PatternError::Many));
        assert_eq!(Grant::topics([]), Ok(Grant::default()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_that_prints_as_itself_or_is_refused(text in "(user:|topic:|all|\\PC)?[a.*:/ é]{0,8}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.as_str(), &*text);
                let json = serde_json::to_string(&pattern).expect("a string");
                prop_assert_eq!(serde_json::from_str::<Pattern>(&json).expect("itself"), pattern);
            }
        }

        #[test]
        fn a_topic_pattern_never_means_anything_else_than_topics(text in "[a-z.*:/]{0,8}", name in "[a-z.:/]{1,8}") {
            if let Ok(pattern) = Pattern::topic(&text) {
                prop_assert!(!pattern.matches(&Channel::user(&name).expect("valid")));
                prop_assert!(!pattern.matches(&Channel::all()));
            }
        }

        #[test]
        fn a_channel_means_itself_and_every_beginning_of_it_means_it(name in "[a-z]{1,4}[.:/|]([a-z]|[.:/|]){1,8}") {
            let channel = Channel::topic(&name).expect("valid");
            prop_assert!(pattern(channel.as_str()).matches(&channel));
            for (at, c) in name.char_indices().filter(|(at, _)| at + 1 < name.len()) {
                let beginning = format!("topic:{}*", &name[..=at]);
                match beginning.parse::<Pattern>() {
                    Ok(pattern) => prop_assert!(!c.is_alphanumeric() && pattern.matches(&channel)),
                    Err(error) => prop_assert!(c.is_alphanumeric() && error == PatternError::Separator),
                }
            }
        }
    }
}
