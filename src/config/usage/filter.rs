//! Which events a reporter gets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events a reporter gets: those that fit every list; an empty list fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Models as clients name them; `*` stands for any text.
    pub models: Vec<String>,
    /// Ids of keys (`key_id`); `*` stands for any text.
    pub keys: Vec<String>,
    /// Users (`user_id`); `*` stands for any text.
    pub users: Vec<String>,
    /// How requests ended.
    pub outcomes: Vec<UsageOutcome>,
}

/// How a request ended, as its event says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageOutcome {
    /// The client has the whole response.
    Completed,
    /// The client left.
    ClientAborted,
    /// The backend failed.
    UpstreamFailed,
    /// The gateway died.
    Interrupted,
}

impl UsageOutcome {
    /// Returns how it is written, here and in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientAborted => "client_aborted",
            Self::UpstreamFailed => "upstream_failed",
            Self::Interrupted => "interrupted",
        }
    }
}
