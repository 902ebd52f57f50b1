//! Asking another server one question: `GET` over HTTP or HTTPS, bounded in
//! time and bytes, on a connection of its own.
//!
//! Redirects are not followed: the address was named by the operator. Who is
//! trusted is this system's own list of authorities (`SSL_CERT_FILE` names
//! another).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::Url;
use warp::http::header::{HOST, HeaderValue, USER_AGENT};

/// One server's resource.
pub(super) struct Resource {
    url: Url,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    within: Duration,
    body_bytes_max: usize,
}

/// Where it is, without what may be secret in it.
impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.url.scheme(), self.host, self.port)
    }
}

impl Resource {
    /// Prepares to ask; nothing is asked yet.
    ///
    /// # Errors
    /// When the address is none of `http` or `https`, or nobody is trusted.
    pub(super) fn new(url: &Url, within: Duration, body_bytes_max: usize) -> Result<Self, String> {
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the address names no host")?;
        let port = url.port_or_known_default().ok_or("the address names no port")?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some((connector()?, server_name(host)?)),
            _ => return Err("the address must begin with https:// or http://".to_owned()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { url: url.clone(), host, port, tls, within, body_bytes_max })
    }

    /// Asks.
    ///
    /// # Errors
    /// Why there is no whole answer; the words name no header.
    pub(super) async fn get(&self, headers: &HeaderMap) -> Result<(StatusCode, Bytes), String> {
        timeout(self.within, self.exchange(headers))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} ms", self.within.as_millis())))
    }

    async fn exchange(&self, headers: &HeaderMap) -> Result<(StatusCode, Bytes), String> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = connect.await.map_err(|error| format!("it cannot be reached: {error}"))?;
        match &self.tls {
            None => self.ask(stream, headers).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                self.ask(stream.map_err(|error| format!("TLS: {error}"))?, headers).await
            }
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, Bytes), String> {
        let said = |error: hyper::Error| format!("the exchange failed: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request =
            Request::get(target).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let fields = request.headers_mut();
        fields.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        fields.insert(HOST, HeaderValue::from_str(authority).map_err(|error| error.to_string())?);
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("postrider/", env!("CARGO_PKG_VERSION"))));
        let exchange = async {
            let response = sender.send_request(request).await.map_err(said)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.body_bytes_max).collect().await;
            let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
            let mut body = body.aggregate();
            Ok((head.status, body.copy_to_bytes(body.remaining())))
        };
        // The connection lives as long as the question: no task outlives it.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = exchange.as_mut() => answer,
            ended = connection => match ended {
                // What was read is handed over all the same.
                Ok(()) => exchange.await,
                Err(error) => Err(said(error)),
            },
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "this system has no list of certificate authorities: install ca-certificates, or name a \
                    bundle with SSL_CERT_FILE"
                .to_owned(),
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers one request with these bytes, and returns what was asked.
    async fn answering(bytes: &'static str) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/keys?a=b", listener.local_addr().expect("bound"));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let read = stream.read_buf(&mut asked).await.expect("an open connection");
                assert!(read > 0, "the request ends early");
            }
            stream.write_all(bytes.as_bytes()).await.expect("an open connection");
            String::from_utf8(asked).expect("ASCII")
        });
        (url.parse().expect("a URL"), asked)
    }

    fn resource(url: &Url) -> Resource {
        Resource::new(url, Duration::from_secs(5), 8).expect("an address")
    }

    #[tokio::test]
    async fn an_answer_comes_whole_whatever_ends_it() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ] {
            let (url, asked) = answering(answer).await;
            let headers =
                HeaderMap::from_iter([(warp::http::header::COOKIE, HeaderValue::from_static("a=b"))]);
            let (status, body) = resource(&url).get(&headers).await.expect("an answer");
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
            let asked = asked.await.expect("asked").to_lowercase();
            assert!(asked.starts_with("get /keys?a=b http/1.1\r\n") && asked.contains("\r\ncookie: a=b\r\n"));
            assert!(asked.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", url.port().expect("a port"))));
        }
    }

    #[tokio::test]
    async fn more_than_is_wanted_is_refused_and_so_is_less() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello you",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            "not HTTP at all\r\n\r\n",
            "",
        ] {
            let (url, _asked) = answering(answer).await;
            assert!(resource(&url).get(&HeaderMap::new()).await.is_err(), "{answer}");
        }
    }

    #[tokio::test]
    async fn who_does_not_answer_is_waited_for_only_so_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        let resource = Resource::new(&url, Duration::from_millis(50), 8).expect("an address");
        let error = resource.get(&HeaderMap::new()).await.expect_err("nobody answers");
        assert!(error.contains("within 50 ms"), "{error}");
    }
}
