//! Ordinary files that once came to nothing, or to something else than they say.

use crate::config::Config;
use crate::import::{ImportError, System, import, verify};

/// Returns what was made of `text`, and the notes.
fn made(system: System, text: &str) -> (Config, String) {
    let imported = import(text, Some(system)).unwrap();
    let config = verify::load(&imported.yaml, "made").unwrap().config;
    (config, imported.notes.join("\n"))
}

/// Returns the routes of the only model, as backend, model, priority and weight.
fn routes(config: &Config) -> Vec<(&str, &str, i32, u32)> {
    let models = config.models.as_ref().unwrap();
    let routes = models.0[0].routes.iter();
    routes
        .map(|route| {
            let model = route.model.as_deref().unwrap_or("-");
            (&*route.backend, model, route.priority, route.weight)
        })
        .collect()
}

fn litellm(deployments: &[&str]) -> (Config, String) {
    let all = deployments
        .iter()
        .map(|own| format!("- {{model_name: m, litellm_params: {{{own}}}}}\n"));
    made(
        System::LiteLlm,
        &format!("model_list:\n{}", all.collect::<String>()),
    )
}

#[test]
fn deployments_that_differ_only_in_limits_are_one_route() {
    let (config, notes) = litellm(&[
        "model: openai/a, rpm: 10, timeout: 5",
        "model: openai/a, rpm: 20, api_version: v",
        "model: openai/b, rpm: 10",
    ]);
    assert_eq!(
        routes(&config),
        [("openai", "a", 0, 3), ("openai", "b", 0, 1)]
    );
    assert!(
        notes.contains("model_list[1]: asks the same backend"),
        "{notes}"
    );
    let (config, _) = litellm(&[
        "model: openai/a, order: 2, weight: 5",
        "model: openai/a, order: 1",
    ]);
    assert_eq!(routes(&config), [("openai", "a", 1, 1)]);
    // Without weights all deployments are alike, so this one is chosen twice as often.
    let (config, _) = litellm(&["model: openai/a", "model: openai/a", "model: openai/b"]);
    assert_eq!(
        routes(&config),
        [("openai", "a", 0, 2), ("openai", "b", 0, 1)]
    );
}

#[test]
fn weights_may_be_fractions() {
    let (config, notes) = litellm(&[
        "model: openai/a, weight: 0.9",
        "model: openai/b, weight: 0.1",
    ]);
    assert_eq!(
        routes(&config),
        [("openai", "a", 0, 9), ("openai", "b", 0, 1)]
    );
    assert!(!notes.contains("weight"), "{notes}");
    // Proportions are those among deployments of one order.
    let (config, _) = litellm(&[
        "model: openai/a, weight: 9, order: 1",
        "model: openai/b, weight: 1, order: 1",
        "model: openai/c, order: 2",
    ]);
    let weights: Vec<u32> = routes(&config).iter().map(|route| route.3).collect();
    assert_eq!(weights, [9, 1, 1]);
}

#[test]
fn deployments_in_urls_of_azure_are_models() {
    let url = "https://x.openai.azure.com/openai/deployments/foo/chat/completions?api-version=1";
    let (config, notes) = litellm(&[&format!(
        "model: azure/gpt-4o, api_base: '{url}', api_key: k"
    )]);
    assert_eq!(routes(&config)[0].1, "foo");
    assert!(
        notes.contains("the deployment in its `api_base`"),
        "{notes}"
    );
    let url = config.backends[0].url.shown();
    assert_eq!(
        url.trim_end_matches('/'),
        "https://x.openai.azure.com/openai/v1"
    );
}

#[test]
fn a_model_without_a_name_is_left_out() {
    let (config, notes) = litellm(&["model: openai/", "model: openai/a"]);
    assert_eq!(routes(&config).len(), 1);
    assert!(
        notes.contains("model_list[0]: its `model` names none"),
        "{notes}"
    );
    let text = "model_list: [{model_name: m, litellm_params: {model: openai/}}]";
    let error = import(text, Some(System::LiteLlm)).unwrap_err();
    assert!(matches!(error, ImportError::NothingToServe(_)), "{error}");
}

