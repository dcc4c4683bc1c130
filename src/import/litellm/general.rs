//! What holds for all models: retries, fallbacks, cooldowns, as LiteLLM says it.

use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

/// What deployments need to know.
pub(super) struct General {
    /// Whether there is a master key.
    pub(super) asks_for_keys: bool,
    /// How one of several deployments is chosen, where that is not at random.
    pub(super) strategy: Option<&'static str>,
    pub(super) timeout: Option<String>,
    /// Models by another name.
    pub(super) aliases: Vec<(String, String)>,
    pub(super) retries: Option<u64>,
    pub(super) fallbacks: Vec<(String, Vec<String>)>,
    pub(super) default_fallbacks: Vec<String>,
    pub(super) cooldown: Option<u64>,
}

/// The sections that may hold the same keys; the first one wins.
const SECTIONS: [&str; 2] = ["router_settings", "litellm_settings"];

impl General {
    pub(super) fn read(root: &mut Node, draft: &mut Draft) -> Self {
        let key = root
            .get("general_settings")
            .and_then(|general| general.get("master_key"));
        let asks_for_keys = key
            .and_then(Node::as_text)
            .is_some_and(|key| !key.is_empty());
        let mut all = Self {
            asks_for_keys,
            strategy: None,
            timeout: None,
            aliases: Vec::new(),
            retries: None,
            fallbacks: Vec::new(),
            default_fallbacks: Vec::new(),
            cooldown: None,
        };
        for section in SECTIONS {
            if let Some(section) = root.section(section) {
                all.read_section(section, draft);
            }
        }
        all
    }

    fn read_section(&mut self, section: &mut Node, draft: &mut Draft) {
        self.timing(section);
        if let Some(strategy) = section.filled("routing_strategy") {
            self.strategy = match &*strategy {
                "least-busy" => Some("least_connections"),
                "latency-based-routing" => Some("latency_based"),
                "simple-shuffle" => None,
                _ => {
                    let what = format!("`{strategy}` is not there; chosen at random by weight");
                    draft.note(&section.path_of("routing_strategy"), &what);
                    None
                }
            };
        }
        for rule in section.items("fallbacks") {
            let names = rule.keys();
            for name in names {
                let is_known = self.fallbacks.iter().any(|(known, _)| *known == name);
                if let Some(targets) = rule.texts(&name).filter(|_| !is_known) {
                    self.fallbacks.push((name, targets));
                }
            }
        }
        if let Some(targets) = section.texts("default_fallbacks")
            && self.default_fallbacks.is_empty()
        {
            self.default_fallbacks = targets;
        }
        self.read_aliases(section, draft);
        explain_section(section, draft);
    }

    fn timing(&mut self, section: &mut Node) {
        let time = section.seconds("timeout");
        let other = section.seconds("request_timeout");
        let time = time.or(other).filter(|time| !text::is_zero(time));
        self.timeout = self.timeout.take().or(time);
        self.retries = self.retries.or(section.count("num_retries"));
        let off = section.flag("disable_cooldowns") == Some(true);
        let cooldown = section
            .count("cooldown_time")
            .filter(|time| *time <= 1_000_000_000);
        let cooldown = if off { Some(0) } else { cooldown };
        self.cooldown = self.cooldown.or(cooldown);
    }

    fn read_aliases(&mut self, section: &mut Node, draft: &mut Draft) {
        let Some(aliases) = section.section("model_group_alias") else {
            return;
        };
        let names = aliases.keys();
        for name in names {
            let path = aliases.path_of(&name);
            let hidden = aliases.section(&name).and_then(|alias| {
                let model = alias.name("model");
                if alias.flag("hidden") == Some(true) {
                    draft.note(&path, "models cannot be hidden from the list of models");
                }
                model
            });
            if let Some(model) = hidden.or_else(|| aliases.name(&name)) {
                self.aliases.push((name, model));
            }
        }
    }
}

fn explain_section(section: &mut Node, draft: &mut Draft) {
    let rules = "no fallback depends on the kind of error; see `fallbacks`";
    section.explain(
        draft,
        &[
            ("context_window_fallbacks", rules),
            ("content_policy_fallbacks", rules),
            (
                "allowed_fails",
                "a route rests after its first failure, and longer after each further one",
            ),
            ("allowed_fails_policy", "what is a failure: `detection`"),
            (
                "retry_policy",
                "what is tried again: `detection`, `routing.retry`",
            ),
            (
                "model_group_retry_policy",
                "what is tried again: `detection`, `routing.retry`",
            ),
            (
                "retry_after",
                "`Retry-After` is heeded, and waits grow: `routing.retry`",
            ),
            ("max_fallbacks", "see `fallback.max_retries`"),
            (
                "stream_timeout",
                "one time for streams and others: `timeouts`",
            ),
            ("routing_strategy_args", "the strategies have no parameters"),
            (
                "enable_pre_call_checks",
                "context windows are not checked; `order` always holds here",
            ),
            ("enable_tag_filtering", "routing by tags is not there"),
            ("tag_filtering_match_any", "routing by tags is not there"),
        ],
    );
    explain_library(section, draft);
}

/// What is about LiteLLM as a library rather than about routing.
fn explain_library(section: &mut Node, draft: &mut Draft) {
    let calls =
        "callbacks are not there; usage goes to `usage_hook.reporters`, metrics to /metrics";
    let cache = "a cache of answers is not there";
    section.explain(
        draft,
        &[
            ("drop_params", "not needed: unknown fields pass through"),
            ("modify_params", "not needed: unknown fields pass through"),
            ("cache", cache),
            ("cache_params", cache),
            ("cache_responses", cache),
            ("callbacks", calls),
            ("success_callback", calls),
            ("failure_callback", calls),
            ("service_callbacks", calls),
            ("set_verbose", "see `logging.level`"),
            ("debug_level", "see `logging.level`"),
            ("json_logs", "the log has one form"),
            (
                "turn_off_message_logging",
                "not needed: prompts are never logged",
            ),
            (
                "redact_user_api_key_info",
                "not needed: keys are never logged",
            ),
            ("telemetry", "not needed: there is none"),
        ],
    );
}
