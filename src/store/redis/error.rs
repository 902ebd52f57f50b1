//! What the server's error codes mean to callers and to the connection.

use ::redis::ServerError;

use crate::store::Error;

/// The contract's error for a server's.
pub(super) fn from_server(what: &'static str, error: &ServerError) -> Error {
    let detail = || error.details().unwrap_or_default().to_owned();
    match error.code() {
        "OOM" => Error::OutOfMemory,
        "MISMATCH" => Error::IdempotencyMismatch,
        "FORMAT" => Error::Corrupt { what: "a channel", detail: detail() },
        "NOGROUP" => Error::Fenced,
        // Redis also unblocks readers of a master that became a replica.
        "UNBLOCKED" if error.details().is_some_and(|text| text.contains("no longer exists")) => Error::Fenced,
        code if breaks_connection(code) || matches!(code, "NOREPLICAS" | "MISCONF" | "BUSY") => {
            Error::Unavailable(format!("{code} {}", detail()))
        }
        code => Error::Refused { what, detail: format!("{code} {}", detail()) },
    }
}

/// Whether a server that answers so will not serve on this connection: another
/// one may lead to its successor.
pub(super) fn breaks_connection(code: &str) -> bool {
    matches!(
        code,
        "READONLY"
            | "LOADING"
            | "MASTERDOWN"
            | "CLUSTERDOWN"
            | "MOVED"
            | "ASK"
            | "TRYAGAIN"
            | "UNBLOCKED"
            | "NOAUTH"
    )
}

pub(super) fn corrupt(what: &'static str, detail: impl Into<String>) -> Error {
    Error::Corrupt { what, detail: detail.into() }
}
