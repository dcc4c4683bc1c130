//! The map of the places in a response document that matter.

use super::{ErrorFacts, lower};
use crate::llm::json::Text;
use crate::llm::usage::{Field, count};

/// A place in a response document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    /// Of an array at the root.
    Element,
    Choices,
    Choice,
    ChoiceIndex,
    Finish,
    /// Text that was written, or a container of such.
    Content,
    /// The part of it that is reasoning.
    Reasoning,
    /// A whole answer, or a container of such.
    Answer,
    /// `response` of the Responses API.
    Response,
    /// `message`: Anthropic's opening, or the words of an error.
    Message,
    /// `x_groq`, which holds a usage object.
    Vendor,
    Usage,
    InputDetails,
    OutputDetails,
    Count(Field),
    /// SGLang's `meta_info`.
    Meta,
    /// llama.cpp's `timings`, which count as `meta_info` does.
    Timings,
    MetaCount(Field),
    MetaFinish,
    Details,
    GeneratedTokens,
    InputLength,
    GeneratedText,
    Token,
    TokenText,
    Index,
    Type,
    Object,
    Id,
    Model,
    Error,
    ErrorType,
    InError(ErrorPart),
    Flat(ErrorPart),
}

/// A member of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorPart {
    Message,
    Type,
    Code,
}

impl Place {
    /// Returns the place of a member, if it is on the map.
    pub(super) fn member(self, key: &[u8]) -> Option<Self> {
        match self {
            Self::Root | Self::Element => root(key),
            Self::Choice => choice(key),
            Self::Content | Self::Answer if is_reasoning(key) => Some(Self::Reasoning),
            Self::Content | Self::Answer | Self::Reasoning => is_text(key).then_some(self),
            Self::Response | Self::Message => inner(key),
            Self::Vendor => (key == b"usage").then_some(Self::Usage),
            Self::Usage => usage(key),
            Self::InputDetails => (key == b"cached_tokens").then_some(Self::Count(Field::Cached)),
            Self::OutputDetails => matches!(key, b"reasoning_tokens" | b"thinking_tokens")
                .then_some(Self::Count(Field::Reasoning)),
            Self::Meta => meta(key),
            Self::Timings => timings(key),
            Self::MetaFinish => (key == b"type").then_some(Self::MetaFinish),
            Self::Details => details(key),
            Self::Token => (key == b"text").then_some(Self::TokenText),
            Self::Error => error(key).map(Self::InError),
            _ => None,
        }
    }
}

fn root(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"id" => Place::Id,
        b"model" => Place::Model,
        b"type" => Place::Type,
        b"object" => Place::Object,
        b"index" => Place::Index,
        b"choices" => Place::Choices,
        b"usage" => Place::Usage,
        b"x_groq" => Place::Vendor,
        b"response" => Place::Response,
        b"message" => Place::Message,
        // Of Anthropic and of the Responses API; the whole answers are SGLang's and theirs.
        b"delta" => Place::Content,
        b"text" | b"content" | b"output" => Place::Answer,
        b"meta_info" => Place::Meta,
        b"timings" => Place::Timings,
        b"details" => Place::Details,
        b"token" => Place::Token,
        b"generated_text" => Place::GeneratedText,
        b"error" => Place::Error,
        b"error_type" => Place::ErrorType,
        b"code" => Place::Flat(ErrorPart::Code),
        _ => return None,
    })
}

fn choice(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"index" => Place::ChoiceIndex,
        b"finish_reason" => Place::Finish,
        b"delta" | b"message" | b"text" => Place::Content,
        b"usage" => Place::Usage,
        _ => return None,
    })
}

/// Every string in a message is text, but for these.
fn is_text(key: &[u8]) -> bool {
    !matches!(
        key,
        b"role"
            | b"type"
            | b"id"
            | b"call_id"
            | b"status"
            | b"object"
            | b"signature"
            | b"encrypted_content"
            | b"data"
            | b"annotations"
            | b"logprobs"
            | b"stop_reason"
            | b"stop_sequence"
    )
}

/// DeepSeek's and vLLM's names, and Anthropic's.
fn is_reasoning(key: &[u8]) -> bool {
    matches!(key, b"reasoning_content" | b"reasoning" | b"thinking")
}

fn inner(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"id" => Place::Id,
        b"model" => Place::Model,
        b"usage" => Place::Usage,
        b"error" => Place::Error,
        _ => return None,
    })
}

fn usage(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"prompt_tokens" | b"input_tokens" => Place::Count(Field::Prompt),
        b"completion_tokens" | b"output_tokens" => Place::Count(Field::Completion),
        b"total_tokens" => Place::Count(Field::Total),
        b"prompt_tokens_details" | b"input_tokens_details" => Place::InputDetails,
        b"completion_tokens_details" | b"output_tokens_details" => Place::OutputDetails,
        b"cached_tokens" | b"prompt_cache_hit_tokens" => Place::Count(Field::Cached),
        b"cache_read_input_tokens" => Place::Count(Field::CacheRead),
        b"cache_creation_input_tokens" => Place::Count(Field::CacheCreation),
        b"reasoning_tokens" => Place::Count(Field::Reasoning),
        _ => return None,
    })
}

fn meta(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"id" => Place::Id,
        b"prompt_tokens" => Place::MetaCount(Field::Prompt),
        b"completion_tokens" => Place::MetaCount(Field::Completion),
        b"cached_tokens" => Place::MetaCount(Field::Cached),
        b"reasoning_tokens" => Place::MetaCount(Field::Reasoning),
        b"finish_reason" => Place::MetaFinish,
        _ => return None,
    })
}

/// `prompt_n` is what was computed, `cache_n` what was not (llama.cpp tools/server/README.md).
fn timings(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"prompt_n" => Place::MetaCount(Field::Prompt),
        b"cache_n" => Place::MetaCount(Field::CacheRead),
        b"predicted_n" => Place::MetaCount(Field::Completion),
        _ => return None,
    })
}

fn details(key: &[u8]) -> Option<Place> {
    Some(match key {
        b"generated_tokens" => Place::GeneratedTokens,
        b"input_length" => Place::InputLength,
        _ => return None,
    })
}

fn error(key: &[u8]) -> Option<ErrorPart> {
    Some(match key {
        b"message" => ErrorPart::Message,
        b"type" => ErrorPart::Type,
        b"code" | b"status" | b"status_code" | b"http_status_code" => ErrorPart::Code,
        _ => return None,
    })
}

impl ErrorPart {
    pub(super) fn string(self, error: &mut ErrorFacts, text: Text<'_>) {
        match self {
            Self::Message => error.message = lower(text),
            Self::Type => error.names.push(lower(text)),
            Self::Code => match count(text.start) {
                Some(status) if text.length > 0 => error.status = Some(status),
                _ => error.names.push(lower(text)),
            },
        }
    }

    pub(super) fn scalar(self, error: &mut ErrorFacts, literal: &[u8]) {
        if self == Self::Code
            && let Some(status) = count(literal)
        {
            error.status = Some(status);
        }
    }
}
