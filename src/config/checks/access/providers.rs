//! Providers of keys: names, and what each needs to be asked.

use std::collections::BTreeMap;
use std::path::Path;

use super::{find, usage};
use crate::config::checks::headers;
use crate::config::fault::{Fault, Segment};
use crate::config::{Config, Provider, ProviderKind, Redis, WebhookProvider};

/// Completes the pipeline, or says what in it cannot go together.
pub(super) fn settle(config: &mut Config, base_dir: &Path) -> Result<(), Fault> {
    let (auth, redis) = (&mut config.auth, config.redis.as_ref());
    let in_pipeline = |fault: Fault| fault.under("pipeline").under("auth");
    for (index, provider) in auth.pipeline.iter_mut().enumerate() {
        let needed = auth.enabled && provider.enabled;
        settle_one(provider, redis, needed).map_err(|fault| in_pipeline(fault.under(index)))?;
        provider.lua.iter_mut().for_each(|lua| find(lua, base_dir));
    }
    names(&auth.pipeline).map_err(in_pipeline)?;
    if auth.enabled && !auth.pipeline.iter().any(|provider| provider.enabled) {
        return Err(match auth.pipeline.is_empty() {
            true => Fault::new(
                "nobody could get in: no `api_keys`, no `proxy_api_key` and no `pipeline`",
            )
            .under("auth"),
            false => in_pipeline(Fault::new("none is enabled, so nobody could get in")),
        });
    }
    Ok(())
}

fn settle_one(provider: &mut Provider, shared: Option<&Redis>, needed: bool) -> Result<(), Fault> {
    match &mut provider.kind {
        ProviderKind::Static(keys) if keys.is_empty() && needed => Err(Fault::new(
            "has no keys: write `static: {keys: [...]}`, or `api_keys` at the top level",
        )),
        ProviderKind::Redis(own) if own.is_on_shared_server() => match shared {
            Some(shared) => {
                own.redis = shared.clone();
                Ok(())
            }
            None if needed => Err(Fault::new(
                "needs `url` or `addr`, or the top-level section `redis`",
            )
            .under("redis")),
            None => Ok(()),
        },
        ProviderKind::Database(own) => {
            usage::database(&own.database).map_err(|fault| fault.under("database"))
        }
        ProviderKind::Webhook(own) => webhook(own).map_err(|fault| fault.under("webhook")),
        ProviderKind::Static(_)
        | ProviderKind::Builtin
        | ProviderKind::Redis(_)
        | ProviderKind::Lua => Ok(()),
    }
}

fn webhook(hook: &WebhookProvider) -> Result<(), Fault> {
    if !matches!(&*hook.method, "POST" | "PUT" | "PATCH" | "GET") {
        return Err(Fault::new("must be POST, PUT, PATCH or GET").under("method"));
    }
    usage::receiver(&hook.url, hook.tls.as_ref())?;
    usage::signing(&hook.secrets).map_err(|fault| fault.under("secrets"))?;
    let signature = |name: &&String| name.eq_ignore_ascii_case("x-llmproxy-signature");
    if let Some(name) = hook.headers.keys().find(signature) {
        let ours = Fault::new("this header is written by the gateway itself");
        return Err(ours.under(name.as_str()).under("headers"));
    }
    headers(&hook.headers)
}

/// Names are labels of metrics and stand in every refusal in the log; no two are the same.
fn names(providers: &[Provider]) -> Result<(), Fault> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, provider) in providers.iter().enumerate() {
        let name = &*provider.name;
        let under = |fault: Fault| fault.under("name").under(index);
        if !usage::is_file_name(name) {
            return Err(under(Fault::new(
                "a name has 1 to 64 letters, digits, `.`, `_` or `-` and begins with a letter or digit",
            )));
        }
        if let Some(first) = seen.insert(name, index) {
            let twice = Fault::new(format!(
                "a provider is called `{name}` already (by default it is its type)"
            ));
            let path = ["auth".into(), "pipeline".into(), Segment::from(first)];
            return Err(under(twice).after(path.into()));
        }
    }
    Ok(())
}
