//! The dashboards' and rules' own text.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file of the repository.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

pub(crate) fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// A dashboard, by the name of its file.
pub(crate) struct Dashboard {
    pub(crate) file: String,
    pub(crate) json: Value,
}

/// One query of a panel.
pub(crate) struct Query {
    /// `file: title`.
    pub(crate) of: String,
    pub(crate) expr: String,
    pub(crate) legend: String,
    pub(crate) panel: Value,
}

pub(crate) fn dashboards() -> Vec<Dashboard> {
    let folder = std::fs::read_dir(path("grafana/dashboards")).expect("there are dashboards");
    let mut all: Vec<_> = folder
        .map(|entry| entry.expect("it can be read").path())
        .map(|path| Dashboard {
            file: path.file_stem().expect("a name").to_string_lossy().into_owned(),
            json: serde_json::from_str(&std::fs::read_to_string(&path).expect("it can be read"))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        })
        .collect();
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}

impl Dashboard {
    /// Rows included.
    pub(crate) fn everything(&self) -> &[Value] {
        self.json["panels"].as_array().expect("it has panels")
    }

    /// Every panel that shows something.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Value> {
        self.everything().iter().filter(|panel| panel["type"] != "row")
    }

    pub(crate) fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            let title = panel["title"].as_str().expect("a panel has a title");
            for target in panel["targets"].as_array().expect("a panel has queries") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                queries.push(Query {
                    of: format!("{}: {title}", self.file),
                    expr: target["expr"].as_str().expect("a query has an expression").to_owned(),
                    legend: target["legendFormat"].as_str().unwrap_or_default().to_owned(),
                    panel: panel.clone(),
                });
            }
        }
        queries
    }
}

pub(crate) fn every_query() -> Vec<Query> {
    dashboards().iter().flat_map(Dashboard::queries).collect()
}

/// A rule, as its lines say it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rule {
    /// Of an alert or a record.
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expr: String,
    pub(crate) lines: Vec<String>,
}

/// Every rule. Each part of one stands on a line of its own, as promtool and
/// Prometheus are shown to read it elsewhere.
pub(crate) fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in read("prometheus.rules.yml").lines() {
        let line = line.trim();
        for (key, is_alert) in [("- record: ", false), ("- alert: ", true)] {
            if let Some(name) = line.strip_prefix(key) {
                rules.push(Rule { name: name.to_owned(), is_alert, ..Rule::default() });
            }
        }
        let Some(rule) = rules.last_mut() else { continue };
        if let Some(expr) = line.strip_prefix("expr: ") {
            expr.clone_into(&mut rule.expr);
        }
        rule.lines.push(line.to_owned());
    }
    rules
}
