//! Close codes: one table whose ranges say what a client does next.
//!
//! | range | client |
//! |---|---|
//! | 4000–4099 | stay away: reconnecting as you are cannot help |
//! | 4100–4199 | reconnect, backing off |
//! | 4200–4299 | reconnect now |
//! | 4400–4499 | stay away until you have a new token |
//! | 1001, 1011, 1012, 1013 | reconnect, backing off |
//! | 1002, 1003, 1007, 1008, 1009 | stay away: your last frame was at fault |

/// Why a session is closed, as the client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every code this program sends.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code's stable name, for metrics and logs.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self.0 {
                    $($code => $label,)*
                    _ => "other",
                }
            }
        }
    };
}

close_codes! {
    /// Everything went as planned.
    NORMAL = 1000, "normal";
    /// The node goes away for good.
    GOING_AWAY = 1001, "going_away";
    /// The peer broke RFC 6455.
    PROTOCOL = 1002, "protocol";
    /// A binary message, which no dialect here uses.
    UNSUPPORTED = 1003, "unsupported";
    /// Text that is not UTF-8.
    INVALID_DATA = 1007, "invalid_data";
    /// A frame or message above the limit.
    TOO_BIG = 1009, "too_big";
    /// Our fault.
    INTERNAL = 1011, "internal";
    /// The node restarts; another one takes over.
    RESTART = 1012, "restart";
    /// The node has all the connections it can bear.
    OVERLOADED = 1013, "overloaded";
    /// An operator or backend closed the session.
    DISCONNECTED = 4000, "disconnected";
    /// The handshake asked for something that cannot be: the reason says what.
    BAD_HANDSHAKE = 4002, "bad_handshake";
    /// A page of an origin that is not allowed.
    ORIGIN = 4001, "origin";
    /// The session read too slowly; its mailbox keeps what it missed.
    SLOW = 4101, "slow";
    /// No pong came back in time.
    UNRESPONSIVE = 4102, "unresponsive";
    /// The store was away while the session was being set up.
    STORE_AWAY = 4103, "store_away";
    /// The user has all the sessions that one may have.
    USER_LIMIT = 4104, "user_limit";
    /// The node asks the client to connect elsewhere at once.
    MOVED = 4200, "moved";
    /// The token has ended, and no fresh one came.
    EXPIRED = 4401, "expired";
    /// The token is missing or not valid.
    TOKEN = 4403, "token";
    /// The token does not allow a topic that was asked for.
    TOPIC = 4404, "topic";
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// A code as a peer sent it, if RFC 6455 lets an endpoint send it.
    #[must_use]
    pub fn from_peer(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_may_be_sent_and_has_a_name_of_its_own() {
        let mut labels: Vec<_> = CloseCode::ALL.iter().map(|code| code.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), CloseCode::ALL.len());
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_peer(code.get()), Some(*code));
        }
    }

    #[test]
    fn codes_that_must_not_be_on_the_wire_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert_eq!(CloseCode::from_peer(code), None, "{code}");
        }
    }
}
