//! Makes one bill of everything the documents of a response said.

use super::document::{Choices, Facts, Finish, Kind};
use super::endpoint::{BodyFormat, Dialect, Endpoint};
use super::usage::{Counts, Usage, UsageSource, sum};

/// Choices whose running counts are kept apart. Engines allow 128 per prompt; what comes beyond
/// this many shares the last place, and the final count is not affected.
const PARTS: usize = 512;

/// The last report about one part of a response: a choice, or a prompt of several.
#[derive(Debug, Clone, Copy)]
struct Part {
    index: u64,
    usage: Usage,
    finished: bool,
}

/// How the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The last choice seen has ended; another may still be written.
    Finished,
    /// It says that it is over.
    Done,
}

/// Anthropic's report, which comes in two halves.
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    counts: Counts,
    /// The second half was there.
    ended: bool,
}

/// The counts of one response so far.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    endpoint: Endpoint,
    format: BodyFormat,
    /// The engine's report on the whole.
    whole: Option<Usage>,
    /// Reports on parts, one per chunk or one per prompt.
    parts: Vec<Part>,
    /// A part was reported before it was finished.
    continuous: bool,
    /// Prompts that were sent.
    prompts: u64,
    /// Choices per prompt, which share its prompt tokens.
    choices: u64,
    message: Option<Message>,
    /// TGI's counts, from headers or the last event.
    prompt: Option<u64>,
    generated: Option<u64>,
    /// TGI's events, one token each.
    token_events: u64,
    pub(super) content: u64,
    /// Part of `content`.
    pub(super) reasoning: u64,
    /// The body is an array that broke off: counts of its elements are not those of the whole.
    pub(super) cut: bool,
    pub(super) end: End,
    pub(super) error: bool,
}

impl Meter {
    pub(super) fn new(endpoint: Endpoint, format: BodyFormat) -> Self {
        Self {
            endpoint,
            format,
            whole: None,
            parts: Vec::new(),
            continuous: false,
            prompts: 1,
            choices: 1,
            message: None,
            prompt: None,
            generated: None,
            token_events: 0,
            content: 0,
            reasoning: 0,
            cut: false,
            end: End::Open,
            error: false,
        }
    }

    pub(super) fn set_asked(&mut self, prompts: u64, choices: u64) {
        self.prompts = prompts.max(1);
        self.choices = choices.max(1);
    }

    pub(super) fn tgi_headers(&mut self, prompt: Option<u64>, generated: Option<u64>) {
        self.prompt = prompt.or(self.prompt);
        self.generated = generated.or(self.generated);
    }

    /// Takes an event that is known to hold nothing but `content` bytes of text, `reasoning` among
    /// them.
    pub(super) fn plain(&mut self, content: u64, reasoning: u64) {
        self.content += content;
        self.reasoning += reasoning;
        self.went_on(content);
    }

    /// Text after a finish reason belongs to another choice.
    fn went_on(&mut self, content: u64) {
        if content > 0 && self.end == End::Finished {
            self.end = End::Open;
        }
    }

    /// Takes the stream's own word that it is over.
    pub(super) fn done(&mut self) {
        self.end = End::Done;
    }

    /// Takes a document.
    pub(super) fn take(&mut self, facts: &Facts) {
        self.error |=
            facts.error.is_some() || facts.finish == Finish::Aborted || facts.kind == Kind::Failed;
        if matches!(facts.kind, Kind::End | Kind::Failed) {
            self.done();
        }
        self.usage(facts);
        if self.endpoint.dialect() == Dialect::Tgi {
            self.tgi(facts);
        }
        self.content += facts.content;
        self.reasoning += facts.reasoning;
        if self.format == BodyFormat::Json {
            self.content += facts.answer;
        } else if facts.meta.is_some() {
            // SGLang repeats the text so far in every event.
            self.content = self.content.max(facts.answer);
        }
        match (facts.finish, self.end) {
            (Finish::Open, _) => self.went_on(facts.content),
            (_, End::Done) => {}
            _ => self.end = End::Finished,
        }
    }

    fn usage(&mut self, facts: &Facts) {
        let finished = facts.finish != Finish::Open;
        match (facts.kind, &facts.usage) {
            (Kind::MessageStart | Kind::MessageDelta, Some(counts)) => {
                let message = self.message.get_or_insert_default();
                message.counts.merge(counts);
                message.ended |= facts.kind == Kind::MessageDelta;
            }
            (_, Some(counts)) => {
                let Some(usage) = counts.usage() else { return };
                let part = facts.choices == Choices::Present;
                if part && self.format == BodyFormat::EventStream {
                    self.part(facts.choice.unwrap_or(0), usage, finished);
                } else {
                    self.whole = Some(usage);
                }
            }
            (_, None) => {
                let Some(usage) = facts.meta else { return };
                if self.format == BodyFormat::EventStream {
                    let index = facts.index.or(facts.choice).unwrap_or(0);
                    self.part(index, usage, finished);
                } else {
                    self.whole = Some(usage);
                }
            }
        }
    }

