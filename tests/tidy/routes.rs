//! Routes and the API's description name each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{files, rust_files};

/// `GET /v1/channels/{}`: methods and paths with what varies left out.
type Routes = BTreeSet<String>;

/// Routes by warp's own words: a path, and the next method behind it.
fn routes_of(text: &str) -> Routes {
    let mut found = Routes::new();
    let paths = text.match_indices("warp::path!(").chain(text.match_indices("warp::path::end()"));
    for (at, start) in paths {
        let (path, rest) = if start.ends_with('(') {
            let (inner, rest) = text[at + start.len()..].split_once(')').expect("the path ends");
            let segments = inner.split('/').map(str::trim).map(|segment| {
                segment.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or("{}")
            });
            (format!("/{}", segments.collect::<Vec<_>>().join("/")), rest)
        } else {
            ("/".to_owned(), &text[at + start.len()..])
        };
        let methods = ["get", "post", "put", "delete", "patch"];
        let next = methods
            .iter()
            .filter_map(|method| Some((rest.find(&format!("warp::{method}()"))?, method)))
            .min()
            .unwrap_or_else(|| panic!("{path} takes every method: say which"));
        found.insert(format!("{} {path}", next.1.to_uppercase()));
    }
    found
}

fn documented(document: &Value) -> Routes {
    let paths = document["paths"].as_object().expect("paths");
    let each = paths.iter().flat_map(|(path, item)| {
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
        let path = segments.collect::<Vec<_>>().join("/");
        let methods = item.as_object().expect("methods");
        methods.keys().map(move |method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    });
    each.collect()
}

#[test]
fn every_route_is_described_and_every_described_route_is_there() {
    let routes: Routes = rust_files("src/http").iter().flat_map(|file| routes_of(&file.text)).collect();
    let document = files("docs/openapi.json").remove(0);
    let document = serde_json::from_str(&document.text).expect("the document is JSON");
    assert_eq!(
        routes,
        documented(&document),
        "left: routes; right: docs/openapi.json. A route is described in src/http/openapi/operations.rs"
    );
}

#[test]
fn a_route_is_seen_however_it_is_laid_out() {
    let text = "let a = warp::path!(\"v1\" / \"a\" / String)\n.and(warp::delete());\nwarp::path::end().and(warp::get())";
    assert_eq!(routes_of(text), Routes::from(["DELETE /v1/a/{}".to_owned(), "GET /".to_owned()]));
}
