//! Requests, events and answers as clients and engines write them.

use std::fmt::Write;

use bytes::Bytes;

/// What clients call the model.
pub(super) const ALIAS: &str = "team/coder";
/// What the engine calls it.
pub(super) const MODEL: &str = "Qwen/Qwen3-Coder-30B-A3B-Instruct";

const SENTENCES: [&str; 4] = [
    r"The scheduler keeps a queue per tenant and a clock per worker. ",
    r"Why is `take()` called twice here?\n\n    let next = queue.take();\n",
    r#"She wrote: \"It worked on Friday, and nobody touched it since.\" "#,
    r"Größe und Maß der Fläche: 40 m² – naïve façade, 東京. ",
];

/// Returns a streamed chat request of exactly `size` bytes, with the model at its end.
pub(super) fn request(size: usize) -> Bytes {
    const HEAD: &str = r#"{"messages":[{"role":"system","content":"You are helpful."}"#;
    let tail = format!(
        r#"],"stream":true,"max_tokens":512,"temperature":0.2,"user":"u-17","model":"{ALIAS}"}}"#
    );
    let mut body = String::from(HEAD);
    let end = size.saturating_sub(tail.len());
    let mut sentences = SENTENCES.iter().cycle();
    for role in ["user", "assistant"].into_iter().cycle() {
        let before = format!(r#",{{"role":"{role}","content":""#);
        let room = (end - body.len()).saturating_sub(before.len() + r#""}"#.len());
        if room < 100 {
            break;
        }
        body.push_str(&before);
        let full = body.len() + room.min(1500);
        let mut sentence = sentences.next().unwrap_or(&"");
        while body.len() + sentence.len() <= full {
            body.push_str(sentence);
            sentence = sentences.next().unwrap_or(&"");
        }
        body.push_str(r#""}"#);
    }
    // White space is as good as anything.
    let missing = end - body.len();
    body.extend(std::iter::repeat_n(' ', missing));
    body.push_str(&tail);
    Bytes::from(body)
}

/// Returns the `number`th event of a stream, about 240 bytes long.
pub(super) fn event(number: usize) -> String {
    event_with(number, "")
}

/// Returns such an event with the usage so far.
pub(super) fn event_with_usage(number: usize) -> String {
    let usage = format!(
        r#","usage":{{"prompt_tokens":1833,"total_tokens":{},"completion_tokens":{number}}}"#,
        1833 + number
    );
    event_with(number, &usage)
}

fn event_with(number: usize, more: &str) -> String {
    const WORDS: [&str; 4] = [" scheduler", "\\n", " the", " façade"];
    let word = WORDS[number % WORDS.len()];
    format!(
        "data: {{\"id\":\"chatcmpl-2f9a7c31d0be4a5b8c6d7e8f90a1b2c3\",\"object\":\"chat.completion.chunk\",\
         \"created\":1790000000,\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]{more}}}\n\n"
    )
}

/// Returns a whole answer of about 1 KiB.
pub(super) fn answer() -> Bytes {
    let mut text = String::new();
    for sentence in SENTENCES.iter().cycle().take(9) {
        text.push_str(sentence);
    }
    let mut answer = String::new();
    // Writing to a string cannot fail.
    let _always = write!(
        answer,
        r#"{{"id":"chatcmpl-2f9a7c31d0be4a5b8c6d7e8f90a1b2c3","object":"chat.completion","created":1790000000,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"tool_calls":[]}},"logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":212,"total_tokens":339,"completion_tokens":127,"prompt_tokens_details":{{"cached_tokens":128}}}}}}"#
    );
    Bytes::from(answer)
}
