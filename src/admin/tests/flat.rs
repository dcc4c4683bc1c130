use serde_json::{Value, json};

use super::Bench;

const MODELS: &str = "models: {base: {routes: [{backend: east}]}}\n";

async fn refused(bench: &Bench, body: &Value, status: u16, code: &str) -> Value {
    let post = bench.request("POST", "/admin/models").json(body);
    post.refused(status, code).await
}

#[tokio::test]
async fn a_model_comes_with_its_backend_and_goes_with_it() {
    let bench = Bench::with(MODELS);
    let body = json!({
        "model_name": "gpt", "api_base": "https://api.example/v1", "api_key": "sk-secret-1",
        "model": "openai/gpt-4o", "request_timeout": 30, "supports_reasoning": true,
        "fallbacks": "base", "parameters": {"temperature": {"default": 1}},
    });
    let done = bench.post("/admin/models", &body).await;
    assert_eq!(done["replaced"], false);
    assert_eq!(done["fallbacks"], json!(["base"]));
    let loaded = bench.reloader.loaded();
    let backend = loaded
        .config
        .backends
        .iter()
        .find(|it| it.name == "gpt")
        .unwrap();
    assert_eq!(backend.url.as_str(), "https://api.example/v1");
    assert_eq!(backend.api_key.as_ref().unwrap().expose(), "sk-secret-1");
    assert_eq!(
        (&*backend.auth_header, &*backend.auth_scheme),
        ("Authorization", "Bearer")
    );
    let model = &loaded.config.models.as_ref().unwrap().0[1];
    assert_eq!(model.request_timeout.unwrap().as_secs(), 30);
    assert!(model.supports_reasoning && model.parameters.contains_key("temperature"));
    let plan = bench.get("/admin/routes?model=gpt").await;
    assert_eq!(
        (&plan["routes"][0]["backend"], &plan["routes"][0]["model"]),
        (&json!("gpt"), &json!("gpt-4o"))
    );
    let everything = format!(
        "{}{}",
        bench.get("/admin/models").await,
        bench.get("/admin/config").await
    );
    assert!(!everything.contains("sk-secret-1"), "{everything}");

    bench.request("DELETE", "/admin/models/gpt").done().await;
    assert_eq!(bench.backends(), ["east", "west"]);
    assert!(!bench.overlay().contains("sk-secret-1"));
}

#[tokio::test]
async fn settings_may_be_nested_and_have_two_names() {
    let bench = Bench::with(MODELS);
    for (body, timeout, model) in [
        (
            json!({"name": "m", "base_url": "http://h:1", "timeout": "1.5", "forward_model": "openai/x"}),
            1_500,
            "openai/x",
        ),
        (
            json!({"model_name": "m", "model_params": {"api_base": "http://h:1", "request_timeout": 0.25, "target_model": "t", "model": "openai/x"}}),
            250,
            "t",
        ),
        (
            json!({"model_name": "m", "name": "m", "litellm_params": {"api_base": "http://h:1", "timeout": "2m", "api_type": "Anthropic", "model": "ANTHROPIC/c"}}),
            120_000,
            "c",
        ),
        (
            json!({"model_name": "m", "api_base": "http://h:1", "timeout": 3, "model": "other/x", "target_model": " ", "fallbacks": null}),
            3_000,
            "other/x",
        ),
    ] {
        bench.post("/admin/models", &body).await;
        let loaded = bench.reloader.loaded();
        let registered = loaded.config.models.as_ref().unwrap().0.last().unwrap();
        assert_eq!(
            registered.request_timeout.unwrap().as_millis(),
            timeout,
            "{body}"
        );
        assert_eq!(registered.target_model.as_deref(), Some(model), "{body}");
    }
}

#[tokio::test]
async fn anthropics_api_gets_its_own_header() {
    let bench = Bench::with(MODELS);
    let body = json!({"model_name": "claude", "api_base": "https://a.example", "api_key": "k", "api_type": "anthropic"});
    bench.post("/admin/models", &body).await;
    let loaded = bench.reloader.loaded();
    let backend = loaded.config.backends.last().unwrap();
    assert_eq!(
        (&*backend.auth_header, &*backend.auth_scheme),
        ("x-api-key", "")
    );
}

