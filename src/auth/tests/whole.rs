//! The gate as it is built from a configuration.

use proptest::prelude::*;

use super::*;
use crate::config::{
    KeyDefaults, ProviderKind, RateLimits, ResetPeriod, Script, ScriptSource, Secret,
};

fn statics(name: &str, keys: Vec<ApiKey>) -> config::Provider {
    config::Provider {
        name: name.to_owned(),
        enabled: true,
        on_error: OnError::Deny,
        lua: None,
        kind: ProviderKind::Static(keys),
    }
}

fn plain(key: &str) -> ApiKey {
    ApiKey {
        key: Some(Secret::new(key)),
        ..ApiKey::default()
    }
}

fn built(change: impl FnOnce(&mut Auth)) -> anyhow::Result<Authenticator> {
    built_over(None, change)
}

/// A gate whose pipeline is one provider with [`KEY`] in it, unless `change` says otherwise.
pub(in crate::auth) fn built_over(
    keys: Option<Arc<KeyStore>>,
    change: impl FnOnce(&mut Auth),
) -> anyhow::Result<Authenticator> {
    let mut auth = Auth {
        enabled: true,
        pipeline: vec![statics("file", vec![plain(KEY)])],
        ..Auth::default()
    };
    change(&mut auth);
    let metrics = AuthMetrics::register(&Registry::new()).unwrap();
    Authenticator::of(&auth, keys, metrics)
}

fn fault(change: impl FnOnce(&mut Auth)) -> String {
    format!("{:#}", built(change).err().unwrap())
}

#[tokio::test]
async fn a_key_in_the_file_opens_and_no_other() {
    let gate = built(|_| {}).unwrap();
    let first = enter(&gate).await.unwrap();
    assert_eq!(first.key.id, id_of(&KeyHash::of(KEY)));
    assert_eq!(&*first.provider, "file");
    assert!(first.key.spec.key.is_none());
    assert!(Arc::ptr_eq(&first, &enter(&gate).await.unwrap()));
    let near = &KEY[..KEY.len() - 1];
    assert!(enter_with(&gate, near).await.is_err());
    assert!(
        enter_with(&gate, &KeyHash::of(KEY).to_text())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_hash_in_the_file_is_as_good_as_the_key() {
    let hashed = ApiKey {
        key_hash: Some(KeyHash::of(KEY).to_text()),
        user_id: Some("ann".to_owned()),
        expires_at: Some(jiff::Timestamp::MAX),
        ..ApiKey::default()
    };
    let gate = built(|auth| auth.pipeline = vec![statics("file", vec![hashed])]).unwrap();
    let principal = enter(&gate).await.unwrap();
    assert_eq!(principal.user_id, "ann");
    let data = &principal.key.data;
    assert_eq!(data["user_id"], "ann");
    assert!(data["expires_at"].is_i64());
    assert!(
        !data.contains_key("key") && !data.contains_key("key_hash"),
        "{data:?}"
    );
}

#[tokio::test]
async fn keys_get_the_defaults_they_have_nothing_of_their_own_for() {
    let own = ApiKey {
        total_quota: Some(5),
        ..plain("sk-own")
    };
    let limits = RateLimits {
        requests_per_minute: Some(3),
        ..RateLimits::default()
    };
    let gate = built(|auth| {
        auth.pipeline = vec![statics("file", vec![plain(KEY), own])];
        auth.defaults = KeyDefaults {
            total_quota: Some(1000),
            total_budget: None,
            quota_reset_period: Some(ResetPeriod::Daily),
            rate_limit: Some(limits.clone()),
        };
    })
    .unwrap();
    let plain = enter(&gate).await.unwrap();
    let own = enter_with(&gate, "sk-own").await.unwrap();
    assert_eq!(plain.key.spec.total_quota, Some(1000));
    assert_eq!(plain.key.spec.rate_limit, Some(limits));
    assert_eq!(own.key.spec.total_quota, Some(5));
    assert_eq!(own.key.spec.quota_reset_period, Some(ResetPeriod::Daily));
}

#[tokio::test]
async fn nobody_needs_to_be_known_where_authentication_is_off() {
    let headers = HeaderMap::new();
    let off = built(|auth| auth.enabled = false).unwrap();
    assert!(!off.enabled());
    let caller = caller("/public/a", &headers);
    assert!(off.authenticate(&caller).await.unwrap().is_none());
    let skipping = built(|auth| auth.skip_paths = vec!["/public".to_owned()]).unwrap();
    assert!(skipping.authenticate(&caller).await.unwrap().is_none());
    let strict = built(|_| {}).unwrap();
    assert!(strict.enabled() && strict.authenticate(&caller).await.is_err());
}

fn script(text: &str) -> Script {
    Script {
        source: ScriptSource::Inline(text.to_owned()),
        timeout: Duration::from_secs(5),
        max_memory: 10 << 20,
        max_instructions: 100_000,
    }
}

#[tokio::test]
async fn a_lua_script_may_know_keys_all_alone_and_nothing_is_remembered() {
    let gate = built(|auth| {
        auth.pipeline[0].kind = ProviderKind::Lua;
        auth.pipeline[0].lua = Some(script("return api_key:sub(1, 5) == 'sk-a-'"));
    })
    .unwrap();
    let principal = enter(&gate).await.unwrap();
    assert_eq!(principal.key.id, id_of(&KeyHash::of(KEY)));
    let refusal = enter_with(&gate, "sk-b-key").await.unwrap_err();
    assert_eq!(refusal.reason, Refused::Denied);
    assert_eq!(gate.cache.sweep(), 0);
}

#[tokio::test]
async fn a_lua_script_decides_about_keys_in_the_file() {
    let gate_with = |text: &str| {
        let lua = Some(script(text));
        built(|auth| auth.pipeline[0].lua = lua)
    };
    let text = "return {allow = data.status == 'active' and request.ip == '192.0.2.7', \
                metadata = {seen = request.method}}";
    let principal = enter(&gate_with(text).unwrap()).await.unwrap();
    assert_eq!(principal.metadata["seen"], "POST");
    for text in [
        "return false",
        "return nil",
        "error(api_key)",
        "while true do end",
    ] {
        let refusal = enter(&gate_with(text).unwrap()).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.status), (Refused::Denied, 403));
        assert!(!refusal.message.contains(KEY));
    }
    let fault = format!("{:#}", gate_with("return (").err().unwrap());
    assert!(
        fault.starts_with("auth.pipeline: provider \"file\": script file"),
        "{fault}"
    );
}

