//! Somebody who is asked over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Secret, WebUrl, WebhookTls, duration};

/// Somebody who is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct WebhookProvider {
    /// Where questions are sent, http or https.
    pub url: WebUrl,
    /// Default POST.
    pub method: String,
    /// Default 5 s.
    pub timeout: Duration,
    /// Added to each request.
    pub headers: BTreeMap<String, Secret>,
    /// Sign the body, the newer one first; at most two.
    pub secrets: Vec<Secret>,
    /// How an https receiver is verified, and how we identify ourselves.
    pub tls: Option<WebhookTls>,
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WebhookProvider")]
struct Written {
    /// Where questions are sent, http or https.
    url: WebUrl,
    /// The method of the request.
    #[serde(default = "default_method")]
    method: String,
    /// Time an answer may take.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::positive",
        serialize_with = "duration::serialize"
    )]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// Headers added to each request.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// The secret that signs bodies.
    #[serde(default)]
    secret: Option<Secret>,
    /// Two secrets that both sign bodies while one replaces the other, the newer one first.
    #[serde(default)]
    #[schemars(length(max = 2))]
    secrets: Vec<Secret>,
    /// How an https receiver is verified, and how we identify ourselves.
    #[serde(default)]
    tls: Option<WebhookTls>,
}

impl TryFrom<Written> for WebhookProvider {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let secrets = match written.secret {
            Some(_) if !written.secrets.is_empty() => {
                return Err("`secret` and `secrets` are both there; one of them");
            }
            Some(secret) => vec![secret],
            None => written.secrets,
        };
        Ok(Self {
            url: written.url,
            method: written.method,
            timeout: written.timeout,
            headers: written.headers,
            secrets,
            tls: written.tls,
        })
    }
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}
