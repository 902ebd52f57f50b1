//! TLS towards Redis: reading certificates, and words for what goes wrong.

use std::path::Path;

use ::redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

use super::TlsFiles;

/// No file of certificates is larger: a bundle of every public authority has
/// about 250 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A client that trusts and shows what the files say now.
pub(super) async fn client(info: ConnectionInfo, files: &TlsFiles) -> Result<Client, String> {
    // The library takes the process's choice. That fails when there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match &files.ca {
        Some(path) => Some(read(path, "redis_tls_ca_file").await?),
        None => None,
    };
    let client_tls = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(cert, "redis_tls_cert_file").await?,
            client_key: read(key, "redis_tls_key_file").await?,
        }),
        _ => None,
    };
    if root_cert.is_none() && client_tls.is_none() {
        return Client::open(info).map_err(|error| error.to_string());
    }
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })
        .map_err(|error| format!("{error}: look at the files of redis_tls_ca_file, _cert_file and _key_file"))
}

async fn read(path: &Path, setting: &str) -> Result<Vec<u8>, String> {
    let problem = |why: &str| format!("{setting} names {}, {why}", path.display());
    let about = tokio::fs::metadata(path).await.map_err(|error| problem(&format!("unreadable: {error}")))?;
    if about.len() > FILE_BYTES_MAX {
        return Err(problem("which is larger than any file of certificates"));
    }
    let bytes = tokio::fs::read(path).await.map_err(|error| problem(&format!("unreadable: {error}")))?;
    // The library takes a file without any for one that trusts nobody.
    if !bytes.windows(PEM_START.len()).any(|part| part == PEM_START) {
        return Err(problem("which is no PEM: it must hold -----BEGIN lines"));
    }
    Ok(bytes)
}

const PEM_START: &[u8] = b"-----BEGIN ";

/// What to do about a connection that did not come about. The library's own
/// words are kept: they say more to whoever knows TLS.
pub(super) fn explain(why: &str) -> String {
    let advice = ADVICE.iter().find(|(sign, _)| why.contains(sign));
    match advice {
        Some((_, what)) => format!("{why}: {what}"),
        None => why.to_owned(),
    }
}

const SIGNED: &str = "its certificate is signed by nobody trusted here: set redis_tls_ca_file to the certificate of \
                      the authority that signed it";
const SHOW: &str = "it wants another client certificate, or one at all: set redis_tls_cert_file and redis_tls_key_file \
                    to a pair that its tls-ca-cert-file has signed";

/// Signs in the library's words, and advice.
const ADVICE: &[(&str, &str)] = &[
    ("UnknownIssuer", SIGNED),
    // Another authority of the same name.
    ("BadSignature", SIGNED),
    (
        "not valid for name",
        "its certificate is for other names: use one of them in the address, or have it issued for this one",
    ),
    ("NotValidForName", "its certificate is for other names: use one of them in the address"),
    ("Expired", "its certificate has expired: renew it, and look at this machine's clock"),
    ("NotValidYet", "its certificate is not valid yet: look at both machines' clocks"),
    ("InvalidContentType", "it does not speak TLS on this port: use its tls-port, or a redis:// address"),
    ("CertificateRequired", SHOW),
    ("HandshakeFailure", SHOW),
    ("UnknownCA", SHOW),
    ("BadCertificate", SHOW),
    ("certificate required", SHOW),
];
