//! The flags of `llmproxy sim`: what the simulated engine serves, how fast it is and how it fails.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches, ValueEnum};

use super::fault::Fault;

/// Settings of one simulated engine.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one. The bound address is printed on stdout.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: String,

    /// Name of this engine, for `x-sim-fault: ...;on=NAME` and the `x-sim-engine` response header.
    #[arg(long, default_value = "sim")]
    pub name: String,

    /// A model to serve; repeatable. Without it every model name is accepted and `sim` is listed.
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,

    /// Whose answers to imitate where engines differ.
    #[arg(long, value_enum, default_value_t = Engine::Vllm)]
    pub engine: Engine,

    /// Time to the first token of an idle engine, prefill excluded.
    #[arg(long, default_value = "30ms", value_name = "DURATION", value_parser = parse_duration)]
    pub ttft: Duration,

    /// Time between tokens of a request that runs alone; 0 sends every token at once.
    #[arg(long, default_value = "10ms", value_name = "DURATION", value_parser = parse_duration)]
    pub itl: Duration,

    /// Prompt tokens computed per second; 0 makes prefill free.
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    pub prefill_rate: u64,

    /// How much every further running sequence slows each token, as a fraction of --itl.
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", value_parser = parse_fraction)]
    pub batch_slowdown: f64,

    /// Sequences that run at once; more wait.
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
    )]
    pub max_num_seqs: u32,

    /// Requests that may wait; more are answered 503. Without it the queue has no end.
    #[arg(long, value_name = "REQUESTS")]
    pub max_num_queued_reqs: Option<u32>,

    /// Length of an answer unless `x-sim-tokens` names one; `max_tokens` may cut it shorter.
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    pub max_tokens_default: u32,

    /// Longest prompt plus answer, as listed by /v1/models.
    #[arg(long, default_value_t = 131_072, value_name = "TOKENS")]
    pub max_model_len: u32,

    /// Tokens carried by one stream event.
    #[arg(
        long,
        default_value_t = 1,
        value_name = "TOKENS",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
    )]
    pub chunk_tokens: u32,

    /// Whether prompts that begin alike are computed once.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub prefix_cache: Switch,

    /// Tokens the key-value cache holds; bounds the prefix cache too.
    #[arg(
        long,
        default_value_t = 307_328,
        value_name = "TOKENS",
        value_parser = clap::value_parser!(u64).range(16..),
    )]
    pub kv_cache_tokens: u64,

    /// Reports cached tokens in `prompt_tokens_details`, as vLLM does with the flag of this name.
    #[arg(long)]
    pub enable_prompt_tokens_details: bool,

    /// Floats of an embedding unless the request asks for `dimensions`.
    #[arg(
        long,
        default_value_t = 32,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65_536),
    )]
    pub embedding_size: u32,

    /// Share of model requests (0 to 1) answered with --fail-status.
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", value_parser = parse_share)]
    pub fail_rate: f64,

    /// Status of the requests that --fail-rate picks.
    #[arg(
        long,
        default_value_t = 503,
        value_name = "STATUS",
        value_parser = clap::value_parser!(u16).range(400..=599),
    )]
    pub fail_status: u16,

    /// Fault of every model request that carries no `x-sim-fault` header, in the same grammar.
    #[arg(long, value_name = "FAULT", value_parser = Fault::from_str, conflicts_with = "stall")]
    pub fault: Option<Fault>,

    /// Stops every answer after this many tokens without closing it.
    #[arg(long, value_name = "TOKENS")]
    pub stall: Option<u32>,

    /// Demands this key as `Authorization: Bearer KEY` or `x-api-key: KEY`.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,

    /// Seed of the generated words and of --fail-rate.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// How long an idle connection is kept; 0 closes after every answer. vLLM keeps it for 5s.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    pub keepalive: Duration,
}

/// Whose wire shapes are imitated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Engine {
    Vllm,
    Tgi,
    Sglang,
    Openai,
    Anthropic,
}

/// A flag that is spelled out, so that the default can be on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Default for Options {
    /// Returns what `llmproxy sim` without flags uses.
    fn default() -> Self {
        let command = Self::augment_args(Command::new("sim"));
        Self::from_arg_matches(&command.get_matches_from(["sim"]))
            .expect("every flag of Options is optional or has a default")
    }
}

impl Options {
    /// Reports whether `model` is served; an empty list of models serves all.
    pub(super) fn serves(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|served| served == model)
    }

    /// Returns the model that answers requests naming none.
    pub(super) fn default_model(&self) -> &str {
        self.models.first().map_or("sim", String::as_str)
    }
}

/// Parses `250us`, `30ms`, `1.5s`, `2m`, `1h` and bare seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`; known: us, ms, s, m, h")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds_per_unit).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 30ms or 1.5s"))
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("`{text}` is not a number of 0 or more")),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match parse_fraction(text) {
        Ok(value) if value <= 1.0 => Ok(value),
        _ => Err(format!("`{text}` is not a number between 0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("30ms"), Ok(Duration::from_millis(30)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("3 parsecs").is_err());
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("ms").is_err());
    }

    #[test]
    fn defaults_come_from_the_flags() {
        let options = Options::default();
        assert_eq!(options.ttft, Duration::from_millis(30));
        assert_eq!(options.engine, Engine::Vllm);
        assert!(options.serves("anything"), "no --model serves every name");
        assert_eq!(options.default_model(), "sim");
    }

    #[test]
    fn a_named_model_excludes_others() {
        let options = Options {
            models: vec!["a".into()],
            ..Options::default()
        };
        assert!(options.serves("a"));
        assert!(!options.serves("b"));
    }
}
