//! What a handshake asks for, and whether it may have it.

use warp::http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use warp::http::{HeaderMap, HeaderValue, Uri};

use crate::delivery::Asked;
use crate::protocol::close::CloseCode;
use crate::protocol::event_id::EventId;
use crate::protocol::frame::{Dialect, From, SUBPROTOCOL};
use crate::protocol::{Device, Position};
use crate::session::Identity;

use super::auth::{self, AuthError};
use super::credentials::{Presented, presented};
use super::gate::Gate;

/// The header in which the client of an event stream says what it had last.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// The header in which browsers say what a page has to do with us.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

const BAD_LAST_EVENT_ID: &str = "Last-Event-ID must be the id of an event of this stream, unchanged";
const BAD_POSITIONS: &str = "?positions= must be JSON like {\"user:alice\": \"…\"}, each position unchanged";
const BAD_POSITION: &str = "?pos= must be the \"pos\" of a message, unchanged";

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
    /// What a hook may be told of the handshake, should a frame hold a token.
    pub(super) hooked: Option<HeaderMap>,
    presented: Result<Option<Presented>, AuthError>,
    /// What in the query cannot be used.
    fault: Option<&'static str>,
}

/// Whether a client may have what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Enter(Admitted),
    /// It showed no token yet; or its browser did, and a frame may still hold
    /// another, which would count.
    Await(Option<Result<Admitted, Refusal>>),
    /// It may not.
    Refuse(Refusal),
}

/// Whose a session is, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) identity: Identity,
    /// When what let it in ends: seconds since 1970.
    pub(super) expires_at: Option<u64>,
    /// When that was issued: milliseconds since 1970.
    pub(super) issued_at_ms: Option<u64>,
}

/// What a client is turned away with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Its name among the reasons for which connections are refused.
    pub(super) fn label(&self) -> &'static str {
        match self.code {
            CloseCode::OVERLOADED => "auth",
            CloseCode::ORIGIN => "origin",
            CloseCode::TOKEN => "token",
            _ => "handshake",
        }
    }
}

impl std::convert::From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::new(error.close_code(), error.to_string())
    }
}

impl Wish {
    /// Reads headers and query. Nothing here fails: faults are told to the
    /// client by [`Wish::admission`].
    pub(super) fn socket(headers: &HeaderMap, query: &str) -> Self {
        let (dialect, subprotocol) = negotiate(headers);
        Self::read(headers, query, dialect, subprotocol)
    }

