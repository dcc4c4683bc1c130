//! Addresses and networks.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serializer};

use super::list::List;

/// A network, or one address.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Net(IpNet);

/// Deserializes a list of networks.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let nets = List::<Net>::deserialize(deserializer)?;
    Ok(nets.0.into_iter().map(|net| net.0).collect())
}

/// Serializes a list of networks; one of a single address as that address.
pub(super) fn serialize<S: Serializer>(nets: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        nets.iter()
            .map(|net| match net.prefix_len() == net.max_prefix_len() {
                true => net.addr().to_string(),
                false => net.to_string(),
            }),
    )
}

impl TryFrom<String> for Net {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        let net = text
            .parse::<IpNet>()
            .or_else(|_no_net| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) => Ok(Self(as_clients_come(net.trunc()))),
            Err(_neither) => Err(format!(
                "`{text}` is no address or network; write `10.0.0.5`, `10.0.0.0/8` or `2001:db8::/32`"
            )),
        }
    }
}

/// IPv4 addresses written as IPv6 (`::ffff:10.0.0.5`) are IPv4.
fn as_clients_come(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.prefix_len().checked_sub(96).and_then(|prefix| {
        let v4 = Ipv6Addr::to_ipv4_mapped(&v6.addr())?;
        Ipv4Net::new(v4, prefix).ok()
    });
    mapped.map_or(net, IpNet::V4)
}

impl JsonSchema for Net {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Net".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "examples": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Result<String, String> {
        Net::try_from(text.to_owned()).map(|net| net.0.to_string())
    }

    #[test]
    fn networks_and_addresses_are_read() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 192.0.2.7 ", "192.0.2.7/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.5", "10.0.0.5/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ];
        for (text, expected) in cases {
            assert_eq!(net(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "localhost",
            "::1/129",
            "10.0.0.*",
        ] {
            let error = net(text).unwrap_err();
            assert!(error.contains("is no address or network; write"), "{error}");
        }
    }
}
