//! Watches a response on its way to the client.

mod shortcut;

use std::borrow::Cow;

use self::shortcut::{Shortcut, shortcut};
use super::calibration::Rates;
use super::document::Document;
use super::endpoint::{BodyFormat, Endpoint};
use super::likeness::Likeness;
use super::meter::{End, Meter};
use super::peek::RequestHead;
use super::sse::{self, Piece, Splitter};
use super::usage::{Usage, UsageSource, count};

/// What a chunk brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Data events that ended in this chunk; comments and `[DONE]` are none.
    pub events: u32,
}

/// What a response said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The engine's counts, `None` if it gave none. With [`UsageSource::Counted`] the prompt count
    /// is 0 when only the written tokens are known; with [`UsageSource::Estimated`] more was
    /// written than they say, or read ([`Self::bill`] fills that in).
    pub usage: Option<Usage>,
    /// `usage` has what was written, and only some of the prompts that were sent.
    pub lacks_prompts: bool,
    /// How far `usage` can be trusted; [`UsageSource::Estimated`] without one.
    pub source: UsageSource,
    /// Data events, without `[DONE]`.
    pub events: u64,
    /// Bytes of text written, reasoning and the arguments of tools included.
    pub content_bytes: u64,
    /// Part of it that is reasoning.
    pub reasoning_bytes: u64,
    /// The model the engine says it ran, at most 256 bytes.
    pub model: Option<String>,
    /// The engine's id of the response.
    pub response_id: Option<String>,
    /// The response ended the way its protocol ends: `[DONE]`, `message_stop`,
    /// `response.completed`, `generated_text` or a finish reason; a JSON body is complete.
    pub ended: bool,
    /// It carries an error.
    pub error: bool,
}

impl Summary {
    /// Returns the bill: the engine's counts, with estimates for what it did not say.
    ///
    /// `prompt_bytes` is that of the request's [`RequestHead`](super::RequestHead), `rates` those
    /// of its model.
    #[must_use]
    pub fn bill(&self, prompt_bytes: u64, rates: &Rates) -> (Usage, UsageSource) {
        let guess = rates.estimate(prompt_bytes, self.content_bytes);
        let usage = match (self.usage, self.source) {
            (Some(usage), UsageSource::Counted) if usage.prompt == 0 => {
                Usage::new(guess.prompt, usage.completion)
            }
            (Some(said), UsageSource::Estimated) => {
                let (prompt, completion) = match said.prompt {
                    read if self.lacks_prompts => (read.max(guess.prompt), said.completion),
                    0 => (guess.prompt, said.completion.max(guess.completion)),
                    read => (read, said.completion.max(guess.completion)),
                };
                Usage {
                    cached: said.cached,
                    reasoning: said.reasoning,
                    ..Usage::new(prompt, completion)
                }
            }
            (Some(usage), _) => usage,
            (None, _) => guess,
        };
        (usage, self.source)
    }
}

/// Observes a response's bytes without touching them; keeps a bounded part, whatever arrives.
#[derive(Debug, Clone)]
pub struct Tee {
    format: BodyFormat,
    splitter: Splitter,
    document: Document,
    /// The beginning of the data of the event under way, to know `[DONE]`.
    head: [u8; HEAD],
    /// Length of that data without white space around it, up to `HEAD`.
    head_len: usize,
    name: Name,
    meter: Meter,
    shortcut: Option<&'static Shortcut>,
    /// An event that the shortcut has read.
    likeness: Likeness,
    model: Option<String>,
    id: Option<String>,
    /// The first document was read, which names the model and the response.
    named: bool,
    events: u64,
}

/// One more byte than `[DONE]` has.
const HEAD: usize = sse::DONE.len() + 1;

/// The beginning of an event's name, enough to know `error` and `ping`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Name {
    bytes: [u8; 6],
    len: usize,
}

impl Name {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
    }

    pub(super) fn is(&self, name: &[u8]) -> bool {
        &self.bytes[..self.len] == name
    }
}

