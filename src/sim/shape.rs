//! What answers look like on the wire, API by API: whole bodies and stream events.
//!
//! Written as text rather than through a JSON tree, so that the order of keys is the engine's.

mod chat;
mod completions;
mod messages;
mod responses;
mod sglang;
mod tgi;

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::options::Engine;
use super::refusal::Refusal;
use super::request::{Api, Job, UsageWish};
use super::text::Script;

/// What every event of an answer repeats.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) api: Api,
    pub(super) engine: Engine,
    pub(super) id: String,
    /// Seconds since the epoch.
    pub(super) created: u64,
    pub(super) model: String,
    /// Answers per prompt.
    pub(super) choices: u32,
    pub(super) prompt_tokens: Vec<u32>,
    /// Cached tokens of the first prompt; vLLM reports no others.
    pub(super) cached: u32,
    pub(super) report_cached: bool,
    /// A fault keeps the engine from saying what the answer used.
    pub(super) silent: bool,
    pub(super) usage: UsageWish,
    pub(super) details: bool,
    /// Name of the tool that is called instead of an answer.
    pub(super) tool: Option<String>,
    /// Tokens of every answer.
    pub(super) length: u32,
    pub(super) finish: Finish,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finish {
    Stop,
    Length,
    Tool,
}

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) sequence: u32,
    pub(super) script: Script,
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Piece {
    fn text(&self) -> Cow<'static, str> {
        if self.to == self.from + 1 {
            Cow::Borrowed(self.script.token(self.from))
        } else {
            (self.from..self.to)
                .map(|index| self.script.token(index))
                .collect()
        }
    }
}

/// The events of one stream, in the order of the methods.
pub(super) trait Shape: Send {
    /// Writes what precedes the first token.
    fn open(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result;
    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result;
    /// Writes what follows the last token.
    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result;
    /// Writes an error that ends the stream early.
    fn fail(&mut self, frame: &Frame, refusal: &Refusal, out: &mut BytesMut) -> fmt::Result {
        refusal.event(frame.engine, frame.api, 0, out);
        done(out)
    }
}

/// Returns the writer of a stream of `api`.
pub(super) fn stream(api: Api) -> Box<dyn Shape> {
    match api {
        Api::Chat => Box::new(chat::Chat::default()),
        Api::Completions => Box::new(completions::Completions::default()),
        Api::Responses => Box::new(responses::Responses::default()),
        Api::Messages => Box::new(messages::Messages),
        Api::TgiGenerate | Api::TgiRoot => Box::new(tgi::Tgi::default()),
        Api::SglangGenerate => Box::new(sglang::Sglang::default()),
    }
}

/// Returns the body of an answer that is not streamed; `texts` holds one text per sequence.
pub(super) fn whole(frame: &Frame, texts: &[String]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    match frame.api {
        Api::Chat => chat::whole(frame, texts, &mut out)?,
        Api::Completions => completions::whole(frame, texts, &mut out)?,
        Api::Responses => responses::whole(frame, texts, &mut out)?,
        Api::Messages => messages::whole(frame, texts, &mut out)?,
        Api::TgiGenerate | Api::TgiRoot => tgi::whole(frame, texts, &mut out)?,
        Api::SglangGenerate => sglang::whole(frame, texts, &mut out)?,
    }
    Ok(out)
}

/// Returns headers only some engines send with an answer that is not streamed.
pub(super) fn headers(frame: &Frame, seconds: f64) -> Vec<(&'static str, String)> {
    match frame.api {
        Api::TgiGenerate | Api::TgiRoot if !frame.silent => tgi::headers(frame, seconds),
        _ => Vec::new(),
    }
}

impl Frame {
    /// Describes the answer to `job`.
    pub(super) fn new(job: &Job, engine: Engine, request_id: &str, created: u64) -> Self {
        let prefix = match job.api {
            Api::Chat => "chatcmpl-",
            Api::Completions => "cmpl-",
            Api::Responses => "resp_",
            Api::Messages => "msg_",
            Api::TgiGenerate | Api::TgiRoot | Api::SglangGenerate => "",
        };
        Self {
            api: job.api,
            engine,
            id: format!("{prefix}{request_id}"),
            created,
            model: job.model.clone(),
            choices: job.choices,
            prompt_tokens: job.prompts.iter().map(super::text::Prompt::len).collect(),
            cached: 0,
            report_cached: false,
            silent: false,
            usage: job.usage,
            details: job.details,
            tool: job.tool.clone(),
            length: 0,
            finish: Finish::Stop,
        }
    }

