//! Tokens of the simulated tokenizer: one per whitespace-separated word.
//!
//! Chat templates and tool definitions cost nothing, so that a test can count by eye.

use serde_json::Value;

/// Tokens of one image, audio or file part, whatever its size.
const MEDIA_TOKENS: usize = 64;

/// Nested content deeper than this is not read; engines nest tool results twice at most.
const MAX_DEPTH: u32 = 8;

/// What answers are made of. Each is one token; the first of an answer loses its space.
const WORDS: [&str; 32] = [
    " the", " river", " carries", " small", " stones", " toward", " a", " quiet", " sea", " while",
    " morning", " light", " moves", " over", " green", " hills", " and", " birds", " call",
    " from", " every", " tree", " as", " wind", " turns", " old", " mills", " beside", " warm",
    " fields", " of", " grain",
];

/// Arguments of a simulated tool call, one token each.
const TOOL_ARGUMENTS: [&str; 4] = ["{\"", "city", "\": \"", "Paris\"}"];

/// The tokens of a prompt, as hashes.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt {
    tokens: Vec<u64>,
}

impl Prompt {
    pub(super) fn of_text(text: &str) -> Self {
        let mut prompt = Self::default();
        prompt.push_text(text);
        prompt
    }

    pub(super) fn of_ids<'a>(ids: impl IntoIterator<Item = &'a Value>) -> Self {
        let tokens = ids
            .into_iter()
            .map(|id| hash(id.to_string().as_bytes()))
            .collect();
        Self { tokens }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        self.tokens
            .extend(text.split_whitespace().map(|word| hash(word.as_bytes())));
    }

    /// Adds message content: a string, a list of parts, or an object that holds either.
    pub(super) fn push_content(&mut self, content: &Value) {
        self.push_nested(content, 0);
    }

    /// Returns the number of tokens.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn tokens(&self) -> &[u64] {
        &self.tokens
    }

    /// Returns a hash of the whole prompt.
    pub(super) fn digest(&self) -> u64 {
        self.tokens
            .iter()
            .fold(OFFSET, |state, token| mix(state, *token))
    }

    fn push_nested(&mut self, content: &Value, depth: u32) {
        if depth > MAX_DEPTH {
            return;
        }
        match content {
            Value::String(text) => self.push_text(text),
            Value::Array(parts) => parts
                .iter()
                .for_each(|part| self.push_nested(part, depth + 1)),
            Value::Object(part) => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
                if ["image", "audio", "file", "document"]
                    .iter()
                    .any(|media| kind.contains(media))
                {
                    let seed = hash(content.to_string().as_bytes());
                    self.tokens
                        .extend((0..MEDIA_TOKENS as u64).map(|index| mix(seed, index)));
                    return;
                }
                for key in [
                    "text",
                    "content",
                    "output",
                    "arguments",
                    "function",
                    "tool_calls",
                ] {
                    if let Some(inner) = part.get(key) {
                        self.push_nested(inner, depth + 1);
                    }
                }
                if let Some(input) = part.get("input").filter(|_| kind == "tool_use") {
                    self.push_text(&input.to_string());
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The answer of one sequence, known before it is spoken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    seed: u64,
    tool: bool,
}

impl Script {
    pub(super) fn new(seed: u64, tool: bool) -> Self {
        Self { seed, tool }
    }

    /// Returns the text of token `index`.
    pub(super) fn token(self, index: u32) -> &'static str {
        if self.tool {
            return TOOL_ARGUMENTS
                .get(index as usize)
                .copied()
                .unwrap_or_default();
        }
        let word = WORDS[(mix(self.seed, u64::from(index)) % WORDS.len() as u64) as usize];
        if index == 0 { &word[1..] } else { word }
    }

    /// Returns the first `tokens` tokens as one text.
    pub(super) fn text(self, tokens: u32) -> String {
        (0..tokens).map(|index| self.token(index)).collect()
    }

    /// Returns the tokens of a tool call's arguments.
    pub(super) const fn tool_tokens() -> u32 {
        TOOL_ARGUMENTS.len() as u32
    }
}

/// Returns the id of a word: its place among the words of answers, or beyond them.
pub(super) fn token_id(word: &str) -> u64 {
    match WORDS.iter().position(|known| known.trim_start() == word) {
        Some(index) => index as u64,
        None => WORDS.len() as u64 + hash(word.as_bytes()) % 100_000,
    }
}

/// Returns the word of an id; ids of unknown words cannot be undone and become `<ID>`.
pub(super) fn word_of(id: u64) -> String {
    let known = usize::try_from(id).ok().and_then(|index| WORDS.get(index));
    known.map_or_else(|| format!(" <{id}>"), |word| (*word).to_owned())
}

/// FNV-1a's offset basis.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// Returns the 64-bit FNV-1a hash: equal in every build, which the standard hasher does not promise.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Combines two hashes (the finalizer of SplitMix64).
pub(super) fn mix(state: u64, value: u64) -> u64 {
    let mut z = state
        .wrapping_add(value.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(content: &Value) -> u32 {
        let mut prompt = Prompt::default();
        prompt.push_content(content);
        prompt.len()
    }

    #[test]
    fn a_token_is_a_word() {
        assert_eq!(Prompt::of_text("  one two\n three ").len(), 3);
        assert_eq!(Prompt::of_text("").len(), 0);
        assert_eq!(Prompt::of_ids(&[json!(1), json!(2)]).len(), 2);
    }

    #[test]
    fn content_parts_are_counted_wherever_text_hides() {
        assert_eq!(count(&json!("a b")), 2);
        assert_eq!(
            count(&json!([{"type": "text", "text": "a b"}, {"type": "input_text", "text": "c"}])),
            3
        );
        assert_eq!(
            count(&json!([{"type": "tool_result", "content": [{"type": "text", "text": "x y"}]}])),
            2
        );
        assert_eq!(
            count(&json!([{"type": "image_url", "image_url": {"url": "data:..."}}])),
            64
        );
        assert_eq!(
            count(&json!({"tool_calls": [{"function": {"arguments": "{} {}"}}]})),
            2
        );
    }

    #[test]
    fn nesting_has_an_end() {
        let mut content = json!("deep");
        for _ in 0..100 {
            content = json!([content]);
        }
        assert_eq!(count(&content), 0);
    }

    #[test]
    fn an_answer_has_as_many_words_as_tokens_and_repeats() {
        let script = Script::new(7, false);
        assert_eq!(Prompt::of_text(&script.text(50)).len(), 50);
        assert_eq!(script.text(50), Script::new(7, false).text(50));
        assert_ne!(script.text(50), Script::new(8, false).text(50));
        assert!(!script.text(3).starts_with(' '));
    }

    #[test]
    fn tool_arguments_are_json() {
        let text = Script::new(1, true).text(Script::tool_tokens());
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"city": "Paris"})
        );
    }

    #[test]
    fn ids_of_answer_words_can_be_undone() {
        assert_eq!(word_of(token_id("river")), " river");
        assert!(token_id("unheard") >= 32);
    }
}
