//! The pages at `/`, `/console` and `/docs`, embedded in the binary.
//!
//! Nothing is inline and nothing is loaded from elsewhere, so the policy can be
//! strict. A browser keeps what it got and asks whether it is still the same.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::Problem;

/// A file of the pages, and what a browser must know of it.
struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal: $type:literal;)*) => {
        &[$(File {
            name: $name,
            content_type: $type,
            text: include_str!(concat!("../console/", $name)),
        },)*]
    };
}

const FILES: &[File] = files! {
    "home.html": "text/html; charset=utf-8";
    "console.html": "text/html; charset=utf-8";
    "docs.html": "text/html; charset=utf-8";
    "base.css": "text/css; charset=utf-8";
    "console.css": "text/css; charset=utf-8";
    "home.css": "text/css; charset=utf-8";
    "docs.css": "text/css; charset=utf-8";
    "icon.svg": "image/svg+xml";
    "api.js": "text/javascript; charset=utf-8";
    "chart.js": "text/javascript; charset=utf-8";
    "console.js": "text/javascript; charset=utf-8";
    "docs.js": "text/javascript; charset=utf-8";
    "dom.js": "text/javascript; charset=utf-8";
    "follow.js": "text/javascript; charset=utf-8";
    "home.js": "text/javascript; charset=utf-8";
    "numbers.js": "text/javascript; charset=utf-8";
    "overview.js": "text/javascript; charset=utf-8";
    "proof.js": "text/javascript; charset=utf-8";
    "receiver.js": "text/javascript; charset=utf-8";
    "send.js": "text/javascript; charset=utf-8";
    "theme.js": "text/javascript; charset=utf-8";
};

/// A new binary has new files: their hashes are taken once.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let hash = Sha256::digest(file.text);
        format!(
            "\"{:02x}{:02x}{:02x}{:02x}{:02x}{:02x}\"",
            hash[0], hash[1], hash[2], hash[3], hash[4], hash[5]
        )
    };
    FILES.iter().map(tag).collect()
});

/// One of the pages.
pub(super) fn page(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let mut response = serve(name, headers)?;
    let policy = policy(headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default());
    let policy = HeaderValue::from_str(&policy).expect("the host was looked at");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// A part of a page.
pub(super) fn asset(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    if name.ends_with(".html") {
        return Err(missing());
    }
    serve(name, headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let at = FILES.iter().position(|file| file.name == name).ok_or_else(missing)?;
    let (file, tag) = (&FILES[at], &TAGS[at]);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let unchanged =
        known.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = Response::new(if unchanged { "" } else { file.text }.into());
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    fields.insert(ETAG, HeaderValue::from_str(tag).expect("hexadecimal digits"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "no page has such a part; reload the page")
}

/// Only files of this node, and sockets to it. Some browsers do not count a
/// socket of the same host as `'self'`, so the host is named.
fn policy(host: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let sockets = if host.is_empty() || !host.chars().all(plain) {
        String::new()
    } else {
        format!(" ws://{host} wss://{host}")
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'{sockets}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_could_say_more_is_left_out_of_the_policy() {
        assert!(
            policy("127.0.0.1:8080").contains("connect-src 'self' ws://127.0.0.1:8080 wss://127.0.0.1:8080;")
        );
        for host in ["", "a; script-src *", "a b", "a'b", "ü"] {
            assert!(policy(host).contains("connect-src 'self';"), "{host}");
        }
    }

    #[test]
    fn nothing_is_inline_or_from_elsewhere() {
        for file in FILES {
            for forbidden in [
                " style=\"",
                "<style",
                " onclick=",
                "innerHTML",
                "eval(",
                "src=\"http",
                "@import",
                "url(http",
            ] {
                assert!(!file.text.contains(forbidden), "{} holds {forbidden}", file.name);
            }
            for (at, _) in file.text.match_indices("<script") {
                assert!(
                    file.text[at..].starts_with("<script type=\"module\" src=\"/assets/"),
                    "{}",
                    file.name
                );
            }
        }
    }

    #[test]
    fn every_part_that_is_named_is_there_and_every_part_is_named() {
        let everything: String = FILES.iter().map(|file| file.text).collect();
        for file in FILES.iter().filter(|file| !file.content_type.starts_with("text/html")) {
            let named = [format!("/assets/{}\"", file.name), format!("'./{}'", file.name)];
            assert!(named.iter().any(|name| everything.contains(name.as_str())), "{} is not used", file.name);
        }
        for (at, start) in everything.match_indices("/assets/").chain(everything.match_indices("from './")) {
            let name = everything[at + start.len()..].split(['"', '\'']).next().unwrap_or_default();
            assert!(FILES.iter().any(|file| file.name == name), "{name} is not there");
        }
    }

    #[test]
    fn what_did_not_change_is_not_sent_again() {
        let first = asset("base.css", &HeaderMap::new()).expect("it is there");
        let tag = first.headers().get(ETAG).expect("a tag").clone();
        let again = asset("base.css", &HeaderMap::from_iter([(IF_NONE_MATCH, tag)])).expect("it is there");
        assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        assert_eq!(asset("home.html", &HeaderMap::new()).expect_err("not an asset").code, "not_found");
    }
}
