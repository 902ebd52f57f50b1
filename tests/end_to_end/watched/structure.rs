//! Dashboards are complete, and Grafana is told how to find them.

use std::collections::HashSet;

use serde_json::Value;

use super::dashboard::{Dashboard, dashboards, every_query, read};
use super::queries::uses;

/// Links and bookmarks hold these: a change breaks them.
const UIDS: &[&str] =
    &["postrider-cluster", "postrider-connections", "postrider-delivery", "postrider-redis-runtime"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn dashboards_keep_their_uids() {
    let all = dashboards();
    let uids: Vec<_> = all.iter().map(|one| text(&one.json, "uid")).collect();
    assert_eq!(uids, UIDS);
    for one in &all {
        assert_eq!(text(&one.json, "uid"), format!("postrider-{}", one.file));
        assert!(text(&one.json, "title").starts_with("Postrider: "), "{}", one.file);
        assert!(text(&one.json, "description").len() > 20, "{}", one.file);
        assert_eq!(one.json["editable"], false, "{}: files are the truth", one.file);
        assert_eq!(one.json["tags"][0], "postrider", "{}: the links between them go by tag", one.file);
    }
}

#[test]
fn every_panel_is_complete() {
    for one in dashboards() {
        for panel in one.panels() {
            let title = text(panel, "title");
            assert!(!title.is_empty() && text(panel, "description").len() > 15, "{}: {panel}", one.file);
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let refs: Vec<_> =
                panel["targets"].as_array().expect("queries").iter().map(|target| &target["refId"]).collect();
            assert_eq!(refs.iter().collect::<HashSet<_>>().len(), refs.len(), "{title}: {refs:?}");
        }
        let titles: Vec<_> = one.panels().map(|panel| text(panel, "title")).collect();
        let distinct: HashSet<_> = titles.iter().collect();
        assert_eq!(titles.len(), distinct.len(), "{}: titles repeat: {titles:?}", one.file);
    }
}

#[test]
fn every_query_heeds_the_variables() {
    for query in every_query() {
        for used in uses(&query.expr) {
            for variable in ["job=~\"$job\"", "instance=~\"$instance\""] {
                assert!(used.matchers.contains(variable), "{} ignores {variable}: {}", query.of, query.expr);
            }
        }
        for window in query.expr.split('[').skip(1).filter_map(|rest| rest.split(']').next()) {
            let told = window == "1h" && text(&query.panel, "description").contains("in the last hour");
            assert!(
                window == "$__rate_interval" || told,
                "{} has a window of its own: {}",
                query.of,
                query.expr
            );
        }
    }
    for one in dashboards() {
        let variables = one.json["templating"]["list"].as_array().expect("it has variables");
        let names: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
        assert_eq!(names, ["datasource", "job", "instance"], "{}", one.file);
    }
}

/// Left, top, right, bottom.
fn place(panel: &Value) -> [u64; 4] {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
    [x, y, x + w, y + h]
}

fn overlaps(one: &Dashboard) -> Vec<String> {
    let panels = one.everything();
    let mut found = Vec::new();
    for (at, panel) in panels.iter().enumerate() {
        let [left, top, right, bottom] = place(panel);
        if right > 24 || right == left || bottom == top {
            found.push(format!("{}: {} is outside", one.file, panel["title"]));
        }
        for other in &panels[..at] {
            let [other_left, other_top, other_right, other_bottom] = place(other);
            if left < other_right && other_left < right && top < other_bottom && other_top < bottom {
                found.push(format!("{}: {} lies on {}", one.file, panel["title"], other["title"]));
            }
        }
    }
    found
}

#[test]
fn no_panel_lies_on_another() {
    for one in dashboards() {
        assert_eq!(overlaps(&one), Vec::<String>::new());
        let ids: HashSet<_> = one.everything().iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), one.everything().len(), "{}: panel ids repeat", one.file);
    }
    let mut moved = dashboards().remove(0);
    moved.json["panels"][2]["gridPos"] = moved.json["panels"][1]["gridPos"].clone();
    assert_eq!(overlaps(&moved).len(), 1);
}

#[test]
fn provisioning_and_dashboards_agree() {
    let source = read("grafana/provisioning/datasources/prometheus.yaml");
    for one in dashboards() {
        let default = &one.json["templating"]["list"][0]["current"]["value"];
        let uid = default.as_str().expect("a default data source");
        assert!(source.contains(&format!("uid: {uid}")), "{source}");
    }
    let provider = read("grafana/provisioning/dashboards/postrider.yaml");
    assert!(provider.contains("allowUiUpdates: false") && provider.contains("type: file"), "{provider}");
    let interval = source.lines().find_map(|line| line.trim().strip_prefix("timeInterval: "));
    let scraped = read("prometheus.yml");
    let scraped = scraped.lines().find_map(|line| line.trim().strip_prefix("scrape_interval: "));
    assert_eq!(interval, scraped, "$__rate_interval is worked out from the data source's");
}
