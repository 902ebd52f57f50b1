//! What a handshake asks for, and whether it may have it. Pure.

use warp::http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use warp::http::{HeaderMap, HeaderValue, Uri};

use crate::delivery::Asked;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, From, SUBPROTOCOL};
use crate::protocol::{Device, Position};
use crate::session::Identity;

use super::auth::{AuthError, Authenticator};
use super::credentials::{Presented, presented};

/// What a client asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) dialect: Dialect,
    /// What to answer of the subprotocols offered.
    pub(super) subprotocol: Option<HeaderValue>,
    pub(super) device: Option<Device>,
    /// Topics, and where to begin, as far as the query says so.
    pub(super) asked: Asked,
    /// Where to begin in the user's own channel, if the query says so.
    pub(super) position: Option<Position>,
    /// Whether a `resume` frame will say where to begin.
    pub(super) resume: bool,
    presented: Result<Option<Presented>, AuthError>,
    /// What in the query cannot be used.
    fault: Option<&'static str>,
}

/// Whether a client may have what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Enter(Identity),
    /// It showed no token yet.
    Await,
    /// It may not.
    Refuse(CloseCode, String),
}

impl Wish {
    /// Reads headers and query. Nothing here fails: faults are told to the
    /// client by [`Wish::admission`].
    pub(super) fn read(headers: &HeaderMap, query: &str) -> Self {
        let (dialect, subprotocol) = negotiate(headers);
        let mut wish = Self {
            dialect,
            subprotocol,
            device: None,
            asked: Asked::default(),
            position: None,
            resume: false,
            presented: presented(headers, Some(query)),
            fault: None,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            wish.take(&name, &value);
        }
        wish
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            "device" => match value.parse() {
                Ok(device) => self.device = Some(device),
                Err(_) => self.fault = Some("?device= is 1 to 64 of A-Z a-z 0-9 . _ -, like 'phone'"),
            },
            "from" => match value {
                "now" => self.asked.from = Some(From::Now),
                "oldest" => self.asked.from = Some(From::Oldest),
                _ => self.fault = Some("?from= is 'now' or 'oldest'"),
            },
            "pos" => match value.parse::<Position>() {
                Ok(position) => self.position = Some(position),
                Err(_) => self.fault = Some("?pos= must be the \"pos\" of a message, unchanged"),
            },
            "topic" => self.asked.topics.push(value.to_owned()),
            "resume" if value == "1" => {
                self.resume = self.dialect == Dialect::Envelope;
                if !self.resume {
                    self.fault =
                        Some("?resume=1 needs the subprotocol postrider.v1+json; plain clients use ?device=");
                }
            }
            _ => {}
        }
    }

    /// Decides, `allowed_origins` being those whose pages may use cookies.
    pub(super) fn admission(
        &self,
        headers: &HeaderMap,
        authenticator: &Authenticator,
        allowed_origins: &[String],
    ) -> Admission {
        if let Some(fault) = self.fault {
            return Admission::Refuse(CloseCode::BAD_HANDSHAKE, fault.into());
        }
        let presented = match &self.presented {
            Ok(Some(presented)) => presented,
            Ok(None) => return Admission::Await,
            Err(error) => return Admission::Refuse(CloseCode::TOKEN, error.to_string()),
        };
        // A browser adds cookies whatever page asks, so the page counts.
        if presented.source.is_ambient() && !origin_allowed(headers, allowed_origins) {
            let reason = "pages of this origin may not connect; list it in allowed_origins";
            return Admission::Refuse(CloseCode::ORIGIN, reason.into());
        }
        match authenticator.user(&presented.token) {
            Ok(identity) => Admission::Enter(Identity {
                user: identity.user,
                device: self.device.clone(),
                topics: identity.topics,
            }),
            Err(error) => Admission::Refuse(CloseCode::TOKEN, error.to_string()),
        }
    }
}

/// The dialect, and the one offered subprotocol to answer with: a browser fails
/// the connection when it offered some and none comes back.
fn negotiate(headers: &HeaderMap) -> (Dialect, Option<HeaderValue>) {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    if offered.contains(&SUBPROTOCOL) {
        return (Dialect::Envelope, Some(HeaderValue::from_static(SUBPROTOCOL)));
    }
    let bearer = offered.iter().find(|name| name.starts_with("bearer."));
    (Dialect::Plain, bearer.and_then(|name| HeaderValue::from_str(name).ok()))
}

/// Whether the page that opened this connection may. No `Origin`: not a page.
fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Some(page) = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned()) else {
        return false;
    };
    let own = host.parse::<warp::http::uri::Authority>().ok();
    // Cookies do not know ports: whoever serves this machine's pages is trusted
    // with this machine's cookies already.
    let both_loopback = is_loopback(page.host()) && own.as_ref().is_some_and(|own| is_loopback(own.host()));
    page.as_str().eq_ignore_ascii_case(host) || both_loopback
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::super::auth::AuthOptions;
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    fn admission(pairs: &[(&'static str, &str)], query: &str) -> Admission {
        let headers = headers(pairs);
        let allowed = ["https://app.example".to_owned()];
        Wish::read(&headers, query).admission(&headers, &Authenticator::new(&AuthOptions::None), &allowed)
    }

    fn refused_with(admission: &Admission) -> Option<CloseCode> {
        match admission {
            Admission::Refuse(code, _) => Some(*code),
            _ => None,
        }
    }

    #[test]
    fn a_cookie_names_the_user_and_the_query_the_device() {
        let admission = admission(&[("cookie", "a=b; token=user1")], "device=phone");
        let Admission::Enter(identity) = admission else { panic!("{admission:?}") };
        assert_eq!(identity.user.as_str(), "user:user1");
        assert_eq!(identity.device.map(|device| device.to_string()).as_deref(), Some("phone"));
    }

    #[test]
    fn without_a_token_the_first_frame_is_awaited() {
        assert_eq!(admission(&[], ""), Admission::Await);
    }

    #[test]
    fn a_foreign_page_may_not_use_a_users_cookie() {
        let foreign =
            [("cookie", "token=user1"), ("host", "push.example"), ("origin", "https://evil.example")];
        assert_eq!(refused_with(&admission(&foreign, "")), Some(CloseCode::ORIGIN));
        for origin in ["https://app.example", "https://push.example"] {
            let own = [("cookie", "token=user1"), ("host", "push.example"), ("origin", origin)];
            assert_eq!(refused_with(&admission(&own, "")), None, "{origin}");
        }
        let query = [("host", "push.example"), ("origin", "https://evil.example")];
        assert_eq!(refused_with(&admission(&query, "token=user1")), None);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for query in ["device=a%20b", "from=then", "pos=7", "resume=1"] {
            let admission = admission(&[("cookie", "token=user1")], query);
            assert_eq!(refused_with(&admission), Some(CloseCode::BAD_HANDSHAKE), "{query}");
        }
    }

    #[test]
    fn envelopes_are_spoken_to_who_offers_them() {
        let (dialect, answer) =
            negotiate(&headers(&[("sec-websocket-protocol", "bearer.eA, postrider.v1+json")]));
        assert_eq!(
            (dialect, answer.as_ref().map(HeaderValue::as_bytes)),
            (Dialect::Envelope, Some(SUBPROTOCOL.as_bytes()))
        );
        assert_eq!(negotiate(&HeaderMap::new()), (Dialect::Plain, None));
    }
}