impl Tee {
    /// Watches a response of `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint, format: BodyFormat) -> Self {
        Self {
            format,
            splitter: Splitter::new(),
            document: Document::new(),
            head: [0; HEAD],
            head_len: 0,
            name: Name::default(),
            meter: Meter::new(endpoint, format),
            shortcut: shortcut(endpoint),
            likeness: Likeness::new(),
            model: None,
            id: None,
            named: false,
            events: 0,
        }
    }

    /// Takes the counts of TGI's `x-prompt-tokens` and `x-generated-tokens` headers.
    pub fn tgi_headers(&mut self, prompt: Option<u64>, generated: Option<u64>) {
        let sane = |n: Option<u64>| n.filter(|n| count(n.to_string().as_bytes()).is_some());
        self.meter.tgi_headers(sane(prompt), sane(generated));
    }

    /// Says how many prompts were sent and how many choices were asked for of each, so that a
    /// stream that is cut is billed each prompt once, and not for the first prompt only.
    pub fn asked(&mut self, head: &RequestHead) {
        self.meter.set_asked(head.prompts, head.choices);
    }

    /// Whether a stream has said that it is over, so that no usage can follow: `[DONE]`,
    /// `message_stop`, `response.completed` and its like, or TGI's `generated_text`, each with the
    /// blank line that ends the event. A finish reason is no such word, and a JSON body has none.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.format == BodyFormat::EventStream && self.meter.end == End::Done
    }

    /// Whether a JSON body is complete, whatever its framing says.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.format == BodyFormat::Json && self.document.complete()
    }

    /// Reads the next bytes of the response.
    pub fn observe(&mut self, chunk: &[u8]) -> Progress {
        let before = self.events;
        match self.format {
            BodyFormat::Json => {
                self.document.push(chunk);
            }
            BodyFormat::EventStream => self.observe_events(chunk),
        }
        Progress {
            events: u32::try_from(self.events - before).unwrap_or(u32::MAX),
        }
    }

    /// Returns what is known now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let facts = self.document.facts();
        let json = self.format == BodyFormat::Json;
        // The last event may lack its blank line, and a JSON body has none.
        let complete = self.document.complete();
        let done = !json && self.is_done_marker();
        let (mut model, mut id) = (&self.model, &self.id);
        let mut meter = Cow::Borrowed(&self.meter);
        if done {
            meter.to_mut().done();
        } else if complete || json {
            let meter = meter.to_mut();
            meter.take(facts);
            meter.error |= self.name.is(b"error");
            if !self.named {
                (model, id) = (&facts.model, &facts.id);
            }
        }
        if json {
            let meter = meter.to_mut();
            meter.cut = !complete && facts.array;
            meter.end = if complete { End::Done } else { End::Open };
        }
        let bill = meter.bill();
        Summary {
            usage: bill.map(|(usage, _)| usage),
            lacks_prompts: meter.lacks_prompts(),
            source: bill.map_or(UsageSource::Estimated, |(_, source)| source),
            events: self.events + u64::from(!json && complete && !done),
            content_bytes: meter.content,
            reasoning_bytes: meter.reasoning,
            model: model.clone(),
            response_id: id.clone(),
            ended: meter.end != End::Open,
            error: meter.error,
        }
    }

    fn observe_events(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            if self.splitter.at_boundary()
                && let Some(len) = self.take_whole(&chunk[at..])
            {
                at += len;
            } else {
                self.read_one(chunk, &mut at);
            }
        }
    }

    /// Reads up to the end of the event under way.
    fn read_one(&mut self, chunk: &[u8], at: &mut usize) {
        while let Some(piece) = self.splitter.next(chunk, at) {
            match piece {
                Piece::Data(bytes) => {
                    self.keep_head(bytes);
                    self.document.push(bytes);
                }
                Piece::Name(bytes) => self.name.push(bytes),
                Piece::End { data } => {
                    self.event_ended(data);
                    return;
                }
            }
        }
    }

    /// Counts the event at the beginning of `bytes` if it is whole and has nothing to say but text;
    /// returns its length then.
    fn take_whole(&mut self, bytes: &[u8]) -> Option<usize> {
        if let Some(alike) = self.likeness.find(bytes) {
            self.meter.plain(alike.content, alike.reasoning);
            self.events += 1;
            return Some(alike.len);
        }
        let event = sse::whole(bytes)?;
        if !self.take_plain(event) {
            return None;
        }
        if event.data != sse::DONE {
            self.likeness.learn(&bytes[..event.len]);
        }
        Some(event.len)
    }

    /// Counts an event that has nothing to say but text; returns whether it was one.
    fn take_plain(&mut self, event: sse::Whole<'_>) -> bool {
        if event.data == sse::DONE {
            self.meter.done();
            return true;
        }
        let Some(shortcut) = self
            .shortcut
            .filter(|_| self.named && event.name != b"error")
        else {
            return false;
        };
        if shortcut.has_more(event.data) {
            return false;
        }
        let key = &shortcut.content;
        let (mut content, mut reasoning, mut found) = (0, 0, false);
        for at in key.find_iter(event.data) {
            found = true;
            let text = self
                .document
                .content_of(&event.data[at + key.needle().len()..]);
            content += text.0;
            reasoning += text.1;
        }
        self.document.restart(false);
        if !found {
            return false;
        }
        self.meter.plain(content, reasoning);
        self.events += 1;
        true
    }

    fn keep_head(&mut self, bytes: &[u8]) {
        let bytes = if self.head_len == 0 {
            bytes.trim_ascii_start()
        } else {
            bytes
        };
        for byte in bytes.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            let Some(slot) = self.head.get_mut(self.head_len) else {
                return;
            };
            *slot = *byte;
            self.head_len += 1;
        }
    }

    fn is_done_marker(&self) -> bool {
        &self.head[..self.head_len] == sse::DONE
    }

    fn event_ended(&mut self, data: bool) {
        if data && self.is_done_marker() {
            self.meter.done();
        } else if data {
            self.events += 1;
            self.take_document();
        }
        self.document.restart(!self.named);
        self.head_len = 0;
        self.name = Name::default();
    }

    fn take_document(&mut self) {
        let facts = self.document.facts();
        self.meter.take(facts);
        self.meter.error |= self.name.is(b"error");
        if !self.named {
            self.model.clone_from(&facts.model);
            self.id.clone_from(&facts.id);
            self.named = true;
        }
    }
}

#[cfg(test)]
mod tests;
