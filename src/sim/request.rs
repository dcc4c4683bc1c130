//! Generation requests: what a body asks for, and whether an engine would accept it.

use serde_json::Value;

use super::options::{Engine, Options};
use super::refusal::Refusal;
use super::text::Prompt;

/// vLLM's default for /v1/completions; TGI's for /generate is 100 and SGLang's 128.
const COMPLETION_TOKENS: u32 = 16;

/// Sequences one request may ask for.
const MAX_SEQUENCES: usize = 4096;

/// The word in a prompt that makes the engine call a tool.
const TOOL_WORD: &str = "USE_TOOL";

/// Which API a generation request uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    /// `/generate` and `/generate_stream` of TGI.
    TgiGenerate,
    /// TGI's `/`, which answers with an array.
    TgiRoot,
    /// `/generate` of SGLang.
    SglangGenerate,
}

/// Which usage a stream reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsageWish {
    /// Once more at the end, for everything.
    pub(super) last: bool,
    /// With every chunk, for its sequence.
    pub(super) continuous: bool,
}

/// A valid generation request.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) prompts: Vec<Prompt>,
    /// Answers per prompt.
    pub(super) choices: u32,
    pub(super) stream: bool,
    pub(super) usage: UsageWish,
    pub(super) max_tokens: Option<u32>,
    /// Generates until `max_tokens`.
    pub(super) ignore_eos: bool,
    /// The tool that is called instead of an answer.
    pub(super) tool: Option<String>,
    /// TGI's `details`.
    pub(super) details: bool,
}

impl Job {
    /// Reads a body. `stream_path` says that the path itself asks for a stream.
    pub(super) fn parse(
        api: Api,
        body: &[u8],
        stream_path: bool,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let body = object(body)?;
        let model = model(&body, api, options)?;
        let max_tokens = max_tokens(&body, api)?;
        let mut job = Self {
            api,
            model,
            prompts: prompts(&body, api)?,
            choices: choices(&body)?,
            // TGI's /generate never streams, whatever its body says.
            stream: stream_path || (api != Api::TgiGenerate && lax_bool(&body["stream"])),
            usage: UsageWish::default(),
            max_tokens,
            ignore_eos: lax_bool(&body["ignore_eos"])
                || lax_bool(&body["sampling_params"]["ignore_eos"]),
            tool: tool(&body, api),
            details: lax_bool(&body["parameters"]["details"]),
        };
        if job.prompts.len().saturating_mul(job.choices as usize) > MAX_SEQUENCES {
            return Err(Refusal::bad(
                "n",
                format!("at most {MAX_SEQUENCES} answers at once"),
            ));
        }
        job.read_stream_options(&body, options.engine)?;
        job.check_length(options.max_model_len)?;
        Ok(job)
    }

    /// Returns prompt tokens, each prompt once.
    pub(super) fn prompt_tokens(&self) -> u64 {
        self.prompts
            .iter()
            .map(|prompt| u64::from(prompt.len()))
            .sum()
    }

    /// Returns how many sequences are generated.
    pub(super) fn sequences(&self) -> u32 {
        u32::try_from(self.prompts.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(self.choices)
    }

    fn read_stream_options(&mut self, body: &Value, engine: Engine) -> Result<(), Refusal> {
        let options = &body["stream_options"];
        if options.is_null() {
            return Ok(());
        }
        if !self.stream {
            let message = "Stream options can only be defined when `stream=True`.";
            return Err(Refusal::bad("stream_options", message));
        }
        let Some(options) = options.as_object() else {
            return Err(Refusal::bad(
                "stream_options",
                "Input should be a valid dictionary",
            ));
        };
        self.usage.last = options.get("include_usage").is_some_and(lax_bool);
        let continuous = options.get("continuous_usage_stats").is_some_and(lax_bool);
        self.usage.continuous = match engine {
            Engine::Vllm => continuous && self.usage.last,
            Engine::Sglang => continuous,
            Engine::Tgi | Engine::Openai | Engine::Anthropic => false,
        };
        Ok(())
    }

    fn check_length(&self, limit: u32) -> Result<(), Refusal> {
        let longest = self
            .prompts
            .iter()
            .map(Prompt::len)
            .max()
            .unwrap_or_default();
        let asked = longest.saturating_add(self.max_tokens.unwrap_or(1));
        if asked > limit {
            let message = format!(
                "This model's maximum context length is {limit} tokens. However, you requested \
                 {asked} tokens ({longest} in the messages, {} in the completion). Please reduce \
                 the length of the messages or completion.",
                asked - longest
            );
            return Err(Refusal::bad("messages", message));
        }
        Ok(())
    }
}

/// Parses a body that must be a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(Value::Object(map)),
        Ok(_) => Err(Refusal::new(400, "Input should be a valid dictionary")),
        Err(error) => Err(Refusal::new(400, format!("JSON decode error: {error}"))),
    }
}

/// Returns the model a body names, if it is served.
pub(super) fn served_model(body: &Value, options: &Options) -> Result<String, Refusal> {
    match &body["model"] {
        Value::Null => Ok(options.default_model().to_owned()),
        Value::String(model) if options.serves(model) => Ok(model.clone()),
        Value::String(model) => Err(Refusal::unknown_model(model)),
        _ => Err(Refusal::bad("model", "Input should be a valid string")),
    }
}

