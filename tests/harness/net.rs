//! Loopback ports that nobody uses yet.

use std::net::{Ipv4Addr, TcpListener};

/// A loopback port that nobody listens on.
///
/// For programs that cannot pick one themselves. It is taken from below the
/// range that the system hands out to outgoing connections, so that it is
/// still free when a killed server is started again on it. Another process may
/// be faster: whoever uses it checks that the right server answers.
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| 12_000 + rand::random::<u16>() % 20_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of a thousand ports is free")
}
