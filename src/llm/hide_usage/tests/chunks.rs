//! Usage in every chunk, asked for by the gateway and not by the client.

use super::*;
use crate::llm::peek::UsageWish;

pub(super) const NOTHING: UsageWish = UsageWish {
    last: false,
    continuous: false,
};
const LAST: UsageWish = UsageWish {
    last: true,
    continuous: false,
};
const ALL: UsageWish = UsageWish {
    last: true,
    continuous: true,
};

/// What a client with this wish sees of `chunks` when the gateway asked for that.
fn answer<'a>(asked: Asked, wish: UsageWish, chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let head = RequestHead {
        usage: wish,
        ..RequestHead::default()
    };
    let mut hide = HideUsage::of(asked, &head);
    let mut out = Vec::new();
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        match &mut hide {
            Some(hide) => hide.push(chunk, &mut out),
            None => out.push(chunk),
        }
    }
    out.extend(hide.and_then(|mut hide| hide.finish()));
    String::from_utf8_lossy(&out.concat()).into_owned()
}

/// The same, which must not depend on how the stream is cut.
pub(super) fn answered(asked: Asked, wish: UsageWish, text: &str) -> String {
    let whole = answer(asked, wish, [text.as_bytes()]);
    let bytes = answer(asked, wish, text.as_bytes().chunks(1));
    assert_eq!(bytes, whole, "byte by byte");
    for at in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(at);
        assert_eq!(answer(asked, wish, [head, tail]), whole, "cut at {at}");
    }
    whole
}

/// What a client with this wish sees when the gateway asked for everything.
fn shown<'a>(wish: UsageWish, chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    answer(Asked::Continuous, wish, chunks)
}

/// The same, however the stream is cut.
pub(super) fn seen(wish: UsageWish, text: &str) -> String {
    answered(Asked::Continuous, wish, text)
}

/// How an engine writes the usage of a chunk: with everything asked for, and with nothing.
#[derive(Clone, Copy)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    /// What follows the choices, `N` being the tokens so far.
    continuous: &'static str,
    without: &'static str,
    /// What a chunk's choice says besides.
    choice: &'static str,
}

pub(super) const ENGINES: [Engine; 4] = [
    // vLLM 0.32 leaves out what is not set, in chats and in completions.
    Engine {
        name: "vllm",
        continuous: r#","usage":{"prompt_tokens":12,"total_tokens":1N,"completion_tokens":N}"#,
        without: "",
        choice: r#""delta":{"content":"T"},"logprobs":null"#,
    },
    // Chats of it set this one to null themselves.
    Engine {
        name: "vllm's chats",
        continuous: r#","usage":{"prompt_tokens":12,"total_tokens":1N,"completion_tokens":N,"completion_tokens_details":null}"#,
        without: "",
        choice: r#""delta":{"content":"T"},"logprobs":null"#,
    },
    // Its completions used to be written with everything that is not set, as SGLang's are.
    Engine {
        name: "older vllm",
        continuous: r#","usage":{"prompt_tokens":12,"total_tokens":1N,"completion_tokens":N,"prompt_tokens_details":null}"#,
        without: r#","usage":null"#,
        choice: r#""text":"T","logprobs":null,"stop_reason":null"#,
    },
    Engine {
        name: "sglang",
        continuous: r#","usage":{"prompt_tokens":12,"total_tokens":1N,"completion_tokens":N,"prompt_tokens_details":null,"reasoning_tokens":0}"#,
        without: r#","usage":null"#,
        choice: r#""delta":{"role":null,"content":"T","reasoning_content":null,"tool_calls":null},"matched_stop":null"#,
    },
];

impl Engine {
    /// The stream: chunks, the last choice's end, the extra chunk, `[DONE]`.
    pub(super) fn stream(self, continuous: bool, last: bool) -> String {
        let usage = |n: usize| {
            let text = if continuous {
                self.continuous
            } else {
                self.without
            };
            text.replace('N', &n.to_string())
        };
        let chunk = |n: usize, text: &str, finish: &str| {
            let choice = self.choice.replace('T', text);
            format!(
                "data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,{choice},\"finish_reason\":{finish}}}]{}}}\n\n",
                usage(n)
            )
        };
        let texts = [
            "Hi",
            "usage",
            r#"\"usage\":{\"prompt_tokens\":1}"#,
            "é",
            ",",
        ];
        let mut stream: String = (0..)
            .zip(texts)
            .map(|(n, text)| chunk(n, text, "null"))
            .collect();
        stream += &chunk(5, "", "\"stop\"");
        if last {
            stream += "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":17,\"completion_tokens\":5}}\n\n";
        }
        stream + DONE
    }
}

#[test]
fn a_client_sees_what_it_would_have_seen_had_nobody_asked_for_more() {
    for engine in ENGINES {
        let all = engine.stream(true, true);
        for (wish, direct) in [
            (NOTHING, engine.stream(false, false)),
            (LAST, engine.stream(false, true)),
            (ALL, all.clone()),
        ] {
            assert_eq!(seen(wish, &all), direct, "{} {wish:?}", engine.name);
            let wide = all.replace('\n', "\r\n");
            let direct = direct.replace('\n', "\r\n");
            assert_eq!(seen(wish, &wide), direct, "{} {wish:?}", engine.name);
        }
    }
}

