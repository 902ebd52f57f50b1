//! What the commands that talk to a node need to know: where it is, and what to
//! show it.

use url::Url;

use super::environment::Environment;
use super::value::Secret;
use super::{flag_of, read_capped, variable_of};

/// A node's address and the credentials for it.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where the node is: `http`, any path kept as a prefix.
    pub url: Url,
    /// What senders present.
    pub api_key: Option<Secret>,
    /// What receivers present.
    pub token: Option<Secret>,
}

/// A client's setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {text}")]
pub struct ClientError {
    name: String,
    text: String,
}

impl Client {
    /// Puts a client's settings together: flags above environment above the
    /// address this machine's node listens on.
    ///
    /// # Errors
    /// When the address is none, or a secret's file cannot be read.
    pub fn new(
        url: Option<&str>,
        api_key: Option<&str>,
        token: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, ClientError> {
        let (name, text) = match (url, environment.get("url")) {
            (Some(url), _) => (flag_of("url"), url.to_owned()),
            (None, Some(url)) => (variable_of("url"), url.to_owned()),
            (None, None) => (variable_of("listen"), own_node(environment)),
        };
        let url = base(&text).map_err(|text| ClientError { name, text })?;
        Ok(Self {
            url,
            api_key: secret("api_key", api_key, environment)?,
            token: secret("token", token, environment)?,
        })
    }
}

/// The node of this machine or container, as it would be asked from within.
fn own_node(environment: &Environment) -> String {
    let listen = environment.get("listen").unwrap_or("127.0.0.1:8080");
    match listen.parse::<std::net::SocketAddr>() {
        Ok(mut address) => {
            if address.ip().is_unspecified() {
                address.set_ip(match address.ip() {
                    std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            format!("http://{address}")
        }
        Err(_) => format!("http://{listen}"),
    }
}

fn base(text: &str) -> Result<Url, String> {
    let wanted = "must be the address of a node, like http://127.0.0.1:8080";
    let mut url = Url::parse(text).map_err(|_| wanted.to_owned())?;
    match url.scheme() {
        "http" => {}
        "ws" => url.set_scheme("http").map_err(|()| wanted.to_owned())?,
        "https" | "wss" => {
            return Err("cannot use TLS, which this command line does not speak: name a node itself, \
                        like http://127.0.0.1:8080"
                .to_owned());
        }
        _ => return Err(wanted.to_owned()),
    }
    if url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() || url.password().is_some() {
        return Err(wanted.to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn secret(key: &str, flag: Option<&str>, environment: &Environment) -> Result<Option<Secret>, ClientError> {
    if let Some(text) = flag.or_else(|| environment.get(key)).filter(|text| !text.is_empty()) {
        return Ok(Some(Secret::new(text.to_owned())));
    }
    let file_key = format!("{key}_file");
    let Some(path) = environment.get(&file_key) else { return Ok(None) };
    match read_capped(std::path::Path::new(path), 1 << 16) {
        Ok(text) => Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))),
        Err(error) => Err(ClientError {
            name: variable_of(&file_key),
            text: format!("must name a readable file ({error}), like /run/secrets/{key}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<String, ClientError> {
        let environment = Environment::of(variables.iter().copied());
        Client::new(flag, None, None, &environment).map(|client| client.url.to_string())
    }

    #[test]
    fn the_flag_beats_the_variable_beats_the_own_node() {
        let both = [("POSTRIDER_URL", "ws://b:2/"), ("POSTRIDER_LISTEN", "0.0.0.0:9")];
        assert_eq!(url(Some("http://a:1/base/"), &both).as_deref(), Ok("http://a:1/base"));
        assert_eq!(url(None, &both).as_deref(), Ok("http://b:2/"));
        assert_eq!(url(None, &both[1..]).as_deref(), Ok("http://127.0.0.1:9/"));
        assert_eq!(url(None, &[("POSTRIDER_LISTEN", "[::]:9")]).as_deref(), Ok("http://[::1]:9/"));
        assert_eq!(url(None, &[]).as_deref(), Ok("http://127.0.0.1:8080/"));
    }

    #[test]
    fn what_is_no_address_is_refused_under_the_name_it_was_given() {
        let error = url(Some("localhost"), &[]).expect_err("no URL").to_string();
        assert!(error.starts_with("--url must be"), "{error}");
        let error = url(None, &[("POSTRIDER_URL", "https://x")]).expect_err("TLS").to_string();
        assert!(error.starts_with("POSTRIDER_URL cannot use TLS"), "{error}");
    }

    #[test]
    fn credentials_come_from_flags_variables_and_files() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key");
        std::fs::write(&path, "from-file\n").expect("written");
        let path = path.to_str().expect("UTF-8");
        let environment = Environment::of([("POSTRIDER_API_KEY_FILE", path), ("POSTRIDER_TOKEN", "t")]);
        let client = Client::new(None, None, None, &environment).expect("valid");
        assert_eq!(client.api_key.as_ref().map(Secret::expose), Some("from-file"));
        assert_eq!(client.token.as_ref().map(Secret::expose), Some("t"));
        let client = Client::new(None, Some("flag"), None, &environment).expect("valid");
        assert_eq!(client.api_key.as_ref().map(Secret::expose), Some("flag"));
        assert!(!format!("{client:?}").contains("flag"));
    }
}
