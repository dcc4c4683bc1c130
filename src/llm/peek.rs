//! Reads in a request what routing, retrying and metering need, without understanding the rest.

use std::ops::Range;

use super::endpoint::Endpoint;
use super::json::{Scanner, Sink, Value};

/// Bytes of text that a token id in a prompt stands for.
const TOKEN_ID: u64 = 4;

/// What a request says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The model's name; of a longer one, what fits into 256 bytes.
    pub model: Option<String>,
    /// The answer is to be a stream.
    pub stream: bool,
    /// The usage the client itself asked for in its stream.
    pub usage: UsageWish,
    /// Bytes of decoded text that the model reads, without images and other files.
    pub prompt_bytes: u64,
    /// The Responses API keeps something beyond this call, so it is never sent twice.
    pub stateful: bool,
    /// Answers asked for per prompt (`n`), at least 1.
    pub choices: u64,
    /// Prompts it holds (`/v1/completions` takes several), at least 1.
    pub prompts: u64,
    /// Answers written per prompt, also those that are thrown away (`best_of`), at least 1.
    pub candidates: u64,
    /// The most tokens one answer may have, if the request says so; of several limits the largest.
    pub max_completion: Option<u64>,
}

/// What `stream_options` ask for: true, or what a lenient parser (pydantic) takes for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageWish {
    /// `include_usage`: that of the whole, in a chunk of its own.
    pub last: bool,
    /// `continuous_usage_stats`: that so far, with every chunk.
    pub continuous: bool,
}

/// Reads a request body; what cannot be read has its default.
#[must_use]
pub fn peek(endpoint: Endpoint, body: &[u8]) -> RequestHead {
    let request = Request::read(body);
    let options = &request.options;
    RequestHead {
        stream: request.stream || endpoint == Endpoint::GenerateStream,
        usage: UsageWish {
            last: options.usage.lax == Some(true),
            continuous: options.continuous.lax == Some(true),
        },
        stateful: endpoint == Endpoint::Responses && request.is_stateful(),
        model: request.model,
        prompt_bytes: request.prompt_bytes,
        choices: request.choices.max(1),
        prompts: request.prompts.max(1),
        candidates: request.choices.max(request.best_of).max(1),
        max_completion: request.longest.known(),
    }
}

/// The limits a request sets to its answer.
#[derive(Debug, Default)]
struct Longest {
    limit: Option<u64>,
    /// One of them is no number of tokens: what an engine takes that for is not known.
    strange: bool,
}

impl Longest {
    fn known(&self) -> Option<u64> {
        self.limit.filter(|_| !self.strange)
    }

    /// Takes one limit; -1 is llama.cpp's "no limit".
    fn take(&mut self, value: Value<'_>) {
        if matches!(value, Value::Scalar(b"null")) {
            return;
        }
        match quantity(value) {
            Some(limit) => self.limit = self.limit.max(Some(limit)),
            None => self.strange = true,
        }
    }
}

/// Reads a whole number as lenient parsers do, for which `"5"` and `5.0` are 5.
fn quantity(value: Value<'_>) -> Option<u64> {
    let literal = match value {
        Value::Scalar(literal) => literal,
        Value::String(text) => text.whole()?,
        Value::Object | Value::Array => return None,
    };
    let (whole, fraction) = match literal.iter().position(|&byte| byte == b'.') {
        Some(point) => (&literal[..point], &literal[point + 1..]),
        None => (literal, &b""[..]),
    };
    let integral = fraction.iter().all(|&digit| digit == b'0');
    let number = integral && !whole.is_empty();
    number.then(|| super::usage::count(whole)).flatten()
}

/// `stream_options` as they stand in a body; the last ones, if there are several.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Where their value is.
    pub(super) at: Option<Range<usize>>,
    /// It is an object.
    pub(super) object: bool,
    /// That object is empty.
    pub(super) empty: bool,
    /// `include_usage`.
    pub(super) usage: Wish,
    /// `continuous_usage_stats`.
    pub(super) continuous: Wish,
}

/// One of them, as it stands there.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Where its value is.
    pub(super) at: Option<Range<usize>>,
    /// That value is the literal `true`.
    pub(super) exact: bool,
    /// What a lenient parser makes of it.
    lax: Option<bool>,
}

/// A request body, read once.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// The whole body is one JSON object.
    pub(super) object: bool,
    /// Just after the body's opening bracket.
    pub(super) members: usize,
    pub(super) stream: bool,
    pub(super) options: Options,
    model: Option<String>,
    prompt_bytes: u64,
    choices: u64,
    best_of: u64,
    prompts: u64,
    longest: Longest,
    /// Whether each way of keeping something is used, by [`Place::Kept`] and [`Place::Resumed`].
    state: [bool; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Model,
    Stream,
    Options,
    IncludeUsage,
    Continuous,
    Choices,
    BestOf,
    MaxCompletion,
    /// An object of sampling parameters.
    Parameters,
    /// The answer is kept if this is true.
    Kept(usize),
    /// Something kept is taken up if this is not null.
    Resumed(usize),
    /// Text the model reads, or a container of such.
    Prompt,
    /// `prompt`: one or several.
    Prompts,
    /// An element of it: a prompt, or a token of the only one.
    PromptOrToken,
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Self {
        let mut request = Self::default();
        let mut scanner = Scanner::new(Place::Root);
        scanner.push(body, &mut request);
        request.object &= scanner.complete();
        request
    }

    fn is_stateful(&self) -> bool {
        self.state.contains(&true)
    }

    /// Takes a value that is read as yes or no.
    fn flag(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        let lax = lax_bool(value);
        let given = !matches!(value, Value::Scalar(b"null"));
        match place {
            Place::Stream => self.stream = lax == Some(true),
            Place::Kept(way) => self.state[way] = lax == Some(true),
            Place::Resumed(way) => self.state[way] = given,
            Place::IncludeUsage => self.options.usage = Wish::read(value, at),
            Place::Continuous => self.options.continuous = Wish::read(value, at),
            _ => {}
        }
    }

    /// Takes a value of which the model reads the text.
    fn prompt(&mut self, value: Value<'_>) {
        match value {
            Value::String(text) => self.prompt_bytes += text.length,
            Value::Scalar(literal) if literal[0].is_ascii_digit() => self.prompt_bytes += TOKEN_ID,
            _ => {}
        }
    }
}

