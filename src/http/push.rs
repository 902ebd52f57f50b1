//! `POST /v1/push` and `POST /v1/push/batch`.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::delivery::Pushed;
use crate::protocol::rest::{
    BatchAnswer, BatchBody, COLLAPSE_KEY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, ItemAnswer, PushAnswer,
    PushBody, RECIPIENTS_MAX, Recipients, rfc3339,
};
use crate::protocol::{Channel, MessageId};
use crate::store::{self, Append, Idempotency};

use super::auth::{Need, Sender};
use super::permit::permit;
use super::rate::Allowance;
use super::{App, Problem, body, trace};

impl App {
    pub(super) async fn push(&self, headers: &HeaderMap, body: Bytes) -> Result<Response, Problem> {
        let started = tokio::time::Instant::now();
        let mut allowance = None;
        let result = told(self.push_counted(headers, body, &mut allowance).await, allowance);
        self.inner.metrics.push_seconds.record(started.elapsed());
        self.count_refusal(result.as_ref().err());
        result
    }

    /// Refusals that never reached the store are counted here, others there.
    fn count_refusal(&self, problem: Option<&Problem>) {
        let result = match problem.map(|problem| problem.status.as_u16()) {
            Some(401 | 403) => "unauthorized",
            Some(429) => "limited",
            Some(400..=499) if problem.is_some_and(|problem| problem.code != "idempotency_key_reused") => {
                "invalid"
            }
            _ => return,
        };
        self.inner.metrics.pushes.with(result).increment(1);
    }

    async fn push_counted(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        allowance: &mut Option<Allowance>,
    ) -> Result<Response, Problem> {
        let sender = self.sender(headers).await?;
        let key = idempotency_key(headers)?;
        let trace = trace::carried(headers);
        let push: PushBody<'_> = parse(&body)?;
        match &push.to {
            Recipients::One(to) => {
                let channel = recipient(to, &sender)?;
                *allowance = self.take_rate(&sender, 1)?;
                let idempotency = idempotency(&sender, key, &push, &body);
                let append = Append { idempotency, ..self.append(&push, channel.clone(), trace)? };
                let pushed = self.inner.delivery.push(append).await?;
                Ok(accepted(&answer(channel, &pushed)))
            }
            Recipients::Many(to) if to.is_empty() || to.len() > RECIPIENTS_MAX => {
                let detail = format!("\"to\" may list 1 to {RECIPIENTS_MAX} channels");
                Err(Problem::invalid("invalid_recipients", detail))
            }
            Recipients::Many(to) => {
                let channels = to.iter().map(|to| recipient(to, &sender)).collect::<Result<Vec<_>, _>>()?;
                *allowance = self.take_rate(&sender, channels.len())?;
                let idempotency = idempotency(&sender, key, &push, &body);
                // Boxed: most pushes need not have room for it.
                Box::pin(self.push_to_many(&push, channels, idempotency, trace)).await
            }
        }
    }

    async fn push_to_many(
        &self,
        push: &PushBody<'_>,
        channels: Vec<Channel>,
        idempotency: Option<Idempotency>,
        trace: Option<Box<str>>,
    ) -> Result<Response, Problem> {
        let append = |channel: &Channel| {
            Ok(Append { idempotency, ..self.append(push, channel.clone(), trace.clone())? })
        };
        let appends = channels.iter().map(append).collect::<Result<Vec<_>, Problem>>()?;
        let pushed = self.inner.delivery.push_batch(appends).await;
        // All of them failing is the request failing; its retry then is whole.
        if let Some(error) = pushed.iter().try_fold(None, |_, one| one.as_ref().err().map(Some)).flatten() {
            return Err(error.clone().into());
        }
        let results = channels.into_iter().zip(pushed).map(|(channel, pushed)| item(channel, pushed));
        Ok(accepted(&results.collect::<Vec<_>>()))
    }

    pub(super) async fn push_batch(&self, headers: &HeaderMap, body: Bytes) -> Result<Response, Problem> {
        let started = tokio::time::Instant::now();
        let mut allowance = None;
        let result = told(self.push_batch_timed(headers, body, &mut allowance).await, allowance);
        self.inner.metrics.push_seconds.record(started.elapsed());
        self.count_refusal(result.as_ref().err());
        result
    }

    async fn push_batch_timed(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        allowance: &mut Option<Allowance>,
    ) -> Result<Response, Problem> {
        let sender = self.sender(headers).await?;
        let key = idempotency_key(headers)?;
        let trace = trace::carried(headers);
        let batch: BatchBody<'_> = parse(&body)?;
        let max = self.inner.options.batch_messages_max;
        if batch.messages.is_empty() || batch.messages.len() > max {
            return Err(Problem::invalid("invalid_batch", format!("a batch has 1 to {max} messages")));
        }
        *allowance = self.take_rate(&sender, batch.messages.len())?;
        let prepared: Vec<Result<Append, Problem>> = batch
            .messages
            .iter()
            .enumerate()
            .map(|(at, push)| {
                let Recipients::One(to) = &push.to else {
                    return Err(Problem::invalid(
                        "invalid_recipients",
                        "in a batch each message has one \"to\"",
                    ));
                };
                let channel = recipient(to, &sender)?;
                // One header for the whole batch: each item gets a key of its own.
                let key = key.as_deref().map(|key| format!("{key}#{at}"));
                let idempotency = idempotency(&sender, key, push, push.data.get().as_bytes());
                Ok(Append { idempotency, ..self.append(push, channel, trace.clone())? })
            })
            .collect();
        let valid: Vec<Append> = prepared.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
        let channels: Vec<Channel> = valid.iter().map(|append| append.channel.clone()).collect();
        let mut pushed = channels.into_iter().zip(self.inner.delivery.push_batch(valid).await);
        let results = prepared.into_iter().map(|prepared| match prepared {
            Ok(_) => pushed.next().map_or_else(missing, |(channel, pushed)| item(channel, pushed)),
            Err(problem) => {
                self.count_refusal(Some(&problem));
                refused(problem)
            }
        });
        let answer = BatchAnswer { results: results.collect() };
        Ok(warp::reply::json(&answer).into_response())
    }

