use serde_json::{Value, json};

use super::*;
use crate::sim::text::Prompt;

const APIS: [Api; 7] = [
    Api::Chat,
    Api::Completions,
    Api::Responses,
    Api::Messages,
    Api::TgiGenerate,
    Api::TgiRoot,
    Api::SglangGenerate,
];
const ENGINES: [Engine; 5] = [
    Engine::Vllm,
    Engine::Tgi,
    Engine::Sglang,
    Engine::Openai,
    Engine::Anthropic,
];

fn frame(api: Api, engine: Engine) -> Frame {
    let job = Job {
        api,
        model: "m".into(),
        prompts: vec![Prompt::of_text("one two three")],
        choices: 1,
        stream: true,
        usage: UsageWish {
            last: true,
            continuous: false,
        },
        max_tokens: None,
        ignore_eos: false,
        tool: None,
        details: true,
    };
    Frame {
        length: 3,
        ..Frame::new(&job, engine, "id", 5)
    }
}

/// Streams an answer token by token and returns its events: names and data.
fn events(frame: &Frame) -> Vec<(Option<String>, Value)> {
    let mut shape = stream(frame.api);
    let mut out = BytesMut::new();
    shape.open(frame, &mut out).unwrap();
    let script = Script::new(1, frame.tool.is_some());
    for from in 0..frame.length {
        for sequence in 0..frame.sequences() {
            let piece = Piece {
                sequence,
                script,
                from,
                to: from + 1,
            };
            shape.tokens(frame, &piece, &mut out).unwrap();
        }
    }
    shape.close(frame, &mut out).unwrap();
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert!(text.ends_with("\n\n"));
    text.trim_end().split("\n\n").map(event).collect()
}

fn event(text: &str) -> (Option<String>, Value) {
    let mut name = None;
    let mut data = Value::Null;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("event: ") {
            name = Some(value.to_owned());
        } else {
            let value = line
                .strip_prefix("data:")
                .expect("only names and data")
                .trim_start();
            let parsed = || serde_json::from_str(value).unwrap_or_else(|e| panic!("{value}: {e}"));
            data = if value == "[DONE]" {
                json!("[DONE]")
            } else {
                parsed()
            };
        }
    }
    (name, data)
}

fn data(frame: &Frame) -> Vec<Value> {
    events(frame).into_iter().map(|(_, data)| data).collect()
}

#[test]
fn every_shape_of_every_engine_is_json() {
    for api in APIS {
        for engine in ENGINES {
            for tool in [None, Some("get \"weather\"".to_owned())] {
                let mut frame = frame(api, engine);
                if tool.is_some() {
                    (frame.length, frame.finish) = (Script::tool_tokens(), Finish::Tool);
                }
                frame.tool = tool;
                assert!(events(&frame).len() >= 3, "{api:?} {engine:?}");
                let text = Script::new(1, frame.tool.is_some()).text(frame.length);
                let body = whole(&frame, &[text]).unwrap();
                assert!(
                    serde_json::from_str::<Value>(&body).is_ok(),
                    "{api:?} {engine:?} {body}"
                );
            }
        }
    }
}

#[test]
fn a_vllm_chat_chunk_is_literally_vllms() {
    let mut shape = stream(Api::Chat);
    let mut out = BytesMut::new();
    let frame = frame(Api::Chat, Engine::Vllm);
    shape.open(&frame, &mut out).unwrap();
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "data: {\"id\":\"chatcmpl-id\",\"object\":\"chat.completion.chunk\",\"created\":5,\
         \"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
         \"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
    );
    out.clear();
    shape.close(&frame, &mut out).unwrap();
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "data: {\"id\":\"chatcmpl-id\",\"object\":\"chat.completion.chunk\",\"created\":5,\
         \"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\
         \"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n\
         data: {\"id\":\"chatcmpl-id\",\"object\":\"chat.completion.chunk\",\"created\":5,\
         \"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"total_tokens\":6,\
         \"completion_tokens\":3}}\n\ndata: [DONE]\n\n"
    );
}

