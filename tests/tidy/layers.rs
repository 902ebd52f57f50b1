//! Arrows never turn: `main → node → http → delivery → session, store → protocol`.

use super::source::{code_of, paths_of, without_tests};
use super::{File, no_complaints, rust_files};

/// Each module at the crate's top, with the ones it may know.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("metrics", &[]),
    ("shutdown", &[]),
    ("logging", &[]),
    ("spans", &[]),
    ("client", &["protocol"]),
    ("session", &["protocol", "metrics", "shutdown"]),
    ("store", &["protocol", "metrics", "shutdown"]),
    ("delivery", &["session", "store", "protocol", "metrics", "shutdown", "spans"]),
    ("webhook", &["delivery", "protocol", "metrics"]),
    ("http", &["delivery", "session", "store", "protocol", "metrics", "shutdown"]),
    ("config", &["webhook", "http", "delivery", "session", "store", "protocol", "logging", "shutdown"]),
    (
        "node",
        &[
            "config", "webhook", "http", "delivery", "session", "store", "protocol", "metrics", "shutdown",
            "spans",
        ],
    ),
    (
        "cli",
        &[
            "client", "node", "config", "webhook", "http", "delivery", "session", "store", "protocol",
            "metrics", "shutdown", "logging",
        ],
    ),
];

/// Foreign things that only some places may touch: path prefix, who may.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    ("redis::", &["src/store/redis/"], "only the Redis store knows Redis"),
    ("warp::", &["src/http/"], "only http knows warp"),
    ("std::env::var", &["src/config/", "src/config.rs"], "only config reads the environment"),
    ("env::var", &["src/config/", "src/config.rs"], "only config reads the environment"),
];

/// What a module that performs no I/O stays away from.
const IO: &[&str] = &[
    "tokio::net",
    "tokio::fs",
    "tokio::io",
    "tokio::time",
    "tokio::spawn",
    "std::fs",
    "std::process",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::time::SystemTime",
];

/// The module at the crate's top that a file belongs to, and how deep it lies.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<_> = inner.split('/').filter(|part| *part != "mod").collect();
    let top = *parts.first()?;
    (!matches!(top, "main" | "lib")).then_some((top, parts.len()))
}

fn wrong_arrows(file: &File) -> Vec<String> {
    let Some((top, depth)) = module_of(&file.path) else { return Vec::new() };
    let Some((_, may_know)) = MAY_KNOW.iter().find(|(module, _)| *module == top) else {
        return vec![format!(
            "{}: module '{top}' has no place in the order: give it one in tests/tidy",
            file.path
        )];
    };
    let mut complaints = Vec::new();
    for path in paths_of(&file.text) {
        let mut parts = path.split("::");
        if parts.next() == Some("crate") {
            let known = parts.next().unwrap_or("*");
            if known != top && !may_know.contains(&known) {
                complaints.push(format!("{}: {top} must not know {known} ({path})", file.path));
            }
        }
    }
    // In-file test modules lie one deeper, so their climbs are judged apart.
    let own = without_tests(&file.text);
    let tests = &file.text[own.len()..];
    for (text, depth) in [(own, depth), (tests, depth + 1)] {
        if code_of(text).contains(&"super::".repeat(depth)) {
            complaints.push(format!("{}: climbs out of {top} with super: write crate::", file.path));
        }
    }
    complaints
}

fn wrong_neighbours(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let paths = paths_of(&file.text);
    // A module of ours that is called like a crate, taken in by its full path.
    let ours = |name: &str| {
        let tail = format!("::{}", name.trim_end_matches("::"));
        paths.iter().any(|path| path.starts_with("crate::") && path.ends_with(&tail))
            || code_of(&file.text).contains(&format!("mod {};", name.trim_end_matches("::")))
    };
    for (prefix, allowed, rule) in FOREIGN {
        let here = allowed.iter().any(|place| file.path.starts_with(place));
        if !here && !ours(prefix) && paths.iter().any(|path| path.starts_with(prefix)) {
            complaints.push(format!("{}: {rule} ({prefix})", file.path));
        }
    }
    if file.path.starts_with("src/protocol") {
        for prefix in IO {
            if paths.iter().any(|path| path.starts_with(prefix)) {
                complaints.push(format!("{}: protocol performs no I/O ({prefix})", file.path));
            }
        }
    }
    complaints
}

