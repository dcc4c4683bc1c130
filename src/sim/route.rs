//! Which path is what.

use http::Method;

use super::options::Engine;
use super::request::Api;

/// What a request asks of the engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// Work that is accounted for and can fail on purpose; the name is the path's.
    Call(Call, &'static str),
    Info(Info),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// `stream` when the path alone asks for a stream.
    Generate {
        api: Api,
        stream: bool,
    },
    Embeddings,
    Rerank,
    Score,
    Tokenize,
    Detokenize,
    CountTokens,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Info {
    Models,
    Model(String),
    Health,
    Version,
    Metrics,
    Load,
    Tgi,
    Account,
    State,
    Reset,
    /// Makes /health answer 200 or 503 from now on.
    SetHealth(bool),
}

/// Why no route was found: the status FastAPI answers with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoRoute {
    NotFound,
    MethodNotAllowed,
}

impl Call {
    /// Returns the API whose error shape applies.
    pub(super) fn api(self) -> Option<Api> {
        match self {
            Self::Generate { api, .. } => Some(api),
            Self::CountTokens => Some(Api::Messages),
            Self::Embeddings | Self::Rerank | Self::Score | Self::Tokenize | Self::Detokenize => {
                None
            }
        }
    }
}

/// Finds what a path means on `engine`.
pub(super) fn route(method: &Method, path: &str, engine: Engine) -> Result<Route, NoRoute> {
    let (expected, route) = match (call(path, engine), info(path)) {
        (Some((call, name)), _) => (&Method::POST, Route::Call(call, name)),
        (None, Some(info @ (Info::Reset | Info::SetHealth(_)))) => {
            (&Method::POST, Route::Info(info))
        }
        (None, Some(info)) => (&Method::GET, Route::Info(info)),
        (None, None) => return Err(NoRoute::NotFound),
    };
    let head = *method == Method::HEAD && *expected == Method::GET;
    if method == expected || head {
        Ok(route)
    } else {
        Err(NoRoute::MethodNotAllowed)
    }
}

fn call(path: &str, engine: Engine) -> Option<(Call, &'static str)> {
    let generate = |api| Call::Generate { api, stream: false };
    let call = match path {
        "/v1/chat/completions" => (generate(Api::Chat), "/v1/chat/completions"),
        "/v1/completions" => (generate(Api::Completions), "/v1/completions"),
        "/v1/responses" => (generate(Api::Responses), "/v1/responses"),
        "/v1/messages" => (generate(Api::Messages), "/v1/messages"),
        "/v1/messages/count_tokens" => (Call::CountTokens, "/v1/messages/count_tokens"),
        "/v1/embeddings" => (Call::Embeddings, "/v1/embeddings"),
        "/v1/rerank" | "/v2/rerank" | "/rerank" => (Call::Rerank, "/v1/rerank"),
        "/v1/score" | "/score" => (Call::Score, "/v1/score"),
        "/tokenize" => (Call::Tokenize, "/tokenize"),
        "/detokenize" => (Call::Detokenize, "/detokenize"),
        "/generate" if engine == Engine::Sglang => (generate(Api::SglangGenerate), "/generate"),
        "/generate" => (generate(Api::TgiGenerate), "/generate"),
        "/generate_stream" => (
            Call::Generate {
                api: Api::TgiGenerate,
                stream: true,
            },
            "/generate_stream",
        ),
        "/" => (generate(Api::TgiRoot), "/"),
        _ => return None,
    };
    Some(call)
}

fn info(path: &str) -> Option<Info> {
    let info = match path {
        "/v1/models" => Info::Models,
        "/health" | "/ping" => Info::Health,
        "/version" => Info::Version,
        "/metrics" => Info::Metrics,
        "/load" => Info::Load,
        "/info" => Info::Tgi,
        "/sim/account" => Info::Account,
        "/sim/state" => Info::State,
        "/sim/reset" => Info::Reset,
        "/sim/health/up" => Info::SetHealth(true),
        "/sim/health/down" => Info::SetHealth(false),
        _ => Info::Model(
            path.strip_prefix("/v1/models/")
                .filter(|id| !id.is_empty())?
                .to_owned(),
        ),
    };
    Some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_are_told_apart() {
        let find = |method: &Method, path| route(method, path, Engine::Vllm);
        assert_eq!(find(&Method::GET, "/nowhere"), Err(NoRoute::NotFound));
        assert_eq!(
            find(&Method::GET, "/v1/chat/completions"),
            Err(NoRoute::MethodNotAllowed)
        );
        assert_eq!(
            find(&Method::GET, "/sim/reset"),
            Err(NoRoute::MethodNotAllowed)
        );
        assert_eq!(
            find(&Method::HEAD, "/health"),
            Ok(Route::Info(Info::Health))
        );
        assert_eq!(
            find(&Method::GET, "/v1/models/org/m"),
            Ok(Route::Info(Info::Model("org/m".into())))
        );
        assert_eq!(
            find(&Method::POST, "/rerank"),
            Ok(Route::Call(Call::Rerank, "/v1/rerank"))
        );
    }

    #[test]
    fn generate_is_sglangs_only_there() {
        let api = |engine| match route(&Method::POST, "/generate", engine) {
            Ok(Route::Call(Call::Generate { api, .. }, _)) => Some(api),
            _ => None,
        };
        assert_eq!(api(Engine::Sglang), Some(Api::SglangGenerate));
        assert_eq!(api(Engine::Tgi), Some(Api::TgiGenerate));
        assert_eq!(api(Engine::Vllm), Some(Api::TgiGenerate));
    }
}
