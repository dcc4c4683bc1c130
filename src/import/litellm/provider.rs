//! LiteLLM's providers: those that speak OpenAI's dialect, or one that is passed on as it is.

/// Where a provider is and how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    /// Its base URL; none where the file must say it.
    pub(super) url: Option<&'static str>,
    /// Where LiteLLM finds the key when the file has none.
    pub(super) key: Option<&'static str>,
    /// How the key is sent.
    pub(super) auth: Auth,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key`, with Anthropic's version header.
    Anthropic,
    /// `api-key`.
    Azure,
}

const fn hosted(name: &'static str, url: &'static str, key: &'static str) -> Provider {
    Provider {
        name,
        url: Some(url),
        key: Some(key),
        auth: Auth::Bearer,
    }
}

const fn own(name: &'static str) -> Provider {
    Provider {
        name,
        url: None,
        key: None,
        auth: Auth::Bearer,
    }
}

const fn local(name: &'static str) -> Provider {
    Provider {
        url: Some("http://localhost:11434"),
        ..own(name)
    }
}

const PROVIDERS: [Provider; 36] = [
    hosted("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    hosted(
        "text-completion-openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
    ),
    Provider {
        auth: Auth::Anthropic,
        ..hosted(
            "anthropic",
            "https://api.anthropic.com",
            "ANTHROPIC_API_KEY",
        )
    },
    Provider {
        auth: Auth::Azure,
        key: Some("AZURE_API_KEY"),
        ..own("azure")
    },
    Provider {
        auth: Auth::Azure,
        key: Some("AZURE_API_KEY"),
        ..own("azure_text")
    },
    Provider {
        auth: Auth::Azure,
        key: Some("AZURE_AI_API_KEY"),
        ..own("azure_ai")
    },
    hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    hosted(
        "codestral",
        "https://codestral.mistral.ai/v1",
        "CODESTRAL_API_KEY",
    ),
    hosted(
        "deepseek",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
    ),
    hosted(
        "together_ai",
        "https://api.together.xyz/v1",
        "TOGETHERAI_API_KEY",
    ),
    hosted(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
    ),
    hosted(
        "fireworks_ai",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
    ),
    hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    hosted(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
    hosted("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    hosted(
        "nvidia_nim",
        "https://integrate.api.nvidia.com/v1",
        "NVIDIA_NIM_API_KEY",
    ),
    hosted(
        "deepinfra",
        "https://api.deepinfra.com/v1/openai",
        "DEEPINFRA_API_KEY",
    ),
    hosted(
        "sambanova",
        "https://api.sambanova.ai/v1",
        "SAMBANOVA_API_KEY",
    ),
    hosted("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    hosted(
        "novita",
        "https://api.novita.ai/v3/openai",
        "NOVITA_API_KEY",
    ),
    hosted(
        "hyperbolic",
        "https://api.hyperbolic.xyz/v1",
        "HYPERBOLIC_API_KEY",
    ),
    hosted(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    hosted(
        "volcengine",
        "https://ark.cn-beijing.volces.com/api/v3",
        "VOLCENGINE_API_KEY",
    ),
    local("ollama"),
    local("ollama_chat"),
    own("hosted_vllm"),
    own("openai_like"),
    own("custom_openai"),
    own("text-completion-openai_like"),
    own("lm_studio"),
    own("llamafile"),
    own("xinference"),
    own("litellm_proxy"),
    own("huggingface"),
    own("docker_model_runner"),
];

/// Providers with a dialect, or a sign-in, of their own.
const OTHERS: [&str; 28] = [
    "aiml",
    "aleph_alpha",
    "anyscale",
    "baseten",
    "bedrock",
    "bedrock_converse",
    "clarifai",
    "cloudflare",
    "cohere",
    "cohere_chat",
    "databricks",
    "friendliai",
    "github",
    "github_copilot",
    "jina_ai",
    "nlp_cloud",
    "oci",
    "palm",
    "perplexity",
    "petals",
    "predibase",
    "replicate",
    "sagemaker",
    "sagemaker_chat",
    "snowflake",
    "vertex_ai",
    "voyage",
    "watsonx",
];

/// What the provider of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Provider(Provider),
    /// One whose dialect needs translation.
    Foreign,
    /// LiteLLM would have to guess.
    No,
}

/// Finds a provider by its name.
pub(super) fn named(name: &str) -> Known {
    if let Some(provider) = PROVIDERS.into_iter().find(|provider| provider.name == name) {
        return Known::Provider(provider);
    }
    match OTHERS.contains(&name) || name.starts_with("vertex_ai") {
        true => Known::Foreign,
        false => Known::No,
    }
}

/// Splits `provider/model`. A model without a provider is one of OpenAI's or Anthropic's.
pub(super) fn of(model: &str) -> (Known, &str) {
    if let Some((name, rest)) = model.split_once('/') {
        let known = named(name);
        return match known {
            Known::No => (known, model),
            _ => (known, rest),
        };
    }
    let openai = [
        "gpt-",
        "o1",
        "o3",
        "o4",
        "chatgpt-",
        "text-embedding-",
        "davinci",
        "babbage",
    ];
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| model.starts_with(prefix));
    let name = match () {
        () if begins(&openai) => "openai",
        () if begins(&["claude-"]) => "anthropic",
        () => "",
    };
    (named(name), model)
}

/// Whether a model names its provider.
pub(in crate::import) fn is_in(model: &str) -> bool {
    model.contains('/') && of(model).0 != Known::No
}

/// Returns the provider whose API is at this host.
pub(in crate::import) fn at(host: &str) -> Option<&'static str> {
    let found = PROVIDERS.into_iter().filter(|one| one.key.is_some());
    let mut found = found.filter(|one| {
        let url = one.url.and_then(|url| url.strip_prefix("https://"));
        url.and_then(|url| url.split('/').next()) == Some(host)
    });
    found.next().map(|one| one.name)
}
