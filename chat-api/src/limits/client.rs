//! Where a request comes from. Anyone can write `X-Forwarded-For`, so it counts only as far as configured proxies
//! wrote it: from the right, past those that are trusted, to the first that isn't.

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The address a request came from, if it came over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Infallible;

    /// What the outermost layer has found out.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

impl ClientIp {
    /// What the outermost layer has found out.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self(None))
    }

    /// The address of a request, from its connection and its headers.
    #[must_use]
    pub fn find(extensions: &Extensions, headers: &HeaderMap, proxies: &[Cidr]) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
        Self(peer.map(|peer| behind_proxies(peer, headers, proxies)))
    }
}

fn behind_proxies(peer: IpAddr, headers: &HeaderMap, proxies: &[Cidr]) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|proxies| proxies.contains(address));
    let mut client = peer;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
    for hop in hops {
        if !trusted(client) {
            break;
        }
        // What a proxy couldn't name is somebody behind that proxy.
        let Some(address) = hop_address(hop) else { break };
        client = address;
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// The network that is counted as one: an IPv4 address by itself, the /64 of an IPv6 address.
#[must_use]
pub fn network(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)),
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    bits: u128,
    mask: u128,
}

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' isn't a range of addresses: expected 10.0.0.0/8, fd00::/8, or an address")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let read = || {
            let (address, length) = match text.trim().split_once('/') {
                Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
                None => (text.trim(), None),
            };
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let length = length.unwrap_or(bits);
            if length > bits {
                return None;
            }
            let mask = u128::MAX.checked_shl(bits - length).unwrap_or(0);
            Some(Self { bits: wide(address) & mask, mask })
        };
        read().ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

impl Cidr {
    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        wide(address.to_canonical()) & self.mask == self.bits
    }
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn found(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let proxies: Vec<Cidr> = proxies.iter().map(|text| text.parse().expect("a range")).collect();
        let headers = forwarded.iter().map(|value| {
            (axum::http::HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(value).expect("a value"))
        });
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().expect("an address"), 1)));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| assert!(map.append(name, value) || map.len() == 1));
        ClientIp::find(&extensions, &map, &proxies).0.expect("a peer").to_string()
    }

    #[test]
    fn only_configured_proxies_say_who_is_behind_them() {
        let forged = ["6.6.6.6"];
        assert_eq!(found("1.2.3.4", &forged, &[]), "1.2.3.4");
        assert_eq!(found("1.2.3.4", &forged, &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(found("10.0.0.1", &["6.6.6.6, 1.2.3.4"], &["10.0.0.0/8"]), "1.2.3.4", "the rightmost untrusted");
        assert_eq!(found("10.0.0.1", &["6.6.6.6", "1.2.3.4, 10.9.9.9"], &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(found("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["1.2.3.4, unknown"], &["10.0.0.0/8"]), "10.0.0.1", "who can't be named");
        assert_eq!(found("10.0.0.1", &["10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.2", "proxies all the way");
    }

    #[test]
    fn addresses_have_many_forms() {
        assert_eq!(found("::ffff:10.0.0.1", &["1.2.3.4:443"], &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(found("fd00::1", &["[2001:db8::1]:443"], &["fd00::/8"]), "2001:db8::1");
        assert_eq!(found("fd00::1", &["[2001:db8::1]"], &["fd00::1"]), "2001:db8::1");
        for wrong in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/", "example.com", "/8"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
        assert!("0.0.0.0/0".parse::<Cidr>().expect("a range").contains("9.9.9.9".parse().expect("an address")));
        assert!(!"0.0.0.0/0".parse::<Cidr>().expect("a range").contains("2001:db8::1".parse().expect("an address")));
    }

    #[test]
    fn a_customer_of_ipv6_is_one() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8::1"));
        assert_ne!(network("1.2.3.4"), network("1.2.3.5"));
        assert_eq!(network("::ffff:1.2.3.4"), network("1.2.3.4"));
    }
}
