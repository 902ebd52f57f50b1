//! The REST API as a client sees it.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::output::Failure;
use crate::config::{Client, Secret};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer larger than this is none of ours.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A node's REST API.
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    api_key: Option<Secret>,
}

/// A problem document, as far as people need it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    /// `/readyz` calls it a reason.
    #[serde(alias = "reason")]
    detail: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
}

/// A path of the API behind whatever path the base has.
pub(super) fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

impl Api {
    pub(super) fn new(client: &Client, timeout: Duration) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            // The node was named; a proxy that variables name was not meant for it.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::Failed(format!("failed to prepare a request: {error}")))?;
        Ok(Self { http, base: client.url.clone(), api_key: client.api_key.clone() })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, endpoint(&self.base, path));
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Sends a request; an answer other than 2xx is a failure that says what to do.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<String, Failure> {
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let retry_after = header(&response, RETRY_AFTER.as_str());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Failed(format!("the answer is above {ANSWER_BYTES_MAX} bytes")));
            }
        }
        if status.is_success() {
            return String::from_utf8(body)
                .map_err(|_| Failure::Failed("the answer is no text: is this a postrider node?".to_owned()));
        }
        Err(Failure::Failed(refusal(status, &body, retry_after.as_deref())))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::Usage(format!("cannot send this request: {}", innermost(error)));
        }
        let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { innermost(error) };
        Failure::Unreachable(format!(
            "failed to reach {}: {why}; is a node running there? 'postrider serve' starts one, --url names another",
            self.base
        ))
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The cause at the bottom, which is the one that tells something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a refusal means, in one line.
pub(super) fn refusal(status: StatusCode, body: &[u8], retry_after: Option<&str>) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let title = problem.title.as_deref().or(status.canonical_reason()).unwrap_or("no reason given");
    let mut text = format!("the server refused ({}): {title}", status.as_u16());
    if let Some(detail) = &problem.detail {
        text += &format!(": {detail}");
    }
    let tags: Vec<String> = [("code", &problem.code), ("request", &problem.request_id)]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}")))
        .collect();
    if !tags.is_empty() {
        text += &format!(" [{}]", tags.join(", "));
    }
    if status == StatusCode::UNAUTHORIZED {
        text += "; give the API key with --api-key or POSTRIDER_API_KEY";
    }
    if let Some(seconds) = retry_after {
        text += &format!("; try again in {seconds} s");
    }
    // It comes from elsewhere and goes to a terminal.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
