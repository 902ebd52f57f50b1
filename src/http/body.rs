//! Reading request bodies, bounded in bytes and time, and what they say.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use warp::http::StatusCode;

use super::Problem;

/// How long a body may take: senders are servers, and whoever needs longer for
/// some megabytes has hung up or means no good.
const BODY_WITHIN: Duration = Duration::from_secs(20);

/// How large a body may be, and where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) bytes_max: usize,
    /// The setting, for whoever ran into it; none where nobody can change it.
    pub(super) setting: Option<&'static str>,
}

impl Limit {
    pub(super) const fn fixed(bytes_max: usize) -> Self {
        Self { bytes_max, setting: None }
    }

    pub(super) const fn set(bytes_max: usize, setting: &'static str) -> Self {
        Self { bytes_max, setting: Some(setting) }
    }
}

/// Reads a body.
pub(super) async fn read<B: Buf, E>(
    stream: impl Stream<Item = Result<B, E>>,
    limit: Limit,
) -> Result<Bytes, Problem> {
    timeout(BODY_WITHIN, collect(stream, limit)).await.unwrap_or_else(|_| {
        let detail = format!("the request's body did not come within {} s", BODY_WITHIN.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
    })
}

async fn collect<B: Buf, E>(
    stream: impl Stream<Item = Result<B, E>>,
    Limit { bytes_max, setting }: Limit,
) -> Result<Bytes, Problem> {
    let mut stream = std::pin::pin!(stream);
    let mut whole = Bytes::new();
    let mut parts = BytesMut::new();
    while let Some(part) = stream.next().await {
        let mut part = part.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", "the request's body ended early")
        })?;
        if whole.len() + parts.len() + part.remaining() > bytes_max {
            let setting = setting.map(|setting| format!(" ({setting})")).unwrap_or_default();
            let detail = format!("the body may have {bytes_max} bytes at most{setting}");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail));
        }
        let part = part.copy_to_bytes(part.remaining());
        if whole.is_empty() && parts.is_empty() {
            // Nearly every body comes in one piece: no copy.
            whole = part;
        } else {
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&part);
        }
    }
    Ok(if parts.is_empty() { whole } else { parts.freeze() })
}

/// Reads a body as JSON; `example` is told to whoever sent something else.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (status, code) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_body"),
            _ => (StatusCode::BAD_REQUEST, "invalid_json"),
        };
        Problem::new(status, code, format!("{error}; {example}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, warp::Error>> + use<> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        futures_util::stream::iter(parts)
    }

    #[tokio::test]
    async fn parts_are_joined_up_to_the_limit() {
        let limit = Limit::set(5, "five");
        assert_eq!(read(stream(&["ab", "c", "de"]), limit).await.expect("fits"), "abcde");
        assert_eq!(read(stream(&[]), limit).await.expect("fits"), "");
        for (limit, says) in [(limit, "5 bytes at most (five)"), (Limit::fixed(5), "5 bytes at most")] {
            let problem = read(stream(&["abc", "def"]), limit).await.expect_err("too large");
            assert_eq!(problem.code, "body_too_large");
            assert!(problem.detail.ends_with(says), "{}", problem.detail);
        }
    }
}
