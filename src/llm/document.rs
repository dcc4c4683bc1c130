//! Picks out of one response document (a body or an event's data) what the gateway needs to know.

mod place;

use std::ops::Range;

use super::json::{self, Scanner, Sink, Text, Value};
use super::usage::{Counts, Usage, count, sum};
use place::{ErrorPart, Place};

/// Whether a document has `choices`, and any in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Choices {
    #[default]
    Absent,
    Empty,
    Present,
}

/// What the `type` member says, as far as it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Other,
    /// Anthropic's `message_start` and `message_delta`, whose usage counts add up to one report.
    MessageStart,
    MessageDelta,
    /// The event that ends a stream well.
    End,
    /// The event that ends it badly.
    Failed,
}

/// How far the choices of a document are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finish {
    #[default]
    Open,
    /// One has a `finish_reason`.
    Finished,
    /// It is `error` or `abort`.
    Aborted,
}

/// An error inside a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorFacts {
    /// An integer among `code`, `status`, `http_status_code`.
    pub(super) status: Option<u64>,
    /// `type`, `error_type` and a `code` that is a word, in lower case.
    pub(super) names: Vec<String>,
    /// The beginning of the message, in lower case.
    pub(super) message: String,
}

/// What a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) usage: Option<Counts>,
    pub(super) kind: Kind,
    pub(super) choices: Choices,
    /// `index` of the first choice.
    pub(super) choice: Option<u64>,
    pub(super) finish: Finish,
    /// SGLang's or llama.cpp's counts, summed over the elements of an array.
    pub(super) meta: Option<Usage>,
    /// The document is an array.
    pub(super) array: bool,
    /// `index` of the document itself.
    pub(super) index: Option<u64>,
    /// TGI's event carries a token.
    pub(super) token: bool,
    /// Bytes of its text.
    pub(super) token_text: u64,
    /// TGI's `generated_text` is there.
    pub(super) generated_text: bool,
    /// TGI's `details`.
    pub(super) generated_tokens: Option<u64>,
    pub(super) input_length: Option<u64>,
    /// Bytes of text in deltas and choices.
    pub(super) content: u64,
    /// Part of it that is reasoning.
    pub(super) reasoning: u64,
    /// Bytes of text in a whole answer, which a stream repeats at its end.
    pub(super) answer: u64,
    pub(super) error: Option<Box<ErrorFacts>>,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
}

impl Facts {
    /// Whether an event that says this counts for its text alone.
    fn is_plain(&self) -> bool {
        let counts = self.usage.is_some() || self.meta.is_some();
        let tgi = self.token
            || self.generated_text
            || self.token_text > 0
            || self.generated_tokens.is_some()
            || self.input_length.is_some();
        let ends = self.finish != Finish::Open || self.error.is_some();
        self.kind == Kind::Other && !counts && !tgi && !ends
    }
}

/// A document under way.
#[derive(Debug, Clone)]
pub(super) struct Document {
    scanner: Scanner<Place>,
    reader: Reader,
}

#[derive(Debug, Clone, Default)]
struct Reader {
    facts: Facts,
    /// The usage object under way: half of one would be a wrong bill.
    usage: Counts,
    /// Of the element under way.
    meta: Counts,
    /// The `object` member says that the members beside it describe an error (SGLang), or `type`
    /// does (the Responses API): they may come first, so they are kept until it is known.
    flat_error: bool,
    flat: ErrorFacts,
    /// The error under way has no members so far: `{}` says that nothing is wrong.
    error_is_empty: bool,
    /// Whether to note `model` and `id`.
    named: bool,
    /// Where the longest text in deltas and choices is, and whether that is reasoning.
    longest: Option<(Range<usize>, bool)>,
}

impl Document {
    pub(super) fn new() -> Self {
        let reader = Reader {
            named: true,
            ..Reader::default()
        };
        Self {
            scanner: Scanner::new(Place::Root),
            reader,
        }
    }

