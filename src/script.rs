//! The operator's Lua scripts: who may, and what happens at points of a request's life.
//!
//! Runs them in sandboxed machines (Lua 5.4) that no script keeps busy: instructions, time and memory
//! are limited, whatever the script does. Knows what scripts are given and what they may return, not
//! what becomes of it.

mod budget;
mod decision;
mod error;
mod hooks;
mod library;
mod machine;
mod metrics;
mod pattern;
mod program;
mod reply;
mod request;
mod source;

#[cfg(test)]
mod tests;

pub use self::decision::{Decision, DecisionInput};
pub use self::error::{Failure, ScriptError};
pub use self::hooks::{
    BackendInfo, CompleteInfo, ErrorInfo, ErrorVerdict, HookFailed, HookRefusal, HookSet, Point,
    RequestVerdict, ResponseInfo, ResponseVerdict, RouteInfo, UsageCounts, UsageInfo, UsageVerdict,
};
pub use self::metrics::ScriptMetrics;
pub use self::program::Program;
pub use self::request::{LONGEST_BODY, RequestInfo, RequestView};
