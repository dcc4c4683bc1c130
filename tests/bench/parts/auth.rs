//! Whose key it is.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use llmproxy::auth::{AuthMetrics, Authenticator, Caller, Principal};
use llmproxy::keys::KeyHash;

use super::{Call, Part, configured};

pub(super) const PARTS: &[Part] = &[
    part("auth/static_key", static_key),
    part("auth/key_hash", key_hash),
];

const fn part(name: &'static str, make: fn() -> Result<Call>) -> Part {
    Part {
        name,
        bytes: 0,
        make,
    }
}

const KEY: &str = "sk-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-42";

/// A key among a hundred that the configuration names.
fn static_key() -> Result<Call> {
    let (authenticator, headers) = (authenticator()?, headers());
    Ok(Box::new(move || {
        black_box(authenticated(&authenticator, &headers)?);
        Ok(())
    }))
}

fn key_hash() -> Result<Call> {
    Ok(Box::new(|| {
        black_box(KeyHash::of(black_box(KEY)));
        Ok(())
    }))
}

/// Returns whom the key stands for that this file's parts show.
pub(super) fn principal() -> Result<Arc<Principal>> {
    authenticated(&authenticator()?, &headers())
}

fn authenticated(authenticator: &Authenticator, headers: &HeaderMap) -> Result<Arc<Principal>> {
    let caller = Caller {
        id: "01933b2e-6c1f-7d2a-9d31-0f6b7c1d2e3f",
        method: "POST",
        path: "/v1/chat/completions",
        peer: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        headers: black_box(headers),
    };
    let answer = authenticator.authenticate(&caller).now_or_never();
    match answer.context("nobody needs to be asked")? {
        Ok(principal) => principal.context("somebody needs to be known"),
        Err(refusal) => bail!("{refusal:?}"),
    }
}

fn authenticator() -> Result<Authenticator> {
    let mut text = String::from("backends: [{name: a, url: 'http://127.0.0.1:1'}]\napi_keys:\n");
    for number in 0..100 {
        let key = KEY.replace("-42", &format!("-{number}"));
        writeln!(
            text,
            "  - {{key: {key}, user_id: user-{number}, allowed_models: ['team/*'], \
             allowed_ips: [10.0.0.0/8], metadata: {{team: search}}}}"
        )?;
    }
    let metrics = AuthMetrics::register(&prometheus::Registry::new())?;
    Authenticator::build(&configured(&text)?, None, metrics)
}

fn headers() -> HeaderMap {
    let bearer = format!("Bearer {KEY}");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("llm.example.com"));
    headers.insert(USER_AGENT, HeaderValue::from_static("OpenAI/Python 1.99.1"));
    if let Ok(value) = HeaderValue::from_str(&bearer) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}
