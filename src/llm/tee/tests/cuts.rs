//! Streams that break off, at every byte: what is billed is what was known until then.

use super::*;

/// What has arrived, and what it costs: prompt, completion, how it is known.
type Step = (&'static str, [u64; 2], UsageSource);

/// Bytes of the prompt of every request here: 10 tokens by the first guess.
const PROMPT: u64 = 40;
pub(super) const NOTHING: ([u64; 2], UsageSource) = ([10, 0], Estimated);

/// The bill by the first guess, and how it is known.
pub(super) fn billed(summary: &Summary) -> ([u64; 2], UsageSource) {
    let (usage, source) = summary.bill(PROMPT, &Rates::default());
    assert_eq!(usage.total, usage.prompt + usage.completion);
    ([usage.prompt, usage.completion], source)
}

/// Replays a stream of `steps`, cut at every byte; `marker` is how many events it takes to be over.
fn replay(endpoint: Endpoint, prompts: u64, choices: u64, steps: &[Step], marker: usize) {
    let head = RequestHead {
        prompts,
        choices,
        ..RequestHead::default()
    };
    let mut text = String::new();
    // Where the data of each event ends, and where its blank line does.
    let mut ends = Vec::new();
    for (data, ..) in steps {
        let kind = data
            .strip_prefix(r#"{"type":""#)
            .and_then(|rest| rest.split('"').next());
        if let Some(kind) = kind {
            text += &format!("event: {kind}\n");
        }
        text += &format!("data: {data}");
        let data_end = text.len();
        text += "\n\n";
        ends.push((data_end, text.len()));
    }
    for cut in 0..=text.len() {
        let mut tee = Tee::new(endpoint, BodyFormat::EventStream);
        tee.asked(&head);
        tee.observe(&text.as_bytes()[..cut]);
        let arrived = ends.iter().take_while(|(end, _)| *end <= cut).count();
        let expected = match arrived {
            0 => NOTHING,
            n => (steps[n - 1].1, steps[n - 1].2),
        };
        let case = &text[..cut];
        assert_eq!(billed(&tee.summary()), expected, "{case}");
        let whole = ends.iter().take_while(|(_, end)| *end <= cut).count();
        assert_eq!(tee.is_done(), whole >= marker, "{case}");
    }
}

#[test]
fn several_choices_with_usage_in_every_chunk() {
    let steps = [
        (
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":12,"completion_tokens":0}}"#,
            [12, 0],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":12,"completion_tokens":0}}"#,
            [12, 0],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"content":"a b"},"finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":14,"completion_tokens":2}}"#,
            [12, 2],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"content":"c"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}"#,
            [12, 5],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"content":"d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"total_tokens":16,"completion_tokens":4}}"#,
            [12, 7],
            Final,
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":12,"total_tokens":19,"completion_tokens":7}}"#,
            [12, 7],
            Final,
        ),
        ("[DONE]", [12, 7], Final),
    ];
    replay(ChatCompletions, 1, 2, &steps, 7);
}

#[test]
fn a_choice_that_has_ended_is_not_the_whole_answer() {
    let steps = [(
        r#"{"choices":[{"index":0,"text":"c","finish_reason":"stop"}],"usage":{"prompt_tokens":12,"total_tokens":13,"completion_tokens":1}}"#,
        [10, 1],
        Estimated,
    )];
    replay(Completions, 2, 1, &steps, usize::MAX);
    let before = (
        r#"{"choices":[{"index":0,"text":"c","finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":13,"completion_tokens":1}}"#,
        [12, 1],
        Continuous,
    );
    let after = (steps[0].0, [12, 1], Continuous);
    replay(Completions, 1, 2, &[before, after], usize::MAX);
}

#[test]
fn several_choices_without_usage_are_estimated_together() {
    let steps = [
        (
            r#"{"choices":[{"index":0,"delta":{"content":"12345"},"finish_reason":null}]}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"content":"123456"},"finish_reason":null}]}"#,
            [10, 3],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            [10, 3],
            Estimated,
        ),
        ("[DONE]", [10, 3], Estimated),
    ];
    replay(ChatCompletions, 1, 2, &steps, 4);
}

#[test]
fn the_arguments_of_tools_are_text() {
    let steps = [
        (
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"id":"call_12345","type":"function","index":0,"function":{"name":"weather","arguments":""}}]},"finish_reason":null}]}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]}"#,
            [10, 4],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Paris\"}"}}]},"finish_reason":null}]}"#,
            [10, 6],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            [10, 6],
            Estimated,
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":99,"completion_tokens":21,"total_tokens":120}}"#,
            [99, 21],
            Final,
        ),
    ];
    replay(ChatCompletions, 1, 1, &steps, usize::MAX);
}

