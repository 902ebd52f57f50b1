//! Queries use what is declared, as its kind wants it.

use postrider::metrics::{BUILD_INFO, DEFINITIONS, Definition, Kind};

use super::dashboard::{every_query, rules};

/// Labels that Prometheus or the build gauge adds to the declared ones.
const COMMON_LABELS: &[&str] = &["job", "instance", "le", "version", "store"];

/// One use of a metric in a query.
pub(super) struct Use<'a> {
    /// The series' name, with any suffix of a histogram.
    pub(super) series: &'a str,
    /// What stands before it.
    before: &'a str,
    /// What stands between its braces.
    pub(super) matchers: &'a str,
}

pub(super) fn uses(query: &str) -> Vec<Use<'_>> {
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let starts = query.match_indices("postrider_").chain(query.match_indices("process_"));
    starts
        .filter(|(at, _)| !query[..*at].ends_with(part_of_a_name))
        .map(|(at, _)| {
            let rest = &query[at..];
            let end = rest.find(|c| !part_of_a_name(c)).unwrap_or(rest.len());
            let matchers = rest[end..].strip_prefix('{').and_then(|inner| inner.split('}').next());
            Use { series: &rest[..end], before: &query[..at], matchers: matchers.unwrap_or_default() }
        })
        .collect()
}

fn definition(series: &str) -> Option<&'static Definition> {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix));
    DEFINITIONS
        .iter()
        .find(|one| one.name == series && one.kind != Kind::Histogram)
        .or_else(|| DEFINITIONS.iter().find(|one| one.kind == Kind::Histogram && Some(one.name) == base))
}

/// What is wrong with a query, as far as its text shows.
fn complaints(query: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for one in uses(query).iter().filter(|one| one.series != BUILD_INFO) {
        let Some(definition) = definition(one.series) else {
            complaints.push(format!("{} is not declared in src/metrics.rs", one.series));
            continue;
        };
        let in_rate = one.before.ends_with("rate(") || one.before.ends_with("increase(");
        if in_rate == (definition.kind == Kind::Gauge) {
            complaints.push(format!("{}: counters go into rate(), gauges do not", one.series));
        }
        complaints
            .extend(one.matchers.split(',').filter_map(|matcher| wrong_matcher(definition, matcher.trim())));
    }
    complaints
}

fn wrong_matcher(definition: &Definition, matcher: &str) -> Option<String> {
    let (label, value) = matcher.split_once('=')?;
    let (is_pattern, value) = value.strip_prefix('~').map_or((false, value), |value| (true, value));
    let value = value.trim_matches('"');
    if matches!(label, "job" | "instance") {
        return None;
    }
    if label == "le" {
        let bound = value.parse::<f64>().is_ok_and(|value| definition.buckets.contains(&value));
        return (!bound).then(|| format!("{} has no bucket at {value}", definition.name));
    }
    let declared = definition.label.filter(|(declared, _)| *declared == label).map(|(_, values)| values);
    let known = |value: &str| match value.strip_suffix(".+") {
        Some(prefix) => declared.is_some_and(|values| values.iter().any(|one| one.starts_with(prefix))),
        None => declared.is_some_and(|values| values.contains(&value)),
    };
    let fits = if is_pattern { value.split('|').all(known) } else { known(value) };
    (!fits).then(|| format!("{} has no {label}=\"{value}\"", definition.name))
}

#[test]
fn every_query_uses_declared_metrics_as_their_kind_wants_it() {
    let queries = every_query().into_iter().map(|query| (query.of, query.expr));
    for (of, expr) in queries.chain(rules().into_iter().map(|rule| (rule.name, rule.expr))) {
        assert_eq!(complaints(&expr), Vec::<String>::new(), "{of}: {expr}");
    }
}

#[test]
fn a_wrong_query_is_noticed() {
    for query in [
        "sum(rate(postrider_pushed_total[5m]))",
        "sum(postrider_pushes_total)",
        "process_cpu_seconds_total",
        "rate(postrider_sessions[5m])",
        "rate(postrider_push_seconds[5m])",
        "rate(postrider_push_seconds_bucket{le=\"0.3\"}[5m])",
        "rate(postrider_pushes_total{result=\"lovely\"}[5m])",
        "rate(postrider_pushes_total{result=~\"accepted|lovely\"}[5m])",
        "rate(postrider_pushes_total{mood=\"accepted\"}[5m])",
    ] {
        assert_eq!(complaints(query).len(), 1, "{query}");
    }
    for query in [
        "rate(postrider_pushes_total{job=~\"$job\", result=\"accepted\"}[5m])",
        "rate(postrider_ledger_messages_total{class=~\"dropped_.+|expired\"}[5m])",
        "rate(postrider_push_seconds_bucket{le=\"0.5\"}[5m])",
        "process_open_fds / process_max_fds",
    ] {
        assert_eq!(complaints(query), Vec::<String>::new(), "{query}");
    }
}

#[test]
fn every_declared_metric_is_on_a_dashboard() {
    let queries = every_query();
    let shown = |name: &str| {
        queries.iter().any(|query| uses(&query.expr).iter().any(|one| one.series.starts_with(name)))
    };
    let missing: Vec<_> = DEFINITIONS.iter().map(|one| one.name).filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "no panel of grafana/dashboards shows {missing:?}");
}

#[test]
fn legends_name_labels_that_exist() {
    for query in every_query() {
        for part in query.legend.split("{{").skip(1) {
            let label = part.split("}}").next().unwrap_or_default();
            let declared = uses(&query.expr).iter().any(|one| {
                definition(one.series).and_then(|one| one.label).is_some_and(|(name, _)| name == label)
            });
            assert!(declared || COMMON_LABELS.contains(&label), "{}: {}", query.of, query.legend);
        }
    }
}

/// From three nodes to three hundred: what has a line for each node shows the
/// few that stand out, and the rest together.
#[test]
fn no_panel_has_a_line_for_every_node() {
    for query in every_query().iter().filter(|query| query.legend.contains("instance")) {
        assert!(query.expr.starts_with("topk (5, "), "{}: {}", query.of, query.expr);
    }
    for query in every_query().iter().filter(|query| !query.legend.contains("instance")) {
        let aggregates = ["sum", "max", "min", "count", "quantile", "histogram_quantile", "1 - sum"];
        let outer = query.expr.split('(').next().unwrap_or_default().trim();
        let outer = outer.split(" by").next().unwrap_or_default();
        assert!(aggregates.contains(&outer), "{} shows single nodes: {}", query.of, query.expr);
    }
}