    /// Takes a cumulative report on the part at `index`.
    fn part(&mut self, index: u64, usage: Usage, finished: bool) {
        self.continuous |= !finished;
        // A second last word on the same part is about another prompt (TGI's completions).
        let shared = finished && self.endpoint == Endpoint::Completions && !self.continuous;
        let known = self.parts.iter_mut().rev().find(|part| part.index == index);
        if let Some(part) = known.filter(|part| !(part.finished && shared)) {
            part.usage = later(part.usage, usage);
            part.finished |= finished;
            return;
        }
        if self.parts.len() < PARTS {
            self.parts.push(Part {
                index,
                usage,
                finished,
            });
        } else if let Some(last) = self.parts.last_mut() {
            last.usage = later(last.usage, usage);
        }
    }

    fn tgi(&mut self, facts: &Facts) {
        self.token_events += u64::from(facts.token);
        self.content += facts.token_text;
        self.prompt = facts.input_length.or(self.prompt);
        // A header is more exact than the body: it was there first and counts the same.
        if self.format == BodyFormat::EventStream || self.generated.is_none() {
            self.generated = facts.generated_tokens.or(self.generated);
        }
        if facts.generated_text {
            self.done();
        }
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Returns the best bill there is, or `None` if the engine said nothing.
    pub(super) fn bill(&self) -> Option<(Usage, UsageSource)> {
        if let Some(whole) = self.whole.filter(|_| !self.cut) {
            return Some((whole, UsageSource::Final));
        }
        self.message_bill()
            .or_else(|| self.parts_bill())
            .or_else(|| self.tgi_bill())
    }

    /// Anthropic's opening knows the prompt; what was written is known only at the end, and before
    /// that it is at least what is said here.
    fn message_bill(&self) -> Option<(Usage, UsageSource)> {
        let message = self.message?;
        let usage = message.counts.usage()?;
        let source = if message.ended {
            UsageSource::Final
        } else {
            UsageSource::Estimated
        };
        Some((usage, source))
    }

    fn parts_bill(&self) -> Option<(Usage, UsageSource)> {
        let source = if self.parts_are_all() {
            UsageSource::Final
        } else if self.lacks_prompts() {
            UsageSource::Estimated
        } else if self.continuous {
            UsageSource::Continuous
        } else {
            // Some prompts have their count, of others nothing is known but their text.
            return None;
        };
        self.parts_sum().map(|(usage, _)| (usage, source))
    }

    /// Whether the running counts are not yet those of all prompts.
    pub(super) fn lacks_prompts(&self) -> bool {
        let reported = || self.parts_sum().map_or(0, |(_, prompts)| prompts);
        self.continuous && !self.parts_are_all() && reported() < self.prompts
    }

    /// Sums what was written over the parts, and what was read once per prompt; returns also how
    /// many prompts these are.
    fn parts_sum(&self) -> Option<(Usage, u64)> {
        let mut parts = self.parts.clone();
        let per_prompt = match self.endpoint {
            Endpoint::ChatCompletions => u64::MAX,
            _ => self.choices,
        };
        // Stable: parts that share an index are different prompts.
        parts.sort_by_key(|part| part.index);
        let mut bill: Option<(Usage, u64)> = None;
        let mut last: Option<Part> = None;
        for part in &parts {
            let same_prompt = last.is_some_and(|last| {
                last.index != part.index && last.index / per_prompt == part.index / per_prompt
            });
            let usage = if same_prompt {
                Usage {
                    reasoning: part.usage.reasoning,
                    ..Usage::new(0, part.usage.completion)
                }
            } else {
                part.usage
            };
            bill = Some(bill.map_or((usage, 1), |(before, prompts)| {
                (sum(before, usage), prompts + u64::from(!same_prompt))
            }));
            last = Some(*part);
        }
        bill
    }

    /// Whether the reports on parts are the last ones, and none is missing.
    fn parts_are_all(&self) -> bool {
        let asked = self.prompts.saturating_mul(self.choices);
        let whole = self.end == End::Done && !self.error;
        // Engines that report beside a finish reason may do so once for all choices.
        let reported = match self.continuous {
            true => self.parts.len() as u64 >= asked,
            false => self.parts.len() as u64 >= self.prompts,
        };
        whole || (reported && self.parts.iter().all(|part| part.finished))
    }

    fn tgi_bill(&self) -> Option<(Usage, UsageSource)> {
        let counted = (self.token_events > 0).then_some(self.token_events);
        let generated = self.generated.or(counted)?;
        let source = match (self.prompt, self.generated) {
            (Some(_), Some(_)) => UsageSource::Final,
            _ => UsageSource::Counted,
        };
        Some((Usage::new(self.prompt.unwrap_or(0), generated), source))
    }
}

/// Returns the later of two cumulative reports: each of its counts can only have grown.
fn later(a: Usage, b: Usage) -> Usage {
    let mut usage = Usage::new(a.prompt.max(b.prompt), a.completion.max(b.completion));
    usage.cached = a.cached.max(b.cached);
    usage.reasoning = a.reasoning.max(b.reasoning);
    usage
}
