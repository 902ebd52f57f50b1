//! `/healthz`, `/readyz` and `/metrics`.

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::{Reply, Response};

use super::App;

impl App {
    /// The process answers: nothing else is asked, or a slow store would have
    /// every node restarted at once.
    pub(super) fn healthz(&self) -> Response {
        warp::reply::json(&json!({"status": "ok"})).into_response()
    }

    pub(super) fn readyz(&self) -> Response {
        match self.inner.delivery.unready_reason() {
            None => warp::reply::json(&json!({"status": "ready"})).into_response(),
            Some(reason) => {
                let answer = warp::reply::json(&json!({"status": "not_ready", "reason": reason}));
                warp::reply::with_status(answer, StatusCode::SERVICE_UNAVAILABLE).into_response()
            }
        }
    }

    pub(super) fn metrics(&self) -> Response {
        self.inner.metrics.tasks.set(self.inner.tasks.len() as f64);
        let page = self.inner.metrics.render();
        warp::reply::with_header(page, "content-type", "text/plain; version=0.0.4; charset=utf-8")
            .into_response()
    }
}
