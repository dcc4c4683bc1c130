//! The model APIs the gateway knows, by path.

/// Wire format of errors and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI and what follows it: vLLM, SGLang, llama.cpp.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Text Generation Inference's own routes (SGLang shares `/generate`).
    Tgi,
}

/// How a response body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    /// One JSON document.
    Json,
    /// `text/event-stream`.
    EventStream,
}

/// A model API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/v1/rerank`, `/v2/rerank`, `/rerank`
    Rerank,
    /// `/v1/score`, `/score`
    Score,
    /// `/tokenize`
    Tokenize,
    /// `/detokenize`
    Detokenize,
    /// `/generate` of TGI and of SGLang
    Generate,
    /// `/generate_stream` of TGI
    GenerateStream,
    /// `/`, TGI's compatibility route
    TgiRoot,
}

impl Endpoint {
    /// Every endpoint, for tables of labels.
    pub const ALL: [Self; 12] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::Rerank,
        Self::Score,
        Self::Tokenize,
        Self::Detokenize,
        Self::Generate,
        Self::GenerateStream,
        Self::TgiRoot,
    ];

    /// Returns the endpoint at `path` (without query), which must match exactly.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::ChatCompletions,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/rerank" | "/v2/rerank" | "/rerank" => Self::Rerank,
            "/v1/score" | "/score" => Self::Score,
            "/tokenize" => Self::Tokenize,
            "/detokenize" => Self::Detokenize,
            "/generate" => Self::Generate,
            "/generate_stream" => Self::GenerateStream,
            "/" => Self::TgiRoot,
            _ => return None,
        })
    }

    /// Returns the canonical path, used in labels and events.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Rerank => "/v1/rerank",
            Self::Score => "/v1/score",
            Self::Tokenize => "/tokenize",
            Self::Detokenize => "/detokenize",
            Self::Generate => "/generate",
            Self::GenerateStream => "/generate_stream",
            Self::TgiRoot => "/",
        }
    }

    /// Returns the format a client of this endpoint expects errors in.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Messages => Dialect::Anthropic,
            Self::Generate | Self::GenerateStream | Self::TgiRoot => Dialect::Tgi,
            Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Responses
            | Self::Rerank
            | Self::Score
            | Self::Tokenize
            | Self::Detokenize => Dialect::OpenAi,
        }
    }

    /// Whether a call costs tokens: tokenizing does not run the model.
    #[must_use]
    pub fn metered(self) -> bool {
        !matches!(self, Self::Tokenize | Self::Detokenize)
    }

    /// Whether the model writes something.
    #[must_use]
    pub fn generates(self) -> bool {
        match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::Generate
            | Self::GenerateStream
            | Self::TgiRoot => true,
            Self::Embeddings | Self::Rerank | Self::Score | Self::Tokenize | Self::Detokenize => {
                false
            }
        }
    }

    /// Whether a stream has to be asked for usage by `stream_options`.
    pub(super) fn takes_stream_options(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_leads_back_to_its_endpoint() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::of(endpoint.label()), Some(endpoint));
        }
    }

    #[test]
    fn the_forms_that_engines_serve_are_known_and_others_are_not() {
        for path in ["/rerank", "/v2/rerank"] {
            assert_eq!(Endpoint::of(path), Some(Endpoint::Rerank));
        }
        assert_eq!(Endpoint::of("/score"), Some(Endpoint::Score));
        for path in [
            "",
            "/v1/chat/completions/",
            "/V1/completions",
            "/v1/models",
            "/v1/messages?x",
        ] {
            assert_eq!(Endpoint::of(path), None, "{path}");
        }
    }

    #[test]
    fn dialects_follow_the_path() {
        assert_eq!(Endpoint::Messages.dialect(), Dialect::Anthropic);
        assert_eq!(Endpoint::TgiRoot.dialect(), Dialect::Tgi);
        assert_eq!(Endpoint::Responses.dialect(), Dialect::OpenAi);
    }

    #[test]
    fn only_tokenizing_is_free() {
        let free: Vec<_> = Endpoint::ALL.into_iter().filter(|e| !e.metered()).collect();
        assert_eq!(free, [Endpoint::Tokenize, Endpoint::Detokenize]);
    }
}
