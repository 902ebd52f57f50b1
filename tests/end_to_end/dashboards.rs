//! What is drawn and what is alerted on exists, is well formed, and has data.

use std::path::Path;

use postrider::metrics::{BUILD_INFO, DEFINITIONS, Definition, Kind};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../grafana/dashboards/delivery.json");
const RULES: &str = include_str!("../../prometheus.rules.yml");
/// Labels that Prometheus or the build gauge adds to the declared ones.
const COMMON_LABELS: &[&str] = &["job", "instance", "le", "version", "store"];

/// Every panel that shows something.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels").clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

/// Title and expression of every query in the dashboard.
pub(crate) fn dashboard_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a panel has a title").to_owned();
        for target in panel["targets"].as_array().expect("a panel has queries") {
            queries.push((
                title.clone(),
                target["expr"].as_str().expect("a query has an expression").to_owned(),
            ));
        }
    }
    queries
}

fn rule_queries() -> Vec<(String, String)> {
    let expressions = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    expressions.map(|expression| ("a rule".to_owned(), expression.to_owned())).collect()
}

/// One use of a metric in a query.
struct Use<'a> {
    /// The series' name, with any suffix of a histogram.
    series: &'a str,
    /// What stands before it.
    before: &'a str,
    /// What stands between its braces.
    matchers: &'a str,
}

fn uses(query: &str) -> Vec<Use<'_>> {
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    query
        .match_indices("postrider_")
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
    for one in uses(query) {
        if one.series == BUILD_INFO {
            continue;
        }
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
    if matches!(label, "job" | "instance") {
        return None;
    }
    let value = value.trim_matches('"');
    match definition.label {
        Some((declared, values)) if declared == label && values.contains(&value) => None,
        _ => Some(format!("{} has no {label}=\"{value}\"", definition.name)),
    }
}

#[test]
fn every_query_uses_declared_metrics_as_their_kind_wants_it() {
    for (title, query) in dashboard_queries().into_iter().chain(rule_queries()) {
        assert_eq!(complaints(&query), Vec::<String>::new(), "{title}: {query}");
    }
}

#[test]
fn a_wrong_query_is_noticed() {
    for query in [
        "sum(rate(postrider_pushed_total[5m]))",
        "sum(postrider_pushes_total)",
        "rate(postrider_sessions[5m])",
        "rate(postrider_push_seconds[5m])",
        "rate(postrider_pushes_total{result=\"lovely\"}[5m])",
        "rate(postrider_pushes_total{mood=\"accepted\"}[5m])",
    ] {
        assert_eq!(complaints(query).len(), 1, "{query}");
    }
    assert!(complaints("rate(postrider_pushes_total{job=~\"$job\", result=\"accepted\"}[5m])").is_empty());
}

#[test]
fn every_panel_of_the_dashboard_is_complete() {
    for panel in panels() {
        let title = panel["title"].as_str().unwrap_or_default();
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(!title.is_empty() && description.len() > 15, "{panel}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        for target in panel["targets"].as_array().expect("a panel has queries") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().expect("a query has an expression");
            for used in uses(query) {
                for variable in ["job=~\"$job\"", "instance=~\"$instance\""] {
                    assert!(used.matchers.contains(variable), "{title} ignores {variable}: {query}");
                }
            }
            assert!(
                !query.contains("rate(") || query.contains("[$__rate_interval]"),
                "{title} has a window of its own: {query}"
            );
        }
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    assert_eq!(dashboard["editable"], false);
    assert_eq!(dashboard["uid"], "postrider-delivery");
    let variables = dashboard["templating"]["list"].as_array().expect("it has variables");
    let names: Vec<_> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
}

#[test]
fn every_declared_metric_is_on_the_dashboard() {
    let queries = dashboard_queries();
    let shown = |name: &str| {
        queries.iter().any(|(_, query)| uses(query).iter().any(|one| one.series.starts_with(name)))
    };
    let missing: Vec<_> = DEFINITIONS.iter().map(|one| one.name).filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "no panel of grafana/dashboards/delivery.json shows {missing:?}");
}

#[test]
fn legends_and_groupings_name_labels_that_exist() {
    let dashboard = panels();
    for panel in &dashboard {
        for target in panel["targets"].as_array().expect("a panel has queries") {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let query = target["expr"].as_str().unwrap_or_default();
            for part in legend.split("{{").skip(1) {
                let label = part.split("}}").next().unwrap_or_default();
                let declared = uses(query).iter().any(|one| {
                    definition(one.series).and_then(|one| one.label).is_some_and(|(name, _)| name == label)
                });
                assert!(declared || COMMON_LABELS.contains(&label), "{legend} of {query}");
                assert!(
                    query.contains(&format!("by ({label})")) || query.contains(label),
                    "{legend} of {query}"
                );
            }
        }
    }
}

#[test]
fn provisioning_and_dashboard_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/provisioning");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("the file is there");
    let source = read("datasources/prometheus.yaml");
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let uid = dashboard["templating"]["list"][0]["current"]["value"].as_str().expect("a default data source");
    assert!(source.contains(&format!("uid: {uid}")), "{source}");
    let provider = read("dashboards/postrider.yaml");
    assert!(provider.contains("allowUiUpdates: false") && provider.contains("type: file"), "{provider}");
}