impl Sink for Request {
    type Node = Place;

    fn member(&mut self, parent: Place, key: &[u8]) -> Option<Place> {
        match parent {
            Place::Root => root(key),
            Place::Options => {
                self.options.empty = false;
                match key {
                    b"include_usage" => Some(Place::IncludeUsage),
                    b"continuous_usage_stats" => Some(Place::Continuous),
                    _ => None,
                }
            }
            Place::Parameters => match key {
                b"max_new_tokens" => Some(Place::MaxCompletion),
                _ => None,
            },
            Place::Prompt => {
                let is_text = is_text(key);
                if is_text {
                    self.prompt_bytes += key.len() as u64;
                }
                is_text.then_some(Place::Prompt)
            }
            _ => None,
        }
    }

    fn element(&mut self, parent: Place) -> Option<Place> {
        match parent {
            Place::Prompts => Some(Place::PromptOrToken),
            Place::Prompt | Place::PromptOrToken => Some(Place::Prompt),
            _ => None,
        }
    }

    fn value(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        match (place, value) {
            (Place::Root, Value::Object) => {
                self.object = true;
                self.members = at.end;
            }
            (Place::Model, Value::String(text)) => self.model = Some(text.beginning()),
            (Place::Model, _) => self.model = None,
            (Place::Prompt | Place::Prompts | Place::PromptOrToken, value) => {
                let whole = matches!(value, Value::String(_) | Value::Array);
                self.prompts += u64::from(whole && place == Place::PromptOrToken);
                self.prompt(value);
            }
            (Place::Choices, value) => self.choices = quantity(value).unwrap_or(1),
            (Place::BestOf, value) => self.best_of = quantity(value).unwrap_or(1),
            (Place::MaxCompletion, value) => self.longest.take(value),
            (Place::Options, value) => {
                let object = matches!(value, Value::Object);
                self.options = Options {
                    at: Some(at),
                    object,
                    empty: object,
                    ..Options::default()
                };
            }
            _ => self.flag(place, value, at),
        }
    }

    fn close(&mut self, place: Place, end: usize) {
        let opened = match place {
            Place::Options => &mut self.options.at,
            Place::IncludeUsage => &mut self.options.usage.at,
            Place::Continuous => &mut self.options.continuous.at,
            _ => return,
        };
        if let Some(at) = opened {
            at.end = end;
        }
    }
}

fn root(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"model" => Place::Model,
        b"stream" => Place::Stream,
        b"stream_options" => Place::Options,
        b"n" => Place::Choices,
        b"best_of" => Place::BestOf,
        b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" | b"n_predict" => {
            Place::MaxCompletion
        }
        b"parameters" | b"sampling_params" => Place::Parameters,
        b"store" => Place::Kept(0),
        b"background" => Place::Kept(1),
        b"previous_response_id" => Place::Resumed(2),
        b"conversation" => Place::Resumed(3),
        b"prompt" => Place::Prompts,
        b"messages" | b"system" | b"instructions" | b"tools" | b"suffix" | b"input" | b"inputs"
        | b"input_ids" | b"text" | b"text_1" | b"text_2" | b"query" | b"queries" | b"documents"
        | b"items" => Place::Prompt,
        _ => return None,
    })
}

/// Everything in a prompt is text, but for labels and files.
fn is_text(key: &[u8]) -> bool {
    !matches!(
        key,
        b"role"
            | b"type"
            | b"id"
            | b"tool_call_id"
            | b"tool_use_id"
            | b"call_id"
            | b"status"
            | b"image_url"
            | b"image"
            | b"input_audio"
            | b"audio_url"
            | b"video_url"
            | b"file"
            | b"file_data"
            | b"file_id"
            | b"source"
            | b"signature"
            | b"encrypted_content"
            | b"cache_control"
    )
}

impl Wish {
    fn read(value: Value<'_>, at: Range<usize>) -> Self {
        Self {
            at: Some(at),
            exact: matches!(value, Value::Scalar(b"true")),
            lax: lax_bool(value),
        }
    }
}

/// Reads a value as lenient parsers do.
///
/// Pydantic's rule, which is vLLM's and SGLang's:
/// `https://docs.pydantic.dev/latest/concepts/conversion_table/`
fn lax_bool(value: Value<'_>) -> Option<bool> {
    let word = match value {
        Value::Scalar(b"true" | b"1" | b"1.0") => return Some(true),
        Value::Scalar(b"false" | b"0" | b"0.0") => return Some(false),
        Value::String(text) => text.whole()?,
        Value::Scalar(_) | Value::Object | Value::Array => return None,
    };
    let is = |words: [&str; 6]| {
        words
            .iter()
            .any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
    };
    if is(["true", "1", "on", "t", "y", "yes"]) {
        Some(true)
    } else if is(["false", "0", "off", "f", "n", "no"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
