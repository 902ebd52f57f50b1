//! Paths and methods of the questions about messages and channels.

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::reply::{Reply, Response};

use super::routes::{raw_query, unescape};
use super::{App, body};

/// A list of 1,000 channels fits, the longest names included.
const PRESENCE_BYTES_MAX: usize = 512 * 1_024;

impl App {
    /// What is asked of messages and channels, and what takes them away.
    pub(super) fn inquiry_routes(&self) -> BoxedFilter<(Response,)> {
        self.message_routes().or(self.channel_routes()).unify().boxed()
    }

    fn message_routes(&self) -> BoxedFilter<(Response,)> {
        let fate = warp::path!("v1" / "messages" / String)
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(raw_query())
            .then(|id: String, app: Self, headers: HeaderMap, query: String| async move {
                app.message(&headers, &id, &query).await.unwrap_or_else(Reply::into_response)
            });
        let withdraw = warp::path!("v1" / "messages" / String)
            .and(warp::delete())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(raw_query())
            .then(|id: String, app: Self, headers: HeaderMap, query: String| async move {
                app.withdraw(&headers, &id, &query).await.unwrap_or_else(Reply::into_response)
            });
        let presence = warp::path!("v1" / "presence")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(|app: Self, headers: HeaderMap, stream| async move {
                match body::read(stream, body::Limit::fixed(PRESENCE_BYTES_MAX)).await {
                    Ok(body) => app.presence(&headers, &body).await.unwrap_or_else(Reply::into_response),
                    Err(problem) => problem.into_response(),
                }
            });
        fate.or(withdraw).unify().or(presence).unify().boxed()
    }

    fn channel_routes(&self) -> BoxedFilter<(Response,)> {
        let recent = warp::path!("v1" / "channels" / String / "messages")
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(raw_query())
            .then(|channel: String, app: Self, headers: HeaderMap, query: String| async move {
                app.recent(&headers, &unescape(&channel), &query).await.unwrap_or_else(Reply::into_response)
            });
        let sessions = warp::path!("v1" / "channels" / String / "sessions")
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|channel: String, app: Self, headers: HeaderMap| async move {
                app.sessions(&headers, &unescape(&channel)).await.unwrap_or_else(Reply::into_response)
            });
        let close = warp::path!("v1" / "channels" / String / "sessions" / String)
            .and(warp::delete())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|channel: String, session: String, app: Self, headers: HeaderMap| async move {
                let closed = app.close_session(&headers, &unescape(&channel), &session).await;
                closed.unwrap_or_else(Reply::into_response)
            });
        let erase = warp::path!("v1" / "channels" / String)
            .and(warp::delete())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|channel: String, app: Self, headers: HeaderMap| async move {
                app.erase(&headers, &unescape(&channel)).await.unwrap_or_else(Reply::into_response)
            });
        recent.or(sessions).unify().or(close).unify().or(erase).unify().boxed()
    }
}
