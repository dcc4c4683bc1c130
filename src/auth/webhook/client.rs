//! The HTTP client of one webhook and the headers it sends every time.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use pingora::tls::pkey::PKey;
use reqwest::tls::Version;
use reqwest::{Certificate, Client, Identity, redirect};

use crate::config::{Secret, WebhookTls};

/// Builds the client, which keeps connections open between questions.
pub(super) fn client(tls: Option<&WebhookTls>) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("llmproxy/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .min_tls_version(Version::TLS_1_2);
    if let Some(tls) = tls {
        builder = builder.danger_accept_invalid_certs(!tls.verify);
        if let Some(ca) = &tls.ca {
            builder = builder.tls_built_in_root_certs(false);
            for authority in authorities(ca)? {
                builder = builder.add_root_certificate(authority);
            }
        }
        if let Some(identity) = identity(tls)? {
            builder = builder.identity(identity);
        }
    }
    builder
        .build()
        .map_err(|error| anyhow!("the HTTP client cannot be built: {}", causes(error)))
}

/// Returns the headers the operator adds.
pub(super) fn headers(written: &BTreeMap<String, Secret>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let key = HeaderName::from_bytes(name.as_bytes())
            .with_context(|| format!("webhook.headers: \"{name}\""))?;
        let mut value = HeaderValue::from_str(value.expose())
            .with_context(|| format!("webhook.headers.{name}"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Returns the error and its causes in one line, without the URL.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn authorities(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let found = Certificate::from_pem_bundle(&read("ca", file)?)
        .map_err(|error| anyhow!("webhook.tls.ca: {}: {}", file.display(), causes(error)))?;
    if found.is_empty() {
        bail!("webhook.tls.ca: {} holds no certificate", file.display());
    }
    Ok(found)
}

/// Reads what the gateway shows of itself to those who ask for a certificate.
fn identity(tls: &WebhookTls) -> anyhow::Result<Option<Identity>> {
    let (cert, key) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        _ => bail!("webhook.tls: cert and key go together"),
    };
    // The client takes PKCS#8 only, people have all kinds. The empty passphrase keeps OpenSSL from
    // asking for one on the terminal.
    let pkcs8 = PKey::private_key_from_pem_passphrase(&read("key", key)?, b"")
        .and_then(|key| key.private_key_to_pem_pkcs8())
        .map_err(|_unclear| {
            let file = key.display();
            anyhow!("webhook.tls.key: {file} holds no unencrypted private key")
        })?;
    Identity::from_pkcs8_pem(&read("cert", cert)?, &pkcs8)
        .map(Some)
        .map_err(|error| anyhow!("webhook.tls.cert: {}: {}", cert.display(), causes(error)))
}

fn read(key: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("webhook.tls.{key}: {}", file.display()))
}
