//! Texts, and what happens exactly at the bounds.

use crate::import::text::{
    escaped, file_name, has_variable, is_go_duration, is_listen_address, is_redis_address,
    is_shorter, local_address, name_of, seconds, variables,
};
use crate::import::{Imported, System, import};

#[test]
fn placeholders_stay_and_other_dollars_are_doubled() {
    use System::{LiteLlm, YaLlmProxy};
    for (text, system, expected) in [
        ("plain", LiteLlm, "plain"),
        ("${KEY}", LiteLlm, "${KEY}"),
        ("${KEY:-x}", LiteLlm, "${KEY:-x}"),
        ("a${KEY}b", LiteLlm, "a${KEY}b"),
        ("$KEY", LiteLlm, "$KEY"),
        ("$key", LiteLlm, "$$key"),
        ("a$KEY", LiteLlm, "a$$KEY"),
        ("a$KEY", YaLlmProxy, "a$KEY"),
        ("$key", YaLlmProxy, "$key"),
        ("$$KEY", YaLlmProxy, "$$$KEY"),
        ("$$KEY", LiteLlm, "$$$$KEY"),
        ("5$", LiteLlm, "5$"),
        ("5$ a", LiteLlm, "5$ a"),
        ("$$", LiteLlm, "$$$"),
        ("${", LiteLlm, "$${"),
        ("${a b}", YaLlmProxy, "$${a b}"),
        ("${}", YaLlmProxy, "$${}"),
        ("$5", YaLlmProxy, "$5"),
    ] {
        assert_eq!(escaped(text, system), expected, "{text}");
    }
}

#[test]
fn variables_are_found() {
    assert_eq!(variables("${A}$B $$C ${D:-x} ${e f} 5$"), ["A", "B"]);
    for (text, expected) in [
        ("$A", true),
        ("x${A}", true),
        ("x$A", false),
        ("$", false),
        ("${a b}", false),
    ] {
        assert_eq!(has_variable(text), expected, "{text}");
    }
}

#[test]
fn durations_are_ours() {
    for (given, expected) in [
        (30.0, Some("30s")),
        (7.5, Some("7500ms")),
        (0.0, Some("0s")),
        (0.0004, Some("0s")),
        (1e9, Some("1000000000s")),
        (1.1e9, None),
        (-1.0, None),
        (f64::NAN, None),
    ] {
        assert_eq!(seconds(given).as_deref(), expected, "{given}");
    }
    for text in ["1s", "1m30s", "1.5h", ".5s", "100ms", "12µs"] {
        assert!(is_go_duration(text), "{text}");
    }
    for text in [
        "",
        "1",
        "s",
        "1d",
        "1.2.3s",
        "-1s",
        "1 s",
        "1234567890s",
        "1h1h1h1h1h1h1h1h1h",
    ] {
        assert!(!is_go_duration(text), "{text}");
    }
    assert!(is_shorter("90s", "2m") && !is_shorter("2m", "90s") && !is_shorter("60s", "1m"));
}

#[test]
fn names_are_those_people_use() {
    for (url, expected) in [
        ("https://api.openai.com/v1", "openai"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "gemini",
        ),
        ("https://api.z.ai/api/coding/paas/v4", "api.z.ai"),
        ("http://user:s3cret@vllm:8000", "vllm-8000"),
        ("http://[::1]:8000/v1", "1--8000"),
        ("${ZAI_API_BASE}", "zai"),
        ("http://${HOST}:8000", "host"),
        ("", "backend"),
    ] {
        assert_eq!(name_of(url), expected, "{url}");
    }
    for (name, expected) in [
        ("billing", "billing"),
        ("my_db.1", "my_db.1"),
        ("billing hook", "billing-hook"),
        ("", "usage"),
    ] {
        assert_eq!(file_name(name, "usage"), expected);
    }
}

#[test]
fn addresses_may_hold_variables() {
    for (text, expected) in [
        (":8000", true),
        ("${LISTEN}", true),
        ("${HOST}:${PORT}", true),
        ("0.0.0.0:${PORT}", true),
        ("host.example:80", false),
        ("${HOST}", true),
        ("x${HOST}", false),
    ] {
        assert_eq!(is_listen_address(text, System::Ococl), expected, "{text}");
    }
    assert_eq!(
        local_address("h:${PORT}", 80, System::Ococl),
        "127.0.0.1:${PORT}"
    );
    assert_eq!(local_address("h:99999", 80, System::Ococl), "127.0.0.1:80");
    assert!(is_redis_address("h:6379", System::LiteLlm));
    assert!(!is_redis_address("h:6379/1", System::LiteLlm));
}

// === bounds ===

fn made(system: System, text: &str) -> Imported {
    import(text, Some(system)).unwrap()
}

#[test]
fn a_chain_of_ten_models_is_inherited_and_one_of_eleven_is_not() {
    for (length, inherited) in [(10, true), (11, false)] {
        let mut text =
            "model_list:\n- {model_name: m1, model_params: {api_base: 'http://h/v1'}}\n".to_owned();
        for number in 2..=length {
            text.push_str(&format!(
                "- {{model_name: m{number}, extends: m{}}}\n",
                number - 1
            ));
        }
        let made = made(System::YaLlmProxy, &text);
        let last = format!("m{length}:");
        assert_eq!(made.yaml.contains(&last), inherited, "{}", made.yaml);
    }
}

