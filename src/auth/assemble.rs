//! From the configuration to the pipeline.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::Source;
use super::builtin::BuiltinSource;
use super::cache::Cache;
use super::database::DatabaseSource;
use super::decision::Judge;
use super::lua::LuaSource;
use super::metrics::AuthMetrics;
use super::pipeline::Pipeline;
use super::provider::{Asked, Keys, LogGate, Provider};
use super::redis::RedisSource;
use super::refusal::Refusals;
use super::static_keys::StaticKeys;
use super::webhook::WebhookSource;
use crate::config::{self, Auth, Mode, ProviderKind};
use crate::keys::KeyStore;
use crate::script::Program;

/// Builds all providers that are switched on.
pub(super) fn pipeline(
    auth: &Auth,
    store: Option<&Arc<KeyStore>>,
    cache: &Arc<Cache>,
    metrics: &AuthMetrics,
) -> anyhow::Result<Pipeline> {
    let mut providers = Vec::new();
    for provider in auth.pipeline.iter().filter(|it| it.enabled) {
        let name = &provider.name;
        let place = || format!("auth.pipeline: provider \"{name}\"");
        let slot = (Arc::clone(cache), providers.len() as u32);
        providers.push(Provider {
            name: name.as_str().into(),
            keys: keys_of(provider, auth, store, slot).with_context(place)?,
            judge: judge(provider, metrics).with_context(place)?,
            script_failures: LogGate::default(),
            metrics: metrics.of(name),
        });
    }
    ensure!(
        !providers.is_empty(),
        "auth.pipeline: every provider is switched off, so that nobody could use the gateway; \
         switch one on, or authentication off (auth.enabled: false)"
    );
    Ok(Pipeline {
        // Of one provider, the first match is all there is.
        mode: match providers.len() {
            1 => Mode::FirstMatch,
            _ => auth.mode,
        },
        providers,
        refusals: Refusals::new(&auth.status_codes, &auth.header_names),
        nobody: metrics.of("none"),
    })
}

fn keys_of(
    provider: &config::Provider,
    auth: &Auth,
    store: Option<&Arc<KeyStore>>,
    slot: (Arc<Cache>, u32),
) -> anyhow::Result<Keys> {
    let name = &provider.name;
    let source: Box<dyn Source> = match &provider.kind {
        ProviderKind::Static(keys) => {
            return StaticKeys::new(keys, &auth.defaults).map(Keys::Static);
        }
        ProviderKind::Builtin => {
            let store = store.context("it needs the key store (key_store)")?;
            Box::new(BuiltinSource::new(name, Arc::clone(store))?)
        }
        ProviderKind::Redis(redis) => Box::new(RedisSource::new(name, redis)?),
        ProviderKind::Database(database) => Box::new(DatabaseSource::new(name, database)?),
        ProviderKind::Webhook(webhook) => Box::new(WebhookSource::new(name, webhook)?),
        ProviderKind::Lua => Box::new(LuaSource::new(name)?),
    };
    // A script alone knows every key: there is nothing to remember, only much to forget.
    let is_remembered = provider.kind != ProviderKind::Lua;
    Ok(Keys::Asked(Asked {
        source,
        on_error: provider.on_error,
        defaults: auth.defaults.clone(),
        cache: is_remembered.then_some(slot),
        failures: LogGate::default(),
    }))
}

fn judge(
    provider: &config::Provider,
    metrics: &AuthMetrics,
) -> anyhow::Result<Option<Box<dyn Judge>>> {
    let Some(script) = &provider.lua else {
        ensure!(
            provider.kind != ProviderKind::Lua,
            "it is a script alone and has none; give it `lua: {{script: …}}` or `lua: {{path: …}}`"
        );
        return Ok(None);
    };
    let program = Program::load(&provider.name, script)?;
    Ok(Some(Box::new(match &metrics.scripts {
        Some(scripts) => program.metered(scripts),
        None => program,
    })))
}
