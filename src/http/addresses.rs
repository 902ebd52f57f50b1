//! How many connections come from one address. A household of IPv6 (a /64) is
//! one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::ClientAddress;

/// Counts places by address.
#[derive(Debug)]
pub(super) struct Addresses {
    /// None: any number.
    max: Option<usize>,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of an address's places, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Addresses>, IpAddr)>);

impl Addresses {
    pub(super) fn new(max: Option<usize>) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for one more, if there is one.
    pub(super) fn take(self: &Arc<Self>, client: ClientAddress) -> Option<Place> {
        let Some(max) = self.max else { return Some(Place(None)) };
        let address = match client.ip() {
            IpAddr::V6(ip) => {
                let prefix = u128::from(ip) & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from(prefix))
            }
            ip => ip,
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place(Some((self.clone(), address))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, address)) = &self.0 else { return };
        let mut taken = addresses.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Addresses::new(Some(2));
        let first = addresses.take(client("192.0.2.1")).expect("a place");
        let _second = addresses.take(client("192.0.2.1")).expect("a place");
        assert!(addresses.take(client("192.0.2.1")).is_none());
        assert!(addresses.take(client("192.0.2.2")).is_some(), "another address");
        drop(first);
        let again = addresses.take(client("::ffff:192.0.2.1"));
        assert!(again.is_some() && addresses.take(client("192.0.2.1")).is_none());
        drop((again, _second));
        assert!(addresses.taken.lock().expect("no panic").is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn a_household_is_one_address() {
        let addresses = Addresses::new(Some(1));
        let _one = addresses.take(client("2001:db8:1:2::1")).expect("a place");
        assert!(addresses.take(client("2001:db8:1:2:ffff::9")).is_none());
        assert!(addresses.take(client("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let addresses = Addresses::new(None);
        let _places: Vec<_> =
            (0..10).map(|_| addresses.take(client("192.0.2.1")).expect("a place")).collect();
        assert!(addresses.taken.lock().expect("no panic").is_empty());
    }
}