    /// Begins the next document; `named` says whether its model and id are wanted.
    pub(super) fn restart(&mut self, named: bool) {
        self.scanner.restart(Place::Root);
        self.reader = Reader {
            named,
            ..Reader::default()
        };
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.scanner.push(bytes, &mut self.reader);
    }

    /// Returns the bytes of text in `fragment`, which begins with the value of a content member, and
    /// how many of them are reasoning.
    pub(super) fn content_of(&mut self, fragment: &[u8]) -> (u64, u64) {
        self.reader.facts.content = 0;
        self.reader.facts.reasoning = 0;
        self.scanner.restart(Place::Content);
        self.scanner.push(fragment, &mut self.reader);
        (self.reader.facts.content, self.reader.facts.reasoning)
    }

    /// Whether the whole document was read.
    pub(super) fn complete(&self) -> bool {
        self.scanner.complete()
    }

    /// Whether further bytes cannot tell anything.
    pub(super) fn over(&self) -> bool {
        self.scanner.over()
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.reader.facts
    }

    /// Returns where the longest text of a whole document is, with its quotes, and whether it is
    /// reasoning; `None` if the document, in a stream, says more than text.
    pub(super) fn only_text(&self) -> Option<(Range<usize>, bool)> {
        let plain = self.complete() && self.facts().is_plain();
        self.reader.longest.clone().filter(|_| plain)
    }

    /// Whether this is the chunk that `include_usage` adds to a stream.
    pub(super) fn is_extra_usage(&self) -> bool {
        let facts = self.facts();
        self.complete()
            && facts.choices == Choices::Empty
            && facts.usage.is_some()
            && facts.error.is_none()
    }
}

// === impl Reader ===

impl Sink for Reader {
    type Node = Place;

    fn member(&mut self, parent: Place, key: &[u8]) -> Option<Place> {
        self.error_is_empty &= parent != Place::Error;
        parent.member(key)
    }

    fn element(&mut self, parent: Place) -> Option<Place> {
        match parent {
            Place::Root => Some(Place::Element),
            Place::Choices => {
                self.facts.choices = Choices::Present;
                Some(Place::Choice)
            }
            Place::Content | Place::Answer | Place::Reasoning => Some(parent),
            _ => None,
        }
    }

    fn value(&mut self, place: Place, value: Value<'_>, at: Range<usize>) {
        match value {
            Value::Object => self.object(place),
            Value::Array if place == Place::Choices => self.facts.choices = Choices::Empty,
            Value::Array if place == Place::Root => self.facts.array = true,
            Value::Array => {}
            Value::String(text) => {
                if matches!(place, Place::Content | Place::Reasoning) {
                    self.text(place, at);
                }
                self.string(place, text);
            }
            Value::Scalar(literal) => self.scalar(place, literal),
        }
    }

    fn close(&mut self, place: Place, _end: usize) {
        match place {
            Place::Usage => self.facts.usage = Some(self.usage),
            Place::Meta | Place::Timings => {
                if let Some(usage) = self.meta.usage() {
                    let before = self.facts.meta;
                    self.facts.meta = Some(before.map_or(usage, |before| sum(before, usage)));
                }
            }
            Place::Error if self.error_is_empty => self.facts.error = None,
            Place::Root if self.flat_error && self.facts.error.is_none() => {
                self.facts.error = Some(Box::new(std::mem::take(&mut self.flat)));
            }
            _ => {}
        }
    }
}

impl Reader {
    fn text(&mut self, place: Place, at: Range<usize>) {
        let known = self.longest.as_ref().map_or(0, |(at, _)| at.len());
        if at.len() > known {
            self.longest = Some((at, place == Place::Reasoning));
        }
    }

    fn object(&mut self, place: Place) {
        match place {
            Place::Usage => self.usage = Counts::default(),
            Place::Meta | Place::Timings => self.meta = Counts::default(),
            Place::Error => {
                self.facts.error = Some(Box::default());
                self.error_is_empty = true;
            }
            Place::Token => self.facts.token = true,
            _ => {}
        }
    }