#[test]
fn continuous_usage_counts_each_answer_by_itself() {
    let frame = Frame {
        usage: UsageWish {
            last: true,
            continuous: true,
        },
        choices: 2,
        ..frame(Api::Chat, Engine::Vllm)
    };
    let data = data(&frame);
    let tokens: Vec<u64> = data
        .iter()
        .filter(|chunk| chunk["choices"][0]["index"] == 1)
        .map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(tokens, [0, 1, 2, 3, 3]);
    let total = &data[data.len() - 2];
    assert_eq!(total["choices"], json!([]));
    assert_eq!(total["usage"]["completion_tokens"], 6);
    assert_eq!(total["usage"]["prompt_tokens"], 3);
}

#[test]
fn usage_is_null_where_engines_write_null() {
    let usage = |api, engine| {
        let chunk = data(&frame(api, engine)).swap_remove(1);
        chunk.get("usage").cloned()
    };
    assert_eq!(usage(Api::Chat, Engine::Vllm), None);
    assert_eq!(usage(Api::Completions, Engine::Vllm), None);
    assert_eq!(usage(Api::Completions, Engine::Sglang), Some(Value::Null));
    assert_eq!(usage(Api::Chat, Engine::Tgi), Some(Value::Null));
    assert_eq!(usage(Api::Chat, Engine::Sglang), Some(Value::Null));
    assert_eq!(usage(Api::Chat, Engine::Openai), Some(Value::Null));
}

#[test]
fn a_running_count_is_literally_vllms() {
    let usage = |api| {
        let continuous = UsageWish {
            last: true,
            continuous: true,
        };
        let frame = Frame {
            usage: continuous,
            report_cached: true,
            ..frame(api, Engine::Vllm)
        };
        frame.usage_of(0, 2).to_string()
    };
    assert_eq!(
        usage(Api::Completions),
        r#"{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}"#
    );
    assert_eq!(
        usage(Api::Chat),
        r#"{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"completion_tokens_details":null}"#
    );
}

#[test]
fn a_silent_engine_says_nothing_of_usage() {
    for api in APIS {
        for engine in ENGINES {
            let mut frame = frame(api, engine);
            frame.silence();
            let body = whole(&frame, &["one two three".to_owned()]).unwrap();
            let mut said: Vec<String> = data(&frame).iter().map(Value::to_string).collect();
            said.push(body);
            for said in said {
                assert!(!said.contains("_tokens\":"), "{api:?} {engine:?}: {said}");
            }
            assert!(headers(&frame, 1.0).is_empty());
        }
    }
}

#[test]
fn tgi_puts_completion_usage_into_the_last_chunk_of_each_prompt() {
    let frame = Frame {
        prompt_tokens: vec![3, 5],
        usage: UsageWish::default(),
        ..frame(Api::Completions, Engine::Tgi)
    };
    let usage: Vec<Value> = data(&frame)
        .into_iter()
        .map(|d| d["usage"].clone())
        .filter(|u| !u.is_null())
        .collect();
    assert_eq!(usage.len(), 2);
    assert_eq!(usage[1]["prompt_tokens"], 5);
}

#[test]
fn cached_tokens_are_reported_as_each_engine_does() {
    let details = |engine, cached| {
        let frame = Frame {
            cached,
            report_cached: true,
            ..frame(Api::Chat, engine)
        };
        let body: Value = serde_json::from_str(&whole(&frame, &[String::new()]).unwrap()).unwrap();
        body["usage"]["prompt_tokens_details"].clone()
    };
    assert_eq!(details(Engine::Vllm, 0), json!({"cached_tokens": 0}));
    assert_eq!(details(Engine::Vllm, 16), json!({"cached_tokens": 16}));
    assert_eq!(details(Engine::Sglang, 0), Value::Null);
    assert_eq!(details(Engine::Sglang, 16), json!({"cached_tokens": 16}));
    assert_eq!(details(Engine::Tgi, 16), Value::Null);
}

