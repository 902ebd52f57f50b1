//! The PROXY protocol, versions 1 and 2: a header ahead of a connection in
//! which a TCP proxy says whom it speaks for.
//!
//! Whether it is there is never guessed: with `proxy_protocol` on, every
//! connection of a trusted proxy must begin with one, and no other may.

use std::io;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::client::ClientAddress;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, and the length of the rest.
const FIXED: usize = 16;
/// The longest header of version 1, its line end included.
const LINE_MAX: usize = 107;
/// Addresses have 216 bytes at most; what a proxy adds behind them is small.
const HEADER_MAX: usize = 4_096;

/// Reads the header and nothing behind it. None when the proxy speaks for
/// itself, as it does in health checks.
///
/// # Errors
/// When the connection ends, or begins with anything else.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<ClientAddress>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_rest(stream, &mut header).await?;
    } else {
        read_line(stream, &mut header).await?;
    }
    let (parsed, _) = ProxyHeader::parse(&header, ParseConfig::default())
        .map_err(|_| invalid("it does not begin with a PROXY header"))?;
    Ok(parsed.proxied_address().map(|address| address.source.ip().into()))
}

async fn read_rest(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(FIXED, 0);
    stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if FIXED + rest > HEADER_MAX {
        return Err(invalid("its PROXY header is too long"));
    }
    header.resize(FIXED + rest, 0);
    stream.read_exact(&mut header[FIXED..]).await.map(drop)
}

/// Up to the end of the line: what lies behind it belongs to the request.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    if !header.starts_with(b"PROXY ") {
        return Err(invalid("it does not begin with a PROXY header"));
    }
    let mut seen = [0; LINE_MAX];
    while !header.ends_with(b"\n") {
        let room = LINE_MAX.saturating_sub(header.len());
        if room == 0 {
            return Err(invalid("its PROXY line does not end"));
        }
        let len = stream.peek(&mut seen[..room]).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = seen[..len].iter().position(|byte| *byte == b'\n').map_or(len, |at| at + 1);
        let start = header.len();
        header.resize(start + take, 0);
        stream.read_exact(&mut header[start..]).await?;
    }
    Ok(())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    /// What is read of these bytes, and what is left for the request. They come
    /// in pieces, as a network may cut them.
    async fn sent(bytes: &[u8], piece: usize) -> (io::Result<Option<String>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        near.set_nodelay(true).expect("our own socket");
        let (mut far, _) = listener.accept().await.expect("accepted");
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            for part in bytes.chunks(piece) {
                near.write_all(part).await.expect("written");
                tokio::task::yield_now().await;
            }
            near.shutdown().await.expect("our own socket");
            near
        });
        let read = read(&mut far).await.map(|client| client.map(|client| client.to_string()));
        // A refused connection is closed over what was not read.
        let near = writing.await.expect("no panic");
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.expect("read");
        drop(near);
        (read, rest)
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &len, rest].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x11, 0x5c, 0x01, 0xbb];

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_request() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 4444 443\r\n".to_vec();
        let six = b"PROXY TCP6 2001:db8::7 ::1 4444 443\r\n".to_vec();
        let with_extras = version_2(0x21, 0x11, &[V4, &[4, 0, 2, 0, 0]].concat());
        for piece in [1, 5, 1_000] {
            for (header, client) in [
                (line.clone(), "192.0.2.7"),
                (six.clone(), "2001:db8::7"),
                (version_2(0x21, 0x11, V4), "192.0.2.7"),
                (with_extras.clone(), "192.0.2.7"),
            ] {
                let (read, rest) = sent(&[&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat(), piece).await;
                assert_eq!(read.expect("a header").as_deref(), Some(client));
                assert_eq!(rest, b"GET / HTTP/1.1\r\n\r\n");
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_may_speak_for_itself() {
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), version_2(0x20, 0, &[])] {
            let (read, rest) = sent(&[&header[..], b"GET"].concat(), 1_000).await;
            assert_eq!((read.expect("a header"), &rest[..]), (None, &b"GET"[..]));
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = version_2(0x21, 0x11, &[0; 5_000]);
        for bytes in [
            b"GET /healthz HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4444",
            b"PRO",
            b"\r\n\r\n\0\r\nQUIT",
            &version_2(0x31, 0x11, V4),
            &endless,
            &huge,
        ] {
            let (read, _) = sent(bytes, 1_000).await;
            assert!(read.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
