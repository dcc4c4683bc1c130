//! What replaces a model's routes when they fail, and how long they rest.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::duration;
use super::list::List;
use super::text::{self, Name};

/// What happens when routes fail; only for `models`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// How long a route (a backend and its model) is passed over after its first failure; it doubles
    /// with every further one until a success. 0 switches it off.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub cooldown_seconds: Duration,
    /// The longest it is passed over; also the longest `Retry-After` that is obeyed. Where it is not
    /// written, never less than `cooldown_seconds`.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub max_cooldown_seconds: Duration,
    /// Attempts per request, the first one included, at all routes and models together; 0 is no limit.
    /// By default so many that every route of the plan has its turn, and at least one more than
    /// `routing.retry.max_retries`.
    pub max_retries: Option<u32>,
    /// Attempts at each route before the next one is tried. By default one, and when all routes have
    /// been tried they are tried again, as often as `routing.retry.max_retries` allows.
    #[serde(deserialize_with = "text::optional_count")]
    #[schemars(range(min = 1))]
    pub num_retries: Option<u32>,
    /// For a model those that replace it when all its routes have failed, in this order, each with
    /// what it falls back to itself.
    #[serde(deserialize_with = "chains")]
    #[schemars(with = "Option<BTreeMap<String, List<String>>>")]
    pub alias_fallback: BTreeMap<String, Vec<String>>,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            cooldown_seconds: Duration::from_secs(30),
            max_cooldown_seconds: Duration::from_secs(600),
            max_retries: None,
            num_retries: None,
            alias_fallback: BTreeMap::new(),
        }
    }
}

fn chains<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    struct Names(#[serde(deserialize_with = "text::names")] Vec<String>);
    let chains = Option::<BTreeMap<Name, Names>>::deserialize(deserializer)?;
    let chains = chains.unwrap_or_default().into_iter();
    Ok(chains
        .map(|(name, replacements)| (name.0, replacements.0))
        .collect())
}
