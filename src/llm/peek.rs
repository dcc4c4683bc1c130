//! Reads in a request what routing, retrying and metering need, without understanding the rest.

mod number;

use std::ops::Range;

use self::number::{Longest, is_number, lax_bool, quantity};
use super::endpoint::Endpoint;
use super::json::{Scanner, Sink, Value};

/// Bytes of text that a token id in a prompt stands for.
const TOKEN_ID: u64 = 4;

/// What a request says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// Bytes of the body that are files and no text: images, sound.
    pub media_bytes: u64,
    /// Bytes of the query that is read once per passage.
    pub query_bytes: u64,
    /// Passages that are compared with it, at least 1.
    pub passages: u64,
    /// The body is one JSON object, so that it can be edited.
    pub object: bool,
    /// What it costs at most can be known: the body is one JSON object, and its numbers are numbers.
    pub sound: bool,
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
        media_bytes: request.media_bytes,
        query_bytes: request.query_bytes,
        passages: request.passages.max(1),
        object: request.object,
        sound: request.object && !request.longest.strange && !request.strange,
    }
}

/// `stream_options` as they stand in a body; the last ones, if there are several.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Where their value is.
    pub(super) at: Option<Range<usize>>,
    /// It is an object.
    pub(super) object: bool,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the body"
)]
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
    media_bytes: u64,
    query_bytes: u64,
    passages: u64,
    /// The number of answers is none.
    strange: bool,
    /// The file under way says that it is one.
    base64: bool,
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
    /// Text that is read once per passage.
    Query,
    /// What is compared with it: one or several.
    Passages,
    /// Files, or the objects around them.
    Media,
    /// Anthropic's way to hold a file or a text.
    Source,
    SourceType,
    SourceData,
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

    /// Reads how many answers are asked for.
    fn answers(&mut self, value: Value<'_>) -> u64 {
        let answers = quantity(value);
        self.strange |= answers.is_none() && !matches!(value, Value::Scalar(b"null"));
        answers.unwrap_or(1)
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
            Place::Options => match key {
                b"include_usage" => Some(Place::IncludeUsage),
                b"continuous_usage_stats" => Some(Place::Continuous),
                _ => None,
            },
            Place::Parameters => match key {
                b"max_new_tokens" => Some(Place::MaxCompletion),
                b"n" => Some(Place::Choices),
                b"best_of" => Some(Place::BestOf),
                _ => None,
            },
            Place::Prompt | Place::Prompts | Place::PromptOrToken | Place::Passages => {
                if is_media(key) {
                    return Some(Place::Media);
                }
                if key == b"source" {
                    self.base64 = false;
                    return Some(Place::Source);
                }
                let is_text = is_text(key);
                if is_text {
                    self.prompt_bytes += key.len() as u64;
                }
                is_text.then_some(Place::Prompt)
            }
            Place::Media => Some(Place::Media),
            Place::Source => match key {
                b"type" => Some(Place::SourceType),
                b"data" => Some(Place::SourceData),
                _ => None,
            },
            _ => None,
        }
    }

    fn element(&mut self, parent: Place) -> Option<Place> {
        match parent {
            Place::Prompts => Some(Place::PromptOrToken),
            Place::Prompt | Place::PromptOrToken => Some(Place::Prompt),
            Place::Passages => {
                self.passages += 1;
                Some(Place::Prompt)
            }
            Place::Query => Some(Place::Query),
            Place::Media => Some(Place::Media),
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
            (Place::Query, Value::String(text)) => {
                self.query_bytes += text.length;
                self.prompt_bytes += text.length;
            }
            (Place::Media, Value::String(text)) if text.length >= SMALLEST_FILE => {
                self.media_bytes += at.len() as u64;
            }
            (Place::SourceType, Value::String(text)) => {
                self.base64 = text.whole() == Some(b"base64");
            }
            (Place::SourceData, Value::String(text)) => match self.base64 {
                true => self.media_bytes += at.len() as u64,
                false => self.prompt_bytes += text.length,
            },
            (Place::Prompt | Place::Prompts | Place::PromptOrToken | Place::Passages, value) => {
                // A number is a token of a prompt, whatever else a prompt.
                let whole = !matches!(value, Value::Scalar(literal) if is_number(literal));
                self.prompts += u64::from(whole && place == Place::PromptOrToken);
                self.prompt(value);
            }
            (Place::Choices, value) => self.choices = self.answers(value),
            (Place::BestOf, value) => self.best_of = self.answers(value),
            (Place::MaxCompletion, value) => self.longest.take(value),
            (Place::Options, value) => {
                let object = matches!(value, Value::Object);
                self.options = Options {
                    at: Some(at),
                    object,
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
        b"prompt" | b"text" | b"inputs" | b"input_ids" => Place::Prompts,
        b"query" | b"queries" | b"text_1" => Place::Query,
        b"documents" | b"text_2" | b"items" => Place::Passages,
        b"messages" | b"system" | b"instructions" | b"tools" | b"suffix" | b"input" => {
            Place::Prompt
        }
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
            | b"file_id"
            | b"signature"
            | b"encrypted_content"
            | b"cache_control"
    )
}

/// Keys under which files are, as base64 or by reference.
fn is_media(key: &[u8]) -> bool {
    matches!(
        key,
        b"image_url"
            | b"image"
            | b"input_audio"
            | b"audio_url"
            | b"video_url"
            | b"file"
            | b"file_data"
    )
}

/// A shorter one is a name or a URL.
const SMALLEST_FILE: u64 = 256;

impl Wish {
    fn read(value: Value<'_>, at: Range<usize>) -> Self {
        Self {
            at: Some(at),
            exact: matches!(value, Value::Scalar(b"true")),
            lax: lax_bool(value),
        }
    }
}

#[cfg(test)]
mod tests;
