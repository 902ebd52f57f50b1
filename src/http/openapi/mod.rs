//! `/openapi.json`: the API described by the types that its handlers use.
//!
//! Bodies and answers come from [`crate::protocol`] by `utoipa`; what a type
//! cannot say (which route, which refusals, an example) stands in
//! [`operations`], one entry for each route. Three tests keep it true: routes
//! and document name each other (`tests/tidy`), every code that the sources
//! refuse with is in [`codes`], and the committed `docs/openapi.json` is what
//! a node serves (`tests/end_to_end/openapi`).

mod codes;
mod operation;
mod operations;
mod receive;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};
use warp::reply::Response;

use operation::{Operation, Scope};

const ABOUT: &str = "Postrider delivers messages to people's devices. A backend sends one request to any \
node; every device of that user, on whichever node its socket happens to be, receives the message, in order, \
each once.\n\nEvery refusal is `application/problem+json` (RFC 9457) with a stable `code`, a `detail` that \
says what to do, and the `request_id` (yours, if you send `X-Request-Id`). Retry on 503, 507 and on broken \
connections, with the same `Idempotency-Key`.";

/// The groups of operations, in reading order.
const TAGS: &[(&str, &str)] = &[
    ("Send", "Messages on their way to people."),
    ("Receive", "What devices connect to."),
    ("Look", "Who is online, how far they are, and what the nodes do."),
    ("Take away", "Sessions closed, messages taken back, channels forgotten."),
    ("Operate", "For load balancers, supervisors and Prometheus."),
    ("Pages", "For people with a browser; embedded in the binary."),
];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).expect("JSON becomes text");
    text.push('\n');
    text
});

/// The document.
pub(super) fn serve() -> Response {
    let mut response = Response::new(DOCUMENT.as_str().into());
    response.headers_mut().insert("content-type", warp::http::HeaderValue::from_static("application/json"));
    response
}

fn document() -> Value {
    let operations = operations::all();
    let mut paths: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    let mut schemas = BTreeMap::from([("Problem".to_owned(), problem_schema())]);
    for operation in &operations {
        schemas.extend(operation.schemas());
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), operation.render());
    }
    let tags = TAGS.iter().map(|(name, description)| json!({"name": name, "description": description}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The node that serves this document"}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {},
            "securitySchemes": security_schemes(),
        },
    })
}

fn security_schemes() -> Value {
    json!({
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key of a sender or operator. Not asked for with `--auth none`.",
        },
        "userToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A user's token; with `--auth none` simply the user's name.",
        },
        "userCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "token",
            "description": "The same token in a cookie, for browsers.",
        },
    })
}

/// RFC 9457, with what we add to it.
fn problem_schema() -> Value {
    let codes: Vec<_> = codes::CODES.iter().map(|code| code.code).collect();
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "A refusal: what a program and a person need to know to do better.",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": text("`urn:postrider:problem:` and the code."),
            "title": text("The status in words."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": text("For people: what to do."),
            "code": {"type": "string", "enum": codes, "description": "Stable, for programs."},
            "request_id": text("Which request this was; the node's log has it too."),
        },
        "examples": [{
            "type": "urn:postrider:problem:invalid_channel",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": "a channel is user:NAME, topic:NAME or all",
            "code": "invalid_channel",
            "request_id": "01JZ8Q6V3M5N8R2T4W6Y8A0B2C",
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.push(to.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn operations_have_ids_of_their_own_tags_that_exist_and_samples_that_name_their_path() {
        let operations = operations::all();
        for (at, operation) in operations.iter().enumerate() {
            assert!(operations[..at].iter().all(|other| other.id != operation.id), "{}", operation.id);
            assert!(TAGS.iter().any(|(tag, _)| *tag == operation.tag), "{}", operation.tag);
            assert_eq!(
                operation.path.matches('{').count(),
                operation.parameters.iter().filter(|parameter| parameter["in"] == "path").count(),
                "{}",
                operation.path
            );
        }
    }

    /// Whoever reads the code in a problem must find it in the document.
    #[test]
    fn every_code_that_is_refused_with_is_listed_and_every_listed_one_is_used() {
        let mut sources = String::new();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("its entries can be read").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).expect("a source file"));
            }
        }
        let mut used = std::collections::BTreeSet::new();
        for call in ["Problem::new(", "Self::new(", "Problem::invalid(", "Self::invalid(", "::unavailable("] {
            for (at, _) in sources.match_indices(call) {
                let arguments = sources[at + call.len()..].trim_start();
                // The status comes first where there is one.
                let arguments = arguments
                    .strip_prefix("StatusCode::")
                    .map_or(arguments, |rest| rest.split_once(',').map_or("", |(_, rest)| rest.trim_start()));
                if let Some(rest) = arguments.strip_prefix('"') {
                    used.insert(rest.split('"').next().unwrap_or_default());
                }
            }
        }
        // Chosen before they are handed over, in one place.
        used.extend(["invalid_body", "invalid_json"]);
        let listed: std::collections::BTreeSet<_> = codes::CODES.iter().map(|code| code.code).collect();
        assert_eq!(used, listed, "left: what src/http refuses with; right: src/http/openapi/codes.rs");
    }
}
