//! Redis over TLS: what is trusted, what is shown, and what is said when that
//! does not do.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::harness::{
    Device, Node, NodeOptions, PATIENCE, RedisOptions, RedisServer, free_port, run_command, settled,
};

/// An authority, and the pairs that it signed, as files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of a name of its own, as authorities are.
        params.distinguished_name.push(DnType::CommonName, folder.path().display().to_string());
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        let authority = Self { folder, issuer: Issuer::new(params, key) };
        authority.issue("server", "127.0.0.1");
        authority.issue("client", "a-node");
        authority
    }

    fn issue(&self, file: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.folder.path().join(format!("{file}.pem")), certificate.pem()).expect("written");
        std::fs::write(self.folder.path().join(format!("{file}.key")), key.serialize_pem()).expect("written");
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server with this authority's certificate, which demands one of the same
    /// authority's if it is told to. Its plain port is the harness's.
    async fn server(&self, demand: bool) -> (RedisServer, u16) {
        let port = free_port();
        let args = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", self.file("server.pem")),
            ("--tls-key-file", self.file("server.key")),
            ("--tls-ca-cert-file", self.file("ca.pem")),
            ("--tls-auth-clients", if demand { "yes" } else { "no" }.to_owned()),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        (RedisServer::start_with(RedisOptions { args, ..RedisOptions::default() }).await, port)
    }

    fn config(&self, shows: bool) -> String {
        let mut config = format!("redis_tls_ca_file = {:?}\n", self.file("ca.pem"));
        if shows {
            config.push_str(&format!("redis_tls_cert_file = {:?}\n", self.file("client.pem")));
            config.push_str(&format!("redis_tls_key_file = {:?}\n", self.file("client.key")));
        }
        config
    }
}

fn options(port: u16, config: String) -> NodeOptions {
    NodeOptions {
        redis: Some(format!("rediss://127.0.0.1:{port}")),
        config: Some(config),
        ..NodeOptions::default()
    }
}

/// A message goes from one node to a device on the other.
async fn delivers(nodes: &[Node; 2], n: u64) {
    let phone = Device::connect(nodes[1].envelope("ann").device("phone").acknowledging()).await;
    settled(PATIENCE, "a push is accepted", async || {
        let answer = nodes[0].api().push(&serde_json::json!({"to": "user:ann", "data": n})).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    phone.wait_messages(1).await;
    assert_eq!(phone.payloads(), [serde_json::json!(n)]);
}

/// What is said of a Redis that is not to be used.
async fn refused(url: &str, flags: &[(&str, &str)]) -> String {
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--redis", url];
    args.extend(flags.iter().flat_map(|(flag, value)| [*flag, *value]));
    let (code, said) = run_command(&args, &[]).await;
    assert_ne!(code, Some(0), "{said}");
    said
}

#[tokio::test]
async fn nodes_meet_in_it_and_none_of_their_connections_is_in_the_clear() {
    let authority = Authority::new();
    let (server, port) = authority.server(true).await;
    let start = async || Node::start(options(port, authority.config(true))).await;
    let nodes = [start().await, start().await];
    delivers(&nodes, 1).await;
    let clients: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut server.connection().await)
        .await
        .expect("CLIENT LIST is answered");
    let (mut encrypted, mut readers, mut plain) = (0, 0, 0);
    for client in clients.lines() {
        if client.contains(&format!("laddr=127.0.0.1:{port} ")) {
            encrypted += 1;
            readers += u32::from(client.contains("cmd=xreadgroup"));
        } else {
            plain += 1;
        }
    }
    assert_eq!((encrypted, readers, plain), (4, 2, 1), "the plain one asks: {clients}");
}

#[tokio::test]
async fn another_authority_is_not_trusted_and_the_right_setting_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_server, port) = authority.server(false).await;
    let url = format!("rediss://127.0.0.1:{port}");
    for flags in [&[("--redis-tls-ca-file", &*other.file("ca.pem"))][..], &[]] {
        let said = refused(&url, flags).await;
        assert!(said.contains("UnknownIssuer") && said.contains("set redis_tls_ca_file"), "{said}");
    }
    let ca = authority.file("ca.pem");
    let said = refused(&url.replace("127.0.0.1", "localhost"), &[("--redis-tls-ca-file", &ca)]).await;
    assert!(said.contains("its certificate is for other names"), "{said}");
    let node = Node::start(options(port, authority.config(false))).await;
    node.api().push_to("ann", 1).await;
}

#[tokio::test]
async fn a_certificate_that_is_demanded_is_asked_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_server, port) = authority.server(true).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let (ca, cert, key) = (authority.file("ca.pem"), other.file("client.pem"), other.file("client.key"));
    let trusting = ("--redis-tls-ca-file", &*ca);
    let foreign = [trusting, ("--redis-tls-cert-file", &cert), ("--redis-tls-key-file", &key)];
    for flags in [&[trusting][..], &foreign] {
        let said = refused(&url, flags).await;
        assert!(said.contains("set redis_tls_cert_file and redis_tls_key_file"), "{said}");
    }
}

#[tokio::test]
async fn files_and_ports_that_are_none_are_named() {
    let authority = Authority::new();
    let (server, port) = authority.server(false).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let missing = authority.file("missing.pem");
    let said = refused(&url, &[("--redis-tls-ca-file", &missing)]).await;
    assert!(said.contains("redis_tls_ca_file names") && said.contains(&missing), "{said}");
    std::fs::write(authority.path("junk.pem"), "no certificate").expect("written");
    let said = refused(&url, &[("--redis-tls-ca-file", &authority.file("junk.pem"))]).await;
    assert!(said.contains("which is no PEM"), "{said}");
    let plain = server.url().replace("redis://", "rediss://");
    let said = refused(&plain, &[("--redis-tls-ca-file", &authority.file("ca.pem"))]).await;
    assert!(said.contains("does it speak TLS on this port?"), "{said}");
    let said = refused(&server.url(), &[("--redis-tls-ca-file", &missing)]).await;
    assert!(said.contains("--redis-tls-ca-file") && said.contains("set --redis rediss://"), "{said}");
    let said = refused(&url, &[("--redis-tls-cert-file", &missing)]).await;
    assert!(said.contains("needs redis_tls_key_file"), "{said}");
}

/// An authority is replaced while nodes run: the next connection uses the files
/// of then.
#[tokio::test]
async fn renewed_certificates_need_no_restart() {
    let (authority, successor) = (Authority::new(), Authority::new());
    let (mut server, port) = authority.server(true).await;
    let start = async || Node::start(options(port, authority.config(true))).await;
    let nodes = [start().await, start().await];
    delivers(&nodes, 1).await;
    server.kill();
    let copy = |from: &Path, name: &str| std::fs::copy(from, authority.path(name)).expect("copied");
    for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        copy(&successor.path(name), name);
    }
    server.restart().await;
    delivers(&nodes, 2).await;
}