#[test]
fn a_route_that_stands_there_twice_keeps_its_best_place() {
    for (first, second, expected) in [
        ("priority: 2", "priority: 1", 1),
        ("priority: 1", "priority: 2", 1),
        ("priority: 1, enabled: false", "priority: 2", 2),
    ] {
        let text = format!(
            "backends: [{{name: a, url: 'http://h'}}]\n\
             models: {{m: {{routes: [{{backend: a, model: x, {first}}}, {{backend: a, model: x, {second}}}]}}}}"
        );
        let (config, notes) = made(System::Ococl, &text);
        assert_eq!(
            routes(&config),
            [("a", "x", expected, 1)],
            "{first} {second}"
        );
        assert!(notes.contains("no worse; left out"), "{notes}");
    }
}

#[test]
fn prefixes_that_are_ours_become_none() {
    for (prefix, expected, base) in [
        ("/v1", "", "http://HOST:PORT/v1`"),
        ("/v1/", "", "http://HOST:PORT/v1`"),
        ("/openai/v1", "/openai", "http://HOST:PORT/openai/v1`"),
        ("/openai", "/openai", ""),
        ("/admin", "", "http://HOST:PORT/v1`"),
        ("/health", "", "http://HOST:PORT/v1`"),
        ("/metrics/x", "", "http://HOST:PORT/v1`"),
        ("/admin/v1", "", "http://HOST:PORT/v1`"),
        ("/api$x", "/api$x", ""),
    ] {
        let text = format!(
            "models: [{{frontend_model_name: m, frontend_base_url: {prefix}, \
             backend_base_url: 'http://h/v1', backend_model_name: '*'}}]"
        );
        let (config, notes) = made(System::PythonLlmProxy, &text);
        let frontend = config.models.as_ref().unwrap().0[0].frontend.join(" ");
        assert_eq!(frontend, expected, "{prefix}");
        assert!(notes.contains(base), "{prefix}: {notes}");
        assert_eq!(
            notes.contains("frontend_base_url"),
            !base.is_empty(),
            "{prefix}"
        );
        // No `*` in the name that this one could stand for.
        assert_eq!(routes(&config)[0].1, "-");
        assert!(notes.contains("backend_model_name: has a `*`"), "{notes}");
    }
}

#[test]
fn a_default_that_does_not_fit_is_left_out() {
    let text = "proxy: {}\nlisten: '${H:-foo}:${P:-80}'\nproxy_api_key: '${K:-k}'\n\
                backends: [{name: a, url: '${U:-default}'}]";
    let imported = import(text, Some(System::Ococl)).unwrap();
    for line in [
        "listen: ${H}:${P:-80}\n",
        "url: ${U}\n",
        "proxy_api_key: ${K:-k}\n",
    ] {
        assert!(imported.yaml.contains(line), "{line}{}", imported.yaml);
    }
    let notes = imported.notes.join("\n");
    assert!(
        notes.contains("backends[0].url of the new file: the default"),
        "{notes}"
    );
    assert!(notes.ends_with("environment variables H, U"), "{notes}");
}

#[test]
fn a_default_is_found_where_only_its_section_is_named() {
    let text = "backends: [{url: 'http://h'}]\nauth: {enabled: true, pipeline: [\
                {type: redis, enabled: true, redis: {addr: '${A:-}'}}]}";
    let imported = import(text, Some(System::LlmProxy)).unwrap();
    assert!(imported.yaml.contains("addr: ${A}\n"), "{}", imported.yaml);
}

