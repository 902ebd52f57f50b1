//! Alerts are tried by Prometheus' own means, and each leads to a runbook entry.

use std::process::Command;

use super::dashboard::{dashboards, path, read, rules};
use crate::tools;

fn promtool(arguments: &[&str], file: &str) {
    let output = Command::new(tools::program("promtool"))
        .args(arguments)
        .arg(path(file))
        .output()
        .expect("promtool starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
}

#[test]
fn prometheus_accepts_the_configuration_and_the_rules() {
    promtool(&["check", "config"], "prometheus.yml");
    promtool(&["check", "rules"], "prometheus.rules.yml");
}

/// The examples of discovery are comments; without their marks they are configuration.
#[test]
fn prometheus_accepts_the_other_kinds_of_discovery() {
    let text = read("prometheus.yml");
    let examples = text.split("  # By DNS:").nth(1).expect("there are examples");
    let configured = examples.lines().filter_map(|line| line.strip_prefix("  # "));
    let configured = configured.filter(|line| !line.starts_with(['B', '[', ' ']) || line.starts_with("  "));
    let mut jobs = 0;
    let mut config = String::from("scrape_configs:\n");
    for line in configured.filter(|line| !line.starts_with("  [")) {
        let line = if line.contains("job_name") {
            jobs += 1;
            format!("- job_name: example{jobs}")
        } else {
            line.to_owned()
        };
        config.push_str(&format!("  {line}\n"));
    }
    assert_eq!(jobs, 2, "{config}");
    let file = tempfile::Builder::new().suffix(".yml").tempfile().expect("a temporary file");
    std::fs::write(file.path(), &config).expect("it is ours");
    promtool(&["check", "config", "--syntax-only"], &file.path().to_string_lossy());
    assert!(config.contains("dns_sd_configs") && config.contains("file_sd_configs"), "{config}");
}

#[test]
fn alerts_fire_and_are_quiet_when_they_should() {
    promtool(&["test", "rules"], "tests/prometheus/alerts.test.yml");
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_does_not() {
    let cases = read("tests/prometheus/alerts.test.yml");
    let cases: Vec<_> = cases.split("alertname: ").skip(1).collect();
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let of = |quiet: bool| {
            cases.iter().any(|case| {
                case.lines().next() == Some(&rule.name) && case.contains("exp_alerts: []") == quiet
            })
        };
        assert!(of(false) && of(true), "{} is not tried both ways", rule.name);
    }
}

#[test]
fn every_alert_leads_to_its_place_in_the_runbook() {
    let runbook = read("docs/RUNBOOK.md");
    let anchors: Vec<_> = runbook
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|title| title.trim().to_lowercase().replace(' ', "-"))
        .collect();
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let link = rule.lines.iter().find_map(|line| line.strip_prefix("runbook_url: "));
        let link = link.unwrap_or_else(|| panic!("{} has no runbook_url", rule.name)).trim_matches('"');
        let anchor = link.strip_prefix("docs/RUNBOOK.md#").unwrap_or_else(|| panic!("{link}"));
        assert_eq!(anchor, rule.name.to_lowercase());
        assert!(anchors.iter().any(|one| one == anchor), "docs/RUNBOOK.md has no #{anchor}");
        let severe = rule
            .lines
            .iter()
            .any(|line| line.contains("severity: page") || line.contains("severity: ticket"));
        assert!(severe, "{} says not how urgent it is", rule.name);
    }
}

#[test]
fn every_section_of_the_runbook_is_an_alerts_and_says_what_it_means_how_to_see_it_and_what_to_do() {
    let rules = rules();
    let runbook = read("docs/RUNBOOK.md");
    let mut sections = 0;
    for section in runbook.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        assert!(rules.iter().any(|rule| rule.is_alert && rule.name == title), "no alert is called {title}");
        for part in ["**Means.**", "**See.**", "**Do.**"] {
            assert_eq!(section.matches(&format!("\n\n{part}")).count(), 1, "{title}: {part}");
        }
        sections += 1;
    }
    assert_eq!(sections, rules.iter().filter(|rule| rule.is_alert).count());
}

/// `*Dashboard → Panel*` is where somebody who was woken looks: it must be there.
#[test]
fn every_panel_that_the_docs_name_exists() {
    let all = dashboards();
    for file in ["docs/RUNBOOK.md", "docs/SIZING.md"] {
        let text = read(file);
        let named = text.split('*').filter_map(|part| part.split_once(" → "));
        // Prometheus' own page.
        for (dashboard, panel) in named.filter(|(dashboard, _)| *dashboard != "Status") {
            let title = format!("Postrider: {dashboard}");
            let one = all.iter().find(|one| {
                one.json["title"].as_str().is_some_and(|other| other.eq_ignore_ascii_case(&title))
            });
            let one = one.unwrap_or_else(|| panic!("{file}: no dashboard is called {dashboard}"));
            assert!(one.panels().any(|other| other["title"] == panel), "{file}: {dashboard} has no {panel}");
        }
    }
}
