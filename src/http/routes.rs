//! Paths and methods, and what takes them.

use std::convert::Infallible;

use hyper::upgrade::OnUpgrade;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::http::header::{CONNECTION, UPGRADE};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::body::Limit;
use super::service::Seat;
use super::{App, ClientAddress, body, error, openapi, pages};

impl App {
    /// Every route.
    pub(super) fn routes(&self) -> BoxedFilter<(Response,)> {
        self.push_routes()
            .or(self.socket_route())
            .unify()
            .or(self.event_routes())
            .unify()
            .or(self.inquiry_routes())
            .unify()
            .or(self.ticket_routes())
            .unify()
            .or(self.operator_routes())
            .unify()
            .or(self.page_routes())
            .unify()
            .recover(|rejection: Rejection| async move {
                Ok::<_, Infallible>(error::from_rejection(&rejection).into_response())
            })
            .unify()
            .boxed()
    }

    pub(super) fn with(&self) -> impl Filter<Extract = (Self,), Error = Infallible> + Clone + use<> {
        let app = self.clone();
        warp::any().map(move || app.clone())
    }

    fn push_routes(&self) -> BoxedFilter<(Response,)> {
        let (single_limit, batch_limit) = (self.push_limit(), self.batch_limit());
        let single = warp::path!("v1" / "push")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(move |app: Self, headers: HeaderMap, stream| async move {
                match body::read(stream, single_limit).await {
                    Ok(body) => app.push(&headers, body).await.unwrap_or_else(Reply::into_response),
                    Err(problem) => problem.into_response(),
                }
            });
        let batch = warp::path!("v1" / "push" / "batch")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(move |app: Self, headers: HeaderMap, stream| async move {
                match body::read(stream, batch_limit).await {
                    Ok(body) => app.push_batch(&headers, body).await.unwrap_or_else(Reply::into_response),
                    Err(problem) => problem.into_response(),
                }
            });
        single.or(batch).unify().boxed()
    }

    pub(super) fn push_limit(&self) -> Limit {
        Limit::set(self.inner.options.body_bytes_max, "body_bytes_max")
    }

    /// A batch is bounded as a whole, too, but takes whatever may be pushed alone.
    fn batch_limit(&self) -> Limit {
        let options = &self.inner.options;
        let all = options.body_bytes_max.saturating_mul(options.batch_messages_max);
        let bytes_max = all.min(BATCH_BYTES_MAX).max(options.body_bytes_max);
        Limit::set(bytes_max, "body_bytes_max for each of its messages, but no more than 4 MiB for several")
    }

    /// A session: at its own path, and at `/` when the request is an upgrade.
    fn socket_route(&self) -> BoxedFilter<(Response,)> {
        let upgrade = warp::header::headers_cloned().and_then(|headers: HeaderMap| async move {
            let asks = headers.contains_key(UPGRADE) && headers.contains_key(CONNECTION);
            if asks { Ok(headers) } else { Err(warp::reject()) }
        });
        let at_root = warp::path::end().and(warp::get()).and(upgrade);
        let at_path = warp::path!("v1" / "ws").and(warp::get()).and(warp::header::headers_cloned());
        at_root
            .or(at_path)
            .unify()
            .and(self.with())
            .and(raw_query())
            .and(warp::ext::get::<ClientAddress>())
            .and(warp::ext::get::<Seat>())
            .and(warp::ext::optional::<OnUpgrade>())
            .then(|headers: HeaderMap, app: Self, query: String, client, seat, upgrade| async move {
                app.upgrade(&headers, &query, client, &seat, upgrade).unwrap_or_else(Reply::into_response)
            })
            .boxed()
    }

    /// Sessions as event streams, and what their devices say back.
    fn event_routes(&self) -> BoxedFilter<(Response,)> {
        let stream = warp::path!("v1" / "events")
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(raw_query())
            .and(warp::ext::get::<ClientAddress>())
            .and(warp::ext::get::<Seat>())
            .then(|app: Self, headers: HeaderMap, query: String, client, seat| async move {
                app.events(&headers, &query, client, seat).await.unwrap_or_else(Reply::into_response)
            });
        let acks = warp::path!("v1" / "events" / "acks")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(raw_query())
            .and(warp::body::stream())
            .then(|app: Self, headers: HeaderMap, query: String, stream| async move {
                let limit = Limit::set(app.inner.session_options.frame_bytes_max, "frame_bytes_max");
                match body::read(stream, limit).await {
                    Ok(body) => app.acks(&headers, &query, &body).await.unwrap_or_else(Reply::into_response),
                    Err(problem) => problem.into_response(),
                }
            });
        stream.or(acks).unify().boxed()
    }

    fn operator_routes(&self) -> BoxedFilter<(Response,)> {
        let channel = warp::path!("v1" / "channels" / String)
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|channel: String, app: Self, headers: HeaderMap| async move {
                app.channel(&headers, &unescape(&channel)).await.unwrap_or_else(Reply::into_response)
            });
        let disconnect = warp::path!("v1" / "channels" / String / "sessions")
            .and(warp::delete())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|channel: String, app: Self, headers: HeaderMap| async move {
                app.disconnect(&headers, &unescape(&channel)).await.unwrap_or_else(Reply::into_response)
            });
        let nodes = warp::path!("v1" / "nodes")
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|app: Self, headers: HeaderMap| async move {
                app.nodes(&headers).await.unwrap_or_else(Reply::into_response)
            });
        let healthz = warp::path!("healthz").and(warp::get()).and(self.with()).map(|app: Self| app.healthz());
        let readyz = warp::path!("readyz").and(warp::get()).and(self.with()).map(|app: Self| app.readyz());
        let metrics = warp::path!("metrics").and(warp::get()).and(self.with()).map(|app: Self| app.metrics());
        let stats = warp::path!("v1" / "stats")
            .and(warp::get())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|app: Self, headers: HeaderMap| async move {
                app.stats(&headers).await.unwrap_or_else(Reply::into_response)
            });
        let listings = channel.or(disconnect).unify().or(nodes).unify().or(stats).unify();
        listings.or(healthz).unify().or(readyz).unify().or(metrics).unify().boxed()
    }

    fn page_routes(&self) -> BoxedFilter<(Response,)> {
        let page = |name: &'static str| {
            move |headers: HeaderMap| pages::page(name, &headers).unwrap_or_else(Reply::into_response)
        };
        let headers = warp::header::headers_cloned;
        let home = warp::path::end().and(warp::get()).and(headers()).map(page("home.html"));
        let console = warp::path!("console").and(warp::get()).and(headers()).map(page("console.html"));
        let docs = warp::path!("docs").and(warp::get()).and(headers()).map(page("docs.html"));
        let openapi = warp::path!("openapi.json").and(warp::get()).map(openapi::serve);
        let asset = warp::path!("assets" / String).and(warp::get()).and(headers()).map(
            |name: String, headers: HeaderMap| {
                pages::asset(&name, &headers).unwrap_or_else(Reply::into_response)
            },
        );
        home.or(console).unify().or(docs).unify().or(openapi).unify().or(asset).unify().boxed()
    }
}

/// The most that several messages may have together.
const BATCH_BYTES_MAX: usize = 4 * 1_024 * 1_024;

pub(super) fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// A path segment as it was meant: `user%3Aalice` is `user:alice`.
pub(super) fn unescape(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
