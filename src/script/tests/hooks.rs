//! Hooks, point by point.

use prometheus::Registry;

use super::*;
use crate::config::{Hook, Hooks, OnHookFailure};

fn hook(text: &str) -> Hook {
    Hook {
        script: script(text),
        on_failure: OnHookFailure::Continue,
    }
}

fn set(hooks: &Hooks) -> HookSet {
    let metrics = ScriptMetrics::register(&Registry::new()).unwrap();
    HookSet::build(hooks, &metrics).unwrap()
}

fn request<'a>(metadata: &'a BTreeMap<String, String>) -> RequestInfo<'a> {
    RequestInfo {
        view: view(&[("x-team", "search")]),
        api_key: "sk-…1234",
        user_id: "ann",
        model: "small",
        stream: true,
        body: Some(br#"{"model":"small"}"#),
        metadata,
    }
}

fn on_request(text: &str) -> Result<RequestVerdict, HookFailed> {
    let hooks = Hooks {
        on_request: Some(hook(text)),
        ..Hooks::default()
    };
    set(&hooks).on_request(&request(&BTreeMap::new()))
}

#[test]
fn without_hooks_nothing_happens() {
    let none = set(&Hooks::default());
    assert!(!none.has(Point::Request));
    let metadata = BTreeMap::new();
    assert_eq!(
        none.on_request(&request(&metadata)).unwrap(),
        RequestVerdict::default()
    );
}

#[test]
fn on_request_sees_the_request_and_may_say_nothing() {
    let text = r#"
        assert(request.id == "req_1" and request.user_id == "ann" and request.api_key == "sk-…1234")
        assert(request.model == "small" and request.stream == true)
        assert(json.decode(request.body).model == "small")
        assert(metadata.tier == nil and timestamp <= now() and api_key == nil)
    "#;
    let hooks = Hooks {
        on_request: Some(Hook {
            on_failure: OnHookFailure::Deny,
            ..hook(text)
        }),
        ..Hooks::default()
    };
    let verdict = set(&hooks).on_request(&request(&BTreeMap::new())).unwrap();
    assert_eq!(verdict, RequestVerdict::default());
}

#[test]
fn on_request_refuses() {
    let refused = |text| on_request(text).unwrap().refuse.unwrap();
    let HookRefusal { status, message } = refused("return false");
    assert_eq!((status, message), (403, None));
    let HookRefusal { status, message } =
        refused("return { continue = false, error = 'no', status = 422 }");
    assert_eq!((status, message.as_deref()), (422, Some("no")));
    assert_eq!(
        on_request("return { continue = true }").unwrap().refuse,
        None
    );
}

#[test]
fn on_request_changes_headers_and_metadata() {
    let text = "return {
        continue = true, modified = true,
        headers = { ['X-Tier'] = 'gold', ['X-Count'] = 3, ['x-old'] = false },
        metadata = { tier = 'gold' },
    }";
    let mut verdict = on_request(text).unwrap();
    verdict
        .set_headers
        .sort_by_key(|(name, _)| name.to_string());
    let set: Vec<_> = verdict
        .set_headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(set, ["x-count: 3", "x-tier: gold"]);
    assert_eq!(verdict.remove_headers, ["x-old"]);
    assert_eq!(verdict.metadata["tier"], "gold");
}

#[test]
fn headers_that_frame_a_message_are_not_a_scripts_to_change() {
    for (text, complaint) in [
        (
            "return { headers = { ['Content-Length'] = '0' } }",
            "cannot be changed",
        ),
        (
            "return { headers = { ['transfer-encoding'] = false } }",
            "cannot be changed",
        ),
        ("return { headers = { Host = 'x' } }", "cannot be changed"),
        (
            "return { headers = { ['a b'] = 'x' } }",
            "is no header name",
        ),
        (
            "return { headers = { a = 'x\\r\\nb: c' } }",
            "a value that no header can have",
        ),
        (
            "return { headers = { a = {} } }",
            "returns a table as headers.a",
        ),
        (
            "return { headers = { a = true } }",
            "returns a boolean as headers.a",
        ),
        ("return { header = {} }", "unknown field header"),
        ("return 'x'", "right is nothing, true, false or a table"),
    ] {
        let hooks = Hooks {
            on_request: Some(Hook {
                on_failure: OnHookFailure::Deny,
                ..hook(text)
            }),
            ..Hooks::default()
        };
        let HookFailed(error) = set(&hooks)
            .on_request(&request(&BTreeMap::new()))
            .unwrap_err();
        assert!(error.message.contains(complaint), "{text}: {error}");
    }
}

#[test]
fn a_hook_that_fails_is_as_if_there_were_none_unless_told_otherwise() {
    assert_eq!(on_request("error('x')").unwrap(), RequestVerdict::default());
    assert_eq!(
        on_request("while true do end").unwrap(),
        RequestVerdict::default()
    );
    let hooks = Hooks {
        on_request: Some(Hook {
            on_failure: OnHookFailure::Deny,
            ..hook("\nerror('x')")
        }),
        ..Hooks::default()
    };
    let failed = set(&hooks)
        .on_request(&request(&BTreeMap::new()))
        .unwrap_err();
    assert_eq!(failed.to_string(), "script on_request (line 2): x");
}

#[test]
fn a_long_body_is_seen_in_part() {
    let body = vec![b'x'; LONGEST_BODY + 1];
    let hooks = Hooks {
        on_request: Some(hook("return { continue = #request.body ~= 65536 }")),
        ..Hooks::default()
    };
    let metadata = BTreeMap::new();
    let info = RequestInfo {
        body: Some(&body),
        ..request(&metadata)
    };
    assert!(set(&hooks).on_request(&info).unwrap().refuse.is_some());
}

