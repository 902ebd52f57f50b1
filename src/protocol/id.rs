//! Identifiers: ULIDs that cannot be taken for one another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// Text that is no ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a ULID: 26 characters of Crockford base 32, like 01JZ8Q6V3M5N8R2T4W6Y8A0B2C")]
pub struct ParseIdError(String);

macro_rules! ulid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A fresh id, unique and sortable by time of creation.
            #[must_use]
            pub fn generate() -> Self {
                Self(Ulid::generate())
            }

            /// The id of these 128 bits.
            #[must_use]
            pub fn from_bits(bits: u128) -> Self {
                Self(Ulid(bits))
            }

            /// The id's 128 bits.
            #[must_use]
            pub fn bits(self) -> u128 {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // The input may be hostile and is echoed: keep the echo short.
                Ulid::from_string(text)
                    .map(Self)
                    .map_err(|_| ParseIdError(text.chars().take(32).collect()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

ulid_newtype!(
    /// One process's name in the cluster; fresh at every start and rejoin.
    NodeId
);
ulid_newtype!(
    /// One message's name: what receivers de-duplicate by.
    MessageId
);
ulid_newtype!(
    /// One live socket's name.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let id = MessageId::generate();
        assert_eq!(id.to_string().parse::<MessageId>().as_ref(), Ok(&id));
        assert_eq!(MessageId::from_bits(id.bits()), id);
    }

    #[test]
    fn other_text_is_refused_with_an_example() {
        let error = "user1".parse::<NodeId>().expect_err("not a ULID");
        assert!(error.to_string().contains("'user1' is not a ULID"));
    }
}
