//! Streams for several prompts that break off before each of them was heard of.

use super::cuts::billed;
use super::*;

/// A chunk of completions with usage, from `index/prompt/completion`; `!` ends the choice.
fn chunk(short: &str) -> String {
    if short == "done" {
        return "data: [DONE]\n\n".into();
    }
    let open = short.trim_end_matches('!');
    let finish = if open == short { "null" } else { "\"stop\"" };
    let [index, prompt, completion] = *open.split('/').collect::<Vec<_>>() else {
        panic!("{short}");
    };
    format!(
        "data: {{\"choices\":[{{\"index\":{index},\"text\":\"some words of text\",\"finish_reason\":{finish}}}],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}\n\n"
    )
}

#[test]
fn prompts_not_seen_yet_are_estimated() {
    // Prompts, choices of each, what has arrived; all prompts together are guessed to have 10 tokens.
    for (prompts, choices, chunks, expected) in [
        (2, 1, "0/4/1", ([10, 1], Estimated)),
        (2, 1, "1/4/1", ([10, 1], Estimated)),
        (2, 1, "0/12/1", ([12, 1], Estimated)),
        (2, 1, "0/4/1 0/4/2!", ([10, 2], Estimated)),
        (2, 1, "0/4/1 1/3/2", ([7, 3], Continuous)),
        (3, 1, "0/4/1 2/4/1", ([10, 2], Estimated)),
        (3, 1, "0/6/1 2/6/1", ([12, 2], Estimated)),
        // Both choices of the first prompt: it is one.
        (2, 2, "0/4/1 1/4/1", ([10, 2], Estimated)),
        (2, 2, "1/4/1 2/4/1", ([8, 2], Continuous)),
        (1, 3, "2/4/1", ([4, 1], Continuous)),
        // All that was asked for has ended, or the stream itself.
        (2, 1, "0/4/1 0/4/2! 1/3/1!", ([7, 3], Final)),
        (2, 1, "0/4/1 done", ([4, 1], Final)),
    ] {
        let text: String = chunks.split(' ').map(chunk).collect();
        let mut tee = Tee::new(Completions, BodyFormat::EventStream);
        tee.asked(&RequestHead {
            prompts,
            choices,
            ..RequestHead::default()
        });
        tee.observe(text.as_bytes());
        assert_eq!(
            billed(&tee.summary()),
            expected,
            "{prompts} prompts of {choices}: {chunks}"
        );
    }
}