#[tokio::test]
async fn what_a_second_registration_leaves_out_stays() {
    let bench = Bench::with(MODELS);
    let first = json!({
        "model_name": "m", "api_base": "http://one:1", "api_key": "${LLMPROXY_NO_SUCH:-sk-kept}",
        "extends": "base", "fallbacks": ["base"], "timeout": 5,
    });
    bench.post("/admin/models", &first).await;
    let key = || {
        let loaded = bench.reloader.loaded();
        let backend = loaded.config.backends.last().unwrap().clone();
        (
            backend.url.as_str().to_owned(),
            backend.api_key.map(|key| key.expose().to_owned()),
        )
    };
    let second = json!({"model_name": "m", "api_base": "http://two:2", "api_key": null});
    let done = bench.post("/admin/models", &second).await;
    assert_eq!(
        (&done["replaced"], &done["fallbacks"]),
        (&json!(true), &json!(["base"]))
    );
    assert_eq!(
        key(),
        ("http://two:2/".to_owned(), Some("sk-kept".to_owned()))
    );
    assert!(
        bench.overlay().contains("${LLMPROXY_NO_SUCH:-sk-kept}"),
        "as it was written"
    );
    let own = bench.get("/admin/models/m").await["own"].clone();
    assert_eq!(own["extends"], "base");
    assert!(own.get("request_timeout").is_none(), "{own}");

    let third = json!({"model_name": "m", "api_base": "http://two:2", "api_key": "", "extends": "", "fallbacks": []});
    let done = bench.post("/admin/models", &third).await;
    assert_eq!(done["fallbacks"], json!([]));
    assert_eq!(key(), ("http://two:2/".to_owned(), None));
    assert_eq!(bench.get("/admin/models/m").await["extends"], Value::Null);
}

#[tokio::test]
async fn a_model_that_extends_another_needs_no_backend() {
    let bench = Bench::with(MODELS);
    bench
        .post(
            "/admin/models",
            &json!({"model_name": "m", "extends": "base", "model": "x"}),
        )
        .await;
    assert_eq!(bench.backends(), ["east", "west"]);
    let plan = bench.get("/admin/routes?model=m").await;
    assert_eq!(
        (&plan["routes"][0]["backend"], &plan["routes"][0]["model"]),
        (&json!("east"), &json!("x"))
    );
    for (body, param) in [
        (
            json!({"model_name": "n", "api_key": "k", "extends": "base"}),
            "api_key",
        ),
        (
            json!({"model_name": "n", "api_type": "openai", "extends": "base"}),
            "api_type",
        ),
        (json!({"model_name": "n", "model": "x"}), "api_base"),
        (json!({"model_name": "n", "api_base": " "}), "api_base"),
    ] {
        let refusal = refused(&bench, &body, 400, "invalid_value").await;
        assert_eq!(refusal["error"]["param"], param, "{body}");
    }
}

#[tokio::test]
async fn a_backend_goes_when_nothing_leads_to_it_any_more() {
    let bench = Bench::with(MODELS);
    let body = |name: &str| json!({"model_name": name, "api_base": "http://h:1"});
    bench.post("/admin/models", &body("a")).await;
    bench
        .request("POST", "/admin/models/copy?source=a&target=b")
        .done()
        .await;
    bench
        .post("/admin/models", &json!({"name": "heir", "extends": "a"}))
        .await;
    bench
        .request("DELETE", "/admin/models/a?cascade=1")
        .done()
        .await;
    assert_eq!(
        bench.backends(),
        ["east", "west", "a"],
        "the copy leads there"
    );
    bench
        .put("/admin/models/b", &json!({"routes": [{"backend": "east"}]}))
        .await;
    assert_eq!(bench.backends(), ["east", "west"]);

    bench.post("/admin/models", &body("a")).await;
    let both = json!({"routes": [{"backend": "a"}, {"backend": "west"}]});
    bench.put("/admin/models/a", &both).await;
    assert_eq!(
        bench.backends(),
        ["east", "west", "a"],
        "its own new routes lead there"
    );
    bench
        .post("/admin/models", &json!({"name": "a", "extends": "base"}))
        .await;
    assert_eq!(bench.backends(), ["east", "west"]);
    bench.post("/admin/models", &body("cost$")).await;
    assert_eq!(bench.backends(), ["east", "west", "cost$"]);
    bench.request("DELETE", "/admin/models/cost$").done().await;
    assert_eq!(bench.backends(), ["east", "west"]);
}