#[test]
fn what_does_not_load_is_left_out_with_a_note() {
    let (config, notes) = made(
        System::Ococl,
        "backends: [{name: a, url: 'http://h'}]\nfallback: {alias_fallback: {'': [m], m: [n]}}\n\
         models: {m: {routes: [{backend: a, model: 'x*'}]}, n: {routes: [{backend: a}]}}",
    );
    assert_eq!(config.models.as_ref().unwrap().0.len(), 1);
    assert!(
        notes.contains("fallback.alias_fallback.\"\": not the name"),
        "{notes}"
    );
    assert!(
        notes.contains("models.m of the new file would not load"),
        "{notes}"
    );
    // Without its only model, a file must not come to serve all of them.
    let text = "backends: [{name: a, url: 'http://h'}]\nmodels: {m: {routes: [{backend: a, model: 'x*'}]}}";
    let error = import(text, Some(System::Ococl)).unwrap_err();
    assert!(matches!(error, ImportError::NothingToServe(_)), "{error}");
}

#[test]
fn names_of_dots_are_none() {
    let text = "backends: [{url: 'http://h'}]\nusage: {reporters: [\
                {name: '..', type: webhook, url: 'http://h', enabled: true}]}";
    let (config, _) = made(System::LlmProxy, text);
    assert_eq!(config.usage_hook.reporters[0].name(), "usage");
}

#[test]
fn a_redis_server_may_be_called_0() {
    for (redis, is_there) in [
        ("redis_host: 0", true),
        ("redis_host: 0, redis_port: x", false),
    ] {
        let text = format!(
            "model_list: [{{model_name: m, litellm_params: {{model: openai/a}}}}]\n\
             router_settings: {{{redis}, redis_password: p}}"
        );
        let imported = import(&text, Some(System::LiteLlm)).unwrap();
        assert_eq!(imported.yaml.contains("redis:"), is_there, "{redis}");
    }
}

#[test]
fn all_switched_off_is_no_error() {
    let text = "models: [{frontend_model_name: m, backend_base_url: 'http://h', \
                frontend_dialect: a, backend_dialect: b}]";
    let (_, notes) = made(System::PythonLlmProxy, text);
    assert!(notes.contains("every model is switched off"), "{notes}");
}

#[test]
fn what_means_nothing_here_is_noted_all_the_same() {
    let backends = "backends: [{url: 'http://h'}]";
    let models = "model_list: [{model_name: m, protected: true, model_params: \
                  {api_base: 'http://h/v1', model: a, target_model: b}}]";
    for (system, text, expected) in [
        (
            System::LlmProxy,
            format!("{backends}\nauth: {{enabled: false, storage: file}}"),
            "auth.storage: ",
        ),
        (
            System::LlmProxy,
            format!("{backends}\nhealth_check: {{method: GET}}"),
            "health_check.method: ",
        ),
        (
            System::PythonLlmProxy,
            "models: [{frontend_model_name: m, backend_base_url: 'http://h', inject_progress: false}]"
                .to_owned(),
            "models[0].inject_progress: ",
        ),
        (
            System::YaLlmProxy,
            format!("{models}\nproxy_settings: {{logging: {{log_parsed_stream: false}}}}"),
            "proxy_settings.logging.log_parsed_stream: ",
        ),
        (
            System::YaLlmProxy,
            models.to_owned(),
            "model_list[0]: `model` has no effect beside `target_model`",
        ),
        (
            System::YaLlmProxy,
            models.to_owned(),
            "model_list[].protected: protected are `m`",
        ),
    ] {
        let (_, notes) = made(system, &text);
        assert!(notes.contains(expected), "{text}: {notes}");
    }
}

#[test]
fn errors_of_yaml_have_their_line_in_front() {
    let error = import("a: 1\nb: [\n", None).unwrap_err();
    let shown = error.of_file("bad.yaml");
    assert!(shown.starts_with("bad.yaml:3: not YAML: "), "{shown}");
    assert!(!shown.contains("at line"), "{shown}");
    let error = import("[1]", None).unwrap_err();
    assert!(error.of_file("f").starts_with("f: not a configuration"));
}