    fn string(&mut self, place: Place, text: Text<'_>) {
        match place {
            Place::Content => self.facts.content += text.length,
            Place::Reasoning => {
                self.facts.content += text.length;
                self.facts.reasoning += text.length;
            }
            Place::TokenText => self.facts.token_text += text.length,
            Place::Answer => self.facts.answer += text.length,
            Place::Finish | Place::MetaFinish => self.finish_reason(text),
            Place::Type => self.kind(text.start),
            Place::Object => self.flat_error |= text.start == b"error",
            Place::GeneratedText => {
                self.facts.generated_text = true;
                self.facts.answer += text.length;
            }
            Place::Model if self.named => name(&mut self.facts.model, text),
            Place::Id if self.named => note(&mut self.facts.id, text),
            // Nothing is wrong, say some in so many words.
            Place::Error if text.length == 0 => self.facts.error = None,
            Place::Error => self.error().message = lower(text),
            Place::ErrorType => self.error().names.push(lower(text)),
            Place::InError(part) => part.string(self.error(), text),
            Place::Flat(part) => part.string(&mut self.flat, text),
            Place::Message => ErrorPart::Message.string(&mut self.flat, text),
            // A count in quotes is none.
            Place::Count(field) => self.usage.set(field, b"\""),
            Place::MetaCount(field) => self.meta.set(field, b"\""),
            _ => {}
        }
    }

    fn scalar(&mut self, place: Place, literal: &[u8]) {
        match place {
            Place::Count(field) => self.usage.set(field, literal),
            Place::MetaCount(field) => self.meta.set(field, literal),
            Place::ChoiceIndex => self.facts.choice = self.facts.choice.or(count(literal)),
            Place::Index => self.facts.index = count(literal),
            Place::GeneratedTokens => self.facts.generated_tokens = count(literal),
            Place::InputLength => self.facts.input_length = count(literal),
            Place::InError(part) => part.scalar(self.error(), literal),
            Place::Flat(part) => part.scalar(&mut self.flat, literal),
            // A later `null` takes back an earlier object, as it does for every JSON parser.
            Place::Usage => self.facts.usage = None,
            Place::Error if matches!(literal, b"null" | b"false" | b"0") => {
                self.facts.error = None;
            }
            Place::Error => {
                self.error();
            }
            _ => {}
        }
    }

    fn finish_reason(&mut self, reason: Text<'_>) {
        let finish = match reason.start {
            b"" => Finish::Open,
            b"error" | b"abort" => Finish::Aborted,
            _ => Finish::Finished,
        };
        self.facts.finish = self.facts.finish.max(finish);
    }

    fn kind(&mut self, name: &[u8]) {
        self.facts.kind = match name {
            b"message_start" => Kind::MessageStart,
            b"message_delta" => Kind::MessageDelta,
            b"message_stop" | b"response.completed" | b"response.incomplete" => Kind::End,
            b"response.failed" => Kind::Failed,
            b"error" => {
                self.flat_error = true;
                Kind::Failed
            }
            _ => Kind::Other,
        };
    }

    fn error(&mut self) -> &mut ErrorFacts {
        self.facts.error.get_or_insert_default()
    }
}

/// Keeps a model's name, or its beginning; the first one counts.
fn name(slot: &mut Option<String>, text: Text<'_>) {
    let name = text.beginning();
    if slot.is_none() && !name.is_empty() {
        *slot = Some(name);
    }
}

/// Keeps a name that is not empty; the first one counts.
fn note(slot: &mut Option<String>, text: Text<'_>) {
    if let (None, Some(name @ [_, ..])) = (&slot, text.whole()) {
        *slot = Some(json::text(name));
    }
}

fn lower(text: Text<'_>) -> String {
    String::from_utf8_lossy(text.start).to_ascii_lowercase()
}
