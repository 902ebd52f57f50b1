//! `GET /v1/stats`: the node's own numbers as JSON, for the console.
//!
//! They are read from the page that Prometheus scrapes, so that nobody ever
//! sees two truths.

use std::time::{SystemTime, UNIX_EPOCH};

use warp::http::HeaderMap;
use warp::reply::{Reply, Response};

use crate::protocol::rest::rfc3339;
use crate::protocol::stats::{AuthKind, HistogramNumbers, Latencies, StatsAnswer, StoreKind, Totals};
use crate::protocol::status::StreamAnswer;

use super::auth::Need;
use super::{App, Problem};

impl App {
    pub(super) async fn stats(&self, headers: &HeaderMap) -> Result<Response, Problem> {
        self.authorize(headers, Need::Read).await?;
        let delivery = &self.inner.delivery;
        let page = self.inner.metrics.render();
        let numbers = Page(&page);
        let unready = delivery.unready_reason();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let answer = StatsAnswer {
            node: delivery.node(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: if delivery.store().kind() == "memory" { StoreKind::Memory } else { StoreKind::Redis },
            auth: if self.inner.gate.authenticator.is_open() { AuthKind::None } else { AuthKind::Jwt },
            at: rfc3339(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            draining: unready == Some("draining"),
            unready: unready.map(str::to_owned),
            sessions: u64::try_from(delivery.sessions()).unwrap_or(u64::MAX),
            channels: numbers.count("postrider_channels_held"),
            outbox_bytes: numbers.count("postrider_outbox_bytes"),
            stream: StreamAnswer {
                length: numbers.count("postrider_stream_entries"),
                lag: numbers.count("postrider_stream_lag_entries"),
                pending: numbers.count("postrider_stream_pending_entries"),
                oldest_pending_ms: (numbers.value("postrider_stream_oldest_pending_seconds") * 1e3) as u64,
            },
            totals: totals(&numbers),
            latencies: Latencies {
                push: numbers.histogram("postrider_push_seconds"),
                accept_to_write: numbers.histogram("postrider_accept_to_write_seconds"),
                accept_to_ack: numbers.histogram("postrider_accept_to_ack_seconds"),
            },
        };
        Ok(warp::reply::json(&answer).into_response())
    }
}

fn totals(numbers: &Page<'_>) -> Totals {
    let accepted = numbers.count(r#"postrider_pushes_total{result="accepted"}"#);
    let repeated = numbers.count(r#"postrider_pushes_total{result="repeated"}"#);
    Totals {
        accepted,
        refused: numbers.sum("postrider_pushes_total").saturating_sub(accepted + repeated),
        written: numbers.count("postrider_messages_written_total"),
        received: numbers.count(r#"postrider_ledger_messages_total{class="received"}"#),
        connects: numbers.sum("postrider_connects_total"),
        slow_closes: numbers.count(r#"postrider_closes_total{code="slow"}"#),
        gaps: numbers.sum("postrider_gaps_told_total"),
        duplicates: numbers.count("postrider_duplicates_dropped_total"),
        rerouted: numbers.count("postrider_reroutes_total"),
        reclaims: numbers.count("postrider_reclaims_total"),
        store_errors: numbers.sum("postrider_store_errors_total"),
    }
}

/// The text of `/metrics`.
struct Page<'a>(&'a str);

impl Page<'_> {
    /// The value of one series; 0 when it is not there.
    fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    fn count(&self, series: &str) -> u64 {
        self.value(series) as u64
    }

    /// All series of one metric together.
    fn sum(&self, name: &str) -> u64 {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    fn histogram(&self, name: &str) -> HistogramNumbers {
        let prefix = format!("{name}_bucket{{le=\"");
        let buckets = self.0.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        let (bounds, counts) = buckets
            .filter_map(|(bound, count)| Some((bound.parse::<f64>().ok()?, count.parse::<u64>().ok()?)))
            .filter(|(bound, _)| bound.is_finite())
            .unzip();
        HistogramNumbers {
            bounds,
            counts,
            count: self.count(&format!("{name}_count")),
            sum_seconds: self.value(&format!("{name}_sum")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::{LATENCY_BUCKETS, Metrics};

    use super::*;

    #[test]
    fn the_page_is_read_as_it_is_written() {
        let metrics = Metrics::new("0", "memory");
        metrics.pushes.with("accepted").increment(7);
        metrics.pushes.with("invalid").increment(2);
        metrics.pushes.with("repeated").increment(1);
        metrics.channels_held.set(3.0);
        metrics.push_seconds.record(0.003);
        metrics.push_seconds.record(100.0);
        let page = metrics.render();
        let numbers = Page(&page);
        let totals = totals(&numbers);
        assert_eq!((totals.accepted, totals.refused), (7, 2));
        assert_eq!(numbers.count("postrider_channels_held"), 3);
        let histogram = numbers.histogram("postrider_push_seconds");
        assert_eq!(histogram.bounds, LATENCY_BUCKETS);
        assert_eq!(histogram.counts[..5], [0, 0, 0, 1, 1]);
        assert_eq!((histogram.counts.last(), histogram.count), (Some(&1), 2));
        assert!((histogram.sum_seconds - 100.003).abs() < 1e-9);
    }

    /// A metric that was renamed would read as 0 for ever.
    #[test]
    fn every_series_that_is_read_is_on_the_page() {
        let page = Metrics::new("0", "memory").render();
        let source = include_str!("stats.rs");
        let names = source.split(['"', '{']).filter(|part| part.len() > 10 && part.starts_with("postrider_"));
        for name in names {
            assert!(page.contains(&format!("# TYPE {name} ")), "{name} is not on the page");
        }
    }
}
