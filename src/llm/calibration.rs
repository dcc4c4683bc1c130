//! Bytes of text per token of each model, learned from the answers whose engines counted.
//!
//! What it is for: an answer that was cut off, or whose engine never reports usage, is billed by
//! the length of its text. It is kept in memory only: after a restart it begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::tee::Summary;
use super::usage::{Usage, UsageSource};

/// Models that are kept apart; those that come later share one entry, which learns from all.
const MODELS: usize = 1024;
/// Bytes of text per token where nothing better is known; English prose is near it.
const BYTES_PER_TOKEN: f64 = 4.0;
/// What text can be like: token ids as digits at one end, white space at the other.
const SANE: std::ops::RangeInclusive<f64> = 0.5..=16.0;
/// Tokens a chat template can add to a prompt.
const MOST_OVERHEAD: f64 = 1024.0;
/// Prompts that are remembered: a sample's weight is down to a third after so many others.
const PROMPTS: f64 = 256.0;
/// Written tokens that are remembered likewise.
const WRITTEN: f64 = 50_000.0;
/// Most of them that one answer counts for.
const ANSWER: f64 = 4096.0;
/// Bytes below which a prompt says little about the text and much about the template.
const SMALL: f64 = 256.0;
/// How many prompts, and written tokens, the first guess is worth.
const GUESS: (f64, f64) = (1.0, 64.0);

/// How many tokens a model makes of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Bytes of a prompt per token.
    prompt: f64,
    /// Tokens of a prompt that are not its text: those of the chat template.
    overhead: f64,
    /// Bytes of an answer per token.
    completion: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            prompt: BYTES_PER_TOKEN,
            overhead: 0.0,
            completion: BYTES_PER_TOKEN,
        }
    }
}

impl Rates {
    /// Returns a guess from the bytes of text read and written.
    #[must_use]
    pub fn estimate(&self, prompt_bytes: u64, content_bytes: u64) -> Usage {
        Usage::new(self.prompt(prompt_bytes), self.completion(content_bytes))
    }

    /// Returns how many tokens `bytes` of a prompt may be; none if it has no text.
    pub(super) fn prompt(&self, bytes: u64) -> u64 {
        match bytes {
            0 => 0,
            bytes => tokens(self.overhead + bytes as f64 / self.prompt),
        }
    }

    /// Returns how many tokens a chat template was seen to add to a prompt.
    pub(super) fn overhead(&self) -> u64 {
        tokens(self.overhead)
    }

    /// Returns how many tokens `bytes` of an answer may be.
    pub(super) fn completion(&self, bytes: u64) -> u64 {
        tokens(bytes as f64 / self.completion)
    }
}

/// Rounds up, but not what is a whole number but for the arithmetic.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a quotient of sane numbers; a cast saturates"
)]
fn tokens(count: f64) -> u64 {
    (count - 1e-6).ceil() as u64
}

/// What was learned of every model.
#[derive(Debug, Default)]
pub struct Calibration {
    models: RwLock<HashMap<String, Arc<Entry>>>,
    others: Entry,
}

#[derive(Debug, Default)]
struct Entry {
    learned: Mutex<Learned>,
}

impl Calibration {
    /// Learns from an answer, if its engine had the last word on its usage. `prompt_bytes` is that
    /// of the request's [`RequestHead`](super::RequestHead).
    pub fn learn(&self, model: &str, prompt_bytes: u64, seen: &Summary) {
        let Some(usage) = seen.usage else { return };
        if seen.source != UsageSource::Final || !seen.ended || seen.error {
            return;
        }
        let sample = Sample {
            prompt: (prompt_bytes as f64, usage.prompt as f64),
            written: written(seen, &usage),
        };
        self.others.learn(&sample);
        if let Some(entry) = self.entry(model).or_else(|| self.begin(model)) {
            entry.learn(&sample);
        }
    }

    /// Returns what is known of `model`.
    #[must_use]
    pub fn rates(&self, model: &str) -> Rates {
        match self.entry(model) {
            Some(entry) => entry.rates(),
            None if self.is_full() => self.others.rates(),
            None => Rates::default(),
        }
    }

    fn entry(&self, model: &str) -> Option<Arc<Entry>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).map(Arc::clone)
    }

    fn is_full(&self) -> bool {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.len() >= MODELS
    }

    /// Returns the entry of a model that has none yet, or `None` if there are too many.
    fn begin(&self, model: &str) -> Option<Arc<Entry>> {
        if self.is_full() {
            return None;
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(models.entry(model.to_owned()).or_default()))
    }
}

