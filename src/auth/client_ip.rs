//! Which address a request comes from, and whether a network holds it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Returns the client's address: `peer`, or what `X-Forwarded-For` says when `peer` is a trusted proxy.
///
/// Entries are read from the right, where the nearest proxy writes, up to the first address that is
/// not a trusted proxy's; what stands left of it, a client may have made up. When all are trusted it is
/// the leftmost. An entry on the way that is no address makes the header worthless: then it is `peer`.
/// IPv4 addresses in IPv6 form (`::ffff:192.0.2.1`) come back as IPv4.
#[must_use]
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !within(trusted, peer) {
        return peer;
    }
    let mut client = peer;
    for entry in from_the_right(headers) {
        let Some(address) = address(entry) else {
            return peer;
        };
        client = address;
        if !within(trusted, address) {
            break;
        }
    }
    client
}

/// Returns whether one of `networks` holds `address`; IPv4 addresses in IPv6 form count as IPv4, on
/// both sides.
pub(super) fn within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| match (network, address) {
        (IpNet::V6(network), IpAddr::V4(address)) => network.contains(&address.to_ipv6_mapped()),
        _ => network.contains(&address),
    })
}

/// The elements of all `X-Forwarded-For` lines, the last first; empty ones do not count
/// (RFC 9110 section 5.6.1.2).
fn from_the_right(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

/// Reads an address with or without a port, IPv6 with or without brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parsed = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => text
            .parse()
            .or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()))
            .ok(),
    };
    parsed.map(|address| address.to_canonical())
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn seen(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted = nets(&["10.0.0.0/8", "fd00::/8"]);
        client_ip(ip(peer), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(seen("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(seen(PROXY, &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen("::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen(PROXY, &[]), PROXY);
    }

    #[test]
    fn what_the_client_wrote_itself_is_left_of_what_the_proxy_added() {
        assert_eq!(seen(PROXY, &["10.9.9.9, 6.6.6.6"]), "6.6.6.6");
        assert_eq!(seen(PROXY, &["1.2.3.4, 6.6.6.6, 10.0.0.2"]), "6.6.6.6");
        // Several lines are one list.
        assert_eq!(seen(PROXY, &["1.2.3.4", "6.6.6.6"]), "6.6.6.6");
        assert_eq!(seen(PROXY, &["garbage, 6.6.6.6"]), "6.6.6.6");
        // Somebody inside: all of them are proxies.
        assert_eq!(seen(PROXY, &["10.0.0.7, 10.0.0.2"]), "10.0.0.7");
    }

    #[test]
    fn garbage_is_not_an_address() {
        for line in [
            "unknown",
            "1.2.3.4.5",
            "1.2.3.4:99999",
            "1.2.3.4:",
            "[1.2.3.4]",
            "fe80::1%eth0",
            "1.2.3.4, _hidden, 10.0.0.2",
            "01.2.3.4",
            "1.2.3.4 5.6.7.8",
            "[::1",
            "::1]",
        ] {
            assert_eq!(seen(PROXY, &[line]), PROXY, "{line}");
        }
    }

    #[test]
    fn ports_brackets_and_empty_elements_are_read_over() {
        for (line, expected) in [
            ("1.2.3.4:5678", "1.2.3.4"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            (" 1.2.3.4 ,, ", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
            ("1.2.3.4, fd00::2", "1.2.3.4"),
            (",", PROXY),
        ] {
            assert_eq!(seen(PROXY, &[line]), expected, "{line}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_garbage() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"1.2.3.4\xff").unwrap();
        headers.insert(X_FORWARDED_FOR, value);
        let trusted = nets(&["10.0.0.0/8"]);
        assert_eq!(client_ip(ip(PROXY), &headers, &trusted), ip(PROXY));
    }

    #[test]
    fn networks_hold_ipv4_in_either_form() {
        for (network, address, held) in [
            ("192.0.2.0/24", "192.0.2.7", true),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("192.0.2.0/24", "192.0.3.7", false),
            ("::ffff:192.0.2.0/120", "192.0.2.7", true),
            ("::ffff:192.0.2.0/120", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.0/120", "192.0.3.7", false),
            ("::/0", "192.0.2.7", true),
            ("2001:db8::/32", "192.0.2.7", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.7/32", "192.0.2.7", true),
        ] {
            assert_eq!(
                within(&nets(&[network]), ip(address)),
                held,
                "{network} {address}"
            );
        }
        assert!(!within(&[], ip("192.0.2.7")));
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
        ]
    }

    /// The ways proxies write an address.
    fn spelled(address: IpAddr, way: u8) -> String {
        match (address, way % 3) {
            (_, 0) => address.to_string(),
            (IpAddr::V6(address), 1) => format!("[{address}]"),
            (address, _) => SocketAddr::new(address, 4711).to_string(),
        }
    }

    proptest! {
        #[test]
        fn nothing_an_untrusted_peer_sends_matters(
            peer in addresses(),
            line in proptest::collection::vec(32u8..=255, 0..200),
        ) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                headers.insert(X_FORWARDED_FOR, value);
            }
            prop_assert_eq!(client_ip(peer, &headers, &[]), peer.to_canonical());
        }

        #[test]
        fn the_rightmost_untrusted_address_is_the_client(
            made_up in "[ -~]{0,60}",
            client in addresses(),
            proxies in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..5),
            way in any::<u8>(),
        ) {
            let trusted = nets(&["10.0.0.0/8"]);
            prop_assume!(!within(&trusted, client));
            let mut line = format!("{made_up}, {}", spelled(client, way));
            for (low, way) in proxies {
                let proxy = Ipv4Addr::from_bits(0x0a00_0000 | u32::from(low));
                line = format!("{line},{}", spelled(proxy.into(), way));
            }
            let mut headers = HeaderMap::new();
            headers.insert(X_FORWARDED_FOR, HeaderValue::from_str(&line).unwrap());
            prop_assert_eq!(client_ip(ip(PROXY), &headers, &trusted), client.to_canonical());
        }

        #[test]
        fn a_network_holds_exactly_what_shares_its_prefix(
            base in any::<u32>(),
            length in 0u8..=32,
            address in any::<u32>(),
            mapped in any::<bool>(),
        ) {
            let network = IpNet::new(Ipv4Addr::from_bits(base).into(), length).unwrap();
            let shares = u32::from(length) <= (base ^ address).leading_zeros();
            let v4 = Ipv4Addr::from_bits(address);
            let shown = if mapped { v4.to_ipv6_mapped().into() } else { IpAddr::V4(v4) };
            prop_assert_eq!(within(&[network], shown), shares);
        }
    }
}
