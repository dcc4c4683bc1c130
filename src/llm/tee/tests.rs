//! What engines were seen to send, replayed whole, byte by byte and cut in two at every place.

mod bodies;
mod cut_bodies;
mod cut_prompts;
mod cuts;
mod properties;
mod streams;

use super::*;
use Endpoint::{ChatCompletions, Completions, Embeddings, Generate, GenerateStream, Messages};
use Endpoint::{Rerank, Responses, Score, TgiRoot};
use UsageSource::{Continuous, Counted, Estimated, Final};

/// Reads a response in the given chunks.
fn read<'a>(
    endpoint: Endpoint,
    format: BodyFormat,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Summary {
    let mut tee = Tee::new(endpoint, format);
    let mut events = 0;
    for chunk in chunks {
        events += u64::from(tee.observe(chunk).events);
    }
    let summary = tee.summary();
    let unfinished = summary.events - events;
    assert!(
        unfinished <= 1,
        "progress says {events}, the summary {}",
        summary.events
    );
    summary
}

/// Reads a response, and asserts that it does not matter how it is cut.
fn summary(endpoint: Endpoint, format: BodyFormat, bytes: &[u8]) -> Summary {
    let whole = read(endpoint, format, [bytes]);
    assert_eq!(
        read(endpoint, format, bytes.chunks(1)),
        whole,
        "byte by byte"
    );
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(read(endpoint, format, [head, tail]), whole, "cut at {at}");
    }
    whole
}

/// Reads a stream with each kind of line end, which must not matter either.
fn stream(endpoint: Endpoint, text: &str) -> Summary {
    let plain = summary(endpoint, BodyFormat::EventStream, text.as_bytes());
    for other in [
        text.replace('\n', "\r\n"),
        text.replace("data: ", "data:"),
        format!(
            "\u{FEFF}: hello\n\n{}",
            text.replace("\n\n", "\n\n: keep-alive\n\n")
        ),
    ] {
        let read = summary(endpoint, BodyFormat::EventStream, other.as_bytes());
        assert_eq!(read, plain, "{other}");
    }
    plain
}

fn body(endpoint: Endpoint, text: &str) -> Summary {
    summary(endpoint, BodyFormat::Json, text.as_bytes())
}

/// The bill as prompt, completion, cached, reasoning; the total must be their sum.
fn bill(summary: &Summary) -> Option<([u64; 4], UsageSource)> {
    let usage = summary.usage?;
    assert_eq!(usage.total, usage.prompt + usage.completion);
    let parts = [
        usage.prompt,
        usage.completion,
        usage.cached,
        usage.reasoning,
    ];
    Some((parts, summary.source))
}

#[test]
fn an_empty_response_says_nothing() {
    for format in [BodyFormat::Json, BodyFormat::EventStream] {
        let summary = read(ChatCompletions, format, []);
        assert_eq!(
            (summary.usage, summary.source, summary.ended),
            (None, Estimated, false)
        );
        assert_eq!(summary.bill(9, &Rates::default()).0, Usage::new(3, 0));
    }
}

#[test]
fn the_tee_is_small_and_stays_so() {
    assert!(size_of::<Tee>() < 2500, "{}", size_of::<Tee>());
    let mut tee = Tee::new(ChatCompletions, BodyFormat::EventStream);
    for index in 0..10_000 {
        let chunk = format!(
            "data: {{\"choices\":[{{\"index\":{index}}}],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":1}}}}\n\n"
        );
        tee.observe(chunk.as_bytes());
    }
    assert!(tee.meter.parts() <= 512);
}

#[test]
fn the_bill_fills_in_what_the_engine_did_not_say() {
    let counted = stream(
        GenerateStream,
        "data:{\"token\":{\"text\":\"a\"},\"generated_text\":null}\n\n",
    );
    assert_eq!(
        counted.bill(10, &Rates::default()),
        (Usage::new(3, 1), Counted)
    );
    let said = body(
        Embeddings,
        r#"{"usage":{"prompt_tokens":7,"total_tokens":7}}"#,
    );
    assert_eq!(said.bill(10, &Rates::default()), (Usage::new(7, 0), Final));
    let silent = body(Embeddings, r#"{"data":[]}"#);
    assert_eq!(
        silent.bill(10, &Rates::default()),
        (Usage::new(3, 0), Estimated)
    );
}
