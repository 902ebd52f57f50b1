//! The REST interface as a backend sees it.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::Value;

use super::{PATIENCE, settled};

/// One node's REST interface.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: Client,
    key: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in the body of a {}: {}", self.status, self.text))
    }

    /// The body as JSON, after checking the status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl Api {
    /// The interface at `http://HOST:PORT`.
    pub fn new(base: &str) -> Self {
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .build()
            .expect("a client without special wishes");
        Self { base: base.trim_end_matches('/').to_owned(), client, key: None }
    }

    /// The same with an API key.
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Pushes; the answer may be an error.
    pub async fn push(&self, body: &Value) -> Answer {
        self.try_push(body, None).await.expect("the node answers")
    }

    /// Pushes with an idempotency key.
    pub async fn push_once(&self, body: &Value, key: &str) -> Answer {
        self.try_push(body, Some(key)).await.expect("the node answers")
    }

    /// Pushes to a node that may be gone.
    pub async fn try_push(&self, body: &Value, key: Option<&str>) -> reqwest::Result<Answer> {
        let headers = key.map(|key| ("idempotency-key", key.to_owned()));
        self.send(Method::POST, "/v1/push", headers.as_slice(), Some(body.to_string().into_bytes())).await
    }

    /// Pushes one payload to one user and returns the body of the 202.
    pub async fn push_to(&self, user: &str, data: impl Into<Value>) -> Value {
        self.push(&serde_json::json!({"to": format!("user:{user}"), "data": data.into()})).await.expect(202)
    }

    /// Pushes several at once.
    pub async fn push_batch(&self, messages: &Value) -> Answer {
        let body = serde_json::json!({ "messages": messages });
        self.send(Method::POST, "/v1/push/batch", &[], Some(body.to_string().into_bytes()))
            .await
            .expect("the node answers")
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("the node answers")
    }

    /// Gets a path of a node that may be gone.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(Method::GET, path, &[], None).await
    }

    /// Waits until the cluster knows so many sessions of a user. A plain client is
    /// not told when its session has begun, only that it is connected.
    pub async fn wait_sessions(&self, user: &str, count: u64) {
        settled(PATIENCE, "the sessions are there", async || {
            let channel = self.get(&format!("/v1/channels/user:{user}")).await.expect(200);
            if channel["sessions"] == count { Ok(()) } else { Err(channel) }
        })
        .await;
    }

    /// Sessions of any dialect.
    pub async fn sessions(&self) -> f64 {
        let page = self.get("/metrics").await.text;
        let sessions =
            page.lines().filter_map(|line| line.strip_prefix("postrider_sessions{")?.split(' ').nth(1));
        sessions.map(|number| number.parse::<f64>().expect("a number")).sum()
    }

    /// The value of one series of `/metrics`, such as `postrider_reclaims_total`.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").await.text;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{series} is not on the page"));
        value.parse().expect("a number")
    }

    /// Deletes a path.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await.expect("the node answers")
    }

    /// Any request, with a body taken as JSON unless a header says otherwise.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }
}
