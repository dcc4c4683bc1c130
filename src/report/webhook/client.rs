//! The HTTP client of one webhook and the headers it sends every time.

use std::fs;
use std::path::Path;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use pingora::tls::pkey::PKey;
use reqwest::tls::Version;
use reqwest::{Certificate, Client, Identity, redirect};

use crate::config::{WebhookReporter, WebhookTls};

/// Builds the client, which keeps connections open between posts.
pub(super) fn client(config: &WebhookReporter) -> Result<Client, String> {
    let mut builder = Client::builder()
        .user_agent(concat!("llmproxy/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .timeout(config.timeout)
        .min_tls_version(Version::TLS_1_2);
    if let Some(tls) = &config.tls {
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
        .map_err(|error| format!("the HTTP client cannot be built: {}", super::causes(error)))
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let found = Certificate::from_pem_bundle(&read("ca", file)?)
        .map_err(|error| format!("tls.ca: {}: {}", file.display(), super::causes(error)))?;
    if found.is_empty() {
        return Err(format!("tls.ca: {} holds no certificate", file.display()));
    }
    Ok(found)
}

/// Reads what the gateway shows of itself to receivers that ask for a certificate.
fn identity(tls: &WebhookTls) -> Result<Option<Identity>, String> {
    let (cert, key) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        _ => return Err("tls: cert and key go together".to_owned()),
    };
    // The client takes PKCS#8 only, people have all kinds. The empty passphrase keeps OpenSSL from
    // asking for one on the terminal.
    let pkcs8 = PKey::private_key_from_pem_passphrase(&read("key", key)?, b"")
        .and_then(|key| key.private_key_to_pem_pkcs8())
        .map_err(|_unclear| {
            format!(
                "tls.key: {} holds no unencrypted private key",
                key.display()
            )
        })?;
    Identity::from_pkcs8_pem(&read("cert", cert)?, &pkcs8)
        .map(Some)
        .map_err(|error| format!("tls.cert: {}: {}", cert.display(), super::causes(error)))
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("tls.{key}: {}: {error}", file.display()))
}

/// Returns the headers of every post: the body's type, and what the operator adds. That these are
/// none that describe one post or its connection was checked when the configuration was loaded.
pub(super) fn headers(
    config: &WebhookReporter,
    content_type: HeaderValue,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type);
    for (name, value) in &config.headers {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|error| format!("headers: \"{name}\": {error}"))?;
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|error| format!("headers.{name}: {error}"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    if config.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(headers)
}