#[test]
fn arrows_between_modules_never_turn() {
    no_complaints(&rust_files("src").iter().flat_map(wrong_arrows).collect::<Vec<_>>());
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    no_complaints(&rust_files("src").iter().flat_map(wrong_neighbours).collect::<Vec<_>>());
}

#[test]
fn config_and_node_do_not_know_each_other_both_ways() {
    let knows = |top: &str, other: &str| {
        let prefix = format!("crate::{other}");
        rust_files("src")
            .iter()
            .filter(|file| module_of(&file.path).is_some_and(|(module, _)| module == top))
            .any(|file| paths_of(&file.text).iter().any(|path| path.starts_with(&prefix)))
    };
    assert!(!(knows("config", "node") && knows("node", "config")), "config and node import each other");
}

#[test]
fn modules_stand_in_the_order_lowest_first_so_that_no_circle_can_be_allowed() {
    for (i, (module, may_know)) in MAY_KNOW.iter().enumerate() {
        for known in *may_know {
            let below = MAY_KNOW[..i].iter().any(|(lower, _)| lower == known);
            assert!(below, "{module} may know {known}, which is not below it");
        }
    }
}

fn complaints_about(path: &str, text: &str) -> usize {
    let file = File { path: path.to_owned(), text: text.to_owned() };
    wrong_arrows(&file).len() + wrong_neighbours(&file).len()
}

#[test]
fn a_wrong_arrow_is_noticed_however_it_is_written() {
    for (path, text) in [
        ("src/store/mod.rs", "use crate::session::Session;"),
        ("src/session/outbox.rs", "use crate::{protocol::Position, store::Store};"),
        ("src/protocol/id.rs", "fn f() { crate::metrics::x(); }"),
        ("src/metrics.rs", "use crate::protocol::Position;"),
        ("src/delivery/mod.rs", "pub(crate) use crate::http::{self as h};"),
        ("src/session/outbox.rs", "use super::super::store::Store;"),
        ("src/kitchen/mod.rs", "use std::fmt;"),
    ] {
        assert_eq!(complaints_about(path, text), 1, "{path}: {text}");
    }
}

#[test]
fn a_neighbour_in_the_wrong_place_is_noticed() {
    for (path, text) in [
        ("src/delivery/router.rs", "use redis::AsyncCommands;"),
        ("src/delivery/router.rs", "fn f() { let _ = redis::cmd(x); }"),
        ("src/node.rs", "use warp::Filter;"),
        ("src/http/mod.rs", "fn f() { std::env::var(x); }"),
        ("src/protocol/ws.rs", "use tokio::{io::AsyncRead};"),
        ("src/protocol/ws.rs", "use std::fs;"),
    ] {
        assert_eq!(complaints_about(path, text), 1, "{path}: {text}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    for (path, text) in [
        ("src/delivery/router.rs", "use crate::{session::Session, store::{Store, memory::Memory}};"),
        ("src/node.rs", "use crate::store::redis;\nfn f() { redis::Store::connect(); }"),
        ("src/store/mod.rs", "pub mod redis;\npub use redis::Redis;"),
        ("src/store/redis/keys.rs", "use redis::Value;"),
        (
            "src/protocol/id.rs",
            "//! See [`crate::store`].\nuse super::Channel;\nconst A: &str = \"crate::store\";",
        ),
        ("src/session/outbox.rs", "#[cfg(test)]\nmod tests {\n    use super::super::Token;\n}"),
        ("src/main.rs", "use postrider::cli;"),
    ] {
        assert_eq!(complaints_about(path, text), 0, "{path}: {text}");
    }
}
