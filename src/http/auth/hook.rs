//! A question to the application itself: whose session cookie (or token of its
//! own kind) is this?
//!
//! Asked is `GET URL` with those of the handshake's headers that are allowed, and
//! nothing else of it. 200 with `{"user": …}` lets in, 401 and 403 do not, and
//! anything else, late or unreadable answers included, is a failure, which must
//! not look like a bad token. Answers are kept for some seconds, so that a wave
//! of reconnects does not become a wave of questions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::http::fetch::Resource;
use crate::metrics::Metrics;
use crate::protocol::{Channel, Grant};

use super::{AuthError, Identity};

/// Questions under way at once: others wait for their turn, within the time that
/// a question may take.
const QUESTIONS_MAX: usize = 64;
/// Answers that are kept.
const ANSWERS_MAX: usize = 10_000;
/// Enough for a name and some topics.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;

/// Whom to ask, and how.
#[derive(Debug, Clone)]
pub struct HookOptions {
    /// Where.
    pub url: Url,
    /// The handshake's headers that are passed on.
    pub headers: Vec<String>,
    /// How long an answer may take.
    pub within: Duration,
    /// How long it is kept.
    pub keep: Duration,
}

type Answer = Result<Identity, AuthError>;

/// Asks.
pub(super) struct Hook {
    resource: Resource,
    headers: Vec<HeaderName>,
    within: Duration,
    keep: Duration,
    turns: Semaphore,
    answers: Mutex<HashMap<[u8; 32], (Instant, Answer)>>,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Body {
    user: String,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    device: Option<String>,
    /// Seconds.
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Hook {
    pub(super) fn new(options: &HookOptions, metrics: &Metrics) -> Result<Self, String> {
        let headers =
            options.headers.iter().map(|name| name.parse().map_err(|_| format!("{name} is no header")));
        Ok(Self {
            resource: Resource::new(&options.url, options.within, ANSWER_BYTES_MAX)?,
            headers: headers.collect::<Result<_, _>>()?,
            within: options.within,
            keep: options.keep,
            turns: Semaphore::new(QUESTIONS_MAX),
            answers: Mutex::default(),
            metrics: metrics.clone(),
        })
    }

    /// What of a handshake is passed on.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> HeaderMap {
        let mut allowed = HeaderMap::new();
        for name in &self.headers {
            for value in headers.get_all(name) {
                allowed.append(name, value.clone());
            }
        }
        allowed
    }

    /// Whether there is anything to ask about.
    pub(super) fn knows(&self, allowed: &HeaderMap) -> bool {
        allowed.contains_key(COOKIE) || allowed.contains_key(AUTHORIZATION)
    }

    /// Whose session this is: by what is passed on, and by a token that came in
    /// another place than a header.
    pub(super) async fn ask(&self, allowed: &HeaderMap, token: Option<&str>) -> Answer {
        let mut headers = allowed.clone();
        if let Some(token) = token {
            let bearer =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| AuthError::Malformed)?;
            headers.insert(AUTHORIZATION, bearer);
        }
        let key = key_of(&headers);
        if let Some(answer) = self.kept(&key) {
            self.count("kept");
            return answer;
        }
        let question = async {
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            self.resource.get(&headers).await
        };
        let asked = timeout(self.within, question).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} ms", self.within.as_millis())));
        let answer = asked.and_then(|(status, body)| match status {
            StatusCode::OK => read(&body).map(Ok),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Err(AuthError::HookRefused)),
            other => Err(format!("it answered {other}")),
        });
        match answer {
            Ok(answer) => {
                self.count(if answer.is_ok() { "allowed" } else { "refused" });
                self.keep(key, answer.clone());
                answer
            }
            Err(error) => {
                tracing::warn!(hook = ?self.resource, error, "the auth hook could not be asked");
                self.count("failed");
                Err(AuthError::HookAway)
            }
        }
    }

    fn count(&self, result: &str) {
        self.metrics.auth_hook_questions.with(result).increment(1);
    }

    fn kept(&self, key: &[u8; 32]) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    fn keep(&self, key: [u8; 32], answer: Answer) {
        if self.keep.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (until, _)| *until > now);
        }
        if answers.len() < ANSWERS_MAX {
            answers.insert(key, (now + self.keep, answer));
        }
    }
}

/// Cookies are not kept themselves.
fn key_of(headers: &HeaderMap) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

fn read(body: &[u8]) -> Result<Identity, String> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is not {{\"user\": …}}: {error}"))?;
    let user = Channel::user(&body.user).map_err(|error| format!("its \"user\": {error}"))?;
    let topics = Grant::topics(body.topics.iter().map(String::as_str));
    let device = body.device.map(|device| device.parse()).transpose();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Identity {
        user,
        topics: topics.map_err(|error| format!("its \"topics\": {error}"))?,
        device: device.map_err(|error| format!("its \"device\": {error}"))?,
        expires_at: body.expires_in.map(|seconds| now.as_secs().saturating_add(seconds)),
        issued_at_ms: Some(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
    })
}
