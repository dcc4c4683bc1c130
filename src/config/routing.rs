//! How a backend is chosen and what happens when one fails.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{duration, text};

/// How a backend is chosen and what happens when one fails.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// The strategy; `load_balance_strategy` is the same key.
    #[serde(alias = "load_balance_strategy")]
    pub load_balance: Strategy,
    /// What happens after a failed attempt.
    pub retry: Retry,
    /// How long a new or recovered backend takes to reach its full share; 0 switches it off.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub slow_start: Duration,
    /// When a failing backend is left alone.
    pub breaker: Breaker,
    /// How long the head of a stream is held back for its first event, so that an error in it can
    /// still be retried.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub hold_first_event: Duration,
    /// Whether answers of `models` call the model by the name the client used instead of the backend's.
    pub rewrite_response_model: bool,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            load_balance: Strategy::default(),
            retry: Retry::default(),
            slow_start: Duration::from_secs(30),
            breaker: Breaker::default(),
            hold_first_event: Duration::from_secs(10),
            rewrite_response_model: true,
        }
    }
}

/// How one of several backends is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn, without weights.
    RoundRobin,
    /// In turn, in proportion to the weights.
    #[default]
    Weighted,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// The one that has lately been quickest to the first token.
    LatencyBased,
    /// Any.
    Random,
}

/// What happens after a failed attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Whether another attempt is made.
    pub enabled: bool,
    /// Attempts after the first.
    pub max_retries: u32,
    /// Longest wait before the first repetition; the wait is random between 0 and this.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub initial_wait: Duration,
    /// Longest wait before any repetition.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub max_wait: Duration,
    /// By how much the wait grows each time.
    #[serde(deserialize_with = "multiplier")]
    #[schemars(range(min = 1))]
    pub multiplier: f64,
    /// Keeps repetitions a fraction of the traffic.
    pub budget: RetryBudget,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            enabled: true,
            max_retries: 3,
            initial_wait: Duration::from_millis(100),
            max_wait: Duration::from_secs(10),
            multiplier: 2.0,
            budget: RetryBudget::default(),
        }
    }
}

fn multiplier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match f64::deserialize(deserializer)? {
        multiplier if multiplier.is_finite() && multiplier >= 1.0 => Ok(multiplier),
        _ => Err(serde::de::Error::custom("must be 1 or more")),
    }
}

/// Keeps repetitions a fraction of the traffic.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Repetitions allowed per request.
    #[serde(deserialize_with = "ratio")]
    #[schemars(range(min = 0))]
    pub ratio: f64,
    /// Repetitions per second that are always allowed.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
        }
    }
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match f64::deserialize(deserializer)? {
        ratio if ratio.is_finite() && ratio >= 0.0 => Ok(ratio),
        _ => Err(serde::de::Error::custom("must be 0 or more")),
    }
}

/// When a failing backend is left alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that open the circuit.
    #[serde(deserialize_with = "text::at_least_one")]
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it first stays open before one probe is sent; doubles each time.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub open: Duration,
    /// The longest it stays open.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::positive"
    )]
    #[schemars(with = "duration::Text")]
    pub max_open: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(2),
            max_open: Duration::from_secs(60),
        }
    }
}