    /// The same of a request for an event stream. A browser reconnects to the
    /// address it was given first: the header is the later word.
    pub(super) fn events(headers: &HeaderMap, query: &str) -> Self {
        let mut wish = Self::read(headers, query, Dialect::Events, None);
        if let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
            wish.asked.positions.clear();
            wish.resume_behind(id.to_str().unwrap_or_default(), BAD_LAST_EVENT_ID);
        }
        wish
    }

    fn read(headers: &HeaderMap, query: &str, dialect: Dialect, subprotocol: Option<HeaderValue>) -> Self {
        let mut wish = Self {
            dialect,
            subprotocol,
            device: None,
            asked: Asked::default(),
            position: None,
            resume: false,
            hooked: None,
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
            "positions" if self.dialect == Dialect::Events => match serde_json::from_str(value) {
                Ok(positions) => self.asked.positions = positions,
                Err(_) => self.fault = Some(BAD_POSITIONS),
            },
            "pos" if self.dialect == Dialect::Events => self.resume_behind(value, BAD_POSITION),
            "pos" => match value.parse::<Position>() {
                Ok(position) => self.position = Some(position),
                Err(_) => self.fault = Some(BAD_POSITION),
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

    fn resume_behind(&mut self, id: &str, fault: &'static str) {
        match id.parse::<EventId>() {
            Ok(id) => self.asked.last = Some(id),
            Err(_) => self.fault = Some(fault),
        }
    }

    /// Decides.
    pub(super) async fn admission(&self, headers: &HeaderMap, gate: &Gate) -> Admission {
        if let Some(fault) = self.fault {
            return Admission::Refuse(Refusal::new(CloseCode::BAD_HANDSHAKE, fault));
        }
        let presented = match &self.presented {
            Ok(presented) => presented.as_ref(),
            Err(error) => return Admission::Refuse((*error).into()),
        };
        let Some(whose) = gate.handshake(presented, headers).await else { return Admission::Await(None) };
        let whose = whose.and_then(|token| self.admit(token));
        let ambient = presented.is_none_or(|presented| presented.source.is_ambient());
        match whose {
            // What the client says itself beats what its browser adds.
            whose if ambient && self.resume && gate.bars(headers).is_none() => Admission::Await(Some(whose)),
            Ok(admitted) => Admission::Enter(admitted),
            Err(refusal) => Admission::Refuse(refusal),
        }
    }

    /// What a token lets in, if it may be used here.
    pub(super) fn admit(&self, token: auth::Identity) -> Result<Admitted, Refusal> {
        let device = match (token.device, &self.device) {
            (Some(of_token), Some(named)) if of_token != *named => return Err(AuthError::OtherDevice.into()),
            (of_token, named) => of_token.or_else(|| named.clone()),
        };
        let identity = Identity { user: token.user, device, topics: token.topics };
        Ok(Admitted { identity, expires_at: token.expires_at, issued_at_ms: token.issued_at_ms })
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

/// Whether the page that opened this connection may. Browsers send no `Origin`
/// with links, images and the like, cookies included, but say then how the page's
/// site is related to ours. Who says neither is no page.
///
/// A node that anyone may use trusts no page for having the same host as itself:
/// a name that somebody points at this machine has that, too.
pub(super) fn origin_allowed(headers: &HeaderMap, allowed: &[String], open: bool) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        // `none`: the address was typed, or opened from outside of any page.
        let own = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
        return headers.get(SEC_FETCH_SITE).is_none_or(own);
    };
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
    both_loopback || (!open && page.as_str().eq_ignore_ascii_case(host))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::super::auth::{AuthOptions, Authenticator, Guards};
    use super::*;
    use crate::metrics::Metrics;
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn gate(options: &AuthOptions) -> Gate {
        let metrics = Metrics::new("0", "memory");
        let authenticator = Authenticator::new(options, &metrics, &tokio_util::task::TaskTracker::new());
        let store = std::sync::Arc::new(crate::store::memory::Store::new(crate::store::Limits::default()));
        Gate::new(authenticator.expect("usable"), store, vec!["https://app.example".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    fn none() -> Gate {
        gate(&AuthOptions::None)
    }

    fn guarded() -> Gate {
        let secrets = vec![SECRET.to_owned()];
        gate(&AuthOptions::Guarded(Box::new(Guards { secrets, ..Guards::default() })))
    }

    fn token(claims: serde_json::Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signed")
    }

    async fn admission(gate: &Gate, pairs: &[(&'static str, &str)], query: &str) -> Admission {
        let headers = headers(pairs);
        Wish::socket(&headers, query).admission(&headers, gate).await
    }

    fn refused_with(admission: &Admission) -> Option<CloseCode> {
        match admission {
            Admission::Refuse(refusal) | Admission::Await(Some(Err(refusal))) => Some(refusal.code),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_cookie_names_the_user_and_the_query_the_device() {
        let admission = admission(&none(), &[("cookie", "a=b; token=user1")], "device=phone").await;
        let Admission::Enter(Admitted { identity, .. }) = admission else { panic!("{admission:?}") };
        assert_eq!(identity.user.as_str(), "user:user1");
        assert_eq!(identity.device.map(|device| device.to_string()).as_deref(), Some("phone"));
    }

    #[tokio::test]
    async fn a_token_may_be_for_one_device_only() {
        let token = token(json!({"sub": "ann", "device": "phone"}));
        for (query, expected) in [("", Some("phone")), ("device=phone", Some("phone")), ("device=tv", None)] {
            let admission =
                admission(&guarded(), &[("authorization", &format!("Bearer {token}"))], query).await;
            let device = match &admission {
                Admission::Enter(admitted) => admitted.identity.device.as_ref().map(Device::as_str),
                _ => None,
            };
            assert_eq!(device, expected, "{query}: {admission:?}");
        }
    }

    #[tokio::test]
    async fn without_a_token_the_first_frame_is_awaited() {
        assert_eq!(admission(&none(), &[], "").await, Admission::Await(None));
    }

    #[tokio::test]
    async fn a_cookie_only_stands_by_while_a_frame_may_hold_a_token() {
        let envelope = ("sec-websocket-protocol", SUBPROTOCOL);
        for (cookie, good) in [("token=user1", true), ("token=a%20b", false)] {
            let admission = admission(&none(), &[("cookie", cookie), envelope], "resume=1").await;
            let Admission::Await(Some(whose)) = admission else { panic!("{admission:?}") };
            assert_eq!(whose.is_ok(), good);
        }
        let said = [("cookie", "token=user1"), ("authorization", "Bearer user2"), envelope];
        let admission = admission(&none(), &said, "resume=1").await;
        assert!(matches!(&admission, Admission::Enter(one) if one.identity.user.as_str() == "user:user2"));
    }

    #[tokio::test]
    async fn a_foreign_page_may_not_use_a_users_cookie() {
        let cookie = format!("token={}", token(json!({"sub": "ann"})));
        let foreign = [("cookie", &*cookie), ("host", "push.example"), ("origin", "https://evil.example")];
        assert_eq!(refused_with(&admission(&guarded(), &foreign, "").await), Some(CloseCode::ORIGIN));
        let alike = ["https://push.example.evil", "https://app.example:8443", "http://app.example", "null"];
        for origin in alike {
            let page = [("cookie", &*cookie), ("host", "push.example"), ("origin", origin)];
            assert_eq!(
                refused_with(&admission(&guarded(), &page, "").await),
                Some(CloseCode::ORIGIN),
                "{origin}"
            );
        }
        for origin in ["https://app.example", "https://push.example"] {
            let own = [("cookie", &*cookie), ("host", "push.example"), ("origin", origin)];
            assert_eq!(refused_with(&admission(&guarded(), &own, "").await), None, "{origin}");
        }
        let query = [("host", "push.example"), ("origin", "https://evil.example")];
        let said = format!("token={}", token(json!({"sub": "ann"})));
        assert_eq!(refused_with(&admission(&guarded(), &query, &said).await), None);
    }

    #[tokio::test]
    async fn where_a_token_is_only_a_name_no_foreign_page_may_say_one() {
        for host in ["127.0.0.1:8080", "evil.example:8080"] {
            let page = [("host", host), ("origin", "http://evil.example:8080")];
            assert_eq!(refused_with(&admission(&none(), &page, "token=ann").await), Some(CloseCode::ORIGIN));
        }
        for origin in ["http://localhost:3000", "https://app.example"] {
            let page = [("host", "127.0.0.1:8080"), ("origin", origin)];
            assert_eq!(refused_with(&admission(&none(), &page, "token=ann").await), None, "{origin}");
        }
    }

    #[tokio::test]
    async fn where_a_token_is_only_a_name_no_foreign_page_may_say_one_later_either() {
        let envelope = ("sec-websocket-protocol", SUBPROTOCOL);
        for (cookie, query) in [("a=b", ""), ("a=b", "resume=1"), ("token=ann", "resume=1")] {
            let page = [("host", "127.0.0.1:8080"), ("origin", "https://evil.example"), envelope];
            let headers = [&page[..], &[("cookie", cookie)]].concat();
            let admission = admission(&none(), &headers, query).await;
            let refused =
                matches!(&admission, Admission::Refuse(refusal) if refusal.code == CloseCode::ORIGIN);
            assert!(refused, "{cookie} {query}: {admission:?}");
        }
    }

    #[tokio::test]
    async fn a_page_that_sends_no_origin_is_known_by_what_its_browser_says_of_its_site() {
        let cookie = format!("token={}", token(json!({"sub": "ann"})));
        let listed = ("origin", "https://app.example");
        let cases: [(&[_], _); 6] = [
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "same-site"), listed], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true),
        ];
        for (said, fine) in cases {
            let expected = if fine { None } else { Some(CloseCode::ORIGIN) };
            let page = [&[("cookie", &*cookie), ("host", "push.example")], said].concat();
            assert_eq!(refused_with(&admission(&guarded(), &page, "").await), expected, "{said:?}");
            let page = [&[("host", "127.0.0.1:8080")], said].concat();
            assert_eq!(refused_with(&admission(&none(), &page, "token=ann").await), expected, "{said:?}");
        }
        let said = format!("token={}", token(json!({"sub": "ann"})));
        let foreign = [("host", "push.example"), ("sec-fetch-site", "cross-site")];
        assert_eq!(refused_with(&admission(&guarded(), &foreign, &said).await), None, "no browser adds it");
    }

    #[tokio::test]
    async fn a_ticket_lets_in_once_whom_it_was_made_for() {
        let gate = guarded();
        let identity = auth::Identity {
            user: crate::protocol::Channel::user("ann").expect("valid"),
            topics: crate::protocol::Grant::topics(["orders.*"]).expect("valid"),
            device: Some("tv".parse().expect("valid")),
            expires_at: Some(4_000_000_000),
            issued_at_ms: Some(7),
        };
        let ticket = gate.issue(&identity, 10_000).await.expect("kept");
        let expected = Wish::socket(&HeaderMap::new(), "").admit(identity).expect("admitted");
        let query = format!("ticket={ticket}");
        let foreign = [("host", "push.example"), ("origin", "https://evil.example")];
        assert_eq!(
            admission(&gate, &foreign, &query).await,
            Admission::Enter(expected),
            "no browser adds it"
        );
        for query in [&*query, "ticket=x", "ticket=", &format!("ticket={}", "A".repeat(43))] {
            let admission = admission(&gate, &[], query).await;
            let refused = refused_with(&admission) == Some(CloseCode::TOKEN);
            assert!(refused || query == "ticket=", "{query}: {admission:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_told() {
        for query in ["device=a%20b", "from=then", "pos=7", "resume=1"] {
            let admission = admission(&none(), &[("cookie", "token=user1")], query).await;
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
