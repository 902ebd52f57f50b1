//! What sockets present: the user's name, or a token signed for it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::cli::output::Failure;

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes tokens.
#[derive(Clone)]
pub(super) struct Signer(Option<EncodingKey>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Signer(jwt)" } else { "Signer(none)" })
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    topics: &'a [&'a str],
}

impl Signer {
    /// Reads the nodes' secret from a file; without one a token is a name.
    pub(super) fn new(secret_file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = secret_file else { return Ok(Self(None)) };
        let secret = std::fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!(
                "--jwt-secret-file must name a readable file: {}: {error}",
                path.display()
            ))
        })?;
        Ok(Self(Some(EncodingKey::from_secret(secret.trim_end_matches(['\r', '\n']).as_bytes()))))
    }

    pub(super) fn token(&self, user: &str) -> String {
        let Some(key) = &self.0 else { return user.to_owned() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims { sub: user, exp: (now + LIFETIME).as_secs(), topics: &["*"] };
        jsonwebtoken::encode(&Header::default(), &claims, key).expect("HS256 signs any claims")
    }
}

#[tokio::test]
async fn a_node_with_the_same_secret_takes_the_token() {
    use crate::http::auth::{AuthOptions, Authenticator, Guards};
    let secret = "0123456789abcdef0123456789abcdef";
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), format!("{secret}\n")).expect("written");
    let signer = Signer::new(Some(file.path())).unwrap_or_else(|_| panic!("the file is there"));
    let options =
        AuthOptions::Guarded(Box::new(Guards { secrets: vec![secret.to_owned()], ..Guards::default() }));
    let (metrics, tasks) =
        (crate::metrics::Metrics::new("0", "memory"), tokio_util::task::TaskTracker::new());
    let authenticator = Authenticator::new(&options, &metrics, &tasks).expect("usable");
    let identity = authenticator.user(&signer.token("alice")).await.expect("a valid token");
    assert_eq!(identity.user.user_name(), Some("alice"));
}
