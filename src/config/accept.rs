//! What the texts among the settings must look like.

use tracing_subscriber::filter::Targets;

/// `host:port`, as other nodes and operators reach this one.
pub(super) fn advertised(text: &str) -> Result<(), String> {
    let wanted = || "must be a host name or IP address and a port, without a scheme".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if host_ok && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(()) } else { Err(wanted()) }
}

/// What every Redis key begins with.
pub(super) fn prefix(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(());
    }
    // Braces would move the hash tag, and with it the slot of every key.
    Err("must be 1 to 64 of A-Z a-z 0-9 . _ - :".to_owned())
}

/// A file's path; whether it can be read shows when it is.
pub(super) fn path(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('\0') { Err("must be a file's path".to_owned()) } else { Ok(()) }
}

/// Where webhooks and spans go.
pub(super) fn plain_url(text: &str) -> Result<(), String> {
    let wanted = "must be an http:// address without credentials; for one beyond this network, go through a TLS \
                  proxy of yours";
    let url = url::Url::parse(text).map_err(|_| wanted.to_owned())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let named = url.host_str().is_some_and(|host| !host.is_empty());
    if url.scheme() == "http" && bare && named { Ok(()) } else { Err(wanted.to_owned()) }
}

/// Where a node asks a question of its own.
pub(super) fn question_url(text: &str) -> Result<(), String> {
    let wanted = || "must be an https:// (or http://) address without credentials".to_owned();
    let url = url::Url::parse(text).map_err(|_| wanted())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let named = url.host_str().is_some_and(|host| !host.is_empty());
    if matches!(url.scheme(), "http" | "https") && bare && named { Ok(()) } else { Err(wanted()) }
}

/// The name of a signature's algorithm.
pub(super) fn jwt_algorithm(text: &str) -> Result<(), String> {
    text.parse::<crate::http::auth::JwtAlgorithm>().map(drop)
}

/// The entry of an API key.
pub(super) fn api_key(text: &str) -> Result<String, String> {
    text.parse::<crate::http::auth::ApiKey>().map(|_| text.to_owned())
}

/// The name of a header that is passed on.
pub(super) fn header(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    // What belongs to the connection, or says who is asked.
    let ours = [
        "host",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "user-agent",
    ];
    if name.is_empty() || name.len() > 100 || !name.bytes().all(token) || ours.contains(&name.as_str()) {
        return Err("must be names of headers that may be passed on, like cookie or x-tenant".to_owned());
    }
    Ok(name)
}

/// An audience or issuer, compared character by character.
pub(super) fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 500 || text.chars().any(char::is_control) {
        return Err("must be 1 to 500 characters, as tokens hold them".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a claim.
pub(super) fn claim_name(text: &str) -> Result<(), String> {
    claim(text).map(drop)
}

/// A kind of news.
pub(super) fn webhook_event(text: &str) -> Result<String, String> {
    if matches!(text, "online" | "offline" | "delivered" | "expired") {
        return Ok(text.to_owned());
    }
    Err("must be of online, offline, delivered, expired".to_owned())
}

/// A filter of log lines.
pub(super) fn log_filter(text: &str) -> Result<(), String> {
    let level = |word: &str| matches!(word, "off" | "error" | "warn" | "info" | "debug" | "trace");
    // The library would take a mistyped level for a target, and log nothing else.
    let meant = |part: &str| match part.rsplit_once('=') {
        Some((target, word)) => !target.is_empty() && level(word),
        None => level(part),
    };
    // By target and level alone: filters by a span's fields are expressions, of which some lines take gigabytes.
    if !text.contains('[') && text.split(',').all(meant) && text.parse::<Targets>().is_ok() {
        return Ok(());
    }
    Err("must be a level (off, error, warn, info, debug, trace) or a list like info,postrider=debug"
        .to_owned())
}

/// An origin, in the form in which browsers send it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let wanted = || {
        "must be origins, scheme://host[:port] without a path; there is no wildcard, since any page could \
         then act in its visitors' names"
            .to_owned()
    };
    let url = url::Url::parse(text).map_err(|_| wanted())?;
    let bare = url.path() == "/" && !text.ends_with('/') && url.query().is_none() && url.fragment().is_none();
    let origin = url.origin();
    if !bare
        || !origin.is_tuple()
        || !url.username().is_empty()
        || url.password().is_some()
        || text.contains('*')
    {
        return Err(wanted());
    }
    Ok(origin.ascii_serialization())
}

/// An address or a network of proxies.
pub(super) fn network(text: &str) -> Result<String, String> {
    crate::http::network(text).map(|network| network.to_string()).ok_or_else(|| {
        "must be IP addresses or networks, like 10.0.0.5 or 10.0.0.0/8; names may change owners".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised_as_browsers_send_them() {
        assert_eq!(origin("HTTPS://App.Example.com:443").as_deref(), Ok("https://app.example.com"));
        assert_eq!(origin("http://localhost:3000").as_deref(), Ok("http://localhost:3000"));
        for text in [
            "*",
            "https://*.example.com",
            "app.example.com",
            "https://a.com/",
            "https://a.com/x",
            "https://u@a.com",
            "null",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn advertised_addresses_have_a_host_and_a_port() {
        for text in ["10.0.0.5:8080", "node-1.internal:80", "[::1]:8080"] {
            assert!(advertised(text).is_ok(), "{text}");
        }
        for text in ["", "node-1", ":80", "http://a:80", "a:0", "a:99999", "[x]:1", "a b:1"] {
            assert!(advertised(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_cannot_hold_a_hash_tag() {
        assert!(prefix("shop:prod").is_ok());
        for text in ["", "{a}", "a b", "é", &"p".repeat(65)] {
            assert!(prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn questions_go_to_http_or_https_without_credentials() {
        for text in ["https://issuer.example.com/jwks.json", "http://127.0.0.1:9000/keys?a=b"] {
            assert!(question_url(text).is_ok(), "{text}");
        }
        for text in ["", "issuer.example.com", "ftp://a/b", "https://u:p@a/b", "https://a/b#c", "https://"] {
            assert!(question_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn log_filters_are_checked() {
        assert!(log_filter("info,postrider=debug").is_ok());
        assert!(log_filter("warn,postrider::http=off").is_ok());
        for text in
            ["", "inof", "loud=", "=info", "postrider=shout", "info,", "[=x", "info,[push{id=7}]=debug"]
        {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }
}
