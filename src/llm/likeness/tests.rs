use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn chat(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The likeness that has learned `event`.
fn learned(event: &str) -> Likeness {
    let mut likeness = Likeness::new();
    assert!(likeness.learn(event.as_bytes()).is_some(), "{event}");
    likeness
}

fn alike(len: usize, content: u64, reasoning: u64) -> Option<Alike> {
    Some(Alike {
        len,
        content,
        reasoning,
    })
}

#[test]
fn only_the_text_may_differ() {
    let mut likeness = learned(&chat("Hello"));
    for (text, bytes) in [
        ("", 0),
        (" wor", 4),
        ("a\\n\\\"\\\\", 4),
        ("é", 2),
        ("fifteen letters", 15),
        ("sixteen letters!", 16),
        ("more than sixteen\\tletters", 25),
    ] {
        let event = chat(text);
        let found = likeness.find((event.clone() + "data: x").as_bytes());
        assert_eq!(found, alike(event.len(), bytes, 0), "{text}");
        for cut in 0..event.len() {
            let found = likeness.find(&event.as_bytes()[..cut]);
            assert_eq!(found, None, "{text} cut at {cut}");
        }
    }
    for text in ["\\u00e9", "\\x", "a\nb", "a\",\"b\":\"", "\\", "\\\n"] {
        assert_eq!(likeness.find(chat(text).as_bytes()), None, "{text}");
    }
    for other in [
        chat("a").replace("null", "\"stop\""),
        chat("a").replace("\"c\"", "\"d\""),
        chat("a").replace('\n', "\r\n"),
        chat("a").replace("data: ", "data:"),
        "data: [DONE]\n\n".to_owned(),
    ] {
        assert_eq!(likeness.find(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn reasoning_and_what_stands_beside_it_count() {
    let event = |content: &str, reasoning: &str| {
        chat("@").replace(
            "\"@\"",
            &format!("\"{content}\",\"reasoning\":\"{reasoning}\""),
        )
    };
    let mut likeness = learned(&event("ab", "cde"));
    let next = event("ab", "f");
    assert_eq!(likeness.find(next.as_bytes()), alike(next.len(), 3, 1));
    assert_eq!(likeness.find(event("a", "cde").as_bytes()), None);
    let mut likeness = learned(&event("abcd", "e"));
    let next = event("", "e");
    assert_eq!(likeness.find(next.as_bytes()), alike(next.len(), 1, 1));
}

#[test]
fn what_says_more_is_not_learned() {
    for event in [
        chat("a").replace("null", "\"stop\""),
        chat("a").replace("\"c\"", "\"c\",\"usage\":{\"prompt_tokens\":1}"),
        chat("a").replace("\"c\"", "\"c\",\"error\":\"x\""),
        chat("a").replace("]}", "]"),
        chat("\\u00e9"),
        chat(&"a".repeat(LONGEST)),
        "data: {\"type\":\"message_stop\",\"delta\":{\"text\":\"a\"}}\n\n".to_owned(),
        "data: {\"delta\":{\"text\":\"a\"}}\n\u{C}\n\n".to_owned(),
        "data: {\"choices\":[]}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
        chat("a") + "\n",
        chat("a").trim_end().to_owned(),
    ] {
        let mut likeness = Likeness::new();
        assert_eq!(likeness.learn(event.as_bytes()), None, "{event}");
        assert_eq!(likeness.find(event.as_bytes()), None, "{event}");
    }
}

#[test]
fn learning_is_paid_for_by_what_it_saved() {
    let mut likeness = Likeness::new();
    let event = chat("a");
    for _ in 0..SAVINGS / PRICE {
        assert!(likeness.learn(event.as_bytes()).is_some());
    }
    assert!(likeness.learn(event.as_bytes()).is_none());
    for _ in 0..PRICE {
        assert!(likeness.find(event.as_bytes()).is_some());
    }
    assert!(likeness.learn(event.as_bytes()).is_some());
    assert!(likeness.learn(event.as_bytes()).is_none());
}

#[test]
fn places_behind_the_text_move_with_it() {
    let event = |text: &str| {
        format!("data: {{\"model\":\"m\",\"delta\":{{\"text\":\"{text}\"}},\"x\":1}}\n\n")
    };
    let mut likeness = learned(&event("a"));
    let next = event("longer");
    let found = likeness.find(next.as_bytes()).unwrap();
    let place = |what: &str| {
        let at = event("a").find(what).unwrap();
        &next[likeness.place(&(at..at + what.len()), found)]
    };
    assert_eq!(place("\"m\""), "\"m\"");
    assert_eq!(place("\"x\":1"), "\"x\":1");
}

/// Streams of events that are alike more often than not, and the places where they are cut.
pub(in crate::llm) fn streams() -> impl Strategy<Value = (String, Vec<usize>)> {
    let template = select(vec![
        r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#,
        r#"data: {"choices":[{"delta":{"content":"@"},"finish_reason":null}],"model":"m","usage":null}"#,
        r#"data: {"model":"team/coder","choices":[{"delta":{"content":"","reasoning":"@"}}]}"#,
        r#"data:{"model" : "m", "choices":[{"delta":{"content":"@"}}],"model":"@"}"#,
        r#"data: {"type":"content_block_delta","message":{"model":"m"},"delta":{"text":"@"}}"#,
    ]);
    let other = select(vec![
        r#"data: {"model":"m","choices":[{"delta":{"content":"@"},"finish_reason":"stop"}]}"#,
        r#"data: {"model":"m","choices":[{"delta":{"content":"@"}}],"usage":{"prompt_tokens":1}}"#,
        r#"data: {"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        r#"data: {"error":{"message":"@"}}"#,
        "data: [DONE]",
        ": @",
        "event: error",
        "data: @",
        "",
    ]);
    let text = prop_oneof![
        4 => select(vec!["Hello", " a", "", "\\n", "\\\"model\\\"", "error", "model", "\\u00e9", "é"]),
        1 => select(vec!["\",\"model\":\"x", "\n", "\\", "\"}"]),
    ];
    let end = prop_oneof![8 => Just("\n\n"), 1 => select(vec!["\n", "\r\n\r\n", "\nid: 1\n\n"])];
    (template, end).prop_flat_map(move |(template, end)| {
        let line = prop_oneof![6 => Just(template), 1 => other.clone()];
        let event = (
            line,
            text.clone(),
            prop_oneof![12 => Just(end), 1 => Just("\n")],
        )
            .prop_map(|(line, text, end)| line.replace('@', text) + end);
        let cuts = vec(any::<usize>(), 0..6);
        (vec(event, 0..12).prop_map(|events| events.concat()), cuts)
    })
}

/// `text` cut at `cuts`.
pub(in crate::llm) fn chunks<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &text.as_bytes()[pair[0]..pair[1]])
        .collect()
}

/// What the document in `event` says.
fn facts(event: &str) -> (u64, u64) {
    let whole = sse::whole(event.as_bytes()).unwrap();
    let mut document = Document::new();
    document.push(whole.data);
    assert!(document.only_text().is_some());
    (document.facts().content, document.facts().reasoning)
}

proptest! {
    #[test]
    fn what_is_found_is_what_a_reader_reads(
        before in select(vec!["data: ", "data:", "event: x\r\ndata: "]),
        template in select(vec![
            r#"{"choices":[{"delta":{"content":"@","b":"c"}}]}"#,
            r#"{"choices":[{"delta":{"content":"ab","reasoning_content":"@"}}],"usage":null}"#,
            r#"{"choices":[{"delta":{"reasoning":"ab","content":"@"}},{"delta":{"content":"@"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"@"}}]}}],"model":"@"}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"@"}}"#,
            r#"{"type":"response.output_text.delta","sequence_number":7,"delta":"@"}"#,
            r#"{"choices":[{"text":"@"}], "id" : "@" }"#,
        ]),
        texts in vec(prop_oneof![
            ".{0,20}",
            select(vec!["\n", "\"", "\\", "\"\\\n\"", "model", "\",\"usage\":{"])
                .prop_map(str::to_owned),
        ], 2..4),
    ) {
        let event = |text: &String| {
            let text = serde_json::to_string(text).unwrap();
            format!("{before}{}\n\n", template.replacen("\"@\"", &text, 1))
        };
        let mut likeness = Likeness::new();
        for text in &texts {
            let event = event(text);
            if let Some(alike) = likeness.find(event.as_bytes()) {
                prop_assert_eq!(alike.len, event.len());
                prop_assert_eq!((alike.content, alike.reasoning), facts(&event));
            }
            likeness.learn(event.as_bytes());
        }
    }

    #[test]
    fn garbage_is_like_nothing(bytes in vec(any::<u8>(), 0..80), text in vec(any::<u8>(), 0..40)) {
        let mut likeness = learned(&chat("a"));
        prop_assert_eq!(likeness.find(&bytes), None);
        let event = [&b"data: {\"delta\":{\"text\":\""[..], &text, &bytes, b"\"}}\n\n"].concat();
        let mut likeness = Likeness::new();
        if let Some(data) = likeness.learn(&event) {
            prop_assert!(data.end <= event.len());
            prop_assert!(likeness.find(&event).is_some());
        }
    }
}
