//! Where a receiver's token stands in a handshake.
//!
//! In order: `Authorization: Bearer`, subprotocol `bearer.<base64url>`, query
//! `ticket` or `token`, cookie `token`. The first that is not empty counts: what a client
//! says itself beats what its browser adds. Which one it was matters: a cookie
//! is sent by the browser for whatever page asks, so only then does the page's
//! origin need checking.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warp::http::HeaderMap;
use warp::http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};

use super::auth::{AuthError, TOKEN_BYTES_MAX, bearer};

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// The cookie `token`: sent by browsers without the page's doing.
    Cookie,
    /// The `Authorization` header.
    Authorization,
    /// A subprotocol.
    Subprotocol,
    /// The query.
    Query,
    /// A ticket in the query.
    Ticket,
    /// An `auth` frame.
    Frame,
}

impl TokenSource {
    /// Whether a browser adds it by itself, whatever page opens the connection.
    #[must_use]
    pub fn is_ambient(self) -> bool {
        self == Self::Cookie
    }
}

/// A token as a handshake presented it: not checked yet, and not to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    /// The token.
    pub token: String,
    /// Where it stood.
    pub source: TokenSource,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The token that a handshake presents, if any.
///
/// # Errors
/// When a subprotocol claims to hold one and cannot be decoded.
pub fn presented(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Presented>, AuthError> {
    let found = |token: String, source| Ok(Some(Presented { token, source }));
    let authorization =
        headers.get(AUTHORIZATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    if let Some(token) = authorization.and_then(bearer) {
        return found(token.to_owned(), TokenSource::Authorization);
    }
    if let Some(token) = subprotocol(headers)? {
        return found(token, TokenSource::Subprotocol);
    }
    for (name, source) in [("ticket", TokenSource::Ticket), ("token", TokenSource::Query)] {
        let in_query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .find(|(given, value)| given == name && !value.is_empty());
        if let Some((_, token)) = in_query {
            return found(token.into_owned(), source);
        }
    }
    cookie(headers).map_or(Ok(None), |token| found(token, TokenSource::Cookie))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.trim() == "token")
        .map(|(_, value)| {
            let value = value.trim();
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
        })
        .find(|value| !value.is_empty())
        .map(|value| decode_percent(value).into_owned())
}

/// Names with characters that cookies cannot hold are percent-encoded by
/// whatever sets them; text that only looks so is taken as it is.
fn decode_percent(value: &str) -> Cow<'_, str> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Cow::Borrowed(value) };
        // Two hexadecimal digits: below 256.
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(value), Cow::Owned)
}

fn subprotocol(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    let offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|name| name.trim().strip_prefix("bearer."));
    let Some(encoded) = offered else { return Ok(None) };
    if encoded.len() > TOKEN_BYTES_MAX * 4 / 3 + 4 {
        return Err(AuthError::TooLong);
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| AuthError::Subprotocol)?;
    let token = String::from_utf8(bytes).map_err(|_| AuthError::Subprotocol)?;
    Ok(Some(token).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        headers: &[(&'static str, &str)],
        query: Option<&str>,
    ) -> Result<Option<(String, TokenSource)>, AuthError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        presented(&map, query).map(|found| found.map(|found| (found.token, found.source)))
    }

    fn some(token: &str, source: TokenSource) -> Result<Option<(String, TokenSource)>, AuthError> {
        Ok(Some((token.to_owned(), source)))
    }

    #[test]
    fn sources_are_asked_in_order() {
        let mut headers = vec![
            ("authorization", "Bearer from-header"),
            ("sec-websocket-protocol", "postrider.v1+json, bearer.ZnJvbS1wcm90b2NvbA"),
            ("cookie", "a=b; token=from-cookie"),
        ];
        let query = Some("device=phone&token=from-query");
        assert_eq!(of(&headers, query), some("from-header", TokenSource::Authorization));
        headers.remove(0);
        assert_eq!(of(&headers, query), some("from-protocol", TokenSource::Subprotocol));
        headers.remove(0);
        assert_eq!(of(&headers, query), some("from-query", TokenSource::Query));
        assert_eq!(of(&headers, None), some("from-cookie", TokenSource::Cookie));
        headers.remove(0);
        assert_eq!(of(&headers, None), Ok(None));
    }

    #[test]
    fn an_empty_token_is_no_token() {
        let headers =
            [("cookie", "token="), ("authorization", "Bearer "), ("sec-websocket-protocol", "bearer.")];
        assert_eq!(of(&headers, Some("token=&token=u")), some("u", TokenSource::Query));
    }

    #[test]
    fn cookies_are_found_among_others_and_decoded() {
        assert_eq!(
            of(&[("cookie", "xtoken=1"), ("cookie", "token=\"u\"")], None),
            some("u", TokenSource::Cookie)
        );
        assert_eq!(of(&[("cookie", "token=a%20b%C3%A9")], None), some("a bé", TokenSource::Cookie));
        for raw in ["100%", "%zz", "%ff", "%e9"] {
            assert_eq!(of(&[("cookie", &format!("token={raw}"))], None), some(raw, TokenSource::Cookie));
        }
    }

    #[test]
    fn other_schemes_are_not_tokens() {
        assert_eq!(of(&[("authorization", "Basic dTpw")], None), Ok(None));
        assert_eq!(of(&[("authorization", "bearer  t ")], None), some("t", TokenSource::Authorization));
        assert_eq!(of(&[("authorization", "Bearer")], None), Ok(None));
    }

    #[test]
    fn a_subprotocol_that_is_no_base64url_is_refused() {
        for name in ["bearer.a b", "bearer.***", "bearer.a", "bearer._w"] {
            let name = name.replace(' ', "/");
            assert_eq!(of(&[("sec-websocket-protocol", &name)], None), Err(AuthError::Subprotocol), "{name}");
        }
        let long = format!("bearer.{}", "A".repeat(TOKEN_BYTES_MAX * 2));
        assert_eq!(of(&[("sec-websocket-protocol", &long)], None), Err(AuthError::TooLong));
        assert_eq!(
            of(&[("sec-websocket-protocol", "bearer.dTE=")], None),
            some("u1", TokenSource::Subprotocol)
        );
    }

    #[test]
    fn a_presented_token_is_not_in_its_debug_text() {
        let presented = Presented { token: "hush".into(), source: TokenSource::Query };
        assert!(!format!("{presented:?}").contains("hush"));
    }
}