#[test]
fn every_header_that_may_hold_a_key_is_named() {
    let own = HeaderName::from_static("x-team-key");
    let gate = built(|auth| auth.header_names = vec![own.clone(), AUTHORIZATION]).unwrap();
    let names = gate.credential_headers();
    assert_eq!(names[0], own);
    assert_eq!(names.len(), 5);
    assert!(KNOWN_HEADERS.iter().all(|name| names.contains(name)));
}

#[test]
fn a_model_is_denied_in_the_configured_words() {
    let gate = built(|auth| {
        let look = StatusCode {
            message: Some("buy the big plan".to_owned()),
            ..StatusCode::default()
        };
        auth.status_codes.insert(Refused::ModelDenied, look);
    })
    .unwrap();
    let refusal = gate.refusal(Refused::ModelDenied);
    assert_eq!(
        (refusal.status, &*refusal.message),
        (403, "buy the big plan")
    );
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let two = || vec![plain(KEY), plain("sk-x"), plain(KEY)];
    let fault_of = |keys| fault(|auth| auth.pipeline = vec![statics("team", keys)]);
    assert_eq!(
        fault_of(two()),
        "auth.pipeline: provider \"team\": keys[0] and keys[2] are the same key"
    );
    assert!(fault_of(vec![ApiKey::default()]).contains("keys[0]: it needs `key` or `key_hash`"));
    let bad_hash = ApiKey {
        key_hash: Some("sha256:12".to_owned()),
        ..ApiKey::default()
    };
    assert!(fault_of(vec![bad_hash]).contains("64 hexadecimal digits"));
    let off = fault(|auth| auth.pipeline[0].enabled = false);
    assert!(off.contains("every provider is switched off"), "{off}");
    let lua = fault(|auth| auth.pipeline[0].kind = ProviderKind::Lua);
    assert!(lua.contains("it is a script alone and has none"), "{lua}");
    let builtin = fault(|auth| auth.pipeline[0].kind = ProviderKind::Builtin);
    assert!(builtin.contains("it needs the key store"), "{builtin}");
}

proptest! {
    #[test]
    fn nothing_but_the_key_opens(
        lines in proptest::collection::vec(
            (0usize..5, proptest::collection::vec(any::<u8>(), 0..40)),
            0..4,
        ),
        path in "[ -~]{0,30}",
    ) {
        let gate = built(|auth| auth.skip_paths = vec!["/public".to_owned()]).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = gate.credential_headers().get(name).cloned();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name.unwrap_or(http::header::COOKIE), value);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let entered = runtime.block_on(gate.authenticate(&caller(&path, &headers)));
        let kept_out = match entered {
            Ok(None) => path.starts_with("/public"),
            Ok(Some(_)) => false,
            Err(refusal) => refusal.status == 401,
        };
        prop_assert!(kept_out);
    }
}
