use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::Endpoint::{ChatCompletions, Completions, GenerateStream, Messages, Responses};

fn chat(body: &str) -> RequestHead {
    peek(ChatCompletions, body.as_bytes())
}

#[test]
fn the_head_is_found_wherever_it_stands() {
    let head = chat(
        r#"{"messages":[{"role":"user","content":"model: \"x\", \"stream\":true"}],"n":3,
            "tools":[{"model":"wrong","stream":true}],"stream":true,"model":"team/coder"}"#,
    );
    assert_eq!(head.model.as_deref(), Some("team/coder"));
    assert!(head.stream);
    assert_eq!(head.choices, 3);
}

#[test]
fn garbage_has_defaults() {
    for body in [
        "",
        "null",
        "[]",
        "hello",
        "{",
        "\"model\"",
        "[{\"model\":\"m\",\"stream\":true}]",
    ] {
        assert_eq!(
            chat(body),
            RequestHead {
                choices: 1,
                prompts: 1,
                candidates: 1,
                passages: 1,
                ..RequestHead::default()
            },
            "{body}"
        );
    }
}

#[test]
fn escaped_and_repeated_keys_mean_what_parsers_take_them_for() {
    assert!(chat(r#"{"str\u0065am":true}"#).stream);
    assert!(!chat(r#"{"stream":true,"stream":false}"#).stream);
    assert!(chat(r#"{"stream":false,"\u0073tream":true}"#).stream);
    assert_eq!(
        chat(r#"{"model":"a","model":"b\u002fc"}"#).model.as_deref(),
        Some("b/c")
    );
    assert_eq!(chat(r#"{"model":"a","model":7}"#).model, None);
}

#[test]
fn the_prompts_of_a_completion_are_counted() {
    for (prompt, prompts, bytes) in [
        ("\"one\"", 1, 3),
        ("[\"one\",\"three\"]", 2, 8),
        ("[1,2,3]", 1, 12),
        ("[[1,2],[3]]", 2, 12),
        ("[]", 1, 0),
        ("null", 1, 0),
    ] {
        let body = format!("{{\"prompt\":{prompt}}}");
        let head = peek(Completions, body.as_bytes());
        assert_eq!(
            (head.prompts, head.prompt_bytes),
            (prompts, bytes),
            "{prompt}"
        );
    }
}

#[test]
fn usage_in_every_chunk_is_a_wish_of_its_own() {
    for (options, last, continuous) in [
        (
            r#"{"include_usage":true,"continuous_usage_stats":true}"#,
            true,
            true,
        ),
        (r#"{"continuous_usage_stats":"yes"}"#, false, true),
        (
            r#"{"include_usage":1,"continuous_usage_stats":false}"#,
            true,
            false,
        ),
        (
            r#"{"continuous_usage_stats":true,"continuous_usage_stats":null}"#,
            false,
            false,
        ),
        ("true", false, false),
    ] {
        let head = chat(&format!("{{\"stream\":true,\"stream_options\":{options}}}"));
        let wishes = (head.usage.last, head.usage.continuous);
        assert_eq!(wishes, (last, continuous), "{options}");
    }
}

#[test]
fn a_stream_is_asked_for_in_many_words() {
    for yes in ["true", "1", "1.0", "\"true\"", "\"Yes\"", "\"on\"", "\"1\""] {
        assert!(chat(&format!("{{\"stream\":{yes}}}")).stream, "{yes}");
    }
    for no in [
        "false",
        "0",
        "null",
        "\"false\"",
        "\"\"",
        "2",
        "{}",
        "[true]",
        "\"truely\"",
    ] {
        assert!(!chat(&format!("{{\"stream\":{no}}}")).stream, "{no}");
    }
    assert!(peek(GenerateStream, b"{}").stream, "the path alone says so");
}

#[test]
fn who_asks_for_usage_will_see_it() {
    for (options, asked) in [
        (r#"{"include_usage":true}"#, true),
        (r#"{"include_usage":"true"}"#, true),
        (r"{}", false),
        (r#"{"continuous_usage_stats":true}"#, false),
        (r#"{"include_usage":false}"#, false),
        (r#"{"include_usage":null}"#, false),
        (r#"{"include_usage":"maybe"}"#, false),
        ("null", false),
        ("[true]", false),
    ] {
        let head = chat(&format!(r#"{{"stream":true,"stream_options":{options}}}"#));
        assert_eq!(head.usage.last, asked, "{options}");
    }
    assert!(!chat(r#"{"stream":true}"#).usage.last);
    let twice = r#"{"stream_options":{"include_usage":true},"stream_options":null}"#;
    assert!(!chat(twice).usage.last);
}

#[test]
fn only_the_responses_api_has_state() {
    for (member, stateful) in [
        (r#""store":true"#, true),
        (r#""background":true"#, true),
        (r#""previous_response_id":"resp_1""#, true),
        (r#""conversation":{"id":"conv_1"}"#, true),
        (r#""store":false"#, false),
        (r#""previous_response_id":null"#, false),
        (r#""input":"store""#, false),
    ] {
        let body = format!("{{{member}}}");
        assert_eq!(
            peek(Responses, body.as_bytes()).stateful,
            stateful,
            "{member}"
        );
        assert!(!peek(ChatCompletions, body.as_bytes()).stateful);
    }
}

#[test]
fn the_prompt_is_measured_as_text() {
    for (endpoint, body, bytes) in [
        (
            ChatCompletions,
            r#"{"model":"long name","messages":[{"role":"user","content":"a\n\u00e9"}]}"#,
            7 + 4,
        ),
        (
            Completions,
            r#"{"prompt":["ab","c"],"suffix":"d","user":"not this"}"#,
            4,
        ),
        (Completions, r#"{"prompt":[[1,22],[333]]}"#, 12),
        (Messages, r#"{"system":"ab","messages":[]}"#, 2),
        (
            ChatCompletions,
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#,
            7,
        ),
        (
            Messages,
            r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"AAAA"}}]}]}"#,
            7,
        ),
        (Responses, r#"{"instructions":"ab","input":"cd"}"#, 4),
    ] {
        assert_eq!(
            peek(endpoint, body.as_bytes()).prompt_bytes,
            bytes,
            "{body}"
        );
    }
}

#[test]
fn a_model_name_that_is_too_long_is_cut_between_characters() {
    let model = |name: &str| chat(&format!(r#"{{"model":"{name}"}}"#)).model.unwrap();
    assert_eq!(model(&"m".repeat(256)), "m".repeat(256));
    assert_eq!(model(&"m".repeat(257)), "m".repeat(256));
    assert_eq!(model(&"m".repeat(100_000)), "m".repeat(256));
    for character in ["é", "語", "🦙"] {
        for before in 250..=256 {
            let whole = (256 - before) / character.len();
            let start = "m".repeat(before);
            let expected = start.clone() + &character.repeat(whole);
            assert_eq!(model(&(start + &character.repeat(7))), expected);
        }
    }
    // Escapes take another way through the scanner.
    let escaped = "m".repeat(255) + r"\u8a9e\ud83e\udd99";
    assert_eq!(model(&escaped), "m".repeat(255));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        model in ".{0,40}",
        stream in any::<bool>(),
        text in ".{0,60}",
        n in 1..100_u64,
        ascii in any::<bool>(),
    ) {
        let body = json!({"messages": [text], "a": {"model": text}, "model": model, "n": n, "stream": stream});
        let mut body = body.to_string();
        if ascii {
            // As Python writes it.
            let escape = |c: char| -> String {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            body = body.chars().map(|c| if c.is_ascii() { c.to_string() } else { escape(c) }).collect();
        }
        let head = chat(&body);
        prop_assert_eq!(head.model, Some(model));
        prop_assert_eq!((head.stream, head.choices), (stream, n));
        prop_assert_eq!(head.prompt_bytes, text.len() as u64);
    }

    #[test]
    fn garbage_is_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let head = peek(Responses, &body);
        prop_assert!(head.prompt_bytes <= 4 * body.len() as u64);
    }
}

#[test]
fn the_longest_answer_is_read_as_engines_read_it() {
    for (body, expected) in [
        (r#"{"max_tokens":20}"#, Some(20)),
        (r#"{"max_completion_tokens":30,"max_tokens":20}"#, Some(30)),
        (r#"{"max_tokens":"20"}"#, Some(20)),
        (r#"{"max_tokens":20.0}"#, Some(20)),
        (r#"{"max_tokens":null}"#, None),
        (r#"{"max_tokens":null,"max_completion_tokens":7}"#, Some(7)),
        (r#"{"max_tokens":-1}"#, None),
        (r#"{"max_tokens":20.5}"#, None),
        (r#"{"max_tokens":1e3}"#, None),
        (r#"{"max_tokens":20,"max_tokens":-1}"#, None),
        (r#"{"max_tokens":20,"max_tokens":null}"#, None),
        (r#"{"max_tokens":{}}"#, None),
        (r#"{"max_tokens":99999999999999999999}"#, None),
        (r#"{"messages":[{"max_tokens":20}]}"#, None),
        (r#"{"parameters":{"max_new_tokens":40}}"#, Some(40)),
        (r#"{"sampling_params":{"max_new_tokens":50}}"#, Some(50)),
        (r#"{"max_output_tokens":60}"#, Some(60)),
    ] {
        assert_eq!(chat(body).max_completion, expected, "{body}");
    }
}

#[test]
fn answers_that_are_thrown_away_are_candidates_too() {
    let head = chat(r#"{"n":2,"best_of":5}"#);
    assert_eq!((head.choices, head.candidates), (2, 5));
}

#[test]
fn what_cannot_be_read_is_not_sound() {
    assert!(chat(r#"{"n":2,"max_tokens":5}"#).sound);
    assert!(chat(r#"{"n":null,"max_tokens":-1}"#).sound);
    let utf16: Vec<u8> = r#"{"n":100}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(!peek(ChatCompletions, &utf16).sound);
    for body in [
        r#"{"n":1e2}"#,
        r#"{"n":"1_00"}"#,
        r#"{"n":"+100"}"#,
        r#"{"best_of":" 100"}"#,
        r#"{"max_tokens":1e4}"#,
        r#"{"max_tokens":"+10000"}"#,
        r#"[{"n":1}]"#,
        r#"{"n":1"#,
    ] {
        assert!(!chat(body).sound, "{body}");
    }
}
