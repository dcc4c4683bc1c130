//! What must hold for every stream.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    select(&Endpoint::ALL[..])
}

/// Lines that any stream may have, some of them broken.
const ANY: [&str; 11] = [
    "data: [DONE]",
    ": ping",
    "event: error",
    "event: x",
    "id: 3",
    "data",
    "",
    "",
    "data: {",
    r#"data: {"error":{"message":"x","code":500}}"#,
    "data: {}",
];

const CHAT: [&str; 5] = [
    r#"data: {"choices":[{"index":0,"delta":{"content":"a\"b"},"finish_reason":null}]}"#,
    r#"data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"stop"}],"usage":null}"#,
    r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    r#"data:{"choices":[{"index":2,"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    r#"data: {"choices":[{"index":0,"delta" : {"content" :"abc"}}]}"#,
];

const MESSAGES: [&str; 4] = [
    r#"data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":9}}}"#,
    r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a\u00e9"}}"#,
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
    r#"data: {"type":"message_stop"}"#,
];

const TGI: [&str; 3] = [
    r#"data:{"index":1,"token":{"text":"a"},"generated_text":null,"details":null}"#,
    r#"data:{"token":{"text":"b"},"generated_text":"ab","details":{"generated_tokens":2,"input_length":5}}"#,
    r#"data: {"text":"ab","meta_info":{"prompt_tokens":3,"completion_tokens":2}}"#,
];

/// A stream of an endpoint, in any order.
fn any_stream() -> impl Strategy<Value = (Endpoint, String)> {
    let dialects: [(Endpoint, &[&str]); 3] = [
        (ChatCompletions, &CHAT),
        (Messages, &MESSAGES),
        (GenerateStream, &TGI),
    ];
    select(dialects.to_vec()).prop_flat_map(|(endpoint, own)| {
        let text = select([own, &ANY].concat());
        let end = select(vec!["\n", "\n\n", "\n\n", "\r\n", "\r\n\r\n"]);
        let line = (text, end).prop_map(|(text, end)| format!("{text}{end}"));
        vec(line, 0..12).prop_map(move |lines| (endpoint, lines.concat()))
    })
}

/// Cuts `bytes` at the given places.
fn chunks<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(0);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #[test]
    fn chunks_do_not_matter(
        (endpoint, text) in any_stream(),
        cuts in vec(any::<usize>(), 0..8),
    ) {
        let whole = read(endpoint, BodyFormat::EventStream, [text.as_bytes()]);
        let cut = read(endpoint, BodyFormat::EventStream, chunks(text.as_bytes(), &cuts));
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn what_is_alike_is_read_as_every_byte_is(
        // What another dialect says in its own way is no event of theirs.
        endpoint in select(vec![ChatCompletions, Generate]),
        (text, cuts) in crate::llm::likeness::tests::streams(),
    ) {
        let bytes = read(endpoint, BodyFormat::EventStream, text.as_bytes().chunks(1));
        let cut = read(endpoint, BodyFormat::EventStream, chunks(text.as_bytes(), &cuts));
        prop_assert_eq!(&cut, &bytes);
        prop_assert_eq!(&read(endpoint, BodyFormat::EventStream, [text.as_bytes()]), &bytes);
    }

    #[test]
    fn garbage_is_survived(
        endpoint in any_endpoint(),
        json in any::<bool>(),
        pieces in vec(vec(any::<u8>(), 0..40), 0..20),
    ) {
        let format = if json { BodyFormat::Json } else { BodyFormat::EventStream };
        let mut tee = Tee::new(endpoint, format);
        for piece in &pieces {
            tee.observe(piece);
            prop_assert!(tee.summary().events <= 800);
        }
    }

    #[test]
    fn broken_json_is_survived(
        endpoint in any_endpoint(),
        json in any::<bool>(),
        tokens in vec(select(vec![
            "{", "}", "[", "]", "\"", "\\", "\\u12", ":", ",", "null", "-1", "7", "data: ", "\n",
            "\n\n", "\"usage\"", "\"prompt_tokens\"", "\"choices\"", "\"delta\"", "\"error\"", "\"meta_info\"",
        ]), 0..60),
        cuts in vec(any::<usize>(), 0..4),
    ) {
        let format = if json { BodyFormat::Json } else { BodyFormat::EventStream };
        let text = tokens.concat();
        read(endpoint, format, chunks(text.as_bytes(), &cuts));
    }

    #[test]
    fn any_json_body_can_be_cut_anywhere(
        text in ".{0,40}",
        prompt in 0..1_u64 << 48,
        cuts in vec(any::<usize>(), 0..8),
    ) {
        let json = serde_json::json!({
            "model": text, text.clone(): [text, {"usage": {}}], "text": text,
            "usage": {"prompt_tokens": prompt, text.clone(): 3, "completion_tokens": 1},
        }).to_string();
        let whole = read(Generate, BodyFormat::Json, [json.as_bytes()]);
        prop_assert_eq!(read(Generate, BodyFormat::Json, chunks(json.as_bytes(), &cuts)), whole.clone());
        prop_assert_eq!(bill(&whole), Some(([prompt, 1, 0, 0], Final)));
        prop_assert_eq!(whole.content_bytes, text.len() as u64);
        let model = (!text.is_empty()).then_some(text);
        prop_assert_eq!(whole.model, model);
    }
}
