//! What engines make of a wish for usage: some need two for it, some hear none.

use super::chunks::{ENGINES, NOTHING, answered, seen};
use super::*;
use crate::llm::peek::UsageWish;

const ASKED: [Asked; 3] = [Asked::Nothing, Asked::Final, Asked::Continuous];

/// Every wish a client can have.
fn wishes() -> impl Iterator<Item = UsageWish> {
    [false, true].into_iter().flat_map(|last| {
        [false, true]
            .into_iter()
            .map(move |continuous| UsageWish { last, continuous })
    })
}

#[test]
fn whatever_both_ask_for_the_client_sees_what_it_would_have_got_alone() {
    for (engine, asked) in ENGINES
        .into_iter()
        .flat_map(|engine| ASKED.map(|asked| (engine, asked)))
    {
        // vLLM takes the wish for every chunk only together with the other one.
        let answer = |wish: UsageWish| {
            let granted = wish.continuous && (wish.last || engine.name == "sglang");
            engine.stream(granted, wish.last)
        };
        for wish in wishes() {
            let sent = UsageWish {
                last: wish.last || asked != Asked::Nothing,
                continuous: wish.continuous || asked == Asked::Continuous,
            };
            assert_eq!(
                answered(asked, wish, &answer(sent)),
                answer(wish),
                "{} {asked:?} {wish:?}",
                engine.name
            );
        }
    }
}

const LLAMA_CPP: &str = r#"data: {"choices":[{"text":"Hi","index":0,"logprobs":null,"finish_reason":null}],"created":1,"model":"tiny","system_fingerprint":"b1","object":"text_completion","id":"chatcmpl-x"}

data: {"choices":[{"text":" \"usage\"","index":0,"logprobs":null,"finish_reason":null}],"created":1,"model":"tiny","system_fingerprint":"b1","object":"text_completion","id":"chatcmpl-x"}

data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"created":1,"model":"tiny","system_fingerprint":"b1","object":"text_completion","usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11},"id":"chatcmpl-x","timings":{"cache_n":0,"prompt_n":9,"prompt_ms":1.5,"predicted_n":2}}

data: [DONE]

"#;

const TGI: &str = r#"data: {"object":"text_completion","id":"","created":1,"model":"m","system_fingerprint":"3.1.2","choices":[{"text":" a","index":0,"logprobs":null,"finish_reason":""}]}

data: {"object":"text_completion","id":"","created":1,"model":"m","system_fingerprint":"3.1.2","choices":[{"text":" b","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}

data: {"object":"text_completion","id":"","created":1,"model":"m","system_fingerprint":"3.1.2","choices":[{"text":" c","index":1,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":6,"completion_tokens":1,"total_tokens":7}}

data: [DONE]

"#;

#[test]
fn usage_an_engine_writes_unasked_stays_where_a_choice_ends() {
    for text in [LLAMA_CPP, TGI] {
        let wide = text.replace('\n', "\r\n");
        let folded = text.replace(",\"usage\"", ",\ndata: \"usage\"");
        let done = text.rfind("data: [DONE]").unwrap();
        let unfinished = text[..done].trim_end();
        for (asked, wish) in ASKED
            .into_iter()
            .flat_map(|asked| wishes().map(move |wish| (asked, wish)))
        {
            for text in [text, wide.as_str(), folded.as_str(), unfinished] {
                assert_eq!(answered(asked, wish, text), text, "{asked:?} {wish:?}");
            }
        }
    }
}

/// A chunk of a completion that ends its choice, if `finish` is a word.
fn chunk(index: u64, finish: &str, usage: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":{index},\"text\":\"a\",\"finish_reason\":{finish}}}]{usage}}}\n\n"
    )
}

#[test]
fn an_answer_of_one_token_shows_no_usage_either() {
    // `"max_tokens":1`: the first chunk of each choice is its last.
    let stream = |usage: &str, extra: &str| {
        chunk(0, "\"length\"", usage) + &chunk(1, "\"length\"", usage) + extra + DONE
    };
    let usage = r#","usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}"#;
    assert_eq!(seen(NOTHING, &stream(usage, USAGE)), {
        // What belongs to the whole moves to the chunk before.
        let last = chunk(1, "\"length\"", ",\"id\":\"c\"");
        chunk(0, "\"length\"", "") + &last + DONE
    });
}

#[test]
fn one_chunk_without_usage_does_not_make_an_engine_deaf() {
    // SGLang's chats open with a role and no usage.
    let usage = r#","usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1,"prompt_tokens_details":null,"reasoning_tokens":0}"#;
    let null = r#","usage":null"#;
    let stream = |usage: &str| {
        [
            chunk(0, "null", null),
            "data: {\"choices\":[]}\n\n: ping\n\n".into(),
            chunk(0, "null", usage),
            chunk(0, "null", null),
            chunk(0, "\"stop\"", usage),
            DONE.into(),
        ]
        .concat()
    };
    assert_eq!(seen(NOTHING, &stream(usage)), stream(null));
}
