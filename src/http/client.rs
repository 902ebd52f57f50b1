//! Where a request really came from, as far as that can be believed.
//!
//! Behind a load balancer every connection comes from the balancer. It says in
//! `X-Forwarded-For`, or in a PROXY header ahead of the connection, who it
//! speaks for; anybody else can say so too, so only the peers that
//! `trusted_proxies` lists are believed. The list is read from its end, where
//! the nearest proxy wrote, up to the first address that is no trusted proxy:
//! what stands before it is the client's own claim.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use warp::http::HeaderMap;

/// The header in which proxies list whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Proxies in a row; a longer list is somebody's joke.
const HOPS_MAX: usize = 32;

/// The address of a client: of whoever opened the connection, or of whom a
/// trusted proxy names. An IPv4 address in IPv6 clothes is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address itself.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The peers whose word about their clients is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Of addresses and networks as [`network`] reads them; what it does not
    /// read is trusted by nobody.
    #[must_use]
    pub fn new<T: AsRef<str>>(networks: &[T]) -> Self {
        Self(networks.iter().filter_map(|text| network(text.as_ref())).collect())
    }

    /// Whether this peer is believed.
    #[must_use]
    pub fn include(&self, client: ClientAddress) -> bool {
        self.0.iter().any(|network| network.contains(&client.ip()))
    }

    /// Who asks, when `peer` forwards a request with these headers.
    #[must_use]
    pub fn client(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        if self.0.is_empty() || !self.include(peer) {
            return peer;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.to_str().unwrap_or("?").split(',').rev()).take(HOPS_MAX);
        let mut client = peer;
        for hop in hops {
            // Who wrote this was trusted; what it wrote may still be no address.
            let Some(ip) = address(hop.trim()) else { break };
            client = ip.into();
            if !self.include(client) {
                break;
            }
        }
        client
    }
}

/// An address, alone or with a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || SocketAddr::from_str(text).ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// A network as `10.0.0.0/8`, or one address.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
    text.parse().ok().map(|network: IpNet| network.trunc()).or_else(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, trusted: &[&str], forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().expect("a header value"));
        }
        let peer = peer.parse::<IpAddr>().expect("an address").into();
        TrustedProxies::new(trusted).client(peer, &headers).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_trusted() {
        assert_eq!(client("203.0.113.9", &[], &["192.0.2.1"]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["10.0.0.0/8"], &["192.0.2.1"]), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        assert_eq!(client("10.1.2.3", &["10.0.0.0/8"], &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client("10.1.2.3", &["10.1.2.3"], &["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(client("::1", &["::1"], &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client("::1", &["::1"], &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client("10.1.2.3", &["10.0.0.0/8"], &[]), "10.1.2.3");
    }

    #[test]
    fn what_the_client_itself_claims_stands_first_and_is_not_believed() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", &trusted, &["6.6.6.6, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &trusted, &["6.6.6.6", "192.0.2.1, 10.0.0.2"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &trusted, &["10.9.9.9, 192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &["192.0.2.1, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &["<script>"]), "10.0.0.1");
        let long = vec!["10.0.0.7"; 10_000].join(",");
        assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &[&long]), "10.0.0.7");
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_one() {
        assert_eq!(client("::ffff:10.0.0.1", &["10.0.0.0/8"], &["::ffff:192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn networks_are_addresses_with_or_without_a_prefix() {
        for text in ["10.0.0.0/8", "10.1.2.3/8", "10.1.2.3", "fd00::/8", "::1"] {
            assert!(network(text).is_some(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "proxy.internal", "*", "::1/129"] {
            assert!(network(text).is_none(), "{text}");
        }
    }
}