#[test]
fn several_prompts_with_usage_in_every_chunk() {
    // Two prompts of 5 and 7 tokens, two choices each: index = choice + 2 * prompt.
    let steps = [
        (
            r#"{"choices":[{"index":0,"text":"x","finish_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}"#,
            [10, 1],
            Estimated,
        ),
        (
            r#"{"choices":[{"index":3,"text":"x","finish_reason":null}],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}}"#,
            [12, 3],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":1,"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}}"#,
            [12, 6],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":2,"text":"x","finish_reason":null}],"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1}}"#,
            [12, 7],
            Continuous,
        ),
        (
            r#"{"choices":[{"index":3,"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":7,"total_tokens":11,"completion_tokens":4}}"#,
            [12, 9],
            Continuous,
        ),
    ];
    replay(Completions, 2, 2, &steps, usize::MAX);
}

#[test]
fn several_prompts_of_which_only_some_were_reported_are_estimated() {
    let steps = [
        (
            r#"{"choices":[{"text":"12345678","index":0,"finish_reason":""}],"usage":null}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"choices":[{"text":"1234","index":0,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#,
            [10, 3],
            Estimated,
        ),
        (
            r#"{"choices":[{"text":"12345","index":1,"finish_reason":"length"}],"usage":{"prompt_tokens":6,"completion_tokens":3,"total_tokens":9}}"#,
            [11, 5],
            Final,
        ),
        ("[DONE]", [11, 5], Final),
    ];
    replay(Completions, 2, 1, &steps, 4);
}

#[test]
fn an_error_does_not_make_a_running_count_the_last_word() {
    let steps = [
        (
            r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":9,"completion_tokens":4}}"#,
            [5, 4],
            Continuous,
        ),
        (
            r#"{"error":{"message":"EngineCore encountered an issue.","code":500}}"#,
            [5, 4],
            Continuous,
        ),
        ("[DONE]", [5, 4], Continuous),
    ];
    replay(ChatCompletions, 1, 1, &steps, 3);
}

#[test]
fn messages_know_the_prompt_from_the_start() {
    let steps = [
        (
            r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":12,"cache_read_input_tokens":8,"output_tokens":1}}}"#,
            [20, 1],
            Estimated,
        ),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            [20, 1],
            Estimated,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"123456789"}}"#,
            [20, 3],
            Estimated,
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
            [20, 4],
            Estimated,
        ),
        (
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":7}}"#,
            [20, 7],
            Final,
        ),
        (r#"{"type":"message_stop"}"#, [20, 7], Final),
        ("[DONE]", [20, 7], Final),
    ];
    replay(Messages, 1, 1, &steps, 6);
}

#[test]
fn responses_are_estimated_until_they_are_completed() {
    let steps = [
        (
            r#"{"type":"response.created","response":{"id":"r","usage":null}}"#,
            [10, 0],
            Estimated,
        ),
        (
            r#"{"type":"response.output_text.delta","delta":"12345"}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"type":"response.function_call_arguments.delta","delta":"{}"}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"type":"response.output_text.done","text":"12345"}"#,
            [10, 2],
            Estimated,
        ),
        (
            r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":11,"output_tokens":4,"total_tokens":15}}}"#,
            [11, 4],
            Final,
        ),
    ];
    replay(Responses, 1, 1, &steps, 5);
    for end in ["response.incomplete", "response.failed"] {
        let text = format!("event: {end}\ndata: {{\"type\":\"{end}\"}}\n\n");
        let mut tee = Tee::new(Responses, BodyFormat::EventStream);
        tee.observe(text.as_bytes());
        assert!(tee.is_done(), "{end}");
    }
}

#[test]
fn tgi_writes_a_token_an_event() {
    let steps = [
        (
            r#"{"index":1,"token":{"id":1,"text":"one","special":false},"generated_text":null,"details":null}"#,
            [10, 1],
            Counted,
        ),
        (
            r#"{"index":2,"token":{"id":2,"text":"two","special":false},"generated_text":null,"details":null}"#,
            [10, 2],
            Counted,
        ),
        (
            r#"{"index":3,"token":{"id":3,"text":"x","special":false},"generated_text":"onetwox","details":{"finish_reason":"length","generated_tokens":3,"input_length":6}}"#,
            [6, 3],
            Final,
        ),
    ];
    replay(GenerateStream, 1, 1, &steps, 3);
}

#[test]
fn sglang_counts_on() {
    let steps = [
        (
            r#"{"text":"a","meta_info":{"id":"g","finish_reason":null,"prompt_tokens":5,"completion_tokens":1}}"#,
            [5, 1],
            Continuous,
        ),
        (
            r#"{"text":"ab","meta_info":{"id":"g","finish_reason":null,"prompt_tokens":5,"completion_tokens":3}}"#,
            [5, 3],
            Continuous,
        ),
        (
            r#"{"text":"abc","meta_info":{"id":"g","finish_reason":{"type":"stop"},"prompt_tokens":5,"completion_tokens":4}}"#,
            [5, 4],
            Final,
        ),
        ("[DONE]", [5, 4], Final),
    ];
    replay(Generate, 1, 1, &steps, 4);
}