#[tokio::test]
async fn the_files_own_backends_are_never_touched() {
    let bench = Bench::with(MODELS);
    let body = json!({"model_name": "east", "api_base": "http://evil:1"});
    refused(&bench, &body, 409, "exists").await;
    bench
        .put(
            "/admin/models/west",
            &json!({"routes": [{"backend": "west"}]}),
        )
        .await;
    bench.request("DELETE", "/admin/models/west").done().await;
    assert_eq!(bench.backends(), ["east", "west"]);
}

/// A good registration with more in it.
fn with(more: &Value) -> Value {
    let mut body = json!({"model_name": "m", "api_base": "http://h:1"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// That a registration with `more` is refused for this member, or by the configuration where none
/// is named, in these words.
async fn assert_refused(bench: &Bench, more: Value, param: &str, words: &str) {
    let code = match param {
        "" => "bad_config",
        _ => "invalid_value",
    };
    let refusal = refused(bench, &with(&more), 400, code).await;
    let error = &refusal["error"];
    assert_eq!(error["param"].as_str().unwrap_or(""), param, "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    assert_eq!(bench.overlay(), "");
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    let bench = Bench::with(MODELS);
    let two_urls = json!({"model_params": {"api_base": "http://h:2"}});
    for (more, param, words) in [
        (json!({"http2": true, "mode": "a"}), "http2", "http2, mode"),
        (json!({"modules": {}}), "modules", "later version"),
        (json!({"model_params": {"parsers": 1}}), "parsers", "later"),
        (json!({"routes": []}), "routes", "model_name (or name)"),
        (json!({"api_type": "gigachat"}), "api_type", "openai or"),
        (json!({"name": "n"}), "name", "model_name"),
        (json!({"api_key": 5}), "api_key", "a text"),
        (json!({"api_key": "***"}), "api_key", "not shown"),
        (json!({"api_base": "http://***@h:1"}), "url", "not shown"),
        (json!({"model_params": [1]}), "model_params", "an object"),
        (two_urls, "model_params.api_base", "too"),
        (json!({"api_base": "h:1"}), "", "backends"),
        (json!({"parameters": 1}), "", "parameters"),
        (json!({"model_name": "  "}), "model_name", "needed"),
    ] {
        assert_refused(&bench, more, param, words).await;
    }
}

#[tokio::test]
async fn a_timeout_is_a_number_of_seconds_or_a_duration() {
    let bench = Bench::with(MODELS);
    let two = json!({"timeout": 1, "request_timeout": 2});
    for (more, param, words) in [
        (json!({"timeout": "soon"}), "", "duration"),
        (json!({"timeout": true}), "timeout", "number of seconds"),
        (json!({"timeout": 0}), "timeout", "more than 0"),
        (json!({"timeout": 0.000_9}), "timeout", "more than 0"),
        (json!({"timeout": 31_536_001}), "timeout", "a year"),
        (json!({"timeout": "1e300"}), "timeout", "a year"),
        (two, "timeout", "request_timeout"),
    ] {
        assert_refused(&bench, more, param, words).await;
    }
    for timeout in [json!(31_536_000), json!(0.001), json!("90s")] {
        let body = with(&json!({"timeout": timeout}));
        bench.post("/admin/models", &body).await;
    }
}