#[test]
fn the_member_goes_wherever_it_stands() {
    for (with, without) in [
        (
            r#"{"usage":{"a":[{}]},"choices":[{}]}"#,
            r#"{"choices":[{}]}"#,
        ),
        (
            r#"{ "usage" : { "a" : 1 } , "choices" : [ 1 ] }"#,
            r#"{  "choices" : [ 1 ] }"#,
        ),
        (
            r#"{"choices":[{"usage":{"a":1}}] , "\u0075sage": {} ,"x":"}"}"#,
            r#"{"choices":[{"usage":{"a":1}}]  ,"x":"}"}"#,
        ),
        (
            r#"{"choices":[{}],"usage":{"prompt_tokens_details" : null},"x":1}"#,
            r#"{"choices":[{}],"usage":null,"x":1}"#,
        ),
    ] {
        let text =
            format!("event: e\ndata: {with}\nid: 7\n\n: c\n\ndata:{with}\n\ndata: {with}\n\n");
        let direct = format!(
            "event: e\ndata: {without}\nid: 7\n\n: c\n\ndata:{without}\n\ndata: {without}\n\n"
        );
        for wish in [NOTHING, LAST] {
            assert_eq!(seen(wish, &text), direct, "{wish:?}");
        }
    }
}

#[test]
fn a_member_over_several_lines_leaves_their_beginnings() {
    let text =
        "data: {\"choices\":[{}],\ndata: \"usage\":{\"a\":1,\ndata: \"b\":2},\ndata: \"x\":1}\n\n";
    let direct = "data: {\"choices\":[{}]\ndata: \ndata: ,\ndata: \"x\":1}\n\n";
    assert_eq!(seen(NOTHING, text), direct);
    let wide = text.replace('\n', "\r\n");
    assert_eq!(seen(NOTHING, &wide), direct.replace('\n', "\r\n"));
}

#[test]
fn what_is_no_usage_of_a_chunk_stays() {
    for event in [
        r#"{"choices":[{}],"usage":null}"#,
        r#"{"choices":[{}],"usage":[1]}"#,
        r#"{"choices":[{}],"usage":{"a":1},"error":{"message":"x"}}"#,
        r#"{"choices":[{}],"usage":{"a":1}"#,
        r#"{"usage":{"a":1}}"#,
        r#"{"choices":[{"delta":{"content":"usage"}}]}"#,
        r#"{"type":"message_start","message":{"usage":{"a":1}}}"#,
    ] {
        let text = format!("data: {event}\n\n{DONE}");
        for wish in [NOTHING, LAST] {
            assert_eq!(seen(wish, &text), text);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_loses_nothing_but_usage() {
    let engine = ENGINES[0];
    let (all, direct) = (engine.stream(true, true), engine.stream(false, false));
    for at in 0..all.len() {
        let rest = shown(NOTHING, [&all.as_bytes()[..at]]);
        // What has not ended could not be read yet.
        let whole = rest.rfind("\n\n").map_or(0, |at| at + 2);
        assert!(direct.starts_with(&rest[..whole]), "cut at {at}: {rest}");
    }
}

#[test]
fn chunks_share_the_streams_memory() {
    let chunk = Bytes::from(ENGINES[0].stream(true, true));
    let mut out = Vec::new();
    HideUsage::new(false, Some(Knife::new(false))).push(chunk.clone(), &mut out);
    let within = chunk.as_ptr_range();
    assert!(out.iter().all(|part| within.contains(&part.as_ptr())));
}

#[test]
fn long_chunks_are_cut_too() {
    let tokens = "1,".repeat(200_000);
    let event = |usage: &str| {
        format!("data: {{\"choices\":[{{\"token_ids\":[{tokens}1]}}]{usage}}}\n\n{DONE}")
    };
    let text = event(r#","usage":{"prompt_tokens":1}"#);
    assert_eq!(shown(NOTHING, text.as_bytes().chunks(16_384)), event(""));
}

#[test]
fn nobody_hides_what_nobody_asked_for() {
    let head = RequestHead::default();
    assert!(HideUsage::of(Asked::Nothing, &head).is_none());
    let asks = |usage| RequestHead {
        usage,
        ..RequestHead::default()
    };
    assert!(HideUsage::of(Asked::Final, &asks(LAST)).is_none());
    assert!(HideUsage::of(Asked::Continuous, &asks(LAST)).is_some());
    assert!(HideUsage::of(Asked::Continuous, &asks(ALL)).is_none());
    let text = ENGINES[0].stream(true, true);
    let mut hide = HideUsage::of(Asked::Final, &head).unwrap();
    let mut out = Vec::new();
    hide.push(Bytes::from(text), &mut out);
    out.extend(hide.finish());
    let shown = String::from_utf8(out.concat()).unwrap();
    assert_eq!(
        shown,
        ENGINES[0].stream(true, false),
        "the engine's own idea stays"
    );
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        engine in 0..ENGINES.len(),
        wish in select(vec![NOTHING, LAST, ALL]),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let text = ENGINES[engine].stream(true, true);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]);
        prop_assert_eq!(shown(wish, chunks), shown(wish, [text.as_bytes()]));
    }

    #[test]
    fn garbage_passes_the_knife(pieces in vec(vec(any::<u8>(), 0..60), 0..12)) {
        let mut hide = HideUsage::new(true, Some(Knife::new(false)));
        let mut out = Vec::new();
        for piece in &pieces {
            hide.push(Bytes::copy_from_slice(piece), &mut out);
        }
        out.extend(hide.finish());
        prop_assert_eq!(out.concat(), pieces.concat());
    }

    #[test]
    fn broken_chunks_are_survived(
        tokens in vec(select(vec![
            "{", "}", "[", "]", "\"", "\\", ":", ",", "null", "7", "data: ", "\n", "\n\n", "\r\n",
            "\"usage\":{}", "\"usage\"", "\"choices\":[{}]", "\"choices\"", "data: {\"choices\":[1],\"usage\":{",
        ]), 0..60),
        size in 1..40_usize,
    ) {
        let text = tokens.concat();
        let whole = shown(NOTHING, [text.as_bytes()]);
        prop_assert_eq!(shown(NOTHING, text.as_bytes().chunks(size)), whole);
    }
}