    /// Takes from what the sender may push, where that is limited.
    fn take_rate(&self, sender: &Sender, messages: usize) -> Result<Option<Allowance>, Problem> {
        let Some(rates) = &self.inner.push_rates else { return Ok(None) };
        rates.take(sender.name(), messages).map(Some).map_err(|allowance| Problem {
            retry_after: Some(allowance.retry_after),
            allowance: Some(allowance),
            ..Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "push_rate",
                "this sender has pushed all that it may in a second (push_rate_max); try again after Retry-After",
            )
        })
    }

    /// Everything of an append but its idempotency.
    fn append(
        &self,
        push: &PushBody<'_>,
        channel: Channel,
        trace: Option<Box<str>>,
    ) -> Result<Append, Problem> {
        let options = &self.inner.options;
        let ttl = push.ttl.map_or(options.ttl_default, Duration::from_secs);
        if ttl > options.ttl_max {
            let detail =
                format!("\"ttl\" may be {} seconds at most (ttl_max_seconds)", options.ttl_max.as_secs());
            return Err(Problem::invalid("invalid_ttl", detail));
        }
        let collapse_key = push.collapse_key.as_deref();
        if collapse_key.is_some_and(|key| key.is_empty() || key.len() > COLLAPSE_KEY_BYTES_MAX) {
            let detail = format!("\"collapse_key\" has 1 to {COLLAPSE_KEY_BYTES_MAX} bytes");
            return Err(Problem::invalid("invalid_collapse_key", detail));
        }
        Ok(Append {
            id: push.id.unwrap_or_else(MessageId::generate),
            channel,
            data: Bytes::copy_from_slice(push.data.get().as_bytes()),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            collapse_key: collapse_key.map(Into::into),
            idempotency: None,
            trace,
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    body::parse(body, r#"a push is {"to": "user:alice", "data": …}"#)
}

/// What became of a push, with how much may still be pushed.
fn told(result: Result<Response, Problem>, allowance: Option<Allowance>) -> Result<Response, Problem> {
    match (result, allowance) {
        (Ok(mut response), Some(allowance)) => {
            allowance.tell(response.headers_mut());
            Ok(response)
        }
        (Err(problem), Some(allowance)) => Err(Problem { allowance: Some(allowance), ..problem }),
        (result, None) => result,
    }
}

fn recipient(to: &str, sender: &Sender) -> Result<Channel, Problem> {
    let channel: Channel = to.parse()?;
    permit(sender, Need::Push(&channel))?;
    Ok(channel)
}

/// The `Idempotency-Key` header, quoted as its draft says or bare.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or("").trim();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let detail = format!("Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} ASCII characters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", detail));
    }
    Ok(Some(key.to_owned()))
}

/// Combines sender and key; a message id chosen by the sender serves as a key.
fn idempotency(
    sender: &Sender,
    key: Option<String>,
    push: &PushBody<'_>,
    body: &[u8],
) -> Option<Idempotency> {
    let key = key.map(|key| format!("key:{key}")).or_else(|| push.id.map(|id| format!("id:{id}")))?;
    let mut hash = Sha256::new();
    hash.update(sender.name());
    hash.update([0]);
    hash.update(key);
    let key = first_bytes(&hash.finalize());
    Some(Idempotency { key, fingerprint: first_bytes(&Sha256::digest(body)) })
}

fn first_bytes<const N: usize>(hash: &[u8]) -> [u8; N] {
    *hash.first_chunk().expect("a hash of 32 bytes")
}

fn answer(channel: Channel, pushed: &Pushed) -> PushAnswer {
    PushAnswer {
        id: pushed.id,
        channel,
        pos: pushed.position,
        nodes: pushed.nodes,
        sessions: pushed.sessions,
        expires_at: rfc3339(pushed.expires_at_ms),
    }
}

fn accepted(answer: &impl serde::Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(answer), StatusCode::ACCEPTED).into_response()
}

fn item(channel: Channel, pushed: Result<Pushed, store::Error>) -> ItemAnswer {
    match pushed {
        Ok(pushed) => ItemAnswer::Accepted { status: 202, answer: answer(channel, &pushed) },
        Err(error) => refused(error.into()),
    }
}

fn refused(problem: Problem) -> ItemAnswer {
    ItemAnswer::Refused { status: problem.status.as_u16(), code: problem.code, detail: problem.detail }
}

fn missing() -> ItemAnswer {
    refused(store::Error::Unavailable("no answer".into()).into())
}