fn on_route(text: &str) -> Result<Option<String>, HookFailed> {
    let hooks = Hooks {
        on_route: Some(Hook {
            on_failure: OnHookFailure::Deny,
            ..hook(text)
        }),
        ..Hooks::default()
    };
    let backend = |name, active| BackendInfo {
        name,
        url: "http://10.0.0.1:8000",
        healthy: true,
        weight: 1,
        active,
    };
    let metadata = BTreeMap::new();
    set(&hooks).on_route(&RouteInfo {
        request: &request(&metadata),
        backends: &[backend("a", 3), backend("b", 1)],
    })
}

#[test]
fn on_route_chooses_or_leaves_the_choice() {
    assert_eq!(on_route("return nil").unwrap(), None);
    assert_eq!(on_route("").unwrap(), None);
    assert_eq!(on_route("return 'b'").unwrap().as_deref(), Some("b"));
    let idlest = "table.sort(backends, function(x, y) return x.active < y.active end)
        return backends[1].name";
    assert_eq!(on_route(idlest).unwrap().as_deref(), Some("b"));
    let by_name = "return backends.a.active_connections == 3 and model == 'small' and 'a' or 'b'";
    assert_eq!(on_route(by_name).unwrap().as_deref(), Some("a"));
    let HookFailed(error) = on_route("return 'c'").unwrap_err();
    assert!(error.message.contains("not among the backends"), "{error}");
    let HookFailed(error) = on_route("return true").unwrap_err();
    assert!(
        error.message.contains("nothing or the name of a backend"),
        "{error}"
    );
}

#[test]
fn on_response_changes_headers() {
    let text = "if response.status == 200 and response.status_code == 200 and response.backend == 'a'
        and response.headers['Content-Type'] == 'application/json' and response.latency_ms == 12 then
            return { headers = { ['x-served-by'] = response.backend, server = false } }
        end";
    let hooks = Hooks {
        on_response: Some(hook(text)),
        ..Hooks::default()
    };
    let metadata = BTreeMap::new();
    let verdict = set(&hooks).on_response(&ResponseInfo {
        request: &request(&metadata),
        status: 200,
        headers: vec![("content-type", "application/json"), ("server", "uvicorn")],
        backend: "a",
        latency_ms: 12,
    });
    let verdict = verdict.unwrap();
    assert_eq!(verdict.set_headers.len(), 1);
    assert_eq!(verdict.remove_headers, ["server"]);
}

fn on_usage(text: &str, cost_nanos: Option<u64>) -> UsageVerdict {
    let hooks = Hooks {
        on_usage: Some(hook(text)),
        ..Hooks::default()
    };
    let metadata = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let verdict = set(&hooks).on_usage(&UsageInfo {
        request: &request(&metadata),
        usage: UsageCounts {
            prompt_tokens: 10,
            completion_tokens: 5,
            total_tokens: 15,
            cost_nanos,
            currency: Some("EUR"),
            ..UsageCounts::default()
        },
        model: "small",
        backend: "a",
        outcome: "completed",
        status: 200,
    });
    verdict.unwrap()
}

#[test]
fn on_usage_gives_discounts_and_bills_somebody_else() {
    let text =
        "if metadata.tier == 'gold' and usage.total_tokens == 15 and usage.currency == 'EUR' then
            return { cost_nanos = usage.cost_nanos * 0.8, user_id = 'team-' .. request.user_id }
        end";
    let verdict = on_usage(text, Some(1_000_003));
    assert_eq!(verdict.cost_nanos, Some(800_002));
    assert_eq!(verdict.user_id.as_deref(), Some("team-ann"));
    // Without a price there is nothing to multiply: the script fails, and changes nothing.
    assert_eq!(on_usage(text, None), UsageVerdict::default());
    for wrong in ["-1", "0/0", "1e300", "'many'", "-0.5"] {
        let text = format!("return {{ cost_nanos = {wrong} }}");
        assert_eq!(on_usage(&text, Some(1)), UsageVerdict::default(), "{wrong}");
    }
    assert_eq!(
        on_usage("return { cost_nanos = 9007199254740993 }", None).cost_nanos,
        Some(9_007_199_254_740_993)
    );
}

#[test]
fn on_error_words_the_gateways_errors() {
    let text = "if error.type == 'backend_error' and error.code == 'no_backend' and error.status_code == 503 then
            return { status = 502, message = 'sorry: ' .. error_message }
        end
        error('other')";
    let hooks = Hooks {
        on_error: Some(hook(text)),
        ..Hooks::default()
    };
    let set = set(&hooks);
    let metadata = BTreeMap::new();
    let info = ErrorInfo {
        request: &request(&metadata),
        kind: "backend_error",
        status: 503,
        code: "no_backend",
        message: "nobody is there",
    };
    let verdict = set.on_error(&info).unwrap();
    assert_eq!(verdict.status, Some(502));
    assert_eq!(verdict.message.as_deref(), Some("sorry: nobody is there"));
    // `error` is the error there, and still the function it hides.
    let other = ErrorInfo {
        kind: "timeout",
        ..info
    };
    assert_eq!(set.on_error(&other).unwrap(), ErrorVerdict::default());
}

#[test]
fn on_complete_looks_on() {
    let text = "assert(response.status == 200 and response.outcome == 'completed' and usage == nil) return 'whatever'";
    let hooks = Hooks {
        on_complete: Some(Hook {
            on_failure: OnHookFailure::Deny,
            ..hook(text)
        }),
        ..Hooks::default()
    };
    let metadata = BTreeMap::new();
    let info = CompleteInfo {
        request: &request(&metadata),
        status: 200,
        latency_ms: 5,
        outcome: "completed",
        usage: None,
    };
    set(&hooks).on_complete(&info).unwrap();
}