/// Reads prompts as engines take them: a string, token ids, or a list of either.
pub(super) fn text_or_ids(value: &Value, field: &'static str) -> Result<Vec<Prompt>, Refusal> {
    let prompts = match value {
        Value::Null => return Err(Refusal::missing(field)),
        Value::String(text) => vec![Prompt::of_text(text)],
        Value::Array(ids) if ids.iter().all(Value::is_number) && !ids.is_empty() => {
            vec![Prompt::of_ids(ids)]
        }
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::of_text(text)),
                Value::Array(ids) => Ok(Prompt::of_ids(ids)),
                _ => Err(Refusal::bad(
                    field,
                    format!("{field} holds neither text nor token ids"),
                )),
            })
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(Refusal::bad(
                field,
                format!("{field} is neither text nor token ids"),
            ));
        }
    };
    if prompts.is_empty() {
        return Err(Refusal::bad(field, format!("{field} must not be empty")));
    }
    Ok(prompts)
}

/// Reads a flag as pydantic does: `true`, 1 and their usual spellings.
pub(super) fn lax_bool(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::String(text) => {
            ["1", "true", "t", "yes", "y", "on"].contains(&text.to_ascii_lowercase().as_str())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn model(body: &Value, api: Api, options: &Options) -> Result<String, Refusal> {
    match api {
        Api::TgiGenerate | Api::TgiRoot | Api::SglangGenerate => {
            Ok(options.default_model().to_owned())
        }
        Api::Chat | Api::Completions | Api::Responses | Api::Messages => {
            served_model(body, options)
        }
    }
}

fn prompts(body: &Value, api: Api) -> Result<Vec<Prompt>, Refusal> {
    match api {
        Api::Chat | Api::Messages => conversation(body),
        Api::Completions => text_or_ids(&body["prompt"], "prompt"),
        Api::Responses => {
            let mut prompt = Prompt::default();
            prompt.push_content(&body["instructions"]);
            match &body["input"] {
                Value::Null => return Err(Refusal::missing("input")),
                input => prompt.push_content(input),
            }
            Ok(vec![prompt])
        }
        Api::TgiGenerate | Api::TgiRoot => match &body["inputs"] {
            Value::String(text) => Ok(vec![Prompt::of_text(text)]),
            _ => Err(Refusal::new(422, "missing field `inputs`")),
        },
        Api::SglangGenerate => match &body["text"] {
            Value::Null => text_or_ids(&body["input_ids"], "text"),
            text => text_or_ids(text, "text"),
        },
    }
}

fn conversation(body: &Value) -> Result<Vec<Prompt>, Refusal> {
    let messages = match &body["messages"] {
        Value::Null => return Err(Refusal::missing("messages")),
        Value::Array(messages) if !messages.is_empty() => messages,
        _ => {
            return Err(Refusal::bad(
                "messages",
                "messages must be a list that is not empty",
            ));
        }
    };
    let mut prompt = Prompt::default();
    prompt.push_content(&body["system"]);
    for message in messages {
        if !message.is_object() || !message["role"].is_string() {
            return Err(Refusal::bad("messages", "every message needs a role"));
        }
        prompt.push_content(message);
    }
    Ok(vec![prompt])
}

fn choices(body: &Value) -> Result<u32, Refusal> {
    match body["n"].as_u64() {
        None if body["n"].is_null() => Ok(1),
        Some(n @ 1..) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        _ => Err(Refusal::bad("n", "n must be at least 1")),
    }
}

fn max_tokens(body: &Value, api: Api) -> Result<Option<u32>, Refusal> {
    let (value, default) = match api {
        Api::Chat => match &body["max_completion_tokens"] {
            Value::Null => (&body["max_tokens"], None),
            value => (value, None),
        },
        Api::Completions => (&body["max_tokens"], Some(COMPLETION_TOKENS)),
        Api::Responses => (&body["max_output_tokens"], None),
        Api::Messages => match &body["max_tokens"] {
            Value::Null => return Err(Refusal::missing("max_tokens")),
            value => (value, None),
        },
        Api::TgiGenerate | Api::TgiRoot => (&body["parameters"]["max_new_tokens"], Some(100)),
        Api::SglangGenerate => (&body["sampling_params"]["max_new_tokens"], Some(128)),
    };
    match value {
        Value::Null => Ok(default),
        value => match value.as_u64() {
            Some(tokens @ 1..) => Ok(Some(u32::try_from(tokens).unwrap_or(u32::MAX))),
            _ => Err(Refusal::bad("max_tokens", "max_tokens must be at least 1")),
        },
    }
}

/// Returns the tool to call: the last message asks for one, and tools are offered.
fn tool(body: &Value, api: Api) -> Option<String> {
    let conversation = match api {
        Api::Chat | Api::Messages => &body["messages"],
        Api::Responses => &body["input"],
        Api::Completions | Api::TgiGenerate | Api::TgiRoot | Api::SglangGenerate => return None,
    };
    let last = conversation
        .as_array()
        .map_or(Some(conversation), |items| items.last())?;
    if !last.to_string().contains(TOOL_WORD) || body["tool_choice"] == "none" {
        return None;
    }
    let tools = body["tools"].as_array()?;
    let names = || {
        tools.iter().filter_map(|tool| {
            tool["function"]["name"]
                .as_str()
                .or_else(|| tool["name"].as_str())
        })
    };
    names()
        .find(|name| *name == "get_weather")
        .or_else(|| names().next())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
