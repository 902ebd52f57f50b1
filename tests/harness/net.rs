//! Loopback ports that nobody else uses.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// What keeps the ports of this process its own.
static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A loopback port that is this process's own for as long as it lives, also
/// while a server that was killed does not listen on it.
///
/// For programs that cannot pick one themselves, or are started again. It is
/// taken from below the range that the system hands out to outgoing
/// connections, and its UDP twin, which nobody else wants, is bound as a claim
/// that other tests see.
pub fn free_port() -> u16 {
    let claim = |port: &u16| {
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)) else { return false };
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        if free {
            CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
        }
        free
    };
    (0..1_000)
        .map(|_| 12_000 + rand::random::<u16>() % 20_000)
        .find(claim)
        .expect("one of a thousand ports is free")
}

#[test]
fn a_port_is_handed_out_once_though_nobody_listens_on_it() {
    let ports: std::collections::HashSet<_> = (0..500).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 500);
}