impl Entry {
    fn learn(&self, sample: &Sample) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.prompts.learn(sample.prompt);
        if let Some(written) = sample.written {
            learned.written.learn(written);
        }
    }

    fn rates(&self) -> Rates {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let (overhead, prompt) = learned.prompts.line();
        let completion = learned.written.bytes / learned.written.tokens;
        Rates {
            prompt,
            overhead,
            completion: completion.clamp(*SANE.start(), *SANE.end()),
        }
    }
}

/// Bytes and tokens of one exchange.
#[derive(Debug)]
struct Sample {
    prompt: (f64, f64),
    /// `None` if the tokens are not those of the text.
    written: Option<(f64, f64)>,
}

/// Returns bytes and tokens of an answer, unless part of what was counted is not in the text:
/// reasoning that the engine keeps to itself.
fn written(seen: &Summary, usage: &Usage) -> Option<(f64, f64)> {
    let hidden = usage.reasoning > 0 && seen.reasoning_bytes == 0;
    let counted = seen.content_bytes > 0 && usage.completion > 0 && !hidden;
    counted.then_some((seen.content_bytes as f64, usage.completion as f64))
}

/// What was learned of one model.
#[derive(Debug, Default)]
struct Learned {
    prompts: Prompts,
    written: Written,
}

/// A weighted regression of a prompt's tokens on its bytes, older samples fading: the slope is the
/// text's, the intercept the chat template's.
///
/// A long prompt is off by more tokens than a short one, so each weighs the less the longer it is.
#[derive(Debug)]
struct Prompts {
    weight: f64,
    bytes: f64,
    tokens: f64,
    bytes_squared: f64,
    bytes_by_tokens: f64,
}

impl Default for Prompts {
    fn default() -> Self {
        let mut prompts = Self {
            weight: 0.0,
            bytes: 0.0,
            tokens: 0.0,
            bytes_squared: 0.0,
            bytes_by_tokens: 0.0,
        };
        prompts.add((1000.0, 1000.0 / BYTES_PER_TOKEN), GUESS.0);
        prompts
    }
}

impl Prompts {
    fn learn(&mut self, (bytes, tokens): (f64, f64)) {
        // Images are not in the bytes, and a conversation the engine remembers is not either.
        let most = MOST_OVERHEAD + bytes / SANE.start();
        if bytes < 1.0 || tokens > most || tokens < bytes / SANE.end() {
            return;
        }
        let fade = 1.0 - 1.0 / PROMPTS;
        for sum in [
            &mut self.weight,
            &mut self.bytes,
            &mut self.tokens,
            &mut self.bytes_squared,
            &mut self.bytes_by_tokens,
        ] {
            *sum *= fade;
        }
        self.add((bytes, tokens), 1.0);
    }

    fn add(&mut self, (bytes, tokens): (f64, f64), times: f64) {
        let weight = times / (bytes + SMALL);
        self.weight += weight;
        self.bytes += weight * bytes;
        self.tokens += weight * tokens;
        self.bytes_squared += weight * bytes * bytes;
        self.bytes_by_tokens += weight * bytes * tokens;
    }

    /// Returns the tokens of the template and the bytes per token of the text.
    fn line(&self) -> (f64, f64) {
        let (bytes, tokens) = (self.bytes / self.weight, self.tokens / self.weight);
        let spread = self.bytes_squared / self.weight - bytes * bytes;
        let together = self.bytes_by_tokens / self.weight - bytes * tokens;
        // Prompts of one length do not tell a template from text: then it is all text.
        let doubt = 0.01 * bytes * bytes;
        let slope = (together + doubt * tokens / bytes) / (spread + doubt);
        let slope = slope.clamp(1.0 / SANE.end(), 1.0 / SANE.start());
        let overhead = (tokens - slope * bytes).clamp(0.0, MOST_OVERHEAD);
        if overhead > 0.0 {
            return (overhead, 1.0 / slope);
        }
        // No template: the line goes through the origin.
        let slope = (tokens / bytes).clamp(1.0 / SANE.end(), 1.0 / SANE.start());
        (0.0, 1.0 / slope)
    }
}

/// Bytes and tokens written, older ones fading with every token: a tiny answer moves little.
#[derive(Debug)]
struct Written {
    bytes: f64,
    tokens: f64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            bytes: GUESS.1 * BYTES_PER_TOKEN,
            tokens: GUESS.1,
        }
    }
}

impl Written {
    fn learn(&mut self, (bytes, tokens): (f64, f64)) {
        let most = (ANSWER / tokens).min(1.0);
        let fade = 1.0 - tokens * most / WRITTEN;
        // One answer with a text that cannot be must not spoil those to come.
        let bytes = bytes.clamp(tokens * SANE.start(), tokens * SANE.end());
        self.bytes = self.bytes * fade + bytes * most;
        self.tokens = self.tokens * fade + tokens * most;
    }
}

#[cfg(test)]
mod tests;
