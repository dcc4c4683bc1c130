//! How many tokens a request will take, before anybody has worked on it.

use super::calibration::Rates;
use super::endpoint::Endpoint;
use super::peek::RequestHead;

/// Tokens read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    pub prompt: u64,
    pub completion: u64,
}

/// Tokens a chat template adds where nothing was learned of it: Llama 3.1's preamble has about 25.
const TEMPLATE: u64 = 32;
/// Bytes around the texts that count as what they are in every request: `{"model":`, `"messages":[{"role":` and
/// the like, of which the model reads a few tokens.
const AROUND: u64 = 128;
const BYTES_AROUND_PER_TOKEN: u64 = 4;

impl Estimate {
    /// Returns both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// Returns more tokens than `head` can take, if it says how long its answer may be; otherwise one
/// answer counts as `unlimited` tokens. `body` is the length of its JSON.
///
/// A token stands for at least one byte of text, and whatever the model reads is in the body; the
/// JSON around the texts is more than the few tokens that mark a message. Not bounded: images and
/// other files, and what an engine remembers (`previous_response_id`).
#[must_use]
pub fn bound(
    endpoint: Endpoint,
    head: &RequestHead,
    body: usize,
    rates: &Rates,
    unlimited: u64,
) -> Estimate {
    let readings = head.prompts.max(head.passages);
    let template = TEMPLATE.max(rates.overhead()).saturating_mul(readings);
    let again = head.query_bytes.saturating_mul(head.passages - 1);
    let text = (body as u64).saturating_sub(head.media_bytes);
    let around = text.saturating_sub(head.prompt_bytes);
    // A body has some names and brackets before it can hide anything.
    let known = around.min(AROUND);
    Estimate {
        prompt: text
            .saturating_sub(known - known / BYTES_AROUND_PER_TOKEN)
            .saturating_add(again)
            .saturating_add(template),
        completion: written(endpoint, head, unlimited),
    }
}

/// Returns what `head` will probably take at most, going by earlier requests.
#[must_use]
pub fn likely(endpoint: Endpoint, head: &RequestHead, rates: &Rates, unlimited: u64) -> Estimate {
    Estimate {
        prompt: rates.prompt(head.prompt_bytes),
        completion: written(endpoint, head, unlimited),
    }
}

fn written(endpoint: Endpoint, head: &RequestHead, unlimited: u64) -> u64 {
    if !endpoint.generates() {
        return 0;
    }
    let answers = head.candidates.saturating_mul(head.prompts);
    answers.saturating_mul(head.max_completion.unwrap_or(unlimited))
}

#[cfg(test)]
mod tests {
    use super::super::peek;
    use super::*;

    fn bounded(endpoint: Endpoint, body: &str) -> Estimate {
        let head = peek(endpoint, body.as_bytes());
        bound(endpoint, &head, body.len(), &Rates::default(), 1000)
    }

    #[test]
    fn a_short_chat_takes_no_more_than_its_bytes_the_template_and_its_limit() {
        let body =
            r#"{"model":"m","messages":[{"role":"user","content":"Hello"}],"max_tokens":20}"#;
        let estimate = bounded(Endpoint::ChatCompletions, body);
        assert_eq!(estimate.completion, 20);
        // Qwen 2.5 makes 30 tokens of it, with its default system prompt.
        assert!((30..=60).contains(&estimate.prompt), "{estimate:?}");
    }

    #[test]
    fn each_answer_and_each_prompt_counts() {
        let body = r#"{"prompt":["a","b","c"],"n":2,"best_of":4,"max_tokens":10}"#;
        assert_eq!(bounded(Endpoint::Completions, body).completion, 120);
        assert_eq!(
            bounded(Endpoint::Completions, r#"{"prompt":"a"}"#).completion,
            1000
        );
        assert_eq!(
            bounded(Endpoint::Embeddings, r#"{"input":"a"}"#).completion,
            0
        );
    }

    #[test]
    fn a_file_in_the_body_does_not_count_by_its_bytes() {
        let image = "A".repeat(1_000_000);
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:;base64,{image}"}}}}]}}]}}"#
        );
        assert!(bounded(Endpoint::ChatCompletions, &body).prompt < 5000);
    }

    #[test]
    fn a_query_is_read_once_per_passage() {
        let query = "q".repeat(100);
        let body = format!(r#"{{"query":"{query}","documents":["a","b","c"]}}"#);
        assert!(bounded(Endpoint::Rerank, &body).prompt >= 300);
        let body = format!(r#"{{"text_1":"{query}","text_2":["a","b","c"]}}"#);
        assert!(bounded(Endpoint::Score, &body).prompt >= 300);
    }

    #[test]
    fn text_counts_wherever_it_hides() {
        let text = "word ".repeat(1000);
        for body in [
            format!(r#"{{"messages":[{{"role":"{text}","content":""}}]}}"#),
            format!(r#"{{"messages":[],"tools":[{{"source":"{text}"}}]}}"#),
            format!(
                r#"{{"messages":[{{"content":[{{"source":{{"type":"text","data":"{text}"}}}}]}}]}}"#
            ),
            format!(r#"{{"messages":[],"response_format":{{"a":"{text}"}}}}"#),
            format!(r#"{{"chat_template":"{text}"}}"#),
        ] {
            // All of it but what any body may have around its texts.
            let least = 5000 - AROUND;
            assert!(bounded(Endpoint::ChatCompletions, &body).prompt >= least);
        }
    }

    #[test]
    fn every_text_of_a_list_gets_an_answer() {
        for body in [
            r#"{"text":["a","b","c"],"sampling_params":{"n":2,"max_new_tokens":10}}"#,
            r#"{"inputs":["a","b","c"],"parameters":{"best_of":2,"max_new_tokens":10}}"#,
            r#"{"prompt":[{"prompt":"a"},null,"c"],"n":2,"max_tokens":10}"#,
        ] {
            assert_eq!(bounded(Endpoint::Generate, body).completion, 60, "{body}");
        }
    }

    #[test]
    fn absurd_numbers_do_not_wrap() {
        let body = r#"{"prompt":["a","b"],"n":"140737488355328","max_tokens":140737488355328.0}"#;
        assert_eq!(bounded(Endpoint::Completions, body).total(), u64::MAX);
    }
}