    fn sequences(&self) -> u32 {
        u32::try_from(self.prompt_tokens.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(self.choices)
    }

    /// Returns the tokens of all prompts.
    fn prompt_total(&self) -> u64 {
        self.prompt_tokens
            .iter()
            .map(|tokens| u64::from(*tokens))
            .sum()
    }

    /// Returns the tokens of the prompt a sequence answers.
    fn prompt_of(&self, sequence: u32) -> u64 {
        let prompt = sequence / self.choices;
        self.prompt_tokens
            .get(prompt as usize)
            .copied()
            .unwrap_or_default()
            .into()
    }

    /// Returns the tokens of all answers.
    fn completion_total(&self) -> u64 {
        u64::from(self.length) * u64::from(self.sequences())
    }

    /// Returns the `usage` of everything. `nulls` says that unset details are written as null.
    fn total_usage(&self, nulls: bool) -> OpenAiUsage<'_> {
        OpenAiUsage {
            frame: self,
            prompt: self.prompt_total(),
            completion: self.completion_total(),
            running: false,
            nulls,
        }
    }

    /// Says nothing about usage from now on.
    pub(super) fn silence(&mut self) {
        self.silent = true;
        self.details = false;
        self.usage = UsageWish::default();
    }

    /// Returns the `usage` of one sequence that has `completion` tokens so far.
    fn usage_of(&self, sequence: u32, completion: u32) -> OpenAiUsage<'_> {
        OpenAiUsage {
            frame: self,
            prompt: self.prompt_of(sequence),
            completion: completion.into(),
            running: true,
            nulls: false,
        }
    }
}

impl Finish {
    fn openai(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Tool => "tool_calls",
        }
    }
}

/// The `usage` object of OpenAI's chat and completions APIs, as each engine writes it.
struct OpenAiUsage<'a> {
    frame: &'a Frame,
    prompt: u64,
    completion: u64,
    /// It is that of a chunk.
    running: bool,
    nulls: bool,
}

impl Display for OpenAiUsage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frame.silent {
            return f.write_str("null");
        }
        let (prompt, completion) = (self.prompt, self.completion);
        let total = prompt + completion;
        let cached = self.frame.cached;
        match self.frame.engine {
            Engine::Tgi => write!(
                f,
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}}"#
            ),
            Engine::Openai | Engine::Anthropic => write!(
                f,
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
            ),
            Engine::Vllm | Engine::Sglang => {
                write!(
                    f,
                    r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}"#
                )?;
                let sglang = self.frame.engine == Engine::Sglang;
                if self.running && !sglang {
                    // What is not set is left out, but chats set this to null themselves.
                    if self.frame.api == Api::Chat {
                        f.write_str(r#","completion_tokens_details":null"#)?;
                    }
                } else if self.frame.report_cached && (cached > 0 || !sglang) {
                    write!(
                        f,
                        r#","prompt_tokens_details":{{"cached_tokens":{cached}}}"#
                    )?;
                } else if self.nulls || sglang {
                    f.write_str(r#","prompt_tokens_details":null"#)?;
                }
                f.write_str(if sglang {
                    r#","reasoning_tokens":0}"#
                } else {
                    "}"
                })
            }
        }
    }
}

/// Text as a JSON string.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if self.0.bytes().all(plain) {
            write!(f, "\"{}\"", self.0)
        } else {
            f.write_str(&serde_json::to_string(self.0).map_err(|_unreachable| fmt::Error)?)
        }
    }
}

/// Writes the end marker of OpenAI-like streams.
fn done(out: &mut BytesMut) -> fmt::Result {
    out.write_str("data: [DONE]\n\n")
}

#[cfg(test)]
mod tests;