#[test]
fn messages_follow_anthropics_grammar() {
    let frame = frame(Api::Messages, Engine::Vllm);
    let names: Vec<_> = events(&frame).into_iter().map(|(name, _)| name).collect();
    let names: Vec<_> = names
        .iter()
        .map(|name| name.as_deref().unwrap_or("[DONE]"))
        .collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "[DONE]"
        ]
    );
    let anthropic = Frame {
        engine: Engine::Anthropic,
        cached: 2,
        ..frame
    };
    let events = events(&anthropic);
    assert_eq!(events.last().unwrap().0.as_deref(), Some("message_stop"));
    let usage = &events[events.len() - 2].1["usage"];
    assert_eq!(usage["input_tokens"], 1, "cached tokens are counted apart");
    assert_eq!(usage["cache_read_input_tokens"], 2);
    assert_eq!(usage["output_tokens"], 3);
}

#[test]
fn responses_are_numbered_and_say_usage_last() {
    let complete = events(&frame(Api::Responses, Engine::Vllm));
    for (index, (name, data)) in complete.iter().enumerate() {
        assert_eq!(data["sequence_number"], index);
        assert_eq!(data["type"].as_str(), name.as_deref());
    }
    let response = &complete.last().unwrap().1["response"];
    assert_eq!(response["usage"]["total_tokens"], 6);
    let deltas: String = complete
        .iter()
        .filter_map(|(_, data)| data["delta"].as_str())
        .collect();
    assert_eq!(response["output"][0]["content"][0]["text"], json!(deltas));
    let cut = Frame {
        finish: Finish::Length,
        ..frame(Api::Responses, Engine::Vllm)
    };
    let last = events(&cut).pop().unwrap();
    assert_eq!(last.0.as_deref(), Some("response.incomplete"));
}

#[test]
fn tgi_ends_with_the_whole_text_and_no_marker() {
    let all = data(&frame(Api::TgiGenerate, Engine::Tgi));
    assert_eq!(all.len(), 3);
    assert_eq!(all[1]["generated_text"], Value::Null);
    assert_eq!(all[2]["details"]["input_length"], 3);
    assert_eq!(all[2]["details"]["generated_tokens"], 3);
    let text: String = all
        .iter()
        .filter_map(|d| d["token"]["text"].as_str())
        .collect();
    assert_eq!(all[2]["generated_text"], json!(text));
    let none = Frame {
        length: 0,
        ..frame(Api::TgiGenerate, Engine::Tgi)
    };
    assert_eq!(data(&none)[0]["generated_text"], "");
}

#[test]
fn sglang_is_cumulative() {
    let data = data(&frame(Api::SglangGenerate, Engine::Sglang));
    let counts: Vec<_> = data
        .iter()
        .map(|d| d["meta_info"]["completion_tokens"].as_u64())
        .collect();
    assert_eq!(counts, [Some(1), Some(2), Some(3), Some(3), None]);
    assert!(
        data[2]["text"]
            .as_str()
            .unwrap()
            .starts_with(data[1]["text"].as_str().unwrap())
    );
}

#[test]
fn a_tool_call_is_streamed_once_named_then_argued() {
    let frame = Frame {
        tool: Some("get_weather".into()),
        length: Script::tool_tokens(),
        finish: Finish::Tool,
        ..frame(Api::Chat, Engine::Vllm)
    };
    let data = data(&frame);
    let calls: Vec<&Value> = data
        .iter()
        .map(|d| &d["choices"][0]["delta"]["tool_calls"][0])
        .filter(|c| !c.is_null())
        .collect();
    assert_eq!(calls[0]["function"]["name"], "get_weather");
    assert!(calls[1..].iter().all(|call| call.get("id").is_none()));
    let arguments: String = calls
        .iter()
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert_eq!(
        serde_json::from_str::<Value>(&arguments).unwrap(),
        json!({"city": "Paris"})
    );
    assert!(
        data.iter()
            .any(|d| d["choices"][0]["finish_reason"] == "tool_calls")
    );
}
