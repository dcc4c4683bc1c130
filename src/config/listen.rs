//! Where the gateway listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What makes it https; without it plain HTTP/1.1 and h2c are spoken.
    pub tls: Option<Tls>,
}

/// The certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// The default: port 8000 on every IPv4 address.
pub(super) fn default() -> Vec<Listener> {
    vec![Listener {
        address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
        tls: None,
    }]
}

/// Deserializes one address, or a list of addresses or `{address, tls}`.
pub(super) fn listeners<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Listener>, D::Error> {
    deserializer.deserialize_any(OneOrMany)
}

/// Deserializes an address that may be left out.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let written = Option::<Address>::deserialize(deserializer)?;
    Ok(written.map(|address| address.0))
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Address(SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        address(&text).map(Self)
    }
}

/// Reads an address as operators write it, such as `:8000`.
///
/// # Errors
/// When it is none; says how one is written.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let invalid = || {
        format!(
            "`{text}` is no address to listen on; write `:8000`, `127.0.0.1:8000` or `[::1]:8000`"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_not_a_port| invalid())?;
    let ip = match host {
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(v6) => v6.parse().map(IpAddr::V6).map_err(|_not_v6| invalid())?,
            None => host.parse().map(IpAddr::V4).map_err(|_not_v4| invalid())?,
        },
    };
    Ok(SocketAddr::new(ip, port))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Section {
    /// Where to listen.
    #[schemars(with = "String")]
    address: Address,
    /// What makes it https.
    #[serde(default)]
    tls: Option<Tls>,
}

impl From<Section> for Listener {
    fn from(section: Section) -> Self {
        Self {
            address: section.address.0,
            tls: section.tls,
        }
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One)
    }
}

struct One;

impl<'de> Visitor<'de> for One {
    type Value = Listener;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an address such as `:8000`, or a mapping with `address` and `tls`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Listener, E> {
        let address = address(text).map_err(E::custom)?;
        Ok(Listener { address, tls: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listener, A::Error> {
        Section::deserialize(MapAccessDeserializer::new(map)).map(Listener::from)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<Listener>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an address such as `:8000`, or a list of addresses")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        One.visit_str(text).map(|listener| vec![listener])
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        One.visit_map(map).map(|listener| vec![listener])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut listeners = Vec::new();
        while let Some(listener) = list.next_element()? {
            listeners.push(listener);
        }
        match listeners.is_empty() {
            true => Err(Error::custom("at least one address is needed")),
            false => Ok(listeners),
        }
    }
}

/// The schema of `listen`.
pub(super) struct Written;

impl JsonSchema for Written {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<Section>();
        schemars::json_schema!({
            "default": ":8000",
            "anyOf": [
                { "type": "string" },
                section,
                { "type": "array", "minItems": 1, "items": { "anyOf": [{ "type": "string" }, section] } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_operators_write_them() {
        let cases = [
            (":8000", "0.0.0.0:8000"),
            ("*:8000", "0.0.0.0:8000"),
            ("localhost:8000", "127.0.0.1:8000"),
            ("10.0.0.1:0", "10.0.0.1:0"),
            ("[::1]:8000", "[::1]:8000"),
            ("[::]:8000", "[::]:8000"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                address(text).map(|address| address.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "8000",
            ":",
            ":http",
            ":65536",
            "::1:8000",
            "[127.0.0.1]:80",
            "example.com:80",
            "[::1]",
        ] {
            let message = format!(
                "`{text}` is no address to listen on; write `:8000`, `127.0.0.1:8000` or `[::1]:8000`"
            );
            assert_eq!(address(text), Err(message), "{text}");
        }
    }
}