#[test]
fn weights_keep_their_proportions_up_to_a_thousand() {
    for (shares, expected) in [
        ([900, 10], [90, 1]),
        ([1000, 1], [1000, 1]),
        ([1001, 1], [1000, 1]),
        ([3000, 2000], [3, 2]),
        ([2_000_000, 1_000_001], [1000, 500]),
        ([7, 0], [1000, 1]),
    ] {
        let deployments = shares.map(|share| {
            format!(
                "- {{model_name: m, litellm_params: {{model: openai/a{share}, weight: {share}}}}}\n"
            )
        });
        let made = made(
            System::LiteLlm,
            &format!("model_list:\n{}", deployments.concat()),
        );
        let config = crate::import::verify::load(&made.yaml, "made")
            .unwrap()
            .config;
        let routes = &config.models.unwrap().0[0].routes;
        assert_eq!([routes[0].weight, routes[1].weight], expected, "{shares:?}");
    }
}

#[test]
fn a_share_comes_from_weights_or_else_from_limits() {
    let model =
        |own: &str| format!("- {{model_name: m, litellm_params: {{model: openai/a, {own}}}}}\n");
    for (first, second, expected) in [
        (
            "weight: 2, rpm: 50, api_key: a",
            "weight: 1, rpm: 50, api_key: b",
            [2, 1],
        ),
        (
            "rpm: 30, tpm: 1, api_key: a",
            "rpm: 10, tpm: 1, api_key: b",
            [3, 1],
        ),
        ("tpm: 5, api_key: a", "tpm: 10, api_key: b", [1, 2]),
        ("api_key: a", "api_key: b", [1, 1]),
    ] {
        let text = format!("model_list:\n{}{}", model(first), model(second));
        let made = made(System::LiteLlm, &text);
        let config = crate::import::verify::load(&made.yaml, "made")
            .unwrap()
            .config;
        let routes = &config.models.unwrap().0[0].routes;
        assert_eq!([routes[0].weight, routes[1].weight], expected);
    }
}

#[test]
fn deployments_without_an_order_come_last() {
    let text = "model_list:\n\
        - {model_name: m, litellm_params: {model: openai/a}}\n\
        - {model_name: m, litellm_params: {model: openai/b, order: 2}}\n\
        - {model_name: m, litellm_params: {model: openai/c, order: 1}}\n";
    let made = made(System::LiteLlm, text);
    let config = crate::import::verify::load(&made.yaml, "made")
        .unwrap()
        .config;
    let routes = &config.models.unwrap().0[0].routes;
    let priorities: Vec<i32> = routes.iter().map(|route| route.priority).collect();
    assert_eq!(priorities, [3, 2, 1]);
}

#[test]
fn only_failures_are_failures() {
    let text = |codes: &str| {
        format!("backends: [{{name: a, url: 'http://h'}}]\ndetection: {{error_codes: [{codes}]}}")
    };
    for (code, is_kept) in [
        ("399", false),
        ("400", true),
        ("599", true),
        ("600", false),
        ("6xx", false),
    ] {
        let made = made(System::Ococl, &text(code));
        assert_eq!(made.yaml.contains(&format!("- {code}")), is_kept, "{code}");
        assert_eq!(
            made.notes.iter().any(|note| note.contains("error_codes")),
            !is_kept,
            "{code}"
        );
    }
}

#[test]
fn what_nobody_wrote_is_as_safe_as_it_was_there() {
    // Go's port of http; a cooldown and statuses only where they are written.
    let made_of = made(System::Ococl, "backends: [{name: a, url: 'http://h'}]");
    assert!(made_of.yaml.contains("listen: :80\n"), "{}", made_of.yaml);
    assert!(
        made_of.yaml.contains("cooldown_seconds: 0\n"),
        "{}",
        made_of.yaml
    );
    assert!(
        made_of.yaml.contains("error_codes: []\n"),
        "{}",
        made_of.yaml
    );
    // Keys without `auth.enabled` were never asked for, and nobody shall be locked out.
    let text = "backends: [{url: 'http://h'}]\napi_keys: [{key: k}]";
    assert!(
        made(System::LlmProxy, text)
            .yaml
            .contains("auth:\n  enabled: false\n")
    );
    // A key that nobody could show must not become none.
    let text = "proxy_api_key: 'two words'\nbackends: [{name: a, url: 'http://h'}]";
    assert!(
        made(System::Ococl, text)
            .yaml
            .contains("proxy_api_key: ${PROXY_API_KEY}\n")
    );
    // A client's own credential never got to a backend there.
    let text = "model_list: [{model_name: m, model_params: {api_base: 'http://h/v1'}}]";
    assert!(
        made(System::YaLlmProxy, text)
            .yaml
            .contains("forward_client_credential: false\n")
    );
}
